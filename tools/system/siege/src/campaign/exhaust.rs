//! Programs that take all they can get.

use alloc::format;
use alloc::string::{String, ToString};

use libsys::abi::FOREVER;
use libsys::time;
use siege::greed::{HOARD, NEVER_REFUSED, NOT_GIVEN_BACK};
use siege::json::Object;
use siege::{Greed, Strike};
use skink_program::launch::{Command, FAULTED, Finished, INTERRUPTED, Launcher};
use skink_program::{Failed, Program};

use super::Campaign;
use super::harm::Harm;
use crate::loads::{Loads, PROGRAM};

/// For how long what was taken is kept, ms.
const KEPT_MS: u64 = 40;
/// Time between two requests to services meanwhile, ns.
const ASK_NS: u64 = time::MS;

impl Campaign<'_> {
    /// Has each thing be taken once: tables grow to what they once held, and stay.
    pub(super) fn rehearse_greed(&self) -> Result<(), Failed> {
        for greed in Greed::ALL {
            hoard(self.launcher, greed, 0, || FOREVER)?;
        }
        Ok(())
    }

    /// Starts a program that takes all it can get of something, keeps it for some milliseconds, and
    /// gives it back. It must be refused more in the way that is right for it; all others, the
    /// workloads among them, must not notice. Meanwhile all services are asked in turn.
    pub(super) fn exhaust(
        &mut self,
        program: &mut Program,
        strike: &Strike,
        loads: &Loads,
    ) -> Result<(), Failed> {
        let greed = Greed::ALL[strike.first];
        let known = self
            .services
            .iter()
            .position(|one| one.name == greed.service());
        let Some(victim) = self.victim(known.unwrap_or(0), loads)? else {
            return Ok(());
        };
        let kept_ms = 1 + self.random.below(KEPT_MS);
        let at = time::now();
        let (probes, services) = (&mut self.probes, &self.services);
        let (mut turn, mut answers) = (0, Ok(()));
        let finished = hoard(self.launcher, greed, kept_ms, || {
            let name = &services[turn % services.len()].name;
            turn += 1;
            if let (Ok(()), Err(why)) = (&answers, probes.ask(name)) {
                answers = Err(format!("{name} meanwhile: {why}"));
            }
            time::after(ASK_NS)
        })?;
        let (is_refused, end) = judge(greed, &finished);
        let line = Object::new("fault")
            .text("service", &victim.name)
            .text("kind", &format!("{}-{}", strike.kind.name(), greed.name()))
            .number("at_ns", at)
            .number("kept_ms", kept_ms)
            .number("asked", turn as u64);
        let harm = Harm::passing(line, at, answers.and(end)).activated(is_refused);
        self.end(program, victim, loads, harm)
    }
}

/// Runs a program that takes all it gets of something, and calls `tick` meanwhile.
fn hoard(
    launcher: &Launcher,
    greed: Greed,
    kept_ms: u64,
    tick: impl FnMut() -> u64,
) -> Result<Finished, Failed> {
    let arguments = [HOARD, greed.name(), &kept_ms.to_string()].map(ToString::to_string);
    let command = Command {
        name: PROGRAM,
        arguments: &arguments,
        cwd: "/",
        output: None,
    };
    let finished = launcher.run_with(&command, tick);
    finished.map_err(|error| error.about(greed.name()))
}

/// Returns whether a greedy program was refused something, and whether it ended as it must.
fn judge(greed: Greed, finished: &Finished) -> (bool, Result<(), String>) {
    let what = greed.name();
    match finished.code {
        0 if greed != Greed::Pages => (true, Ok(())),
        FAULTED if greed == Greed::Pages => (true, Ok(())),
        NEVER_REFUSED => (false, Ok(())),
        // The campaign ends with it.
        INTERRUPTED => (false, Ok(())),
        NOT_GIVEN_BACK => (true, Err(format!("{what} that were given back are gone"))),
        code => {
            let message = finished.message.as_deref().unwrap_or_default();
            (
                true,
                Err(format!("greedy for {what}: code {code} {message}")),
            )
        }
    }
}
