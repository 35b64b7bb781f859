# The short way of `call` and `reply_receive`: what it does, for whom, and why in this order is told
# in fastpath.rs. In assembly because every instruction counts here: compiled code would save and
# restore registers that hold the payload, which stays where it is from one program to the other.
#
# Neither path uses the kernel's stack. The program's stack pointer stays in rsp until the switch:
# interrupts are off, and what cannot be held off has a stack of its own.
#
# A thread that is current is known by the end of its registers, one that waits by its offset in
# the arena of threads, to which THREADS is added. Locks are a byte that is 1 while taken; one
# that is taken already is the general way's to wait for.

# Saves of the current thread in rdx what sysret needs, or goes the general way: the thread must
# have no timer, no FPU registers, and not be doomed; the deadline must be FOREVER, which is -1.
.macro begin_fast
    cmp rdx, -1
    jne syscall_general
    mov rdx, gs:[{CPU_ENTRY_STACK}]
    cmp dword ptr [rdx + {SPECIAL}], 0
    jne slow
    mov [rdx + {AT_RSP}], rsp
    mov [rdx + {AT_RIP}], rcx
    mov [rdx + {AT_FLAGS}], r11
    mov qword ptr [rdx + {AT_ERROR}], BY_SYSCALL
    mov [rdx + {AT_RBP}], rbp
.endm

# Points rcx to the entry of a handle of the current thread's process, by the index, the lower half
# of the handle, and its lowest byte. Uses rax and rbp.
.macro find_entry index, index_in_page, slow
    movzx eax, \index
    movzx ecx, \index_in_page
    shr eax, 8
    cmp eax, {HANDLE_PAGES}
    jae \slow
    mov rbp, [rdx + {HANDLES}]
    shl ecx, 4
    add rcx, [rbp + rax * 8]
.endm

# Goes to \slow unless the message in esi that does not fit into registers is plain: no handles, no
# marks, at most a page. All of those have bits above the length.
.macro check_long slow
    test esi, 0xffffe000
    jnz \slow
    cmp esi, {MAX_MESSAGE_BYTES}
    ja \slow
.endm

# The partner gets all registers of the payload as they are. These clear those behind it: what the
# program has there is its own affair. Of at most 8 bytes, the most frequent:
.macro clear_behind_word
    xor ebx, ebx
    xor r9d, r9d
    xor r10d, r10d
    xor r12d, r12d
    xor r13d, r13d
    xor r14d, r14d
    xor r15d, r15d
    test esi, esi
    cmovz r8, rbx
.endm

# Of 9 to 32 bytes.
.macro clear_behind_half
    xor ebx, ebx
    xor r13d, r13d
    xor r14d, r14d
    xor r15d, r15d
    cmp esi, 16
    cmovbe r10, rbx
    cmp esi, 24
    cmovbe r12, rbx
.endm

# Of 33 to 64 bytes. Uses rax.
.macro clear_behind
    xor eax, eax
    cmp esi, 40
    cmovbe r14, rax
    cmp esi, 48
    cmovbe r15, rax
    cmp esi, 56
    cmovbe rbx, rax
.endm

# Copies the payload of a long message between two IPC pages, a whole number of words. Uses r8 to
# r10, and clears all registers that carry short payloads.
.macro copy_long from, to
    mov r8, rsi
    mov r9, rdi
    mov r10, rcx
    lea ecx, [rsi + 7]
    shr ecx, 3
    mov rsi, [\from + {CONTROL}]
    mov rdi, [\to + {CONTROL}]
    add rsi, {PAGE}
    add rdi, {PAGE}
    rep movsq
    mov rsi, r8
    mov rdi, r9
    mov rcx, r10
    xor r8d, r8d
    xor r9d, r9d
    xor r10d, r10d
    xor r12d, r12d
    xor r13d, r13d
    xor r14d, r14d
    xor r15d, r15d
    xor ebx, ebx
.endm

