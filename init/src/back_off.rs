//! When a service that ended is started again.
//!
//! The first restart is immediate, since one crash is best repaired at once. A service that
//! crashes again before it has run for the reset time is in a crash loop: each restart waits
//! twice as long as the one before, up to a bound. Being ended on request is no crash.

use libipc::proto::init::Cause;
use skink_manifest::service::{Restart, RestartPolicy};

use crate::MS;

/// What to do after a death.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Start it again at this time, ns since boot; now or later.
    StartAt(u64),
    /// Leave it.
    Stop,
    /// Power the machine off: nothing works without this service.
    PowerOff,
}

/// Crashes of one service in a row.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BackOff {
    crashes_in_row: u32,
}

impl BackOff {
    /// Goes on after so many crashes in a row.
    pub const fn new(crashes_in_row: u32) -> Self {
        BackOff { crashes_in_row }
    }

    /// Returns how many crashes there were without a quiet time between them.
    pub const fn crashes_in_row(&self) -> u32 {
        self.crashes_in_row
    }

    /// Forgets the crashes, for a restart that somebody asked for.
    pub fn reset(&mut self) {
        self.crashes_in_row = 0;
    }

    /// Decides what to do about an instance that ended at `now` after running for `uptime_ns`.
    pub fn on_death(
        &mut self,
        policy: &Restart,
        cause: &Cause,
        now: u64,
        uptime_ns: u64,
    ) -> Decision {
        match policy.policy {
            RestartPolicy::Never => return Decision::Stop,
            RestartPolicy::PowerOff => return Decision::PowerOff,
            RestartPolicy::OnFailure if *cause == Cause::Exited(0) => return Decision::Stop,
            RestartPolicy::OnFailure | RestartPolicy::Always => {}
        }
        if *cause == Cause::Asked {
            return Decision::StartAt(now);
        }
        if uptime_ns >= u64::from(policy.reset_after_s) * 1_000 * MS {
            self.crashes_in_row = 0;
        }
        self.crashes_in_row = self.crashes_in_row.saturating_add(1);
        Decision::StartAt(now.saturating_add(delay_ns(policy, self.crashes_in_row)))
    }
}

/// Returns the delay before the restart after that many crashes in a row.
fn delay_ns(policy: &Restart, crashes_in_row: u32) -> u64 {
    let Some(doublings) = crashes_in_row.checked_sub(2) else {
        return 0;
    };
    let most = u64::from(policy.max_delay_ms);
    let delay = match 1_u64.checked_shl(doublings) {
        Some(factor) => u64::from(policy.min_delay_ms)
            .saturating_mul(factor)
            .min(most),
        None => most,
    };
    delay * MS
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const POLICY: Restart = Restart {
        policy: RestartPolicy::Always,
        min_delay_ms: 10,
        max_delay_ms: 1_000,
        reset_after_s: 10,
    };
    const FAULT: Cause = Cause::Fault {
        vector: 14,
        address: 0,
        fault_address: 0,
    };

    #[test]
    fn first_restart_is_immediate_and_a_crash_loop_slows_to_the_bound() {
        let mut back_off = BackOff::default();
        let delays: Vec<u64> = (0..10)
            .map(|_| match back_off.on_death(&POLICY, &FAULT, 0, 0) {
                Decision::StartAt(at) => at / MS,
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(delays, [0, 10, 20, 40, 80, 160, 320, 640, 1_000, 1_000]);
    }

    #[test]
    fn a_quiet_time_or_a_request_makes_the_next_restart_immediate() {
        let mut back_off = BackOff::default();
        for _ in 0..5 {
            back_off.on_death(&POLICY, &FAULT, 7, 0);
        }
        assert_eq!(
            back_off.on_death(&POLICY, &Cause::Asked, 7, 0),
            Decision::StartAt(7)
        );
        assert_eq!(back_off.crashes_in_row(), 5);
        let quiet = 10_000 * MS;
        assert_eq!(
            back_off.on_death(&POLICY, &FAULT, 7, quiet),
            Decision::StartAt(7)
        );
        assert_eq!(back_off.crashes_in_row(), 1);
    }

    #[test]
    fn policies_say_when_to_leave_it() {
        let decide = |policy, cause| {
            BackOff::default().on_death(&Restart { policy, ..POLICY }, &cause, 1, 0)
        };
        assert_eq!(decide(RestartPolicy::Never, FAULT), Decision::Stop);
        assert_eq!(decide(RestartPolicy::PowerOff, FAULT), Decision::PowerOff);
        assert_eq!(
            decide(RestartPolicy::OnFailure, Cause::Exited(0)),
            Decision::Stop
        );
        assert_eq!(
            decide(RestartPolicy::OnFailure, Cause::Exited(1)),
            Decision::StartAt(1)
        );
        assert_eq!(
            decide(RestartPolicy::Always, Cause::Exited(0)),
            Decision::StartAt(1)
        );
    }

    proptest! {
        #[test]
        fn delays_never_shrink_in_a_loop_and_keep_their_bound(min: u32, extra: u32, rounds in 0..90) {
            let max = min.saturating_add(extra);
            let policy = Restart { min_delay_ms: min, max_delay_ms: max, ..POLICY };
            let mut back_off = BackOff::default();
            let mut last = 0;
            for _ in 0..rounds {
                let Decision::StartAt(delay) = back_off.on_death(&policy, &FAULT, 0, 0) else {
                    panic!("always restarts");
                };
                prop_assert!(delay >= last && delay <= u64::from(max) * MS);
                last = delay;
            }
        }
    }
}
