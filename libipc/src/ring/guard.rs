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
    /// The entry with this stamp was in flight at the last look already, and still is: the server is
    /// to be replaced.
    Overdue(u64),
    /// An entry was not even taken until the doorbell was rung again: this side does not ring as it
    /// should.
    Unheard,
    /// The entry that was overdue at the last look still is, although the ring has worked for a while:
    /// the next instance does not know the ring. Connect anew.
    Lost,
}

/// A server gets this part of the time between looks to take what the doorbell is rung for again.
const UNHEARD_FRACTION: u64 = 8;

/// What was seen at the last look.
#[derive(Default)]
struct Looks {
    /// The stamp of the last submission.
    newest: u64,
    /// The oldest entry that was overdue.
    overdue: Option<u64>,
}

impl Looks {
    fn look<M: RingMemory>(&mut self, ring: &RingClient<M>) -> Progress {
        let missing = ring.oldest_missing(self.newest);
        let progress = match missing {
            None => Progress::Fine,
            Some(_) if missing == self.overdue && ring.has_worked() => Progress::Lost,
            Some(stamp) => Progress::Overdue(stamp),
        };
        self.newest = ring.newest();
        self.overdue = missing;
        progress
    }
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
        let mut looks = Looks::default();
        let mut at = 0;
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
                if at < due {
                    if ring.is_idle() {
                        break;
                    }
                    continue;
                }
                let mut progress = looks.look(&ring);
                if let Progress::Overdue(stamp) = progress
                    && !ring.is_taken(stamp)
                {
                    ring.ring_doorbell();
                    drop(ring);
                    at = due.saturating_add(ns / UNHEARD_FRACTION);
                    events.sleep_until(at).await;
                    let Some(ring) = weak.upgrade() else {
                        return;
                    };
                    if ring.is_taken(stamp) {
                        progress = Progress::Unheard;
                    }
                }
                f(progress);
                break;
            }
        }
    }
}
