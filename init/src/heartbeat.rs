//! Who hangs.
//!
//! Every turn of a server's loop raises a counter, and work that takes longer than a turn should
//! raises it too (`libsys::service::beat`). A server whose counter stands still hangs only if there
//! is evidence against it: it used CPU time meanwhile, or it slept in something else than its
//! receive. Time in which it was ready and others ran is none, nor is time in which it waited for
//! the answer to a call of its own or a page, nor for messages or bits: the one that it waits for
//! is watched too.
//!
//! What an instance does before it serves is no turn of its loop, and may be long: until then, and for
//! [`START_NS`] at most, nothing is held against it.
//!
//! A server whose loop turns can still forget a request. It tells how many it has not answered, and
//! since when it has the oldest of them. One that waits for the next message and has fewer than the
//! kernel says that it has to answer has lost one: its next instance gets it again. Where the manifest
//! sets a limit, the age of the oldest is watched as well.
//!
//! A loop that turns can also do the same again and again, without ever waiting for the next message,
//! and leave no time for others: [`Unrest`].
//!
//! The clock of a guest goes on while its host runs something else, so CPU time is not all that it
//! seems. Each look counts at most for the time that it was planned for: a guest that stood still
//! for a second between two looks has not gained a second of evidence.

use skink_manifest::service::Heartbeat;

use crate::MS;

/// Looks during the time-out, at least, at a server whose counter stands still.
const LOOKS_PER_TIMEOUT: u64 = 4;
/// Looks in a row at which a server has fewer requests than it should that say that it lost one:
/// what it says and what the kernel says are not read in one moment.
const FORGETFUL_LOOKS: u32 = 3;
/// How long an instance may take until it serves before its heartbeat counts, ns.
pub const START_NS: u64 = 5_000 * MS;

/// What is seen when a server is looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Look {
    /// Turns of its loop.
    pub beats: u64,
    /// Calls that it made.
    pub calls: u64,
    /// CPU time that it used, for itself and for its callers, ns.
    pub cpu_ns: u64,
    /// What it does just now.
    pub doing: Doing,
    /// Whether it has not begun to serve yet.
    pub is_starting: bool,
    /// Since when it has the oldest request that it has not answered, ns since boot; 0 for none.
    pub oldest_request: u64,
    /// Requests that it has to answer and does not know of.
    pub forgotten: u64,
}

/// What a server does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Doing {
    /// It runs or could run.
    #[default]
    Running,
    /// It waits for a message, for bits, for an answer or for a page.
    Waiting,
    /// It waits for nothing but a time.
    Sleeping,
}

/// What to make of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Judgement {
    /// It turned since the last look, or nothing can be said against it.
    Alive,
    /// It turned, but only after more than three quarters of the time-out.
    Late,
    /// There is evidence against it, but not enough.
    Suspect,
    /// It hangs: end it.
    Hung,
    /// It has held a request for too long, or has lost one: end it.
    Overdue,
}

/// Watches the heartbeat of one instance of a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Watcher {
    since: u64,
    last: Look,
    last_look: u64,
    /// The evidence since the last turn, ns.
    evidence_ns: u64,
    /// How long the same request has been the oldest, ns.
    held_ns: u64,
    /// Looks in a row at which it had lost a request.
    forgetful: u32,
    /// How long the wait for the next look was planned, ns.
    planned_ns: u64,
    next_look: u64,
}

impl Watcher {
    /// Starts to watch an instance at `now`.
    pub const fn new(settings: &Heartbeat, now: u64) -> Self {
        let planned_ns = settings.period_ms as u64 * MS;
        Watcher {
            since: now,
            last: Look {
                beats: 0,
                calls: 0,
                cpu_ns: 0,
                doing: Doing::Running,
                is_starting: false,
                oldest_request: 0,
                forgotten: 0,
            },
            last_look: now,
            evidence_ns: 0,
            held_ns: 0,
            forgetful: 0,
            planned_ns,
            next_look: look_after(settings, now, planned_ns),
        }
    }

    /// Returns when to look next; `u64::MAX` for never.
    pub const fn next_look(&self) -> u64 {
        self.next_look
    }

