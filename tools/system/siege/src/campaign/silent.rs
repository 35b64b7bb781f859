//! Faults that nobody is told of, and minutes without any.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use libipc::files::Files;
use libsys::abi::WatchKind;
use libsys::time;
use siege::faults::{self, Fault, Place};
use siege::json::Object;
use siege::{Kind, Request, Strike};
use skink_program::launch::Launcher;
use skink_program::{Failed, Program};

use super::harm::{Harm, Victim};
use super::{Campaign, say};
use crate::loads::Loads;
use crate::{services, wreck};

/// How long a service may take to come to a place before another one is tried, ns.
const TRIAL_NS: u64 = time::MS;
/// A minute, ns.
const MINUTE_NS: u64 = 60_000 * time::MS;

/// Reads the list of faults, if it is needed.
///
/// # Errors
///
/// When there is none, or it makes no sense.
pub(super) fn read(
    program: &Program,
    launcher: &Launcher,
    request: &Request,
) -> Result<Vec<Fault>, Failed> {
    if !request.kinds.contains(&Kind::Silent) {
        return Ok(Vec::new());
    }
    let missing = || Failed::usage(String::from("plan silent needs --faults FILE"));
    let name = request.faults.as_ref().ok_or_else(missing)?;
    let files = Files::new(program.vfs()?, Some(launcher.memory().clone()), "/");
    let text = files.read_to_vec(name);
    let text = text.map_err(|failure| Failed::from(failure).about(name))?;
    faults::parse(&String::from_utf8_lossy(&text)).map_err(|error| Failed::new(error).about(name))
}

impl Campaign<'_> {
    /// Puts a fault of the list into a service, and looks what comes of it.
    pub(super) fn silent(
        &mut self,
        program: &mut Program,
        strike: &Strike,
        loads: &Loads,
    ) -> Result<(), Failed> {
        let fault = self.faults[strike.first].clone();
        let known = self
            .services
            .iter()
            .position(|one| one.name == fault.service);
        let Some(service) = known else {
            self.problems
                .push(format!("{} is not besieged", fault.service));
            return Ok(());
        };
        // A code fault needs its instruction to run: the first place that the service comes to.
        let place = match self.victim(service, loads)? {
            Some(victim) if fault.area().is_none() => self.place(&victim, &fault)?,
            _ => None,
        };
        let Some(victim) = self.victim(service, loads)? else {
            self.problems
                .push(format!("{} does not run", fault.service));
            return Ok(());
        };
        let line = Object::new("inject")
            .text("service", &fault.service)
            .text("kind", &fault.class)
            .number("address", place.as_ref().map_or(0, |place| place.address));
        say(program, line)?;
        let at = time::now();
        let line = Object::new("fault")
            .text("service", &fault.service)
            .text("kind", &fault.class)
            .number("at_ns", at);
        let (line, address, kind) = if let Some(place) = &place {
            wreck::change(self.system, self.launcher.memory(), &victim.process, place)?;
            let line = line
                .number("address", place.address)
                .text("old", &hex(&place.old))
                .text("new", &hex(&place.new));
            (line, place.address, WatchKind::Execution)
        } else {
            let area = fault.area();
            let flipped = wreck::flip(self.system, &victim.process, &mut self.random, area)?;
            let line = line
                .text("area", flipped.area.name())
                .number("address", flipped.address)
                .number("mask", flipped.mask.into());
            (line, flipped.address, WatchKind::Access)
        };
        // It may have died at once.
        let watched = self.system.watch_place(&victim.process, address, kind);
        let outcome = self.watch(&victim, at);
        let reached = self
            .system
            .watch_place(&victim.process, 0, WatchKind::None)?;
        let line = line.number("activated", (reached || watched.is_err()).into());
        self.end(program, victim, loads, Harm::lasting(line, at, outcome))
    }

    /// Returns the first place that a service comes to in a short time; the last one that is there
    /// if it comes to none.
    fn place(&mut self, victim: &Victim, fault: &Fault) -> Result<Option<Place>, Failed> {
        let mut last = None;
        for place in &fault.places {
            if !wreck::is_there(self.system, &victim.process, place) {
                self.problems.push(format!(
                    "{} has other text at {:#x}",
                    victim.name, place.address
                ));
                continue;
            }
            last = Some(place.clone());
            let (process, address) = (&victim.process, place.address);
            self.system
                .watch_place(process, address, WatchKind::Execution)?;
            self.probes.nudge(&victim.name);
            time::sleep(TRIAL_NS);
            if self.system.watch_place(process, 0, WatchKind::None)? {
                break;
            }
        }
        Ok(last)
    }

    /// Lets a minute pass, and tells what was restarted meanwhile or was late. Returns whether it was
    /// interrupted.
    pub(super) fn quiet(&mut self, program: &mut Program) -> Result<bool, Failed> {
        let before = self.alarms()?;
        let start = time::now();
        if self.launcher.is_interrupted_until(time::after(MINUTE_NS))? {
            return Ok(true);
        }
        let after = self.alarms()?;
        let [restarts, late] = [after.0 - before.0, after.1 - before.1];
        if restarts > 0 {
            self.problems
                .push(format!("{restarts} restarts in a quiet minute"));
        }
        let line = Object::new("quiet")
            .number("ns", time::now().saturating_sub(start))
            .number("restarts", restarts)
            .number("late_heartbeats", late);
        say(program, line)?;
        Ok(false)
    }

    /// Returns how many restarts and late heartbeats there were since boot.
    fn alarms(&self) -> Result<(u64, u64), Failed> {
        let mut sums = (0, 0);
        for service in services::all(&self.init)? {
            sums.0 += u64::from(service.restarts);
            let statistics = self.init.statistics(&service.name)?;
            sums.1 += u64::from(statistics.late_heartbeats);
        }
        Ok(sums)
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
