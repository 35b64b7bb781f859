//! Answers that are lost: of a service that ends with them, or of one that lives.

use alloc::format;

use libsys::abi::AtAnswer;
use libsys::{Error, time};
use siege::{Kind, Strike};
use skink_program::Failed;

use super::harm::{Harm, Victim, begin};
use super::{Campaign, LOOK_NS};

/// How long the workloads have time to make a request whose answer is lost, ns.
const WORKLOADS_NS: u64 = 3 * time::MS;
/// How long it may take until an answer was lost, ns.
const PATIENCE_NS: u64 = 200 * time::MS;

/// Returns the client of a service that is asked by rings and does not answer calls, but for those by
/// which a new instance of the client begins.
fn ring_client(service: &str) -> Option<&'static str> {
    match service {
        "virtio-blk" => Some("block"),
        "block" => Some("ext4"),
        _ => None,
    }
}

impl Campaign<'_> {
    /// Has the next answer of a service be lost. Whose it is is left to chance: of whoever asks first.
    ///
    /// [`Kind::Drop`] ends the service at the system call by which it would answer, when all is done
    /// and written down, and before the caller has anything. Its next instance gets the request again,
    /// and must find that it was carried out.
    ///
    /// [`Kind::Duplicate`] loses the answer alone, while the kernel says that it was delivered: the
    /// same instance, which has done with the request, gets it again, redelivered with the same badge
    /// and sequence number. It must answer as before, and not do again what must be done once.
    ///
    /// That is for answers that bring nothing but what they say: handles and mappings are never lost
    /// without a death.
    ///
    /// Of those that are asked by rings the client is restarted, for it to make its calls.
    pub(super) fn answer(&mut self, victim: &Victim, strike: &Strike) -> Result<Harm, Failed> {
        let what = if strike.kind == Kind::Drop {
            AtAnswer::End
        } else {
            AtAnswer::Lose
        };
        let before = self.redelivered()?;
        let at = time::now();
        let line = begin(victim, strike, at);
        let mut outcome = Ok(());
        match self.system.at_answer(&victim.process, what) {
            Ok(_) => {
                while self.redelivered()? == before && time::now() < at + WORKLOADS_NS {
                    time::sleep(LOOK_NS);
                }
                if let Some(caller) = ring_client(&victim.name)
                    && self.redelivered()? == before
                {
                    let restarted = self.init.restart(caller);
                    outcome = restarted.map_err(|failure| format!("{caller}: {failure}"));
                }
                while self.redelivered()? == before && time::now() < at + PATIENCE_NS {
                    self.probes.nudge(&victim.name);
                    outcome = outcome.and(self.probes.ask(&victim.name));
                    time::sleep(LOOK_NS);
                }
            }
            // It died just now, of something else, which will be found.
            Err(Error::Dead) => {}
            Err(error) => return Err(Failed::from(error).about(&victim.name)),
        }
        let is_lost = match self.system.at_answer(&victim.process, AtAnswer::Deliver) {
            Ok(is_pending) => !is_pending,
            Err(Error::Dead) => true,
            Err(error) => return Err(Failed::from(error).about(&victim.name)),
        };
        outcome = outcome.and(self.probes.ask(&victim.name));
        if is_lost && strike.kind == Kind::Drop {
            self.wait_for_count(victim);
        }
        let redelivered = self.redelivered()?.saturating_sub(before);
        let line = line.number("redelivered", redelivered);
        Ok(Harm::passing(line, at, outcome).activated(is_lost))
    }

    /// Returns how many requests were delivered again since boot.
    fn redelivered(&self) -> Result<u64, Failed> {
        let (_, stats) = self.system.system_info()?;
        Ok(stats.redelivered)
    }
}
