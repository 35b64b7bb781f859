//! Who is killed next, and when: chance that a seed repeats.
//!
//! A service is not killed again before it runs again, so that each kill hits an instance of its
//! own. Between two kills passes a random time; the service of the next one is drawn among those
//! that were not killed often enough yet, each as likely as it has kills left.

use alloc::vec::Vec;
use core::ops::RangeInclusive;

use crate::Random;

/// How often a service that is to be killed is looked at while it does not run, ns.
const LOOK_NS: u64 = 1_000_000;
/// How long a service may take to come back, ns: much longer than any back-off after a kill.
const PATIENCE_NS: u64 = 20_000_000_000;

/// What a service does when it is looked at.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Instance {
    /// Number of this instance.
    pub generation: u64,
    /// Whether its process runs.
    pub is_running: bool,
}

/// What to do now.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Step {
    /// Nothing until this time, ns since boot.
    WaitUntil(u64),
    /// Kill this instance of the service of this number; then tell [`Plan::killed`] or
    /// [`Plan::give_up`], and take the next step.
    Kill(usize),
    /// The service of this number did not come back: it is left out from now on.
    Lost(usize),
    /// Nothing more: all were killed as often as asked.
    Done,
}

/// The service that is killed next.
#[derive(Clone, Copy, Debug)]
struct Target {
    service: usize,
    /// When.
    at: u64,
}

#[derive(Clone, Copy, Debug, Default)]
struct Victim {
    left: u32,
    /// The instance that was killed last; 0 before the first.
    killed: u64,
}

/// Who is killed next, and when.
#[derive(Clone, Debug)]
pub struct Plan {
    random: Random,
    gap_ns: RangeInclusive<u64>,
    victims: Vec<Victim>,
    target: Option<Target>,
}

impl Plan {
    /// Makes the plan of a seed for this many services, each to be killed this often.
    pub fn new(seed: u64, services: usize, times: u32, gap_ms: &RangeInclusive<u64>) -> Self {
        let victim = Victim {
            left: times,
            killed: 0,
        };
        Plan {
            random: Random::new(seed),
            gap_ns: gap_ms.start() * 1_000_000..=gap_ms.end() * 1_000_000,
            victims: alloc::vec![victim; services],
            target: None,
        }
    }

    /// Returns whether there is nothing more to do.
    pub fn is_done(&self) -> bool {
        self.victims.iter().all(|victim| victim.left == 0)
    }

    /// Says what to do at `now`; `look` tells what a service does.
    pub fn step(&mut self, now: u64, look: impl FnOnce(usize) -> Instance) -> Step {
        let target = match self.target {
            Some(target) => target,
            None => match self.draw(now) {
                Some(target) => *self.target.insert(target),
                None => return Step::Done,
            },
        };
        if now < target.at {
            return Step::WaitUntil(target.at);
        }
        let instance = look(target.service);
        let victim = &mut self.victims[target.service];
        if instance.is_running && instance.generation > victim.killed {
            victim.killed = instance.generation;
            return Step::Kill(target.service);
        }
        if now - target.at > PATIENCE_NS {
            self.give_up(target.service);
            return Step::Lost(target.service);
        }
        Step::WaitUntil(now + LOOK_NS)
    }

    /// Notes that the service was killed.
    pub fn killed(&mut self, service: usize) {
        let victim = &mut self.victims[service];
        victim.left = victim.left.saturating_sub(1);
        self.target = None;
    }

    /// Notes that the service was harmed: the same instance may be harmed again.
    pub fn harmed(&mut self, service: usize) {
        self.killed(service);
        self.victims[service].killed = 0;
    }

    /// Leaves a service out from now on.
    pub fn give_up(&mut self, service: usize) {
        self.victims[service].left = 0;
        self.target = None;
    }

    fn draw(&mut self, now: u64) -> Option<Target> {
        let total: u64 = self.victims.iter().map(|v| u64::from(v.left)).sum();
        let mut place = self.random.number().checked_rem(total)?;
        let service = self.victims.iter().position(|victim| {
            let left = u64::from(victim.left);
            let is_here = place < left;
            place = place.saturating_sub(left);
            is_here
        })?;
        let (low, high) = (*self.gap_ns.start(), *self.gap_ns.end());
        let wait = low + self.random.number() % (high - low + 1);
        Some(Target {
            service,
            at: now + wait,
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{Instance, PATIENCE_NS, Plan, Step};

    const MS: u64 = 1_000_000;

    fn running(generation: u64) -> Instance {
        Instance {
            generation,
            is_running: true,
        }
    }

    #[test]
    fn an_instance_is_killed_once_only() {
        let mut plan = Plan::new(1, 1, 2, &(0..=0));
        assert_eq!(plan.step(0, |_| running(1)), Step::Kill(0));
        plan.killed(0);
        assert_eq!(plan.step(5, |_| running(1)), Step::WaitUntil(5 + MS));
        let starting = Instance {
            generation: 2,
            is_running: false,
        };
        assert_eq!(plan.step(6, |_| starting), Step::WaitUntil(6 + MS));
        assert_eq!(plan.step(7, |_| running(2)), Step::Kill(0));
        plan.killed(0);
        assert!(plan.is_done());
        assert_eq!(plan.step(8, |_| running(3)), Step::Done);
    }

    #[test]
    fn a_service_that_does_not_come_back_is_left_out() {
        let mut plan = Plan::new(1, 1, 1, &(0..=0));
        let gone = Instance {
            generation: 3,
            is_running: false,
        };
        assert_eq!(plan.step(0, |_| gone), Step::WaitUntil(MS));
        assert_eq!(plan.step(PATIENCE_NS + 1, |_| gone), Step::Lost(0));
        assert_eq!(plan.step(PATIENCE_NS + 2, |_| gone), Step::Done);
    }

    proptest! {
        #[test]
        fn each_service_is_killed_as_often_as_asked_and_a_seed_repeats(
            seed in any::<u64>(), times in 0..20_u32, services in 0..6_usize,
            low in 0..100_u64, more in 0..100_u64,
        ) {
            let gap = low..=low + more;
            let mut plan = Plan::new(seed, services, times, &gap);
            let mut again = plan.clone();
            let mut kills = vec![0; services];
            let (mut now, mut last) = (0, 0);
            loop {
                let look = |service: usize| running(u64::from(kills[service]) + 1);
                let step = plan.step(now, look);
                prop_assert_eq!(again.step(now, look), step);
                match step {
                    Step::WaitUntil(at) => {
                        prop_assert!(at > now);
                        now = at;
                    }
                    Step::Kill(service) => {
                        prop_assert!((low * MS..=(low + more) * MS).contains(&(now - last)));
                        last = now;
                        kills[service] += 1;
                        plan.killed(service);
                        again.killed(service);
                    }
                    Step::Lost(_) => prop_assert!(false, "nothing was lost"),
                    Step::Done => break,
                }
            }
            prop_assert_eq!(kills, vec![times; services]);
        }
    }
}
