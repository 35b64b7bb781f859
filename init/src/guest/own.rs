//! `init` as one of the services: how it has fared, and its end on request.

use core::cell::{Cell, RefCell};

use init::control::OWN_NAME;
use init::ledger::{Own, Record};
use init::reports::is_heard_about_oneself;
use init::statistics::Statistics;
use init::supervisor::life::Asker;
use libipc::Caller;
use libipc::proto::init::{
    Cause, InitError, NO_LEVEL, ServiceInfo, ServiceState, ServiceStatistics,
};
use libsys::abi::ProcessInfo;
use libsys::{startup, time};
use spin::Once;

use super::book::Book;
use super::processes::{ENDED_BY_INIT, cause_of};
use super::watchdog;

/// For doubts, which any thread may have.
static BOOK: Once<&'static Book> = Once::new();

/// `init` itself.
#[derive(Debug)]
pub(crate) struct Oneself {
    book: &'static Book,
    /// The counts in it are those of `statistics`.
    own: RefCell<Own>,
    statistics: RefCell<Statistics>,
    /// When the last instance ended, until this one serves.
    down_since: Cell<Option<u64>>,
}

impl Oneself {
    /// Takes up what is known of the instances before this one; notes why the last one ended.
    pub(crate) fn take_up(book: &'static Book) -> Self {
        let (mut own, samples) = book.read(|ledger| {
            let (own, samples) = ledger.own();
            (own.clone(), samples.clone())
        });
        let mut statistics = Statistics::new(own.counts.clone(), samples, own.last_cause);
        let mut down_since = None;
        let restarts = startup::generation();
        // More than one more if an instance ended before it came to this line.
        if restarts != own.restarts {
            let noted = own.ending.take();
            let cause = noted.or_else(cause_of_last_end).unwrap_or(Cause::Killed(0));
            statistics.add_death(cause);
            log::warn!("started again (number {restarts}): {cause:?}");
            down_since = Some(startup::header().ended_ns);
        }
        own.restarts = restarts;
        own.since = time::now();
        let oneself = Oneself {
            book,
            own: RefCell::new(own),
            statistics: RefCell::new(statistics),
            down_since: Cell::new(down_since),
        };
        oneself.note();
        BOOK.call_once(|| book);
        libipc::on_doubt(doubt);
        oneself
    }

    /// Notes that the main loop has turned. With its first turn `init` serves.
    pub(crate) fn turned(&self) {
        watchdog::turned();
        if let Some(since) = self.down_since.take() {
            let downtime = time::now().saturating_sub(since);
            self.statistics.borrow_mut().add_downtime(downtime);
            self.note();
        }
    }

    /// Ends `init` on request. The request is answered by the next instance, to which it is
    /// delivered again.
    pub(crate) fn end(&self, caller: &Caller) -> Result<(), InitError> {
        self.end_because(Cause::Asked, caller)
    }

    /// Ends `init` because a client does not believe it, if that one is heard. Answered as
    /// [`Oneself::end`] is.
    pub(crate) fn end_for_report(&self, caller: &Caller) -> Result<(), InitError> {
        if !is_heard(self.statistics.borrow().counts()) {
            return Ok(());
        }
        self.end_because(Cause::Reported, caller)
    }

    fn end_because(&self, cause: Cause, caller: &Caller) -> Result<(), InitError> {
        let mut own = self.own.borrow_mut();
        if own.asked_by.is_some_and(|last| last.is_again(caller)) {
            return Ok(());
        }
        own.asked_by = Some(Asker::from(caller));
        own.ending = Some(cause);
        drop(own);
        self.note();
        end();
        Err(InitError::Kernel)
    }

    /// Tells how `init` has fared.
    pub(crate) fn statistics(&self) -> ServiceStatistics {
        self.statistics.borrow().report(0)
    }

    /// Tells what `init` looks like.
    pub(crate) fn info(&self) -> ServiceInfo {
        let own = self.own.borrow();
        let process = startup::process().info().ok();
        let of = |value: fn(&ProcessInfo) -> u64| process.as_ref().map_or(0, value);
        let statistics = self.statistics.borrow();
        ServiceInfo {
            name: OWN_NAME.into(),
            level: NO_LEVEL,
            state: ServiceState::Running,
            process: of(|info| info.id),
            generation: u64::from(own.restarts) + 1,
            restarts: own.restarts,
            last_cause: statistics.last_cause(),
            last_downtime_ns: statistics.last_downtime_ns(),
            uptime_ns: time::now().saturating_sub(own.since),
            cpu_ns: of(|info| info.cpu_ns),
            served_ns: of(|info| info.served_ns),
            mapped_pages: of(|info| info.mapped_pages),
        }
    }

    fn note(&self) {
        let statistics = self.statistics.borrow();
        let mut own = self.own.borrow_mut();
        own.counts = statistics.counts().clone();
        own.last_cause = statistics.last_cause();
        if let Err(error) = self.book.note(Record::Own(own.clone().into())) {
            log::error!("own state not noted: {error}");
        }
    }
}

/// Ends `init`, which is about to say something that it should never have to say, if it has not had
/// many such doubts. The next instance gets the request.
#[cold]
fn doubt(what: &str) {
    let Some(book) = BOOK.get() else { return };
    let mut own = book.read(|ledger| ledger.own().0.clone());
    log::error!("init does not believe itself: `{what}`");
    if !is_heard(&own.counts) {
        return;
    }
    own.ending = Some(Cause::Doubted);
    match book.note(Record::Own(own.into())) {
        Ok(()) => end(),
        Err(error) => log::error!("own state not noted: {error}"),
    }
}

/// Returns whether one more report or doubt is heard after so many.
fn is_heard(counts: &ServiceStatistics) -> bool {
    let is_heard = is_heard_about_oneself(counts.reported + counts.doubted, time::now());
    if !is_heard {
        log::warn!("reported too often: not heard");
    }
    is_heard
}

/// Ends this process; returns only if the kernel refuses.
fn end() {
    let error = startup::process().kill(ENDED_BY_INIT);
    log::error!("not ended: {error:?}");
}

/// Returns why the last instance ended, as the kernel and the watchdog know it.
pub(super) fn cause_of_last_end() -> Option<Cause> {
    let cause = cause_of(&startup::process().info().ok()?);
    Some(match cause {
        Cause::Killed(watchdog::EXIT_CODE) => Cause::Hung,
        cause => cause,
    })
}