# Loads the address space of the thread with the offset rbp, if it is another one. First the wish,
# then the deed, then the record of it (sched.rs, switch_to). Uses rax and r11.
.macro switch_space
    mov eax, [rbp + {THREADS} + {PROCESS}]
    cmp gs:[{CPU_SPACE}], eax
    je 2f
    mov gs:[{CPU_SPACE}], eax
    mov r11, [rbp + {THREADS} + {ROOT}]
    mov cr3, r11
    mov gs:[{CPU_LOADED}], eax
2:
.endm

# Points fs to the control page of the thread with the offset rbp. Uses rax, rcx and rdx.
.macro switch_fs
    mov ecx, 0xc0000100
    mov eax, [rbp + {THREADS} + {FS_LOW}]
    mov edx, [rbp + {THREADS} + {FS_HIGH}]
    wrmsr
.endm

# Returns to the thread with the offset rbp. rdi, rsi, rdx and the payload are its own by now.
.macro return_to_partner
    lea rax, [rbp + {THREADS}]
    mov gs:[{CPU_ENTRY_STACK}], rax
    inc qword ptr gs:[{CPU_SWITCHES}]
    mov rcx, [rax + {AT_RIP}]
    mov r11, [rax + {AT_FLAGS}]
    mov rsp, [rax + {AT_RSP}]
    mov rbp, [rax + {AT_RBP}]
    xor eax, eax
    swapgs
    sysretq
.endm

# Calls Rust with the current thread, which is doomed, and its endpoint, whose lock is let go of.
# Keeps what the partner gets.
.macro end_doomed function, endpoint
    mov rsp, gs:[{CPU_STACK}]
    push rcx
    push rdi
    push rsi
    push r8
    push r9
    push r10
    mov rdi, rdx
    mov rsi, \endpoint
    call \function
    pop r10
    pop r9
    pop r8
    pop rsi
    pop rdi
    pop rcx
.endm

# `call`: rdi sender, rsi message, rdx deadline.
.balign 16
fast_call:
    begin_fast
    # The request, for a redelivery.
    mov [rdx + {AT_RSI}], rsi
    mov [rdx + {AT_R8}], r8
    cmp esi, 8
    ja call_saves_more
    clear_behind_word
call_looks_up:
    # rcx: entry of the handle, rbp: its first word.
    find_entry di, dil, slow_call
    mov rbp, [rcx]
    mov eax, edi
    xor rax, rbp
    shr rax, 16
    mov r11, rax
    and eax, 0xffffff
    cmp eax, {USABLE_SENDER}
    jne slow_call
    # r11: offset of the sender, rax: its endpoint.
    shr r11, 24
    imul r11d, r11d, {SENDER_BYTES}
    mov rax, [r11 + {SENDER_ENDPOINT}]
    lock bts dword ptr [rax], 0
    jc slow_call
    cmp [rcx], rbp
    jne call_lets_go
    # rbp: offset of the receiver.
    mov ebp, [rax + {NEXT_RECEIVER}]
    cmp ebp, -1
    je call_lets_go
    imul ebp, ebp, {THREAD_BYTES}
    cmp dword ptr [rbp + {THREADS} + {SPECIAL}], 0
    jne call_lets_go
    # Nothing can fail any more.
    mov ecx, [rbp + {THREADS} + {NEXT}]
    mov [rax + {NEXT_RECEIVER}], ecx
    mov rcx, [rbp + {THREADS} + {DUTY}]
    mov [rdx + {CALL_DUTY}], rcx
    mov rcx, [r11 + {SENDER_BADGE}]
    mov [rdx + {CALL_BADGE}], rcx
    mov r11, [rax + {NEXT_TICKET}]
    mov [rdx + {CALL_TICKET}], r11
    inc qword ptr [rax + {NEXT_TICKET}]
    mov rdi, [rbp + {THREADS} + {CONTROL}]
    mov [rdi + {SEQUENCE}], r11
    mov edi, [rdx + {CALL_REPLY}]
    add edi, 0x10000
    mov [rdx + {CALL_REPLY}], edi
    mov dword ptr [rdx + {CALL_CRASHES}], 0
    inc dword ptr [rdx + {WAIT_NUMBER}]
    inc qword ptr [rdx + {CALLS}]
    mov r11d, gs:[{CPU_PAYER}]
    mov [rdx + {CLIENT}], r11d
    cmp esi, {REGISTER_BYTES}
    ja call_copies
