# The way from Ring 3 into the kernel and back.
#
# A thread's registers are saved straight into its `Registers` (at offset 0 of `Thread`): the
# TSS's rsp0 points to their end, so the processor itself pushes the interrupt frame there, and
# `syscall_entry` writes the same frame by hand. One layout serves both ways. The kernel then runs
# on the CPU's one stack; that stack holds nothing worth keeping between entries.
#
# Names in braces are constants from Rust (entry.rs). Offsets AT_… and those of a thread's fields
# count from the end of its registers, since that is what rsp0 holds. cs and ss of a thread never
# change.

.set BY_SYSCALL, -1

.macro push_general
    push rax
    push rbx
    push rcx
    push rdx
    push rsi
    push rdi
    push rbp
    push r8
    push r9
    push r10
    push r11
    push r12
    push r13
    push r14
    push r15
.endm

.macro pop_general
    pop r15
    pop r14
    pop r13
    pop r12
    pop r11
    pop r10
    pop r9
    pop r8
    pop rbp
    pop rdi
    pop rsi
    pop rdx
    pop rcx
    pop rbx
    pop rax
.endm

.global syscall_entry
.balign 16
syscall_entry:
    swapgs
    cmp rax, {CALL}
    je fast_call
    cmp rax, {REPLY_RECEIVE}
    je fast_reply_receive
    cmp rax, {NOTIFY}
    je syscall_quick
    test rax, rax
    jz syscall_quick
    # Everything else, and what the fast path leaves to the general way: all registers are saved.
syscall_general:
    mov gs:[{CPU_SCRATCH}], rdi
    mov rdi, gs:[{CPU_ENTRY_STACK}]
    mov [rdi + {AT_RSP}], rsp
    mov rsp, gs:[{CPU_STACK}]
    mov [rdi + {AT_RIP}], rcx
    mov rcx, gs:[{CPU_SCRATCH}]
    mov [rdi + {AT_FLAGS}], r11
    mov qword ptr [rdi + {AT_ERROR}], BY_SYSCALL
    mov [rdi + {AT_RDI}], rcx
    mov [rdi + {AT_RAX}], rax
    mov [rdi + {AT_RBX}], rbx
    mov [rdi + {AT_RDX}], rdx
    mov [rdi + {AT_RSI}], rsi
    mov [rdi + {AT_RBP}], rbp
    mov [rdi + {AT_R8}], r8
    mov [rdi + {AT_R9}], r9
    mov [rdi + {AT_R10}], r10
    mov [rdi + {AT_R12}], r12
    mov [rdi + {AT_R13}], r13
    mov [rdi + {AT_R14}], r14
    mov [rdi + {AT_R15}], r15
    sub rdi, {REGISTERS}
    xor ebp, ebp
    call on_syscall
    jmp return_to_user

# Calls that end at once and give nothing back but a status: what compiled code keeps need not be
# saved, the other registers are cleared so that nothing of the kernel is in them.
syscall_quick:
    mov gs:[{CPU_SCRATCH}], rsp
    mov rsp, gs:[{CPU_STACK}]
    push r11
    push rcx
    mov rsi, rax
    mov rdx, gs:[{CPU_ENTRY_STACK}]
    call on_quick_syscall
    pop rcx
    pop r11
    xor edx, edx
    xor esi, esi
    xor edi, edi
    xor r8d, r8d
    xor r9d, r9d
    xor r10d, r10d
    mov rsp, gs:[{CPU_SCRATCH}]
    swapgs
    sysretq

# Every vector has a stub of 16 bytes: an error code where the processor pushed none, the vector.
.balign 16
.global trap_stubs
trap_stubs:
.set vector, 0
.rept 256
    .balign 16
    .if (vector == 8) || (vector >= 10 && vector <= 14) || (vector == 17) || (vector == 21) || (vector == 29) || (vector == 30)
        nop
        nop
    .else
        push 0
    .endif
    push vector
    jmp trap_common
    .set vector, vector + 1
.endr

.balign 16
trap_common:
    test byte ptr [rsp + 24], 3
    jz trap_from_kernel
    swapgs
    push_general
    # The thread begins with the registers.
    mov rdi, rsp
    mov rsp, gs:[{CPU_STACK}]
    # A program may have set AC, which would let the kernel touch programs' memory by mistake.
    push 2
    popfq
    xor ebp, ebp
    call on_trap
    # fall through

.global return_to_user
return_to_user:
    mov rsp, gs:[{CPU_ENTRY_STACK}]
    sub rsp, {REGISTERS}
    cmp qword ptr [rsp + {REGISTERS} + {AT_ERROR}], BY_SYSCALL
    jne 2f
    # By sysret: rcx and r11 are the program counter and the flags.
    pop r15
    pop r14
    pop r13
    pop r12
    add rsp, 8
    pop r10
    pop r9
    pop r8
    pop rbp
    pop rdi
    pop rsi
    pop rdx
    add rsp, 8
    pop rbx
    pop rax
    mov rcx, [rsp + 16]
    mov r11, [rsp + 32]
    mov rsp, [rsp + 40]
    swapgs
    sysretq
2:
    pop_general
    add rsp, 16
    swapgs
    iretq

# An interrupt while the CPU is idle, or a mistake in the kernel.
.balign 16
trap_from_kernel:
    push_general
    mov rdi, rsp
    cld
    call on_kernel_trap
    pop_general
    add rsp, 16
    iretq

# A debug exception has a stack of its own, as it may come before the entry has one: a place that is
# watched is reached, and right then something else happens. From Ring 3 the frame goes to where those of
# all other traps are.
.balign 16
.global debug_entry
debug_entry:
    test byte ptr [rsp + 8], 3
    jz 4f
    swapgs
    mov gs:[{CPU_SCRATCH}], rdi
    mov rdi, gs:[{CPU_ENTRY_STACK}]
    pop qword ptr [rdi - 40]
    pop qword ptr [rdi - 32]
    pop qword ptr [rdi - 24]
    pop qword ptr [rdi - 16]
    pop qword ptr [rdi - 8]
    lea rsp, [rdi - 40]
    mov rdi, gs:[{CPU_SCRATCH}]
    swapgs
    push 0
    push 1
    jmp trap_common
4:
    push 0
    push 1
    push_general
    xor ebx, ebx
    mov ecx, 0xc0000101
    rdmsr
    test edx, edx
    js 5f
    swapgs
    inc ebx
5:
    mov rdi, rsp
    cld
    call on_kernel_trap
    test ebx, ebx
    jz 6f
    swapgs
6:
    pop_general
    add rsp, 16
    iretq

# NMI, double fault and machine check have stacks of their own and never return. They may come
# between the entry and its swapgs, so gs is found by the sign of its base.
.macro fatal name, vector, has_code
.balign 16
.global \name
\name:
    .if \has_code == 0
        push 0
    .endif
    push \vector
    push_general
    mov ecx, 0xc0000101
    rdmsr
    test edx, edx
    js 3f
    swapgs
3:
    mov rdi, rsp
    cld
    call on_fatal_trap
    ud2
.endm

fatal nmi_entry, 2, 0
fatal double_fault_entry, 8, 1
fatal machine_check_entry, 18, 0
