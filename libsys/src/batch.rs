//! Many small operations in one crossing.
//!
//! [`Batch`] collects operations, [`Batch::run`] makes them one after another until one fails,
//! and [`Done`] holds what each of them gave. What does not fit into one system call, in number
//! or in time, goes on in the next.
//!
//! ```ignore
//! let mut batch = Batch::with_capacity(2);
//! let sender = batch.mint(&endpoint, 7);
//! batch.watch(&process, &notification);
//! let mut done = batch.run();
//! done.check()?;
//! let sender = done.take(sender)?;
//! ```
//!
//! The operations travel in the thread's IPC page: what it held is gone afterwards.

use alloc::vec::Vec;
use core::marker::PhantomData;

use skink_abi::{BatchEntry, MAX_BATCH, MapFlags, ProcessInfo, RawHandle, Syscall, ThreadParams};

use crate::{
    Endpoint, Error, Handle, Kind, Notification, Process, Result, Rights, Sender, Thread, ipc, raw,
};

/// Operations that are not made yet. Those on one batch are numbered from 0.
#[derive(Debug, Default)]
pub struct Batch<'a> {
    operations: Vec<Operation>,
    // Handles and places of results are kept by number; the borrows make sure that they stay.
    borrows: PhantomData<&'a mut ()>,
}

#[derive(Debug)]
struct Operation {
    entry: BatchEntry,
    gives: Gives,
}

/// What the first value is that an operation gives.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Gives {
    /// A number.
    Number,
    /// A handle that nobody has taken yet.
    Handle,
}

impl Operation {
    /// Returns the first value that it gave.
    fn value(&self) -> u64 {
        self.entry.arguments[self.place()]
    }

    /// Notes the first value that it gave. Where the handle of another operation is there is none then,
    /// as what is closed by mistake is nobody's.
    fn set_value(&mut self, value: u64) {
        self.entry.arguments[0] = RawHandle::NONE.0.into();
        let place = self.place();
        self.entry.arguments[place] = value;
    }

    /// Returns where the first value is.
    fn place(&self) -> usize {
        match self.gives {
            Gives::Handle => 0,
            Gives::Number => 1,
        }
    }
}

/// A handle that an operation will give.
#[derive(Debug)]
pub struct Ticket<K: Kind> {
    position: usize,
    kind: PhantomData<K>,
}

/// What became of a batch. Handles that are not taken out of it are closed when it is dropped.
#[derive(Debug)]
pub struct Done {
    operations: Vec<Operation>,
    /// How many succeeded.
    count: usize,
    /// Why the one behind them failed; the others were not made.
    error: Option<Error>,
}

impl<'a> Batch<'a> {
    /// Makes an empty batch with room for so many operations.
    pub fn with_capacity(operations: usize) -> Self {
        Batch {
            operations: Vec::with_capacity(operations),
            borrows: PhantomData,
        }
    }

    /// Copies a handle; see [`Handle::duplicate`].
    pub fn duplicate<K: Kind>(&mut self, handle: &'a Handle<K>, rights: Rights) -> Ticket<K> {
        self.add_making(
            Syscall::HandleDuplicate,
            [handle.raw().0.into(), rights.0.into()],
        )
    }

    /// Puts a copy of a handle, which must stay open until the batch has run, into a process's
    /// table. [`Done::value`] tells its number there; see [`Handle::<Process>::grant`].
    pub fn grant(
        &mut self,
        process: &'a Handle<Process>,
        handle: RawHandle,
        rights: Rights,
    ) -> usize {
        self.add(
            Syscall::HandleGrant,
            [process.raw().0.into(), handle.0.into(), rights.0.into()],
        )
    }

    /// Makes a send side; see [`Handle::<Endpoint>::mint`].
    pub fn mint(&mut self, endpoint: &'a Handle<Endpoint>, badge: u64) -> Ticket<Sender> {
        self.add_making(Syscall::EndpointMint, [endpoint.raw().0.into(), badge])
    }

    /// Sets the bits of a notification handle; see [`ipc::notify`].
    pub fn notify(&mut self, notification: &'a Handle<Notification>) -> usize {
        self.add(Syscall::Notify, [notification.raw().0.into()])
    }

