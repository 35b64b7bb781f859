//! One boot of a campaign.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use skink_qemu::{Artefacts, Exit, Machine, Session, exec_word};

use super::events::Events;
use super::progress::Progress;
use super::silent::Programs;

/// How long a machine may print nothing before it counts as hung. Under icount with several
/// machines on a busy host the preparation alone takes a minute.
const QUIET: Duration = Duration::from_mins(5);
/// How long the campaign in it may print nothing of its own, while workloads go on.
const STUCK: Duration = Duration::from_mins(10);
/// How long one boot may take in all.
const TIME_LIMIT: Duration = Duration::from_hours(6);

/// What is the same for all boots of a campaign.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// The services to kill; none means all that can be spared.
    pub(crate) services: Vec<String>,
    /// Kinds of kills.
    pub(crate) plan: Vec<String>,
    /// Time from a recovery to the next kill, µs.
    pub(crate) gap_us: String,
    /// CPUs.
    pub(crate) cpus: u32,
    /// Whether the clock counts instructions.
    pub(crate) is_virtual: bool,
    /// Instructions take 2 to the power of this, in ns.
    pub(crate) shift: u32,
    /// Files that are kept open besides.
    pub(crate) open: u32,
    /// The disk image.
    pub(crate) disk: PathBuf,
    /// The code that faults are put into, if any are.
    pub(crate) programs: Option<Arc<Programs>>,
}

impl Settings {
    /// Returns what the clock is, for people.
    pub(crate) fn clock(&self) -> &'static str {
        if self.is_virtual {
            "virtual time"
        } else {
            "time of the host"
        }
    }

    /// Returns the command of a campaign with these settings.
    pub(crate) fn campaign(&self, seed: u64, kills: u32, batch: u32) -> String {
        let mut command = format!(
            "cargo xtask chaos --seed {seed} --kills {kills} --batch {batch} --plan {} --gap-us {} --smp {}",
            self.plan.join(","),
            self.gap_us,
            self.cpus
        );
        if self.open > 0 {
            command += &format!(" --open {}", self.open);
        }
        if self.shift > 0 {
            command += &format!(" --shift {}", self.shift);
        }
        if !self.is_virtual && self.cpus == 1 {
            command += " --real-time";
        }
        if !self.services.is_empty() {
            command += &format!(" --services {}", self.services.join(","));
        }
        command
    }
}

/// A boot to come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Batch {
    pub(crate) index: u32,
    pub(crate) seed: u64,
    pub(crate) kills: u32,
    /// How many of them are left out, as another boot has been up to there.
    pub(crate) skip: u32,
}

/// How a machine ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// As it should, or not.
    Exited(Exit),
    /// It did not get on, and was switched off.
    Hung,
    /// It could not be started.
    NotStarted,
}

/// What came of a boot.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) batch: Batch,
    pub(crate) events: Events,
    pub(crate) end: End,
    /// What the host noticed, if something.
    pub(crate) trouble: Option<String>,
    /// The serial log.
    pub(crate) log: PathBuf,
    /// How to have the same again.
    pub(crate) replay: String,
}

impl Batch {
    /// Boots a machine and lets it be besieged.
    pub(crate) fn run(
        self,
        artefacts: &Artefacts,
        settings: &Settings,
        progress: &Progress,
    ) -> Outcome {
        let name = match self.skip {
            0 => format!("chaos-{}", self.index),
            skip => format!("chaos-{}-{skip}", self.index),
        };
        let mut machine = Machine::new(artefacts, &name);
        machine.cpus = settings.cpus;
        machine.disk = Some(settings.disk.clone());
        if settings.is_virtual {
            let clock = format!("shift={},sleep=off", settings.shift);
            machine.extra.extend(["-icount".to_owned(), clock]);
        }
        machine.command_line = format!("quiet {}", exec_word(&self.command(settings)));
        let mut outcome = Outcome {
            batch: self,
            events: Events::default(),
            end: End::NotStarted,
            trouble: None,
            log: machine.log.clone(),
            replay: self.replay(settings),
        };
        match Session::start(&machine, artefacts, TIME_LIMIT) {
            Ok(session) => outcome.follow(session, progress),
            Err(error) => outcome.trouble = Some(format!("{error:#}")),
        }
        if let Some(trouble) = &outcome.trouble {
            progress.say(&format!("boot {}: {trouble}", self.index));
        }
        outcome
    }

    /// Returns the command that runs inside.
    fn command(self, settings: &Settings) -> String {
        let mut command = format!(
            "siege -n {} -s {} -p {} -g {}",
            self.kills,
            self.seed,
            settings.plan.join(","),
            settings.gap_us
        );
        if settings.is_virtual {
            // The disk is read in the host's time: the clock must not leap ahead meanwhile.
            command += " -l paging,disk,tree,once,lines,busy";
        }
        if self.skip > 0 {
            command += &format!(" -x {}", self.skip);
        }
        if settings.open > 0 {
            command += &format!(" -o {}", settings.open);
        }
        if settings.programs.is_some() {
            command += &format!(" -f /{}", self.faults());
        }
        if !settings.services.is_empty() {
            command += &format!(" -k {}", settings.services.join(","));
        }
        command
    }

