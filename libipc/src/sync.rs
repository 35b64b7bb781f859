//! How tasks of one server wait for each other.

use alloc::rc::Rc;
use alloc::vec::Vec;
use core::cell::{Cell, RefCell};
use core::fmt;
use core::future::Future;
use core::pin::Pin;
use core::task::{Context, Poll, Waker};

/// Something that tasks wait for to change. Clones are the same signal.
///
/// Look at the condition first, then wait, then look again: a task that waits sees only what is
/// signalled after [`Signal::wait`] was called.
#[derive(Clone, Default)]
pub struct Signal {
    state: Rc<SignalState>,
}

#[derive(Default)]
struct SignalState {
    /// Counts the signals.
    count: Cell<u64>,
    waiting: RefCell<Vec<Waker>>,
}

impl fmt::Debug for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Signal({})", self.state.count.get())
    }
}

impl Signal {
    /// Makes a signal.
    pub fn new() -> Self {
        Signal::default()
    }

    /// Wakes all tasks that wait.
    pub fn notify(&self) {
        self.state.count.set(self.state.count.get().wrapping_add(1));
        for waker in self.state.waiting.take() {
            waker.wake();
        }
    }

    /// Waits for the next [`Signal::notify`].
    pub fn wait(&self) -> SignalWait {
        SignalWait {
            state: Rc::clone(&self.state),
            seen: self.state.count.get(),
        }
    }
}

/// Waits for a signal; see [`Signal::wait`].
pub struct SignalWait {
    state: Rc<SignalState>,
    seen: u64,
}

impl fmt::Debug for SignalWait {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SignalWait({})", self.seen)
    }
}

impl Future for SignalWait {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        if self.state.count.get() != self.seen {
            return Poll::Ready(());
        }
        let mut waiting = self.state.waiting.borrow_mut();
        // A task that is polled again without a signal is not entered twice.
        if !waiting.iter().any(|waker| waker.will_wake(context.waker())) {
            waiting.push(context.waker().clone());
        }
        Poll::Pending
    }
}

/// Mutual exclusion of tasks across `await`s, in order of asking within a turn.
///
/// For state that must not be seen half changed while its task waits for something; for all else
/// a `RefCell` that is not held across an `await` is enough.
#[derive(Debug, Default)]
pub struct Mutex {
    is_locked: Cell<bool>,
    freed: Signal,
}

impl Mutex {
    /// Makes an unlocked mutex.
    pub fn new() -> Self {
        Mutex::default()
    }

    /// Waits until no other task holds the lock and takes it.
    pub async fn lock(&self) -> Guard<'_> {
        while self.is_locked.get() {
            self.freed.wait().await;
        }
        self.is_locked.set(true);
        Guard { mutex: self }
    }
}

/// Holds a [`Mutex`] until it is dropped.
#[derive(Debug)]
#[must_use]
pub struct Guard<'a> {
    mutex: &'a Mutex,
}

impl Drop for Guard<'_> {
    fn drop(&mut self) {
        self.mutex.is_locked.set(false);
        self.mutex.freed.notify();
    }
}