    /// Has a notification's bits set when a process ends; see [`Handle::<Process>::watch`].
    pub fn watch(
        &mut self,
        process: &'a Handle<Process>,
        notification: &'a Handle<Notification>,
    ) -> usize {
        self.add(
            Syscall::ProcessWatch,
            [process.raw().0.into(), notification.raw().0.into()],
        )
    }

    /// Tells what a process is and does; see [`Handle::<Process>::info`].
    pub fn info(&mut self, process: &'a Handle<Process>, into: &'a mut ProcessInfo) -> usize {
        self.add(
            Syscall::ProcessInfo,
            [process.raw().0.into(), core::ptr::from_mut(into) as u64],
        )
    }

    /// Makes a thread and lets it run; see [`Handle::<Process>::start_thread`].
    pub fn start_thread(
        &mut self,
        process: &'a Handle<Process>,
        params: &'a ThreadParams,
    ) -> Ticket<Thread> {
        self.add_making(
            Syscall::ThreadCreate,
            [process.raw().0.into(), core::ptr::from_ref(params) as u64],
        )
    }

    /// Unmaps a range of at most [`skink_abi::MAX_MAP_PAGES`]; see [`Handle::<Process>::unmap`].
    pub fn unmap(&mut self, process: &'a Handle<Process>, address: u64, pages: u64) -> usize {
        self.add(
            Syscall::MemoryUnmap,
            [process.raw().0.into(), address, pages],
        )
    }

    /// Changes how a range of at most [`skink_abi::MAX_MAP_PAGES`] may be used; see
    /// [`Handle::<Process>::protect`].
    pub fn protect(
        &mut self,
        process: &'a Handle<Process>,
        address: u64,
        pages: u64,
        flags: MapFlags,
    ) -> usize {
        self.add(
            Syscall::MemoryProtect,
            [process.raw().0.into(), address, pages, flags.0.into()],
        )
    }

    /// Makes the operations in their order until one fails.
    pub fn run(self) -> Done {
        let mut done = Done {
            operations: self.operations,
            count: 0,
            error: None,
        };
        while done.error.is_none() && done.count < done.operations.len() {
            match make(&mut done.operations[done.count..]) {
                Ok((count, error)) => {
                    done.count += count;
                    done.error = error;
                }
                Err(error) => done.error = Some(error),
            }
        }
        done
    }

    fn add<const N: usize>(&mut self, call: Syscall, arguments: [u64; N]) -> usize {
        self.push(call, arguments, Gives::Number)
    }

    fn add_making<const N: usize, K: Kind>(
        &mut self,
        call: Syscall,
        arguments: [u64; N],
    ) -> Ticket<K> {
        Ticket {
            position: self.push(call, arguments, Gives::Handle),
            kind: PhantomData,
        }
    }

    fn push<const N: usize>(&mut self, call: Syscall, arguments: [u64; N], gives: Gives) -> usize {
        let mut entry = BatchEntry {
            call: call as u64,
            ..BatchEntry::default()
        };
        entry.arguments[..N].copy_from_slice(&arguments);
        self.operations.push(Operation { entry, gives });
        self.operations.len() - 1
    }
}

impl Done {
    /// Returns the position of the operation that failed, and why. Those behind it were not made.
    pub fn failure(&self) -> Option<(usize, Error)> {
        self.error.map(|error| (self.count, error))
    }

    /// Checks that all operations succeeded.
    ///
    /// # Errors
    ///
    /// That of the one that failed.
    pub fn check(&self) -> Result<()> {
        self.error.map_or(Ok(()), Err)
    }

    /// Returns the first value that the operation at a position gave.
    ///
    /// # Errors
    ///
    /// Why it failed, or the one before it that failed; `InvalidArgument` if there is none.
    pub fn value(&self, position: usize) -> Result<u64> {
        match self.operations[..self.count].get(position) {
            Some(operation) => Ok(operation.value()),
            None => Err(self.error.unwrap_or(Error::InvalidArgument)),
        }
    }

    /// Takes the handle that an operation of this batch gave.
    ///
    /// # Errors
    ///
    /// As [`Done::value`].
    #[expect(clippy::needless_pass_by_value, reason = "a handle is taken once")]
    pub fn take<K: Kind>(&mut self, ticket: Ticket<K>) -> Result<Handle<K>> {
        let raw = self.value(ticket.position)?;
        let operation = &mut self.operations[ticket.position];
        operation.gives = Gives::Number;
        operation.set_value(raw);
        Ok(Handle::from_raw(RawHandle(raw as u32)))
    }
}

