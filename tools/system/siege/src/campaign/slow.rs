//! Services that answer late.

use libsys::{Error, time};
use siege::Strike;
use siege::json::Object;
use skink_program::Failed;

use super::harm::{Harm, Victim, begin};
use super::{Campaign, LOOK_NS};

/// For how long a service is slow, ns.
const SLOW_NS: (u64, u64) = (time::MS, 80 * time::MS);
/// More instructions than a service executes meanwhile.
const MANY: u64 = 1 << 40;

impl Campaign<'_> {
    /// Slows a service down for a while: the kernel steps through it, so that each of its instructions
    /// takes as long as some hundred, and it answers late. The workloads wait meanwhile. It may be
    /// found hung, as its event loop hardly turns; then it is restarted.
    pub(super) fn slow(&mut self, victim: &Victim, strike: &Strike) -> Result<Harm, Failed> {
        let slow_ns = SLOW_NS.0 + self.random.below(SLOW_NS.1 - SLOW_NS.0);
        let at = time::now();
        let line = begin(victim, strike, at).number("slow_ns", slow_ns);
        let mut executed = 0;
        if is_alive(self.system.end_after(&victim.process, MANY))?.is_some() {
            // Who has nothing else to do has this.
            self.probes.nudge(&victim.name);
            let end = at.saturating_add(slow_ns);
            while time::now() < end && !victim.has_ended(&self.init)? {
                time::sleep(LOOK_NS.max(time::MS));
            }
            executed = self.quicken(victim)?;
        }
        let line: Object = line.number("instructions", executed);
        let outcome = self.probes.ask(&victim.name);
        Ok(Harm::passing(line, at, outcome).activated(executed > 0))
    }

    /// Lets a service run as always; returns how many instructions it has executed slowly. Of one that
    /// was ended meanwhile they are not known: 1.
    fn quicken(&self, victim: &Victim) -> Result<u64, Failed> {
        let left = is_alive(self.system.end_after(&victim.process, 0))?;
        Ok(match left {
            Some(left) if left > 0 => MANY.saturating_sub(left),
            _ => 1,
        })
    }
}

/// Returns what a call gives for a process that lives.
fn is_alive(result: Result<u64, Error>) -> Result<Option<u64>, Failed> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(Error::Dead) => Ok(None),
        Err(error) => Err(Failed::from(error)),
    }
}