call_hands_over:
    mov r11d, gs:[{CPU_INDEX}]
    mov [rbp + {THREADS} + {CPU}], r11d
    mov dword ptr [rbp + {THREADS} + {WAIT}], 0
    mov r11d, [rax + {REPLY_WAIT}]
    xchg [rdx + {WAIT}], r11d
    test byte ptr [rdx + {SPECIAL}], {DOOMED}
    jnz call_is_doomed
    # From here on the caller may be anybody's, even gone.
    mov byte ptr [rax], 0
call_switches:
    switch_space
    mov r11, rcx
    switch_fs
    mov rdx, r11
    return_to_partner

call_saves_more:
    mov [rdx + {AT_R9}], r9
    mov [rdx + {AT_R10}], r10
    mov [rdx + {AT_R12}], r12
    cmp esi, 32
    ja 4f
    clear_behind_half
    jmp call_looks_up
4:
    cmp esi, {REGISTER_BYTES}
    ja 3f
    mov [rdx + {AT_RBX}], rbx
    mov [rdx + {AT_R13}], r13
    mov [rdx + {AT_R14}], r14
    mov [rdx + {AT_R15}], r15
    clear_behind
    jmp call_looks_up
3:
    check_long slow_call
    jmp call_looks_up

call_copies:
    copy_long rdx, "rbp + {THREADS}"
    jmp call_hands_over

call_is_doomed:
    end_doomed {end_doomed_caller}, rax
    jmp call_switches

call_lets_go:
    mov byte ptr [rax], 0
slow_call:
    mov eax, {CALL}
    jmp slow_saved

# `reply_receive`: rdi reply | endpoint << 32, rsi message, rdx deadline.
.balign 16
fast_reply_receive:
    begin_fast
    cmp esi, 8
    ja reply_has_more
    clear_behind_word
reply_looks_up:
    # rcx: entry of the endpoint's handle, rax: its first word, r11: offset of the endpoint.
    mov r11, rdi
    shr r11, 32
    find_entry r11w, r11b, slow_reply
    mov rax, [rcx]
    xor r11, rax
    shr r11, 16
    mov ebp, r11d
    and ebp, 0xffffff
    cmp ebp, {USABLE_ENDPOINT}
    jne slow_reply
    shr r11, 24
    imul r11d, r11d, {ENDPOINT_BYTES}
    # rbp: offset of the caller. The top bit of an index marks a reply handle.
    movzx ebp, di
    btr ebp, 15
    jnc slow_reply
    cmp ebp, [rip + {THREAD_ARENA} + {THREADS_MADE}]
    jae slow_reply
    imul ebp, ebp, {THREAD_BYTES}
    lock bts dword ptr [r11 + {ENDPOINTS}], 0
    jc slow_reply
    cmp [rcx], rax
    jne reply_lets_go
    # It waits here for the answer to this very call, which this process has the duty to give.
    mov eax, [rbp + {THREADS} + {WAIT}]
    cmp eax, [r11 + {ENDPOINTS} + {REPLY_WAIT}]
    jne reply_lets_go
    cmp [rbp + {THREADS} + {CALL_REPLY}], edi
    jne reply_lets_go
    mov rax, [rdx + {DUTY}]
    cmp [rbp + {THREADS} + {CALL_DUTY}], rax
    jne reply_to_fault
reply_is_due:
    cmp dword ptr [rbp + {THREADS} + {SPECIAL}], 0
    jne reply_lets_go
    # Who pays now must be who paid when it called; else the time so far has to be billed.
    mov eax, gs:[{CPU_PAYER}]
    cmp [rbp + {THREADS} + {CLIENT}], eax
    jne reply_lets_go
    cmp byte ptr [r11 + {ENDPOINTS} + {HAS_NEWS}], 0
    jne reply_lets_go
    cmp dword ptr [r11 + {ENDPOINTS} + {FIRST_CALLER}], -1
    jne reply_lets_go
    # Nothing can fail any more.
    add dword ptr [rbp + {THREADS} + {CALL_REPLY}], 0x10000
    mov dword ptr [rdx + {CLIENT}], -1
    inc dword ptr [rdx + {WAIT_NUMBER}]
    mov eax, [r11 + {ENDPOINTS} + {NEXT_RECEIVER}]
    mov [rdx + {NEXT}], eax
    mov eax, [rdx + {ID}]
    mov [r11 + {ENDPOINTS} + {NEXT_RECEIVER}], eax
    cmp esi, {REGISTER_BYTES}
    ja reply_copies
