//! The steps of servers, counted, and the deaths among them.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

/// What a server is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// It takes a message.
    Receive,
    /// It stores bytes in its state region: a record, a snapshot or content.
    Append,
    /// It stores the word that makes something count.
    Commit,
    /// It calls another server.
    Call,
    /// It replies.
    Reply,
    /// It stores a word in a ring that it shares with a client.
    Ring,
    /// It wakes the other side of a ring.
    Doorbell,
    /// It opens its state region after a restart.
    Recover,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Place::Receive => "receive",
            Place::Append => "append",
            Place::Commit => "commit",
            Place::Call => "call",
            Place::Reply => "reply",
            Place::Ring => "ring word",
            Place::Doorbell => "doorbell",
            Place::Recover => "recover",
        })
    }
}

/// Where in a step a server can die.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum When {
    /// Nothing of it is done.
    Before,
    /// Part of it is done.
    During,
    /// All of it is done, and nothing else.
    After,
}

/// What a server unwinds with when it is ended.
#[derive(Debug)]
pub struct Killed;

/// Counts steps, and ends servers at some of them.
#[derive(Debug, Default)]
pub struct Steps {
    taken: Cell<u64>,
    /// At which steps somebody dies, in ascending order, the next one last.
    deaths: RefCell<Vec<u64>>,
    /// The server that is at work.
    server: Cell<&'static str>,
    /// How often each place was passed, by server.
    passed: RefCell<BTreeMap<(&'static str, Place, When), u64>>,
    is_forgetful: Cell<bool>,
}

impl Steps {
    /// Ends the servers that make these steps; the first step is number 1.
    #[must_use]
    pub fn with_deaths(mut deaths: Vec<u64>) -> Self {
        deaths.sort_unstable_by(|a, b| b.cmp(a));
        Steps {
            deaths: RefCell::new(deaths),
            ..Steps::default()
        }
    }

    /// Counts a step of the server that is at work, or ends it there.
    pub fn take(&self, place: Place, when: When) {
        let number = self.taken.get() + 1;
        self.taken.set(number);
        let key = (self.server.get(), place, when);
        *self.passed.borrow_mut().entry(key).or_default() += 1;
        let is_last = self.deaths.borrow().last() == Some(&number);
        if is_last {
            self.deaths.borrow_mut().pop();
            // No panic: nothing is wrong, so nothing is printed.
            resume_unwind(Box::new(Killed));
        }
    }

    /// Lets a server work until it is done or dies.
    ///
    /// # Errors
    ///
    /// [`Killed`].
    ///
    /// # Panics
    ///
    /// When the server does.
    pub fn run<T>(&self, server: &'static str, work: impl FnOnce() -> T) -> Result<T, Killed> {
        let before = self.server.replace(server);
        let result = catch_unwind(AssertUnwindSafe(work));
        self.server.set(before);
        result.map_err(|reason| match reason.downcast::<Killed>() {
            Ok(killed) => *killed,
            Err(other) => resume_unwind(other),
        })
    }

    /// From now on nobody is told that a request was delivered before: a kernel with a fault, to
    /// see whether it would be noticed.
    pub fn forget_redelivery(&self) {
        self.is_forgetful.set(true);
    }

    /// Returns whether requests that are delivered again are marked.
    pub(crate) fn marks_redelivery(&self) -> bool {
        !self.is_forgetful.get()
    }

    /// Returns how many steps were taken.
    #[must_use]
    pub fn taken(&self) -> u64 {
        self.taken.get()
    }

    /// Returns whether all deaths have happened.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.deaths.borrow().is_empty()
    }

    /// Returns how often each place was passed.
    #[must_use]
    pub fn passed(&self) -> BTreeMap<(&'static str, Place, When), u64> {
        self.passed.borrow().clone()
    }
}
