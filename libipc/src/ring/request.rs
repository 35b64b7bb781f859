//! A task that waits for the completion of one entry.

use core::future::Future;
use core::pin::Pin;
use core::task::{Context, Poll};

use libsys::mappings::Mapping;

use super::client::RingClient;
use super::memory::RingMemory;

/// Waits for the completion of one entry; see [`RingClient::request`].
#[derive(Debug)]
pub struct RequestDone<'a, M: RingMemory = Mapping> {
    ring: &'a RingClient<M>,
    slot: usize,
    stamp: u64,
    is_done: bool,
}

impl<'a, M: RingMemory> RequestDone<'a, M> {
    pub(super) fn new(ring: &'a RingClient<M>, slot: usize, stamp: u64) -> Self {
        RequestDone {
            ring,
            slot,
            stamp,
            is_done: false,
        }
    }
}

impl<M: RingMemory> Future for RequestDone<'_, M> {
    type Output = i64;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<i64> {
        match self
            .ring
            .take_result(self.slot, self.stamp, context.waker())
        {
            Some(result) => {
                self.is_done = true;
                Poll::Ready(result)
            }
            None => Poll::Pending,
        }
    }
}

impl<M: RingMemory> Drop for RequestDone<'_, M> {
    fn drop(&mut self) {
        if !self.is_done {
            self.ring.give_up(self.slot);
        }
    }
}
