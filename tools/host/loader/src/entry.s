# Entry points of both boot protocols, 32-bit protected mode without paging, and the switch to the
# kernel. The page tables made here map the first 4 GiB one to one with 2 MiB pages.

    .section .multiboot2, "a"
    .balign 8
header:
    .long 0xe85250d6                # magic
    .long 0                         # i386 protected mode
    .long header_end - header
    .long -(0xe85250d6 + 0 + (header_end - header))
    .short 5, 1                     # framebuffer, optional: without a screen the kernel runs too
    .long 20
    .long 1024, 768, 32
    .balign 8
    .short 6, 0                     # modules on page boundaries
    .long 8
    .short 0, 0                     # end
    .long 8
header_end:

    .section .note.pvh, "a", @note
    .balign 4
    .long 4, 4, 18                  # sizes of name and value, XEN_ELFNOTE_PHYS32_ENTRY
    .asciz "Xen"
    .long pvh_start

    .section .text.entry, "ax"
    .code32
    .globl pvh_start
pvh_start:
    xorl %eax, %eax                 # no magic by this protocol: 0 stands for it
    .globl multiboot2_start
multiboot2_start:
    cli
    cld
    movl $stack_top, %esp
    movl %eax, %edi                 # first argument: protocol
    movl %ebx, %esi                 # second argument: address of the information block
    movl $0x80000001, %eax
    cpuid
    andl $(1 << 29 | 1 << 20), %edx # long mode and no-execute
    cmpl $(1 << 29 | 1 << 20), %edx
    jne unsupported_cpu

    movl $(level_3 + 3), level_4    # present, writable
    movl $(level_2 + 3), %eax
    xorl %ecx, %ecx
1:  movl %eax, level_3(, %ecx, 8)
    addl $4096, %eax
    incl %ecx
    cmpl $4, %ecx
    jne 1b
    movl $0x83, %eax                # present, writable, large
    xorl %ecx, %ecx
2:  movl %eax, level_2(, %ecx, 8)
    addl $0x200000, %eax
    incl %ecx
    cmpl $2048, %ecx
    jne 2b

    movl %cr4, %eax
    orl $(1 << 5), %eax             # PAE
    movl %eax, %cr4
    movl $level_4, %eax
    movl %eax, %cr3
    movl $0xc0000080, %ecx          # EFER
    rdmsr
    orl $(1 << 8 | 1 << 11), %eax   # long mode, no-execute
    wrmsr
    movl %cr0, %eax
    orl $0x80010001, %eax           # paging, write protect, protected mode
    movl %eax, %cr0
    lgdt descriptor_table_pointer
    ljmp $0x08, $long_mode

unsupported_cpu:
    movl $unsupported_cpu_text, %esi
    movl $0x3f8, %edx
3:  lodsb
    testb %al, %al
    jz 4f
    outb %al, %dx
    jmp 3b
4:  movl $0xf4, %edx
    movb $0x7e, %al
    outb %al, %dx
5:  hlt
    jmp 5b

    .code64
long_mode:
    movw $0x10, %ax
    movw %ax, %ds
    movw %ax, %es
    movw %ax, %ss
    xorl %eax, %eax
    movw %ax, %fs
    movw %ax, %gs
    movl %edi, %edi                 # upper halves are undefined after the mode switch
    movl %esi, %esi
    movl $stack_top, %esp
    xorl %ebp, %ebp
    call loader_main
6:  hlt
    jmp 6b

# handoff(boot_info, root, stack, entry): alone on its page, which both address spaces map.
    .balign 4096
    .globl handoff
handoff:
    movq %rsi, %cr3
    movq %rdx, %rsp
    xorl %ebp, %ebp
    jmp *%rcx
    .balign 4096

    .section .rodata.entry, "a"
unsupported_cpu_text:
    .asciz "loader: this CPU has no long mode with no-execute pages\r\n"

    .section .data.descriptor_table, "aw"
    .balign 4096
    .globl descriptor_table
descriptor_table:                   # accessed bits set: the kernel sees the page read-only
    .quad 0
    .quad 0x00af9b000000ffff        # 0x08: code
    .quad 0x00cf93000000ffff        # 0x10: data
descriptor_table_end:
    .balign 4096

    .section .data.descriptor_table_pointer, "aw"
descriptor_table_pointer:
    .short descriptor_table_end - descriptor_table - 1
    .quad descriptor_table

    .section .bss.entry, "aw", @nobits
    .balign 4096
level_4:
    .skip 4096
level_3:
    .skip 4096
level_2:
    .skip 4 * 4096
    .skip 128 * 1024
stack_top:
