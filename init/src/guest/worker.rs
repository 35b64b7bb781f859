//! The second thread: starts paged services, for which it has to wait for the memory manager, and
//! does what would keep the main thread busy for long.
//!
//! It takes one [`Task`] after another and reports each; it decides nothing. A call that gets no
//! answer in time ends the half-made process and is reported as a failed start, so that the
//! supervisor backs off and tries again.

use alloc::collections::VecDeque;
use alloc::vec::Vec;

use init::ledger::Key;
use libipc::proto::init::SwapReason;
use libipc::proto::memory::MemoryManagerClient;
use libipc::spawn::MemoryPager;
use libsys::abi::FOREVER;
use libsys::mappings::Reservation;
use libsys::spawn::Child;
use libsys::thread::{self, ThreadPlace};
use libsys::{Handle, Memory, Notification, Sender, ipc};
use spin::Mutex;

use super::book::{Book, BookError};
use super::candidate::{self, Candidate};
use super::kit::{Common, Kit, Paging, StartError};
use super::program::Program;

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

/// Something to be done.
#[derive(Debug)]
enum Task {
    Start(Job),
    Prepare(usize, Candidate),
    Trial(Job, Program),
    Copy(usize),
}

/// What came of a task.
#[derive(Debug)]
pub(crate) enum Done {
    /// Of a start: the process, or why there is none.
    Started(Job, Result<Child, StartError>),
    /// Of the check of another version of a service: its program, or why it cannot be one.
    Prepared(Result<Program, SwapReason>),
    /// Of the start of another version beside the one that runs.
    Trial(Result<Child, StartError>),
    /// Of the copy of a state region.
    Copied(libsys::Result<()>),
}

/// What the two threads share.
#[derive(Debug)]
pub(crate) struct Jobs {
    queue: Mutex<VecDeque<Task>>,
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

    /// Adds the start of an instance.
    pub(crate) fn add(&self, job: Job) {
        self.add_task(Task::Start(job));
    }

    /// Adds the check of another version of a service, and the getting of what it needs.
    pub(crate) fn prepare(&self, service: usize, candidate: Candidate) {
        self.add_task(Task::Prepare(service, candidate));
    }

    /// Adds the start of another version beside the one that runs.
    pub(crate) fn start_trial(&self, job: Job, program: Program) {
        self.add_task(Task::Trial(job, program));
    }

    /// Adds the copy of a state region to the slot that is not active.
    pub(crate) fn copy_state(&self, service: usize) {
        self.add_task(Task::Copy(service));
    }

    fn add_task(&self, task: Task) {
        self.queue.lock().push_back(task);
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
    let memory = client.with_deadline(CALL_TIMEOUT_NS);
    let pager = MemoryPager::new(client).with_deadline(CALL_TIMEOUT_NS);
    thread::spawn(&place, move || work(&pager, &memory, shared)).map(drop)
}

fn work(
    pager: &MemoryPager,
    memory: &MemoryManagerClient,
    (common, kits, jobs): (&Common, &[Kit], &Jobs),
) {
    loop {
        // The lock is free while the task runs.
        let task = jobs.queue.lock().pop_front();
        let Some(task) = task else {
            if let Err(error) = ipc::wait(&jobs.bell, FOREVER) {
                log::error!("worker cannot wait: {error}");
                return;
            }
            continue;
        };
        let paging = Paging::Paged(pager);
        let kit = |service: usize| kits.get(service);
        let done = match task {
            Task::Start(job) => {
                let start = |kit: &Kit| kit.start(common, job.generation, paging);
                let result = kit(job.service).map_or(Err(StartError::NoPool), start);
                Done::Started(job, result)
            }
            Task::Prepare(service, candidate) => Done::Prepared(
                kit(service)
                    .ok_or(SwapReason::NotStarted)
                    .and_then(|kit| candidate::prepare(kit, candidate, common, memory)),
            ),
            Task::Trial(job, program) => {
                let start = |kit: &Kit| kit.start_trial(common, &program, job.generation, paging);
                Done::Trial(kit(job.service).map_or(Err(StartError::NoPool), start))
            }
            Task::Copy(service) => {
                let missing = Err(libsys::Error::InvalidArgument);
                Done::Copied(kit(service).map_or(missing, candidate::copy_state))
            }
        };
        jobs.done.lock().push(done);
        if let Err(error) = ipc::notify(&common.wake) {
            log::error!("news of the worker not sent: {error}");
        }
    }
}
