//! The table of system calls.

macro_rules! syscalls {
    ($($(#[$meta:meta])* $name:ident = $number:literal, $text:literal, $arguments:literal;)*) => {
        /// The number of a system call, passed in `rax`.
        #[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
        #[repr(u16)]
        pub enum Syscall {
            $($(#[$meta])* $name = $number,)*
        }

        impl Syscall {
            /// Every call.
            pub const ALL: &'static [Syscall] = &[$(Syscall::$name),*];

            /// Returns the call with this number.
            pub const fn from_number(number: u64) -> Option<Syscall> {
                match number {
                    $($number => Some(Syscall::$name),)*
                    _ => None,
                }
            }

            /// Returns the name as the reference page has it.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Syscall::$name => $text,)*
                }
            }

            /// Returns how many argument registers the call reads (payload not counted).
            pub const fn arguments(self) -> usize {
                match self {
                    $(Syscall::$name => $arguments,)*
                }
            }
        }
    };
}

syscalls! {
    /// Does nothing; for measuring a ring crossing.
    Null = 0, "null", 0;
    /// `rdi` sender, `rsi` info, `rdx` deadline: sends a request and waits for its reply.
    Call = 1, "call", 3;
    /// `rdi` reply | endpoint << 32, `rsi` info, `rdx` deadline: answers and waits for the next.
    ReplyReceive = 2, "reply_receive", 3;
    /// `rdi` endpoint << 32, `rdx` deadline: waits for a request, notification or closed badge.
    Receive = 3, "receive", 3;
    /// `rdi` reply, `rsi` info: answers.
    Reply = 4, "reply", 2;
    /// (notification): sets the bits of the handle.
    Notify = 5, "notify", 1;
    /// (notification or 0, deadline) -> bits: waits for bits, or just for the deadline.
    Wait = 6, "wait", 2;
    /// Loads other page tables and the caller's again; for measuring what that costs at least.
    NullSwitch = 8, "null_switch", 0;
    /// (count) -> entries done, error code of the one that failed: makes the calls in the first
    /// entries of the IPC page one after another ([`crate::BatchEntry`]).
    Batch = 7, "batch", 1;

    /// (handle, rights) -> handle: copies a handle, with at most the given rights.
    HandleDuplicate = 10, "handle_duplicate", 2;
    /// (handle): closes a handle.
    HandleClose = 11, "handle_close", 1;
    /// (handle, *HandleInfo): tells what a handle names.
    HandleInfo = 12, "handle_info", 2;
    /// (process, handle, rights) -> handle there: puts a copy into another process's table.
    HandleGrant = 13, "handle_grant", 3;
    /// (handle): destroys a sender, endpoint, notification or memory object for every holder.
    ObjectRevoke = 14, "object_revoke", 1;
    /// (index) -> handle, kind: tells the caller's handle with the lowest index from there on.
    HandleNext = 15, "handle_next", 1;

    /// (kernel quota bytes, name, name bytes) -> process: makes an empty process.
    ProcessCreate = 20, "process_create", 3;
    /// (process, code): ends a process.
    ProcessKill = 21, "process_kill", 2;
    /// (process, *ProcessInfo): tells about a process.
    ProcessInfo = 22, "process_info", 2;
    /// (process, notification): sets the notification's bits when the process dies and again when
    /// all of it is gone.
    ProcessWatch = 23, "process_watch", 2;
    /// (process, sender): page faults of the process go there as calls.
    ProcessSetPager = 24, "process_set_pager", 2;
    /// (code): ends the calling process.
    ProcessExit = 25, "process_exit", 1;
    /// (system, id, *ProcessInfo): tells about the process with the lowest id >= the given one.
    ProcessNext = 26, "process_next", 3;
    /// (process): the process keeps its handles when it dies, so that it can be revived.
    ProcessKeepHandles = 27, "process_keep_handles", 1;
    /// (process): makes a dead process that kept its handles alive again, with an empty space.
    ProcessRevive = 28, "process_revive", 1;
    /// (process, address, *PageRun, count) -> runs, next address: tells what is mapped from an
    /// address on.
    ProcessMappings = 29, "process_mappings", 4;

    /// (system, number) -> process: gives a handle to the process with a number.
    ProcessOpen = 33, "process_open", 2;
    /// (system, process, address, buffer, bytes): copies out of another process's memory, whatever
    /// its pages allow, at most 4 KiB.
    ProcessPeek = 34, "process_peek", 5;
    /// (system, process, address, buffer, bytes): copies into another process's memory, whatever
    /// its pages allow, at most 4 KiB.
    ProcessPoke = 35, "process_poke", 5;
    /// (system, process, instructions) -> instructions left: ends a process after so many
    /// instructions of its threads, 0 for not at all; tells how many were left until now.
    ProcessEndAfter = 36, "process_end_after", 3;
    /// (system, process, address, [`crate::WatchKind`]) -> 1 if the place watched before was reached:
    /// watches a place in a process, on this CPU.
    ProcessWatchPlace = 37, "process_watch_place", 4;
    /// (system, process): threads that the process gets from now on run before those of programs
    /// when they wake.
    ProcessSetUrgent = 38, "process_set_urgent", 2;
    /// (system, process, [`crate::AtAnswer`]) -> 1 if what was set before has not happened: what
    /// becomes of the process's next answer.
    ProcessAtAnswer = 39, "process_at_answer", 3;

    /// (process, *ThreadParams) -> thread: makes a thread and lets it run.
    ThreadCreate = 30, "thread_create", 2;
    /// Ends the calling thread.
    ThreadExit = 31, "thread_exit", 0;
    /// Lets others run.
    ThreadYield = 32, "thread_yield", 0;

    /// () -> endpoint: makes an endpoint.
    EndpointCreate = 40, "endpoint_create", 0;
    /// (endpoint, badge) -> sender: makes a send side with a badge.
    EndpointMint = 41, "endpoint_mint", 2;
    /// (endpoint, badge): says that the news of the closed badge was dealt with.
    EndpointForget = 42, "endpoint_forget", 2;
    /// () -> notification: makes a notification whose handle sets and sees all bits.
    NotificationCreate = 43, "notification_create", 0;
    /// (notification, bits) -> notification: makes a handle that can only set these bits.
    NotificationMint = 44, "notification_mint", 2;
    /// (notification, endpoint): receivers of the endpoint get the bits too.
    NotificationBind = 45, "notification_bind", 2;

    /// (memory, first page, pages) -> memory: makes an object of a part of another.
    MemorySlice = 50, "memory_slice", 3;
    /// (memory, *MemoryInfo): tells about a memory object.
    MemoryInfo = 51, "memory_info", 2;
    /// (process, *MapItem, count) -> items done: maps ranges.
    MemoryMap = 52, "memory_map", 3;
    /// (process, address, pages): unmaps a range.
    MemoryUnmap = 53, "memory_unmap", 3;
    /// (process, address, pages, flags): changes how a range is mapped.
    MemoryProtect = 54, "memory_protect", 4;
    /// (memory, offset, buffer, bytes): copies out of an object, at most 64 KiB.
    MemoryRead = 55, "memory_read", 4;
    /// (memory, offset, buffer, bytes): copies into an object, at most 64 KiB.
    MemoryWrite = 56, "memory_write", 4;
    /// (memory, offset, bytes): fills a part of an object with zeros, at most 64 KiB.
    MemoryZero = 57, "memory_zero", 3;

    /// (system, *[address, data]) -> interrupt: makes a message-signalled interrupt.
    InterruptCreateMsi = 60, "interrupt_create_msi", 2;
    /// (system, line) -> interrupt: takes a line of the interrupt controller.
    InterruptCreateLine = 61, "interrupt_create_line", 2;
    /// (interrupt, notification): sets the notification's bits at each interrupt.
    InterruptBind = 62, "interrupt_bind", 2;
    /// (interrupt): lets the next interrupt of a level-triggered line come.
    InterruptAck = 63, "interrupt_ack", 1;

    /// (system, first port, count) -> ports: makes an object for a range of I/O ports.
    PortsCreate = 70, "ports_create", 3;
    /// (ports, port, width in bytes) -> value: reads a port.
    PortIn = 71, "port_in", 3;
    /// (ports, port, width in bytes, value): writes a port.
    PortOut = 72, "port_out", 4;
    /// (ports, *PortStream) -> bytes done: moves a run of bytes.
    PortStream = 73, "port_stream", 2;

    /// () -> nanoseconds since boot.
    Clock = 80, "clock", 0;
    /// (system, exit code): powers the machine off.
    SystemShutdown = 81, "system_shutdown", 2;
    /// (system, *SystemInfo, *KernelStats): tells about the machine.
    SystemInfo = 82, "system_info", 3;
    /// (text, bytes): adds a line to the kernel log, at most 256 bytes.
    DebugLog = 83, "debug_log", 2;
    /// (system, position, buffer, bytes) -> bytes, next position: reads the kernel log.
    KernelLogRead = 84, "kernel_log_read", 4;
    /// (system, physical address, pages) -> memory: makes an object for device registers.
    DeviceMemory = 85, "device_memory", 3;
}

#[cfg(test)]
mod tests {
    use super::Syscall;

    #[test]
    fn numbers_round_trip_and_names_differ() {
        for (i, &call) in Syscall::ALL.iter().enumerate() {
            assert_eq!(Syscall::from_number(call as u64), Some(call));
            assert!(call.arguments() <= 6);
            assert!(
                Syscall::ALL[..i]
                    .iter()
                    .all(|other| other.name() != call.name())
            );
        }
        assert_eq!(Syscall::from_number(u64::MAX), None);
    }
}
