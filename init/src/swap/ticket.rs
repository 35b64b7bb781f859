//! What somebody who asked for a swap waits with.

use alloc::rc::Rc;
use core::cell::Cell;
use core::sync::atomic::{AtomicU64, Ordering};

use libipc::proto::init::{InitError, SwapReport};
use libipc::sync::Signal;

/// How many wait for a report.
static WAITING: AtomicU64 = AtomicU64::new(0);

/// Returns how many wait for the report of a swap. Everything else `init` answers at once, so no other
/// request may be without an answer when it rests.
pub fn waiting() -> u64 {
    WAITING.load(Ordering::Relaxed)
}

/// One who waits.
struct Waits;

impl Waits {
    fn begin() -> Self {
        WAITING.fetch_add(1, Ordering::Relaxed);
        Waits
    }
}

impl Drop for Waits {
    fn drop(&mut self) {
        WAITING.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The report of a swap, once it is there. Clones are the same ticket.
#[derive(Clone, Debug, Default)]
pub struct Ticket {
    inner: Rc<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    report: Cell<Option<Result<SwapReport, InitError>>>,
    done: Signal,
}

impl Ticket {
    /// Makes a ticket of a swap that is ordered.
    pub fn new() -> Self {
        Ticket::default()
    }

    /// Gives the report to all who wait for it, or says why the swap could not begin.
    pub fn finish(&self, report: Result<SwapReport, InitError>) {
        self.inner.report.set(Some(report));
        self.inner.done.notify();
    }

    /// Waits for the report.
    ///
    /// # Errors
    ///
    /// Why the swap could not begin.
    pub async fn report(&self) -> Result<SwapReport, InitError> {
        let _waits = Waits::begin();
        loop {
            if let Some(report) = self.inner.report.get() {
                return report;
            }
            self.inner.done.wait().await;
        }
    }
}