    /// Judges what is seen at `now`.
    pub fn judge(&mut self, settings: &Heartbeat, look: Look, now: u64) -> Judgement {
        let elapsed_ns = now.saturating_sub(self.last_look).min(self.planned_ns);
        let is_spared = look.is_starting && now.saturating_sub(self.since) < START_NS;
        let judgement = match self.judge_turns(settings, look, elapsed_ns) {
            _ if is_spared => {
                self.evidence_ns = 0;
                Judgement::Alive
            }
            Judgement::Hung => Judgement::Hung,
            _ if self.is_forgetful(look) => Judgement::Overdue,
            _ if self.is_overdue(settings, look, elapsed_ns) => Judgement::Overdue,
            judgement => judgement,
        };
        self.last = look;
        self.last_look = now;
        self.planned_ns = match judgement {
            Judgement::Suspect => suspect_wait(settings, self.evidence_ns),
            _ => u64::from(settings.period_ms) * MS,
        };
        self.next_look = look_after(settings, now, self.planned_ns);
        judgement
    }

    fn judge_turns(&mut self, settings: &Heartbeat, look: Look, elapsed_ns: u64) -> Judgement {
        let timeout_ns = u64::from(settings.timeout_ms) * MS;
        let has_turned = look.beats != self.last.beats;
        if has_turned || look.calls != self.last.calls || look.doing == Doing::Waiting {
            let was_late = has_turned && self.evidence_ns * 4 > timeout_ns * 3;
            self.evidence_ns = 0;
            return if was_late {
                Judgement::Late
            } else {
                Judgement::Alive
            };
        }
        let used_ns = look.cpu_ns.saturating_sub(self.last.cpu_ns);
        self.evidence_ns += match look.doing {
            Doing::Sleeping => elapsed_ns,
            Doing::Running | Doing::Waiting => used_ns.min(elapsed_ns),
        };
        if self.evidence_ns >= timeout_ns {
            Judgement::Hung
        } else {
            Judgement::Suspect
        }
    }

    fn is_forgetful(&mut self, look: Look) -> bool {
        self.forgetful = match look.forgotten {
            0 => 0,
            _ => self.forgetful + 1,
        };
        self.forgetful >= FORGETFUL_LOOKS
    }

    fn is_overdue(&mut self, settings: &Heartbeat, look: Look, elapsed_ns: u64) -> bool {
        if look.oldest_request == 0 || look.oldest_request != self.last.oldest_request {
            self.held_ns = 0;
            return false;
        }
        self.held_ns += elapsed_ns;
        settings.request_ms != 0 && self.held_ns >= u64::from(settings.request_ms) * MS
    }
}

/// The CPU time that a server has used since it was last seen to wait for a message. All that it has to
/// do together takes less than its limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Unrest {
    last_cpu_ns: u64,
    busy_ns: u64,
}

impl Unrest {
    /// Notes what is seen `elapsed_ns` after the last look: whether it waits, and what CPU time it has
    /// used in all. Returns whether it used `limit_ns` without being seen to wait.
    pub fn is_endless(
        &mut self,
        doing: Doing,
        cpu_ns: u64,
        elapsed_ns: u64,
        limit_ns: u64,
    ) -> bool {
        let used_ns = cpu_ns.saturating_sub(self.last_cpu_ns).min(elapsed_ns);
        self.last_cpu_ns = cpu_ns;
        self.busy_ns = match doing {
            Doing::Waiting => 0,
            Doing::Running | Doing::Sleeping => self.busy_ns + used_ns,
        };
        self.busy_ns >= limit_ns
    }
}

/// Returns the time until the next look at a server whose counter stands still, ns: a part of the
/// time-out, or when the evidence is complete if it goes on as it can. At least 1 ms, so that a tiny
/// time-out does not keep `init` spinning.
fn suspect_wait(settings: &Heartbeat, evidence_ns: u64) -> u64 {
    let timeout_ns = u64::from(settings.timeout_ms) * MS;
    let part = (timeout_ns / LOOKS_PER_TIMEOUT).min(timeout_ns.saturating_sub(evidence_ns));
    part.clamp(MS, (u64::from(settings.period_ms) * MS).max(MS))
}

/// Returns when to look after `wait_ns`; never at a server without a period.
const fn look_after(settings: &Heartbeat, now: u64, wait_ns: u64) -> u64 {
    if settings.period_ms == 0 {
        u64::MAX
    } else {
        now.saturating_add(wait_ns)
    }
}

#[cfg(test)]
mod tests;
