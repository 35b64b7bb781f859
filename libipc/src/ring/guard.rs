//! Notices when a server does not get on with what is in a ring.
//!
//! Requests in rings are held by nobody, so that nobody else can see how old they are. A server that
//! forgets one of them, or a wake-up, looks well from outside.

use alloc::rc::Rc;

use libsys::time;

use super::client::RingClient;
use super::memory::RingMemory;
use crate::events::Events;

/// How often a guard sees whether it can rest, between two looks.
const STEPS: u64 = 256;

/// How a ring gets on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Progress {
    /// As far as can be seen, well.
    Fine,
    /// An entry was in flight at the last look already, and still is.
    Overdue,
}

impl<M> Drop for RingClient<M> {
    fn drop(&mut self) {
        // A guard that waits for an entry waits in vain.
        self.busy.notify();
    }
}

impl<M: RingMemory + 'static> RingClient<M> {
    /// Looks at the ring every `ns` nanoseconds while something is in flight, and tells `f` how it
    /// gets on, for as long as the ring exists. Spawn it once. Completions that nobody told of are
    /// found too; those for tasks reach them.
    ///
    /// It rests soon after the last completion, long before the next look: as long as a task waits
    /// for a time, each message takes the kernel's longer way to the server.
    pub async fn guard(ring: Rc<Self>, events: Events, ns: u64, mut f: impl FnMut(Progress)) {
        let (mut newest, mut at) = (0, 0);
        let busy = ring.busy.clone();
        let weak = Rc::downgrade(&ring);
        drop(ring);
        loop {
            let is_busy = busy.wait();
            let Some(ring) = weak.upgrade() else {
                return;
            };
            if ring.is_idle() {
                drop(ring);
                is_busy.await;
            } else {
                drop(ring);
            }
            at = time::now().max(at);
            let due = at.saturating_add(ns);
            loop {
                at = at.saturating_add(ns.div_ceil(STEPS)).min(due);
                events.sleep_until(at).await;
                let Some(ring) = weak.upgrade() else {
                    return;
                };
                if at == due {
                    let progress = ring.progress_since(newest);
                    newest = ring.newest();
                    drop(ring);
                    f(progress);
                    break;
                }
                if ring.is_idle() {
                    break;
                }
            }
        }
    }
}