    /// Returns the name of the list of faults on the disk.
    pub(crate) fn faults(self) -> String {
        format!("faults/{}", self.seed)
    }

    fn replay(self, settings: &Settings) -> String {
        let mut command = settings.campaign(self.seed, self.kills, self.kills);
        if self.skip > 0 {
            command += &format!(" --skip {}", self.skip);
        }
        command
    }
}

impl Outcome {
    /// Reads what the machine prints, to its end.
    fn follow(&mut self, mut session: Session, progress: &Progress) {
        let (mut told, mut since) = (0, Instant::now());
        loop {
            match session.next_output(QUIET) {
                Ok(Some(bytes)) => {
                    let before = self.events.strikes();
                    self.events.take(&bytes);
                    progress.add(self.events.strikes() - before);
                    if told != self.events.told {
                        (told, since) = (self.events.told, Instant::now());
                    } else if since.elapsed() > STUCK {
                        self.end = End::Hung;
                        self.trouble = Some("the campaign does not get on".to_owned());
                        return;
                    }
                }
                Ok(None) => break,
                Err(error) => {
                    self.end = End::Hung;
                    self.trouble = Some(format!("{error:#}"));
                    return;
                }
            }
        }
        self.events.finish();
        match session.exit() {
            Ok(exit) => {
                self.end = End::Exited(exit);
                let is_expected = matches!(exit, Exit::Orderly(0 | 1));
                if !is_expected || !self.events.has_ended() {
                    self.trouble = Some(format!("the machine ended with {exit:?}"));
                }
            }
            Err(error) => self.trouble = Some(format!("{error:#}")),
        }
    }

    /// Returns the boot for what this one has left: one in which a fault was not recovered ends with that
    /// fault, and one that goes down with what brought it down.
    pub(crate) fn rest(&self) -> Option<Batch> {
        let left = if self.is_lost() {
            let done = self.events.strikes() + u64::from(self.events.pending.is_some());
            let asked = u64::from(self.batch.kills - self.batch.skip.min(self.batch.kills));
            // One that comes to nothing would come to nothing again.
            asked
                .saturating_sub(done)
                .min(if done == 0 { 0 } else { asked })
        } else {
            self.events.left
        };
        let left = u32::try_from(left).unwrap_or(0).min(self.batch.kills);
        let skip = self.batch.kills - left;
        (left > 0 && skip > self.batch.skip).then_some(Batch { skip, ..self.batch })
    }

    /// Returns whether the machine went down or hung before the campaign was over.
    pub(crate) fn is_lost(&self) -> bool {
        self.end == End::Hung || self.trouble.is_some() || !self.events.has_ended()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_boot_can_be_repeated_by_its_seed() {
        let mut settings = Settings {
            services: vec!["vfs".to_owned(), "block".to_owned()],
            plan: vec!["pair".to_owned(), "again".to_owned()],
            gap_us: "0..5".to_owned(),
            cpus: 1,
            is_virtual: true,
            shift: 0,
            open: 9,
            disk: PathBuf::new(),
            programs: None,
        };
        let batch = Batch {
            index: 3,
            seed: 9,
            kills: 20,
            skip: 0,
        };
        let inside = "siege -n 20 -s 9 -p pair,again -g 0..5 \
                      -l paging,disk,tree,once,lines,busy -o 9 -k vfs,block";
        assert_eq!(batch.command(&settings), inside);
        let outside = "cargo xtask chaos --seed 9 --kills 20 --batch 20 --plan pair,again \
                       --gap-us 0..5 --smp 1 --open 9 --services vfs,block";
        assert_eq!(batch.replay(&settings), outside);
        settings.is_virtual = false;
        settings.services.clear();
        settings.open = 0;
        assert!(batch.replay(&settings).ends_with("--smp 1 --real-time"));
    }

    fn outcome(printed: &str) -> Outcome {
        let mut events = Events::default();
        events.take(printed.as_bytes());
        events.finish();
        Outcome {
            batch: Batch {
                index: 2,
                seed: 9,
                kills: 20,
                skip: 5,
            },
            events,
            end: End::Exited(Exit::Orderly(0)),
            trouble: None,
            log: PathBuf::new(),
            replay: String::new(),
        }
    }

    #[test]
    fn what_a_boot_has_left_is_for_the_next_one() {
        let fault = "#siege {\"event\":\"fault\",\"service\":\"vfs\",\"kind\":\"nop\"}\n";
        let inject = "#siege {\"event\":\"inject\",\"service\":\"vfs\",\"kind\":\"nop\"}\n";
        let end = |left: u32| format!("#siege {{\"event\":\"end\",\"left\":{left}}}\n");
        assert_eq!(outcome(&[fault, &end(0)].concat()).rest(), None);
        let rest = outcome(&[fault, &end(14)].concat()).rest().unwrap();
        assert_eq!((rest.index, rest.kills, rest.skip), (2, 20, 6));
        // The one that brought the machine down is not tried again.
        let rest = outcome(&[fault, inject].concat()).rest().unwrap();
        assert_eq!((rest.index, rest.kills, rest.skip), (2, 20, 7));
        assert_eq!(outcome("").rest(), None);
        // A boot that says that it has done nothing would say so for ever.
        assert_eq!(outcome(&end(15)).rest(), None);
    }
}