reply_hands_over:
    mov eax, gs:[{CPU_INDEX}]
    mov [rbp + {THREADS} + {CPU}], eax
    mov dword ptr [rbp + {THREADS} + {WAIT}], 0
    mov eax, [r11 + {ENDPOINTS} + {MESSAGE_WAIT}]
    xchg [rdx + {WAIT}], eax
    test byte ptr [rdx + {SPECIAL}], {DOOMED}
    jnz reply_is_doomed
    # From here on the server may be anybody's, even gone.
    mov byte ptr [r11 + {ENDPOINTS}], 0
reply_switches:
    switch_space
    switch_fs
    # Numbers of the server's handles are nobody else's business.
    xor edi, edi
    xor edx, edx
    cmp qword ptr [rbp + {THREADS} + {AT_ERROR}], BY_SYSCALL
    jne reply_resumes
    return_to_partner

# A pager's answer. One that has neither label nor mapping is dealt with as other replies: the
# thread tries again, and all of its registers are where the trap has saved them. One with mappings
# needs compiled code, which needs them and the rest of the registers in their place.
reply_to_fault:
    or rax, {IS_FAULT}
    cmp [rbp + {THREADS} + {CALL_DUTY}], rax
    jne reply_lets_go
    test rsi, rsi
    jz reply_is_due
    mov byte ptr [r11 + {ENDPOINTS}], 0
    mov [rdx + {AT_RDI}], rdi
    mov [rdx + {AT_RSI}], rsi
    mov qword ptr [rdx + {AT_RDX}], -1
    mov qword ptr [rdx + {AT_RAX}], {REPLY_RECEIVE}
    mov [rdx + {AT_R8}], r8
    mov [rdx + {AT_R9}], r9
    mov [rdx + {AT_R10}], r10
    mov [rdx + {AT_RBX}], rbx
    mov [rdx + {AT_R12}], r12
    mov [rdx + {AT_R13}], r13
    mov [rdx + {AT_R14}], r14
    mov [rdx + {AT_R15}], r15
    mov rsp, gs:[{CPU_STACK}]
    lea rdi, [rdx - {REGISTERS}]
    mov rbx, rdi
    xor ebp, ebp
    call {answer_fault}
    test al, al
    jnz return_to_user
    mov rdi, rbx
    call on_syscall
    jmp return_to_user
reply_resumes:
    inc qword ptr [rbp + {THREADS} + {FAULTS}]
    lea rax, [rbp + {THREADS}]
    mov gs:[{CPU_ENTRY_STACK}], rax
    inc qword ptr gs:[{CPU_SWITCHES}]
    jmp return_to_user

reply_has_more:
    cmp esi, 32
    ja 4f
    clear_behind_half
    jmp reply_looks_up
4:
    cmp esi, {REGISTER_BYTES}
    ja 3f
    clear_behind
    jmp reply_looks_up
3:
    check_long slow_reply
    jmp reply_looks_up

reply_copies:
    copy_long rdx, "rbp + {THREADS}"
    jmp reply_hands_over

reply_is_doomed:
    lea rax, [r11 + {ENDPOINTS}]
    end_doomed {end_doomed_server}, rax
    jmp reply_switches

reply_lets_go:
    mov byte ptr [r11 + {ENDPOINTS}], 0
slow_reply:
    mov eax, {REPLY_RECEIVE}
slow_saved:
    # The general way does it all, from the registers of the program.
    mov rcx, [rdx + {AT_RIP}]
    mov r11, [rdx + {AT_FLAGS}]
    mov rbp, [rdx + {AT_RBP}]
slow:
    mov rdx, -1
    jmp syscall_general

