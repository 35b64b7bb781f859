//! Notices when a server does not get on with what is in a ring.
//!
//! Requests in rings are held by nobody, so that nobody else can see how old they are. A server that
//! forgets one of them, or a wake-up, looks well from outside.

use alloc::rc::{Rc, Weak};

use libsys::time;

use super::client::RingClient;
use super::memory::RingMemory;
use crate::events::Events;
use crate::sync::Signal;

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
        let mut watch = Watch {
            busy: ring.busy.clone(),
            ring: Rc::downgrade(&ring),
            events,
            ns,
            at: 0,
            looks: Looks::default(),
        };
        drop(ring);
        loop {
            match watch.next().await {
                Seen::Progress(progress) => f(progress),
                Seen::Idle => {}
                Seen::Gone => return,
            }
        }
    }
}

/// A guard at work. It keeps the ring only while it looks at it.
struct Watch<M> {
    ring: Weak<RingClient<M>>,
    busy: Signal,
    events: Events,
    /// Time between looks, ns.
    ns: u64,
    /// When it looked last, or is to look next, ns since boot.
    at: u64,
    looks: Looks,
}

/// What a guard sees when it looks next.
enum Seen {
    /// How the ring gets on.
    Progress(Progress),
    /// That nothing is in flight any more.
    Idle,
    /// That there is no ring any more.
    Gone,
}

impl<M: RingMemory + 'static> Watch<M> {
    /// Waits until something is in flight and the time between two looks is over.
    async fn next(&mut self) -> Seen {
        let is_busy = self.busy.wait();
        let Some(ring) = self.ring.upgrade() else {
            return Seen::Gone;
        };
        let is_idle = ring.is_idle();
        drop(ring);
        if is_idle {
            is_busy.await;
        }
        self.at = time::now().max(self.at);
        let due = self.at.saturating_add(self.ns);
        while self.at < due {
            self.at = self.at.saturating_add(self.ns.div_ceil(STEPS)).min(due);
            self.events.sleep_until(self.at).await;
            match self.ring.upgrade() {
                None => return Seen::Gone,
                Some(ring) if self.at < due && ring.is_idle() => return Seen::Idle,
                Some(_) => {}
            }
        }
        self.look().await
    }

    /// Looks, and rings the doorbell once more for an entry that nobody took.
    async fn look(&mut self) -> Seen {
        let Some(ring) = self.ring.upgrade() else {
            return Seen::Gone;
        };
        let progress = self.looks.look(&ring);
        match progress {
            Progress::Overdue(stamp) if !ring.is_taken(stamp) => {
                ring.ring_doorbell();
                drop(ring);
                self.at = self.at.saturating_add(self.ns / UNHEARD_FRACTION);
                self.events.sleep_until(self.at).await;
                match self.ring.upgrade() {
                    None => Seen::Gone,
                    Some(ring) if ring.is_taken(stamp) => Seen::Progress(Progress::Unheard),
                    Some(_) => Seen::Progress(progress),
                }
            }
            _ => Seen::Progress(progress),
        }
    }
}
