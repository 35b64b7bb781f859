//! Processes and threads.

use skink_abi::{
    AtAnswer, ExitReason, MAX_PEEK_BYTES, PageRun, ProcessInfo, ProcessState, RawHandle, Rights,
    Syscall, ThreadParams, WatchKind,
};

use crate::{Handle, Kind, Notification, Process, Result, Sender, System, Thread, memory, raw};

impl Handle<Process> {
    /// Makes an empty process with a quota of kernel memory, taken from the caller's own.
    ///
    /// # Errors
    ///
    /// `NoMemory` when the caller's quota is too small, `TooManyHandles`.
    pub fn create(name: &str, kernel_quota: u64) -> Result<Handle<Process>> {
        let name = &name.as_bytes()[..name.len().min(skink_abi::NAME_BYTES)];
        let arguments = [
            kernel_quota,
            name.as_ptr() as u64,
            name.len() as u64,
            0,
            0,
            0,
        ];
        let (raw, _) = raw::plain(Syscall::ProcessCreate, arguments)?;
        Ok(Handle::from_raw(RawHandle(raw as u32)))
    }

    /// Ends the process. `code` is told to those who ask why it ended.
    ///
    /// # Errors
    ///
    /// `MissingRight`, `Dead`.
    pub fn kill(&self, code: u64) -> Result<()> {
        raw::plain(Syscall::ProcessKill, [self.raw().0.into(), code]).map(|_| ())
    }

    /// Tells what the process is and does.
    ///
    /// # Errors
    ///
    /// `MissingRight` without [`Rights::INSPECT`].
    pub fn info(&self) -> Result<ProcessInfo> {
        let mut info = empty_info();
        raw::plain(
            Syscall::ProcessInfo,
            [self.raw().0.into(), &raw mut info as u64],
        )?;
        Ok(info)
    }

    /// Has the notification's bits set when the process dies, and again when all of it is gone. A
    /// notification that is watching already gets these bits too. It goes on to watch a process
    /// that is revived.
    ///
    /// # Errors
    ///
    /// `AlreadyBound` for a third watcher, `Dead` when it is gone already.
    pub fn watch(&self, notification: &Handle<Notification>) -> Result<()> {
        let arguments = [self.raw().0.into(), notification.raw().0.into()];
        raw::plain(Syscall::ProcessWatch, arguments).map(|_| ())
    }

    /// Has the process keep its handles when it dies, for [`Handle::<Process>::revive`]. They are
    /// closed when nobody has a handle to it any more. To ask twice does no harm.
    ///
    /// # Errors
    ///
    /// `MissingRight`, `Dead`.
    pub fn keep_handles(&self) -> Result<()> {
        raw::plain(Syscall::ProcessKeepHandles, [self.raw().0.into()]).map(|_| ())
    }

    /// Makes the process alive again after its end, with the handles that it had, under the same
    /// numbers. It has an empty address space, no thread and no pager; who watched it still does.
    ///
    /// # Errors
    ///
    /// `MissingRight`, `StillAlive` before it is dead, `Dead` if it did not keep its handles.
    pub fn revive(&self) -> Result<()> {
        raw::plain(Syscall::ProcessRevive, [self.raw().0.into()]).map(|_| ())
    }

    /// Tells what is mapped from an address on, a run of pages after the other: how many runs
    /// there are now in `runs`, and the address to go on with. That one is
    /// [`skink_abi::layout::USER_END`] when nothing follows; a call that looked at as much as it
    /// may can have found no run and say another one.
    ///
    /// # Errors
    ///
    /// `MissingRight`, `Dead` for a process that ends or is dead.
    pub fn mappings(&self, address: u64, runs: &mut [PageRun]) -> Result<(usize, u64)> {
        let arguments = [
            self.raw().0.into(),
            address,
            runs.as_mut_ptr() as u64,
            runs.len() as u64,
        ];
        let (count, next) = raw::plain(Syscall::ProcessMappings, arguments)?;
        Ok((count as usize, next))
    }

