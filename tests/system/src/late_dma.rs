//! Ends the driver of a disk and the file system that reads from it, with reads at the device, and
//! watches memory that is made meanwhile.
//!
//! A device goes on after its driver: what it was told to read lands in memory when the driver has
//! long ended, at the latest when it is reset. Nobody but those who asked for it may own that
//! memory then. So this program keeps memory short, takes what is free right after each death,
//! poisons it, and looks at it until the services are back: no word may ever change.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt::Write as _;
use core::sync::atomic::Ordering;

use libipc::proto::init::{InitClient, ServiceInfo, ServiceState};
use libipc::proto::memory::MemoryManagerClient;
use libsys::mappings::Mapping;
use libsys::{MapFlags, time};
use skink_program::launch::{Command, INTERRUPTED, Launcher, inherited_output};
use skink_program::{FAILURE, Failed, Outcome, Program};

/// Who is ended in a round, one right after the other. Without the bus a driver cannot even find
/// its device again, so it stays away for longer.
const VICTIMS: [&[&str]; 3] = [
    &["virtio-blk", "ext4"],
    &["ext4", "virtio-blk"],
    &["pci", "virtio-blk", "ext4"],
];
/// Pages of an object: as many as the buffer has that the file system reads into.
const PAGES: u64 = 512;
/// Free pages that are left to everybody, this program's rounds included.
const LEFT: u64 = 6144;
/// Objects that a round takes of them.
const TAKEN: usize = 8;
/// A device writes whole sectors: one word in each tells.
const SECTOR_WORDS: usize = 512 / 8;
/// How long poisoned memory is watched after the services are back: a driver that runs has not
/// yet reset its device.
const SETTLE: u64 = 20 * time::MS;
/// Longest time that the services may be away.
const SOON: u64 = 60_000 * time::MS;
/// Between two rounds: the reader gets its reads to the device again.
const GAP: u64 = 15 * time::MS;

/// Runs it: how many rounds, and a file to read meanwhile.
pub(crate) fn run(program: &mut Program, arguments: &[String]) -> Outcome {
    let [rounds, file] = arguments else {
        return Err(Failed::usage("how many rounds, reading which file?"));
    };
    let rounds = rounds
        .parse()
        .map_err(|_| Failed::usage("the number of rounds is none"))?;
    let launcher = Launcher::new(program)?;
    let init = launcher
        .init()
        .ok_or_else(|| Failed::new("no control of services was given"))?;
    let mut watch = Watch::new(init, launcher.memory().clone())?;
    let inherited = inherited_output(program);
    let cwd = program.cwd().to_string();
    let reader = Command {
        name: "sha256sum",
        arguments: core::slice::from_ref(file),
        cwd: &cwd,
        output: inherited.as_ref(),
    };
    let mut failures = 0;
    while watch.rounds < rounds && watch.problem.is_none() {
        let finished = launcher
            .run_with(&reader, || {
                if watch.rounds < rounds && watch.problem.is_none() {
                    let done = watch.round();
                    watch.problem = done.err();
                }
                time::after(GAP)
            })
            .map_err(|error| error.about(reader.name))?;
        if finished.code == INTERRUPTED {
            return Ok(INTERRUPTED);
        }
        failures += u32::from(finished.code != 0);
    }
    let Watch {
        rounds,
        passes,
        problem,
        ..
    } = &watch;
    writeln!(
        program.out(),
        "{rounds} rounds, {passes} passes, {failures} readers failed"
    )?;
    if let Some(problem) = problem {
        program.complain(problem);
    }
    let code = program.finish()?;
    Ok(if failures > 0 { FAILURE } else { code })
}

/// Memory that was poisoned.
struct Poisoned {
    mapping: Mapping,
    word: u64,
}

impl Poisoned {
    fn check(&self) -> Result<(), String> {
        let words = self.mapping.atomic_words().iter().step_by(SECTOR_WORDS);
        for (sector, word) in words.enumerate() {
            let found = word.load(Ordering::Relaxed);
            if found != self.word {
                let word = self.word;
                return Err(format!(
                    "sector {sector} of memory that nobody else owns became {found:#x}, was {word:#x}"
                ));
            }
        }
        Ok(())
    }
}

struct Watch {
    init: InitClient,
    memory: MemoryManagerClient,
    /// Makes memory short.
    _ballast: Vec<libsys::Handle<libsys::Memory>>,
    rounds: u64,
    passes: u64,
    problem: Option<String>,
}

impl Watch {
    fn new(init: InitClient, memory: MemoryManagerClient) -> Result<Self, Failed> {
        let mut ballast = Vec::new();
        while memory.totals()?.free > LEFT {
            match memory.create_object(PAGES) {
                Ok(object) => ballast.push(object),
                // No run is that long any more.
                Err(_) => break,
            }
        }
        Ok(Watch {
            init,
            memory,
            _ballast: ballast,
            rounds: 0,
            passes: 0,
            problem: None,
        })
    }

    fn round(&mut self) -> Result<(), String> {
        self.rounds += 1;
        let victims = VICTIMS[self.rounds as usize % VICTIMS.len()];
        for victim in victims {
            self.init
                .kill(victim)
                .map_err(|error| format!("{victim} not killed: {error}"))?;
        }
        let mut all = Vec::new();
        let deadline = time::after(SOON);
        let mut settled = None;
        while settled.is_none_or(|settled| time::now() < settled) {
            if all.len() < TAKEN
                && let Some(poisoned) = self.poison(all.len() as u64)?
            {
                all.push(poisoned);
            } else if settled.is_none() && self.are_running(victims)? {
                settled = Some(time::after(SETTLE));
            }
            all.iter().try_for_each(Poisoned::check)?;
            self.passes += 1;
            if time::now() > deadline {
                return Err(format!("{victims:?} did not come back"));
            }
        }
        if all.is_empty() {
            return Err("there was no memory to poison".into());
        }
        Ok(())
    }

    /// Makes an object and poisons it; `None` when there is no room just now.
    fn poison(&self, number: u64) -> Result<Option<Poisoned>, String> {
        // When somebody wants to know, the memory manager looks for all objects that nobody has any
        // more: those of the dead come first.
        self.memory
            .totals()
            .map_err(|error| format!("no totals: {error}"))?;
        let Ok(object) = self.memory.create_object(PAGES) else {
            return Ok(None);
        };
        let mapping = Mapping::map(&object, MapFlags::READ | MapFlags::WRITE)
            .map_err(|error| format!("not mapped: {error}"))?;
        // It came filled with zeros: a late write may be there even before the poison.
        let fresh = Poisoned { mapping, word: 0 };
        fresh.check()?;
        // Odd, so that it is never 0.
        let word = (self.rounds << 8 | number).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let words = fresh.mapping.atomic_words().iter().step_by(SECTOR_WORDS);
        words.for_each(|place| place.store(word, Ordering::Relaxed));
        Ok(Some(Poisoned { word, ..fresh }))
    }

    fn are_running(&self, names: &[&str]) -> Result<bool, String> {
        let services = self.init.services().collect::<Result<Vec<_>, _>>();
        let services = services.map_err(|error| format!("services not listed: {error}"))?;
        let is_away = |service: &ServiceInfo| {
            names.contains(&service.name.as_str()) && service.state != ServiceState::Running
        };
        Ok(!services.iter().any(is_away))
    }
}
