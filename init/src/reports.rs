//! Whose reports about wrong replies have a service ended.
//!
//! A service that answers rubbish is found by those it answers. A report costs a restart, which
//! nobody notices but by a pause; a stream of wrong ones would cost all of the service's time, and
//! more of it if each counted as a crash. So:
//!
//! - Only who calls a service by its manifest is heard, and the service itself, which doubts what it
//!   is about to answer. Everybody calls the memory manager, and `init` itself: that one is heard of
//!   as if all callers were one service.
//! - Each pair of caller and service has some reports that are heard at once, and gets one back a
//!   minute: three for a service, which is as much worth believing as the one that it accuses, one
//!   for a service about itself, as anybody may be behind the request, and one for a service behind whose badge there are programs of anybody (it gets the boot bundle to
//!   start them from). So no program can do more harm to a service than a pause each minute.
//! - For a moment after a service was ended by a report no other is heard: it will be about the
//!   instance that is gone.
//! - A restart that was asked for begins anew.
//! - However often a service is reported, its state is kept
//!   ([`Ladder::reported`](crate::escalation::Ladder::reported)): it may be the caller that is
//!   damaged.

use alloc::collections::BTreeMap;

use skink_manifest::Service;
use skink_manifest::service::Grant;

use crate::MS;

/// Time after which a report is given back, ns.
pub const REFILL_NS: u64 = 60_000 * MS;
/// Time after a report was heard in which no other one about the same service is, ns.
pub const GAP_NS: u64 = 100 * MS;
/// Reports of a service that are heard at once.
const OF_SERVICE: u64 = 3;
/// Reports of all programs of a service, or of a service about itself, that are heard at once.
const OF_ANYBODY: u64 = 1;

/// What everybody calls, whatever the manifests say.
const CALLED_BY_ALL: &str = "memory-manager";

/// What to do about a report.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// End the service.
    End,
    /// Do nothing: the service was ended a moment ago.
    TooSoon,
    /// Do nothing: the caller has been heard too often.
    TooMany,
    /// Refuse: this caller has no business with the service.
    NotAllowed,
}

/// When reports were last heard.
#[derive(Clone, Debug, Default)]
pub struct Reports {
    /// By caller and service: until when reports that were heard have not been given back, ns.
    spent_until: BTreeMap<(usize, usize), u64>,
    /// By service: when it was last ended.
    ended: BTreeMap<usize, u64>,
}

impl Reports {
    /// Judges a report that service number `caller` makes about service number `about` at `now`,
    /// ns since boot.
    pub fn judge(
        &mut self,
        (caller, calling): (usize, &Service),
        (about, accused): (usize, &Service),
        now: u64,
    ) -> Verdict {
        let is_itself = caller == about;
        let calls = accused.name == CALLED_BY_ALL || calling.calls.contains(&accused.name);
        if !is_itself && !calls {
            return Verdict::NotAllowed;
        }
        let ended = self.ended.get(&about);
        if ended.is_some_and(|&ended| now.saturating_sub(ended) < GAP_NS) {
            return Verdict::TooSoon;
        }
        let spent = self.spent_until.entry((caller, about)).or_default();
        let next = (*spent).max(now).saturating_add(REFILL_NS);
        let is_anybody = is_itself || calling.rights.has(Grant::Bundle);
        let allowance = if is_anybody { OF_ANYBODY } else { OF_SERVICE };
        if next - now > allowance * REFILL_NS {
            return Verdict::TooMany;
        }
        *spent = next;
        self.ended.insert(about, now);
        Verdict::End
    }

    /// Forgets the reports about a service: who has control over it wants it to start anew.
    pub fn forget(&mut self, about: usize) {
        self.ended.remove(&about);
        self.spent_until.retain(|(_, accused), _| *accused != about);
    }
}

/// Returns whether one more report about `init` itself is heard at `now`, ns since boot, when it was
/// ended for so many since boot. Nothing but that number outlives it.
#[must_use]
pub const fn is_heard_about_oneself(reported: u32, now: u64) -> bool {
    (reported as u64) < OF_SERVICE + now / REFILL_NS
}

#[cfg(test)]
mod tests;