    /// Sends the process's page faults to an endpoint.
    ///
    /// # Errors
    ///
    /// `MissingRight`.
    pub fn set_pager(&self, pager: &Handle<Sender>) -> Result<()> {
        let arguments = [self.raw().0.into(), pager.raw().0.into()];
        raw::plain(Syscall::ProcessSetPager, arguments).map(|_| ())
    }

    /// Puts a copy of a handle into the process's table and returns its number there.
    ///
    /// # Errors
    ///
    /// `MissingRight` without [`Rights::TRANSFER`] on the handle, `TooManyHandles`, `Dead`.
    pub fn grant<K: Kind>(&self, handle: &Handle<K>, rights: Rights) -> Result<RawHandle> {
        let arguments = [
            self.raw().0.into(),
            handle.raw().0.into(),
            rights.0.into(),
            0,
            0,
            0,
        ];
        let (raw, _) = raw::plain(Syscall::HandleGrant, arguments)?;
        Ok(RawHandle(raw as u32))
    }

    /// Makes a thread in the process and lets it run.
    ///
    /// # Errors
    ///
    /// `InvalidArgument`, `NoMemory`, `Dead`.
    pub fn start_thread(&self, params: &ThreadParams) -> Result<Handle<Thread>> {
        let arguments = [
            self.raw().0.into(),
            core::ptr::from_ref(params) as u64,
            0,
            0,
            0,
            0,
        ];
        let (raw, _) = raw::plain(Syscall::ThreadCreate, arguments)?;
        Ok(Handle::from_raw(RawHandle(raw as u32)))
    }
}

