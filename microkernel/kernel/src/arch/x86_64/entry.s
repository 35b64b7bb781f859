# The way from Ring 3 into the kernel and back.
#
# A thread's registers are saved straight into its `Registers` (at offset 0 of `Thread`): the
# TSS's rsp0 points to their end, so the processor itself pushes the interrupt frame there, and
# `syscall_entry` pushes the same frame by hand. One layout serves both ways. The kernel then runs
# on the CPU's one stack; that stack holds nothing worth keeping between entries.
#
# Offsets of `CpuLocal` (checked by assertions in cpu.rs):
#   8 kernel stack top, 16 current thread, 24 end of its registers, 32 scratch

.set CPU_STACK, 8
.set CPU_CURRENT, 16
.set CPU_REGISTERS_END, 24
.set CPU_SCRATCH, 32
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

.global syscall_entry
.balign 16
syscall_entry:
    swapgs
    mov gs:[CPU_SCRATCH], rsp
    mov rsp, gs:[CPU_REGISTERS_END]
    push USER_DATA
    push gs:[CPU_SCRATCH]
    push r11
    push USER_CODE
    push rcx
    push BY_SYSCALL
    push 0
    push_general
    mov rdi, rsp
    mov rsp, gs:[CPU_STACK]
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
