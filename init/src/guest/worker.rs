//! The second thread: starts paged services, for which it has to wait for the memory manager.
//!
//! It takes one [`Job`] after another and reports each; it decides nothing. A call that gets no
//! answer in time ends the half-made process and is reported as a failed start, so that the
//! supervisor backs off and tries again.

use alloc::collections::VecDeque;
use alloc::vec::Vec;

use init::ledger::Key;
use libipc::proto::memory::MemoryManagerClient;
use libipc::spawn::MemoryPager;
use libsys::abi::FOREVER;
use libsys::mappings::Reservation;
use libsys::spawn::Child;
use libsys::thread::{self, ThreadPlace};
use libsys::{Handle, Memory, Notification, Sender, ipc};
use spin::Mutex;

use super::book::{Book, BookError};
use super::kit::{Common, Kit, Paging, StartError};

/// Pages of the thread: control page, IPC page and stack. SHA-256 and the checks of images need
/// little of it.
pub(crate) const THREAD_PAGES: u64 = 18;
/// Time that the memory manager has for one call, ns.
const CALL_TIMEOUT_NS: u64 = 5_000_000_000;

/// A service to be started.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Job {
    /// Its position.
    pub(crate) service: usize,
    /// Number of the instance.
    pub(crate) generation: u64,
}

/// What came of a job.
#[derive(Debug)]
pub(crate) struct Done {
    /// The job.
    pub(crate) job: Job,
    /// The process, or why there is none.
    pub(crate) result: Result<Child, StartError>,
}

/// What the two threads share.
#[derive(Debug)]
pub(crate) struct Jobs {
    queue: Mutex<VecDeque<Job>>,
    done: Mutex<Vec<Done>>,
    /// The worker waits for it.
    bell: Handle<Notification>,
}

impl Jobs {
    /// Makes an empty queue.
    pub(crate) fn new(book: &Book) -> Result<Jobs, BookError> {
        let bell =
            book.keep::<_, BookError>(Key::Bell, || Ok(Handle::<Notification>::create()?))?;
        Ok(Jobs {
            queue: Mutex::default(),
            done: Mutex::default(),
            bell,
        })
    }

    /// Adds a job.
    pub(crate) fn add(&self, job: Job) {
        self.queue.lock().push_back(job);
        if let Err(error) = ipc::notify(&self.bell) {
            log::error!("worker not woken: {error}");
        }
    }

    /// Takes what is done.
    pub(crate) fn take_done(&self) -> Vec<Done> {
        core::mem::take(&mut self.done.lock())
    }
}

/// Starts the thread. `memory_manager` is `init`'s own way to it.
pub(crate) fn start(
    memory: &Handle<Memory>,
    memory_manager: Handle<Sender>,
    shared: (&'static Common, &'static [Kit], &'static Jobs),
) -> libsys::Result<()> {
    // One more page than the thread has: a guard in front of its stack.
    let place = Reservation::new(THREAD_PAGES + 1)?;
    let address = place.address();
    // The thread never ends.
    core::mem::forget(place);
    let place = ThreadPlace {
        memory,
        first_page: 0,
        pages: THREAD_PAGES,
        address,
    };
    let client = MemoryManagerClient::new_unchecked(memory_manager);
    let pager = MemoryPager::new(client).with_deadline(CALL_TIMEOUT_NS);
    thread::spawn(&place, move || work(&pager, shared)).map(drop)
}

fn work(pager: &MemoryPager, (common, kits, jobs): (&Common, &[Kit], &Jobs)) {
    loop {
        // The lock is free while the job runs.
        let job = jobs.queue.lock().pop_front();
        let Some(job) = job else {
            if let Err(error) = ipc::wait(&jobs.bell, FOREVER) {
                log::error!("worker cannot wait: {error}");
                return;
            }
            continue;
        };
        let result = match kits.get(job.service) {
            Some(kit) => kit.start(common, job.generation, Paging::Paged(pager)),
            None => Err(StartError::NoPool),
        };
        jobs.done.lock().push(Done { job, result });
        if let Err(error) = ipc::notify(&common.wake) {
            log::error!("news of a start not sent: {error}");
        }
    }
}
