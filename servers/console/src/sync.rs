//! Who may go on next, among tasks of one thread.

use alloc::collections::VecDeque;
use core::cell::{Cell, RefCell};

use libipc::sync::Signal;

/// A row of tasks of which the first may go on.
#[derive(Debug, Default)]
pub struct Queue {
    tickets: RefCell<VecDeque<(u64, u64)>>,
    next: Cell<u64>,
    /// How often places were taken away.
    removals: Cell<u64>,
    moved: Signal,
}

/// A place in a [`Queue`]; given up when dropped.
#[derive(Debug)]
pub struct Ticket<'a> {
    queue: &'a Queue,
    number: u64,
    /// How often places had been taken away when it was taken.
    removals: u64,
}

impl Queue {
    /// Takes the last place in the row, for a client.
    pub fn enter(&self, badge: u64) -> Ticket<'_> {
        let number = self.next.get();
        self.next.set(number + 1);
        self.tickets.borrow_mut().push_back((number, badge));
        Ticket {
            queue: self,
            number,
            removals: self.removals.get(),
        }
    }

    /// Takes all places of a client away.
    pub fn remove(&self, badge: u64) {
        self.tickets
            .borrow_mut()
            .retain(|&(_, owner)| owner != badge);
        self.removals.set(self.removals.get() + 1);
        self.moved.notify();
    }

    /// Lets the first one look at its condition again.
    pub fn raise(&self) {
        self.moved.notify();
    }
}

/// The place in the row was taken away.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Removed;

impl Ticket<'_> {
    /// Waits until this place is the first.
    ///
    /// # Errors
    ///
    /// When the place was taken away.
    pub async fn turn(&self) -> Result<(), Removed> {
        self.wait_for(|| Some(())).await
    }

    /// Waits until this place is the first and the condition gives a value.
    ///
    /// # Errors
    ///
    /// When the place was taken away.
    pub async fn wait_for<T>(
        &self,
        mut condition: impl FnMut() -> Option<T>,
    ) -> Result<T, Removed> {
        loop {
            if !self.is_there() {
                // The next instance makes a row anew; the client has done nothing.
                assert!(
                    self.removals != self.queue.removals.get(),
                    "a place is gone that nobody took away"
                );
                return Err(Removed);
            }
            if self.is_first()
                && let Some(value) = condition()
            {
                return Ok(value);
            }
            self.queue.moved.wait().await;
        }
    }

    fn is_first(&self) -> bool {
        self.queue
            .tickets
            .borrow()
            .front()
            .is_some_and(|&(number, _)| number == self.number)
    }

    fn is_there(&self) -> bool {
        self.queue
            .tickets
            .borrow()
            .iter()
            .any(|&(number, _)| number == self.number)
    }
}

impl Drop for Ticket<'_> {
    fn drop(&mut self) {
        self.queue
            .tickets
            .borrow_mut()
            .retain(|&(number, _)| number != self.number);
        // Whoever comes behind a place that nobody gives up waits for ever.
        assert!(!self.is_there(), "a place in the row is not given up");
        self.queue.moved.notify();
    }
}

#[cfg(test)]
mod tests {
    use core::cell::Cell;
    use core::future::Future;
    use core::pin::pin;
    use core::task::{Context, Poll, Waker};

    use super::{Queue, Removed};

    #[test]
    fn tasks_go_on_in_the_order_they_came() {
        let queue = Queue::default();
        let ready = Cell::new(false);
        let (first, second) = (queue.enter(1), queue.enter(2));
        let mut context = Context::from_waker(Waker::noop());
        {
            let mut one = pin!(first.wait_for(|| ready.get().then_some(1)));
            let mut two = pin!(second.turn());
            assert_eq!(two.as_mut().poll(&mut context), Poll::Pending);
            assert_eq!(one.as_mut().poll(&mut context), Poll::Pending);
            ready.set(true);
            queue.raise();
            assert_eq!(two.as_mut().poll(&mut context), Poll::Pending);
            assert_eq!(one.as_mut().poll(&mut context), Poll::Ready(Ok(1)));
        }
        drop(first);
        assert_eq!(pin!(second.turn()).poll(&mut context), Poll::Ready(Ok(())));
    }

    #[test]
    fn a_removed_client_is_told_and_the_next_goes_on() {
        let queue = Queue::default();
        let (first, second) = (queue.enter(1), queue.enter(2));
        queue.remove(1);
        let mut context = Context::from_waker(Waker::noop());
        assert_eq!(
            pin!(first.turn()).poll(&mut context),
            Poll::Ready(Err(Removed))
        );
        assert_eq!(pin!(second.turn()).poll(&mut context), Poll::Ready(Ok(())));
    }
}