impl Drop for Done {
    fn drop(&mut self) {
        let made = self.operations[..self.count].iter();
        for operation in made.filter(|operation| operation.gives == Gives::Handle) {
            // The kind does not matter for closing.
            let raw = RawHandle(operation.entry.arguments[0] as u32);
            drop(Handle::<Thread>::from_raw(raw));
        }
    }
}

/// Makes as many operations as one system call can. Returns how many succeeded, and the error of
/// the one behind them.
fn make(operations: &mut [Operation]) -> Result<(usize, Option<Error>)> {
    let count = operations.len().min(MAX_BATCH);
    let operations = &mut operations[..count];
    ipc::with_page(|page| {
        write(page, operations);
        assert!(is_written(page, operations), "a batch was not written");
    });
    let (done, error) = raw::plain(Syscall::Batch, [count as u64])?;
    let done = (done as usize).min(count);
    with_entries(|entries| {
        for (entry, operation) in entries.zip(&mut operations[..done]) {
            if let Some(word) = entry[8..].first_chunk() {
                operation.set_value(u64::from_le_bytes(*word));
            }
        }
    });
    Ok((done, Error::from_code(error)))
}

/// Writes operations as entries of a page.
fn write(page: &mut [u8], operations: &[Operation]) {
    let (entries, _) = page.as_chunks_mut::<{ size_of::<BatchEntry>() }>();
    for (entry, operation) in entries.iter_mut().zip(operations) {
        let (call, arguments) = entry.split_at_mut(8);
        call.copy_from_slice(&operation.entry.call.to_le_bytes());
        let words = arguments.as_chunks_mut::<8>().0.iter_mut();
        for (word, argument) in words.zip(operation.entry.arguments) {
            *word = argument.to_le_bytes();
        }
    }
}

/// Returns whether the entries of a page are the operations. Looked at before they are made: another
/// call, or one on something else, could not be taken back.
#[inline(never)]
fn is_written(page: &[u8], operations: &[Operation]) -> bool {
    let (words, _) = page.as_chunks::<8>();
    let mut words = words.iter().map(|word| u64::from_le_bytes(*word));
    operations.iter().all(|Operation { entry, .. }| {
        let arguments = &entry.arguments;
        words.next() == Some(entry.call)
            && arguments
                .iter()
                .all(|argument| words.next() == Some(*argument))
    })
}

/// Gives access to the entries in the IPC page.
fn with_entries<R>(
    f: impl FnOnce(core::slice::IterMut<'_, [u8; size_of::<BatchEntry>()]>) -> R,
) -> R {
    ipc::with_page(|page| f(page.as_chunks_mut().0.iter_mut()))
}

#[cfg(test)]
mod tests {
    use super::{Batch, is_written, write};
    use crate::{Endpoint, Error, Handle, RawHandle};

    #[test]
    fn without_a_kernel_the_first_operation_fails_and_nothing_is_given() {
        let endpoint = Handle::<Endpoint>::from_raw(RawHandle(1));
        let mut batch = Batch::with_capacity(2);
        let (first, second) = (batch.mint(&endpoint, 1), batch.mint(&endpoint, 2));
        let mut done = batch.run();
        assert_eq!(done.failure(), Some((0, Error::InvalidSyscall)));
        assert_eq!(done.check(), Err(Error::InvalidSyscall));
        assert_eq!(done.take(first).err(), Some(Error::InvalidSyscall));
        assert_eq!(done.take(second).err(), Some(Error::InvalidSyscall));
    }

    #[test]
    fn a_word_that_is_not_an_operation_s_is_found() {
        let endpoint = Handle::<Endpoint>::from_raw(RawHandle(1));
        let mut batch = Batch::with_capacity(2);
        let _ = (batch.mint(&endpoint, 1), batch.mint(&endpoint, 2));
        let mut page = [0xff; 256];
        write(&mut page, &batch.operations);
        assert!(is_written(&page, &batch.operations));
        for place in 0..2 * 56 {
            page[place] ^= 1;
            assert!(!is_written(&page, &batch.operations), "{place}");
            page[place] ^= 1;
        }
    }

    #[test]
    fn an_empty_batch_succeeds() {
        let done = Batch::default().run();
        assert_eq!(done.check(), Ok(()));
        assert_eq!(done.value(0), Err(Error::InvalidArgument));
    }
}
