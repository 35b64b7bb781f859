# The way from Ring 3 into the kernel and back.
#
# A thread's registers are saved straight into its `Registers` (at offset 0 of `Thread`): the
# TSS's rsp0 points to their end, so the processor itself pushes the interrupt frame there, and
# `syscall_entry` pushes the same frame by hand. One layout serves both ways. The kernel then runs
# on the CPU's one stack; that stack holds nothing worth keeping between entries.
#
# Offsets of `CpuLocal` (checked by assertions in cpu.rs):
#   8 kernel stack top, 16 current thread, 24 scratch

.set CPU_STACK, 8
.set CPU_CURRENT, 16
.set CPU_SCRATCH, 24
.set USER_CODE, 0x2b
.set USER_DATA, 0x23
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

# Offsets in `Registers` (names without a prefix would be those of registers; checked by assertions in entry.rs). cs and ss of a thread never change.
.set AT_R15, 0
.set AT_R14, 8
.set AT_R13, 16
.set AT_R12, 24
.set AT_R10, 40
.set AT_R9, 48
.set AT_R8, 56
.set AT_RBP, 64
.set AT_RDI, 72
.set AT_RSI, 80
.set AT_RDX, 88
.set AT_RBX, 104
.set AT_RAX, 112
.set AT_ERROR, 128
.set AT_RIP, 136
.set AT_FLAGS, 152
.set AT_RSP, 160

.set CALL, 1
.set REPLY_RECEIVE, 2
# A payload of up to so many bytes lies in r8, r9, r10 and r12.
.set FEW_BYTES, 32

.global syscall_entry
.balign 16
syscall_entry:
    swapgs
    # The short way: `call` and `reply_receive` that wait for ever. rdx is known to be -1 then, and
    # can be used.
    cmp rax, REPLY_RECEIVE
    ja syscall_general
    cmp rdx, -1
    jne syscall_general
    mov rdx, gs:[CPU_CURRENT]
    mov [rdx + AT_RSP], rsp
    mov rsp, gs:[CPU_STACK]
    mov [rdx + AT_RIP], rcx
    mov [rdx + AT_FLAGS], r11
    mov qword ptr [rdx + AT_ERROR], BY_SYSCALL
    mov [rdx + AT_RBP], rbp
    mov [rdx + AT_RDI], rdi
    mov [rdx + AT_RSI], rsi
    push r10
    push r9
    push r8
    push rax
    cmp eax, CALL
    jne 4f
    # A caller's payload is kept in its struct until the reply, for a redelivery. `esi` is the
    # length, or more if the message is no plain one.
    mov [rdx + AT_R8], r8
    mov [rdx + AT_R9], r9
    mov [rdx + AT_R10], r10
    mov [rdx + AT_R12], r12
    cmp esi, FEW_BYTES
    ja 2f
3:
    call fast_call
    test rax, rax
    jz 6f
5:
    # rax is the partner, rdx its badge. The payload goes to it in the registers where it was: rbx
    # and r12 to r15 were kept by the compiled code, the rest comes from this CPU's stack. Another
    # CPU may own the thread that entered, and even have ended it, by now.
    mov r8, [rsp + 8]
    mov r9, [rsp + 16]
    mov r10, [rsp + 24]
    mov rdi, [rax + AT_RDI]
    mov rsi, [rax + AT_RSI]
    mov rbp, [rax + AT_RBP]
    mov rcx, [rax + AT_RIP]
    mov r11, [rax + AT_FLAGS]
    mov rsp, [rax + AT_RSP]
    xor eax, eax
    swapgs
    sysretq
2:
    mov [rdx + AT_RBX], rbx
    mov [rdx + AT_R13], r13
    mov [rdx + AT_R14], r14
    mov [rdx + AT_R15], r15
    jmp 3b
4:
    jb 6f
    call fast_reply_receive
    test rax, rax
    jnz 5b
6:
    # Nothing has changed: the general way does it all, with what is not saved yet.
    mov rdi, gs:[CPU_CURRENT]
    pop rax
    pop r8
    pop r9
    pop r10
    mov [rdi + AT_RAX], rax
    mov qword ptr [rdi + AT_RDX], -1
    jmp 7f

syscall_general:
    mov gs:[CPU_SCRATCH], rdi
    mov rdi, gs:[CPU_CURRENT]
    mov [rdi + AT_RSP], rsp
    mov rsp, gs:[CPU_STACK]
    mov [rdi + AT_RIP], rcx
    mov rcx, gs:[CPU_SCRATCH]
    mov [rdi + AT_FLAGS], r11
    mov qword ptr [rdi + AT_ERROR], BY_SYSCALL
    mov [rdi + AT_RBP], rbp
    mov [rdi + AT_RDI], rcx
    mov [rdi + AT_RSI], rsi
    mov [rdi + AT_RDX], rdx
    mov [rdi + AT_RAX], rax
7:
    mov [rdi + AT_R8], r8
    mov [rdi + AT_R9], r9
    mov [rdi + AT_R10], r10
    mov [rdi + AT_RBX], rbx
    mov [rdi + AT_R12], r12
    mov [rdi + AT_R13], r13
    mov [rdi + AT_R14], r14
    mov [rdi + AT_R15], r15
    xor ebp, ebp
    call on_syscall
    jmp return_to_user

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
    mov rdi, rsp
    mov rsp, gs:[CPU_STACK]
    # A program may have set AC, which would let the kernel touch programs' memory by mistake.
    push 2
    popfq
    xor ebp, ebp
    call on_trap
    # fall through

.global return_to_user
return_to_user:
    mov rsp, gs:[CPU_CURRENT]
    cmp qword ptr [rsp + 128], BY_SYSCALL
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
