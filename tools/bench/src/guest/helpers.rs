//! Threads and processes that benchmarks work with.

use bench::arguments::Role;
use libsys::abi::ProcessState;
use libsys::mappings::Reservation;
use libsys::spawn::Spawn;
use libsys::thread::{self, ThreadPlace};
use libsys::{Endpoint, Handle, Memory, Notification, Process, Rights, Sender, ipc, time};
use skink_program::Failed;

use super::kit::Kit;
use super::server;

/// Pages of a thread: control page, IPC page and 32 KiB of stack.
const THREAD_PAGES: u64 = 10;
/// How often, and how long each time, the end of a process is waited for.
const END_POLLS: u32 = 200;
const END_POLL_NS: u64 = 5 * time::MS;

/// What the server may do with its endpoint.
const SERVE_RIGHTS: Rights = Rights(Rights::RECEIVE.0 | Rights::INSPECT.0);

/// Room for a thread of this process.
pub(crate) struct ThreadRoom {
    pages: Handle<Memory>,
    place: Reservation,
}

impl ThreadRoom {
    /// Asks the memory manager for room.
    pub(crate) fn new(kit: &Kit) -> Result<Self, Failed> {
        let pages = kit.memory.create_object(THREAD_PAGES)?;
        // One page more: the guard below the stack.
        let place = Reservation::new(THREAD_PAGES + 1)?;
        Ok(ThreadRoom { pages, place })
    }

    /// Starts a thread. It has to end by itself; its room stays until the process ends, because
    /// nobody can tell when it has left its stack for the last time.
    pub(crate) fn start(self, work: impl FnOnce() + Send + 'static) -> Result<(), Failed> {
        let place = ThreadPlace {
            memory: &self.pages,
            first_page: 0,
            pages: THREAD_PAGES,
            address: self.place.address(),
        };
        thread::spawn(&place, work)?;
        core::mem::forget(self.place);
        Ok(())
    }
}

/// A server in a process of its own. It ends when its last sender is closed.
#[derive(Debug)]
pub(crate) struct ServerProcess(Handle<Process>);

impl ServerProcess {
    /// Starts a server and returns the way to call it.
    pub(crate) fn start(kit: &Kit, role: Role) -> Result<(Handle<Sender>, Self), Failed> {
        let endpoint = Handle::<Endpoint>::create()?;
        let sender = endpoint.mint(1)?;
        let spawn = Spawn::new(kit.program())
            .arguments(role.arguments())
            .handle("self", &endpoint, SERVE_RIGHTS);
        let child = kit.start_again(spawn)?;
        Ok((sender, ServerProcess(child.process)))
    }

    /// Starts a process that answers notifications. It ends by the bit [`server::END`].
    pub(crate) fn start_notified(
        kit: &Kit,
        waiter: &Handle<Notification>,
        answer: &Handle<Notification>,
    ) -> Result<Self, Failed> {
        let spawn = Spawn::new(kit.program())
            .arguments(Role::Notify.arguments())
            .handle(server::WAITER, waiter, Rights::WAIT)
            .handle(server::ANSWER, answer, Rights::NOTIFY);
        ServerProcess::spawn(kit, spawn)
    }

    /// Starts a process that this describes. It ends by the bit [`server::END`] too.
    pub(crate) fn spawn(kit: &Kit, spawn: Spawn<'_>) -> Result<Self, Failed> {
        Ok(ServerProcess(kit.start_again(spawn)?.process))
    }
}

/// Waits until it is gone, so that its end does not disturb the next benchmark. Close the sender
/// first.
impl Drop for ServerProcess {
    fn drop(&mut self) {
        if !wait_for_end(&self.0) {
            // It hangs, and nobody else will end it. An error means that it has ended just now.
            let _ = self.0.kill(0);
        }
    }
}

/// A process that keeps a CPU busy and lets everybody else run.
///
/// A clock that counts instructions stands while something runs that waits for the host's disk. When
/// nothing runs it jumps to the next timer, again and again until the disk answers: seconds, and
/// heartbeats of all services, for one request.
#[derive(Debug)]
pub(crate) struct Spinner(Handle<Process>);

impl Spinner {
    /// Starts it.
    pub(crate) fn start(kit: &Kit) -> Result<Self, Failed> {
        let spawn = Spawn::new(kit.program()).arguments(Role::Spin.arguments());
        Ok(Spinner(kit.start_again(spawn)?.process))
    }

    /// Returns the CPU time that it took, ns.
    pub(crate) fn cpu_ns(&self) -> Result<u64, Failed> {
        Ok(self.0.info()?.cpu_ns)
    }
}

impl Drop for Spinner {
    fn drop(&mut self) {
        // It never ends by itself. An error means that somebody else has ended it.
        let _ = self.0.kill(0);
        wait_for_end(&self.0);
    }
}

/// Waits until all of a process is gone, but not for ever. Returns whether it is.
pub(crate) fn wait_for_end(process: &Handle<Process>) -> bool {
    for _ in 0..END_POLLS {
        match process.info() {
            Ok(info) if info.state != ProcessState::Dead as u32 => time::sleep(END_POLL_NS),
            _ => return true,
        }
    }
    false
}

/// Ends a partner when dropped, by a bit of the notification that it waits for.
#[derive(Debug)]
pub(crate) struct EndBit(Handle<Notification>);

impl EndBit {
    /// Takes the handle that sets the bit.
    pub(crate) fn new(bit: Handle<Notification>) -> Self {
        EndBit(bit)
    }
}

impl Drop for EndBit {
    fn drop(&mut self) {
        // It fails only if the partner has ended.
        let _ = ipc::notify(&self.0);
    }
}
