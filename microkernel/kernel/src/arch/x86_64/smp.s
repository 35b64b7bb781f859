# Start of another processor (Intel SDM vol. 3A, 9.4): real mode at 0x8000, to long mode, to Rust.
# The code is copied to 0x8000. Its words come first, at fixed places that smp.rs knows too.

.set BASE, 0x8000
.set ROOT, BASE + 8
.set STACK, BASE + 16
.set ENTRY, BASE + 24
.set GDT_POINTER, BASE + 32
.set GDT, BASE + 40

.section .rodata
.global trampoline_start
.global trampoline_end

.balign 8
.code16
trampoline_start:
    .byte 0xeb, 70              # jmp over the words
    .zero 6
    .quad 0                     # ROOT: page tables
    .quad 0                     # STACK: end of the kernel stack
    .quad 0                     # ENTRY: where to go
    .word 31                    # GDT_POINTER
    .long GDT
    .zero 2
    .quad 0                     # GDT
    .quad 0x00cf9b000000ffff    # 0x08: 32-bit code
    .quad 0x00cf93000000ffff    # 0x10: data
    .quad 0x00af9b000000ffff    # 0x18: 64-bit code

trampoline_16:
    cli
    cld
    xor ax, ax
    mov ds, ax
    lgdt [GDT_POINTER]
    mov eax, cr0
    or eax, 1
    mov cr0, eax
    .byte 0x66, 0xea
    .long BASE + trampoline_32 - trampoline_start
    .word 0x08

.code32
trampoline_32:
    mov ax, 0x10
    mov ds, ax
    mov ss, ax
    mov eax, cr4
    or eax, 0x20
    mov cr4, eax
    mov eax, dword ptr [ROOT]
    mov cr3, eax
    mov ecx, 0xc0000080
    rdmsr
    or eax, 0x900
    wrmsr
    mov eax, cr0
    or eax, 0x80010000
    mov cr0, eax
    .byte 0xea
    .long BASE + trampoline_64 - trampoline_start
    .word 0x18

.code64
trampoline_64:
    mov ax, 0x10
    mov ds, ax
    mov es, ax
    mov ss, ax
    mov rsp, qword ptr [STACK]
    mov rax, qword ptr [ENTRY]
    xor ebp, ebp
    push 0
    jmp rax
trampoline_end:
.text