impl Handle<System> {
    /// Tells about the process with the lowest id that is at least `id`, or `None`.
    ///
    /// # Errors
    ///
    /// `MissingRight` without [`Rights::INSPECT`].
    pub fn next_process(&self, id: u64) -> Result<Option<ProcessInfo>> {
        let mut info = empty_info();
        let arguments = [self.raw().0.into(), id, &raw mut info as u64];
        match raw::plain(Syscall::ProcessNext, arguments) {
            Ok(_) => Ok(Some(info)),
            Err(crate::Error::Unavailable) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// For debuggers and fault injection: nothing that a system needs to run.
impl Handle<System> {
    /// Gives a handle to the process with a number, with the rights to end it and to look at it.
    ///
    /// # Errors
    ///
    /// `MissingRight` without [`Rights::DEBUG`], `Unavailable` if there is none.
    pub fn open_process(&self, number: u64) -> Result<Handle<Process>> {
        let arguments = [self.raw().0.into(), number];
        let (raw, _) = raw::plain(Syscall::ProcessOpen, arguments)?;
        Ok(Handle::from_raw(RawHandle(raw as u32)))
    }

    /// Reads another process's memory.
    ///
    /// # Errors
    ///
    /// `MissingRight` without [`Rights::DEBUG`] here and [`Rights::MANAGE`] on the process,
    /// `BadAddress` where nothing is mapped, `Dead`.
    pub fn peek(&self, process: &Handle<Process>, address: u64, buffer: &mut [u8]) -> Result<()> {
        let mut at = address;
        for part in buffer.chunks_mut(MAX_PEEK_BYTES as usize) {
            let arguments = self.range(process, at, part);
            memory::copy_touching(Syscall::ProcessPeek, arguments, part)?;
            at = at.wrapping_add(part.len() as u64);
        }
        Ok(())
    }

    /// Writes another process's memory, also where the process itself may not. Text of programs is
    /// shared with the boot bundle and with all who run it: what is written there stays for every
    /// life to come, and everybody sees it.
    ///
    /// # Errors
    ///
    /// As [`Handle::<System>::peek`]; bytes in pages before the one that is not mapped are written.
    pub fn poke(&self, process: &Handle<Process>, address: u64, bytes: &[u8]) -> Result<()> {
        let mut at = address;
        for part in bytes.chunks(MAX_PEEK_BYTES as usize) {
            memory::touch(part);
            raw::plain(Syscall::ProcessPoke, self.range(process, at, part))?;
            at = at.wrapping_add(part.len() as u64);
        }
        Ok(())
    }

    /// Has a process end, as if it were killed with code 0, when its threads have executed so many
    /// instructions from now on, or no longer for 0. Returns how many were left until now; 0 if the
    /// process was not to end.
    ///
    /// The system call in which a thread waits counts when it returns, each round of a repeated
    /// string instruction counts, and one that faults counts when it is done. A life that begins
    /// anew has no end set.
    ///
    /// # Errors
    ///
    /// `MissingRight` as for [`Handle::<System>::peek`], `Dead`.
    pub fn end_after(&self, process: &Handle<Process>, instructions: u64) -> Result<u64> {
        let arguments = [self.raw().0.into(), process.raw().0.into(), instructions];
        raw::plain(Syscall::ProcessEndAfter, arguments).map(|(left, _)| left)
    }

    /// Says what happens when a process answers a request the next time. Returns whether what was set
    /// before has not happened. Threads that begin later, also those of a life that begins anew, answer
    /// as usual.
    ///
    /// # Errors
    ///
    /// `MissingRight` as for [`Handle::<System>::peek`], `Dead`.
    pub fn at_answer(&self, process: &Handle<Process>, what: AtAnswer) -> Result<bool> {
        let [system, process] = [self.raw().0.into(), process.raw().0.into()];
        let arguments = [system, process, what as u64];
        raw::plain(Syscall::ProcessAtAnswer, arguments).map(|(pending, _)| pending != 0)
    }

    /// Makes a process urgent: threads that it gets from now on, in later lives too, run before those
    /// of programs whenever they wake or begin, until they have used up a time slice. It needs the
    /// right `MANAGE` of both.
    ///
    /// # Errors
    ///
    /// `MissingRight`.
    pub fn set_urgent(&self, process: &Handle<Process>) -> Result<()> {
        let arguments = [self.raw().0.into(), process.raw().0.into()];
        raw::plain(Syscall::ProcessSetUrgent, arguments).map(|_| ())
    }

    /// Watches a place in a process, or none: there is one place for all who ask, and only what runs
    /// on the CPU of this call is seen. Returns whether the place that was watched before was reached.
    /// The first time is seen, in any life of the process with this number.
    ///
    /// # Errors
    ///
    /// `MissingRight` as for [`Handle::<System>::peek`], `InvalidArgument` for an address that no
    /// program has, `Dead` unless no place is to be watched.
    pub fn watch_place(
        &self,
        process: &Handle<Process>,
        address: u64,
        kind: WatchKind,
    ) -> Result<bool> {
        let [system, process] = [self.raw().0.into(), process.raw().0.into()];
        let arguments = [system, process, address, kind as u64];
        raw::plain(Syscall::ProcessWatchPlace, arguments).map(|(reached, _)| reached != 0)
    }

    fn range(&self, process: &Handle<Process>, address: u64, part: &[u8]) -> [u64; 6] {
        [
            self.raw().0.into(),
            process.raw().0.into(),
            address,
            part.as_ptr() as u64,
            part.len() as u64,
            0,
        ]
    }
}

/// Ends the calling process.
#[cfg(bare)]
pub(crate) fn exit(code: u64) -> ! {
    loop {
        // It does not return; if it ever did, there is nothing else to do than to ask again.
        let _ = raw::plain(Syscall::ProcessExit, [code]);
    }
}

/// Ends the calling thread.
#[cfg(bare)]
pub(crate) fn exit_thread() -> ! {
    loop {
        // As in `exit`.
        let _ = raw::plain(Syscall::ThreadExit, []);
    }
}

pub(crate) const fn empty_info() -> ProcessInfo {
    ProcessInfo {
        id: 0,
        state: ProcessState::Alive as u32,
        reason: ExitReason::None as u32,
        code: 0,
        address: 0,
        fault_address: 0,
        cpu_ns: 0,
        served_ns: 0,
        faults: 0,
        calls: 0,
        threads: 0,
        handles: 0,
        kernel_bytes: 0,
        kernel_quota: 0,
        mapped_pages: 0,
        calling: 0,
        receiving: 0,
        waiting: 0,
        sleeping: 0,
        duties: 0,
        name: [0; skink_abi::NAME_BYTES],
    }
}
