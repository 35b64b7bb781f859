//! What somebody who asked for a swap waits with.

use alloc::rc::Rc;
use core::cell::Cell;

use libipc::proto::init::SwapReport;
use libipc::sync::Signal;

/// The report of a swap, once it is there. Clones are the same ticket.
#[derive(Clone, Debug, Default)]
pub struct Ticket {
    inner: Rc<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    report: Cell<Option<SwapReport>>,
    done: Signal,
}

impl Ticket {
    /// Makes a ticket of a swap that begins.
    pub fn new() -> Self {
        Ticket::default()
    }

    /// Gives the report to all who wait for it.
    pub fn finish(&self, report: SwapReport) {
        self.inner.report.set(Some(report));
        self.inner.done.notify();
    }

    /// Waits for the report.
    pub async fn report(&self) -> SwapReport {
        loop {
            if let Some(report) = self.inner.report.get() {
                return report;
            }
            self.inner.done.wait().await;
        }
    }
}
