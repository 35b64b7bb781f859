//! Swaps: to versions that work, and to such as cannot take over.

use alloc::format;
use alloc::string::String;

use libipc::Failure;
use libipc::proto::init::{InitError, SwapOutcome, SwapReport};
use libsys::time;
use siege::json::Object;
use siege::versions::{End, Version};
use siege::{Kind, Strike};
use skink_program::{Failed, Program};

use super::{Campaign, LOOK_NS, PATIENCE_NS, say};
use crate::services;

/// An instance: the number of its process, and which one of the service it is.
type Instance = (u64, u64);

impl Campaign<'_> {
    /// Swaps a service, and looks whether it comes out as it must.
    pub(super) fn swap(&mut self, program: &mut Program, strike: &Strike) -> Result<(), Failed> {
        let version = if strike.kind == Kind::Broken {
            self.broken[strike.first]
        } else {
            self.swaps[strike.first]
        };
        let name = version.service;
        let (old_image, old) = (self.image(name)?, self.instance(name));
        let image = version.next(&old_image);
        let deaths = self.deaths(name);
        let at = time::now();
        let report = self.order(name, image);
        let mut line = Object::new("swap")
            .text("service", name)
            .text("kind", strike.kind.name())
            .text("image", image)
            .number("at_ns", at);
        let mut outcome = match &report {
            Ok(report) => {
                line = with_report(line, report);
                self.judge(version, (&old_image, old), image, report)
            }
            Err(failure) => Err(format!("{failure}")),
        };
        outcome = outcome.and_then(|()| self.probes.ask(name));
        let gap = time::now().saturating_sub(at);
        let died = self.deaths(name).saturating_sub(deaths);
        if version.end == End::Escalates
            && let Some(service) = self.services.iter_mut().find(|one| one.name == name)
        {
            service.provoked += died;
        }
        line = line
            .number("gap_ns", gap)
            .number("crashes", died.into())
            .number("recovered", outcome.is_ok().into());
        if let Err(why) = outcome {
            self.problems.push(format!("{name} to {image}: {why}"));
            line = line.text("why", &why);
        }
        say(program, line)
    }

    /// Swaps each service that has another version there and back: the first swap makes a second
    /// state region, which is kept.
    pub(super) fn rehearse(&mut self) -> Result<(), Failed> {
        for version in self.swaps.clone() {
            for image in [version.image, version.service] {
                let report = self.order(version.service, image);
                let report = report.map_err(|failure| Failed::from(failure).about(image))?;
                if report.outcome != SwapOutcome::Committed {
                    let outcome = report.outcome;
                    self.problems.push(format!("to {image}: {outcome:?}"));
                }
            }
        }
        Ok(())
    }

    /// Orders a swap; while another one or a restart is under way it waits.
    fn order(&self, name: &str, image: &str) -> Result<SwapReport, Failure<InitError>> {
        let end = time::after(PATIENCE_NS);
        loop {
            match self.init.swap(name, image) {
                Err(Failure::Server(
                    InitError::Busy | InitError::NotRunning | InitError::NotSwappable,
                )) if time::now() < end => time::sleep(LOOK_NS),
                answer => return answer,
            }
        }
    }

    /// Says what is not as it must be after a swap to a version.
    fn judge(
        &self,
        version: &Version,
        (old_image, old): (&str, Option<Instance>),
        image: &str,
        report: &SwapReport,
    ) -> Result<(), String> {
        let name = version.service;
        let is_committed = report.outcome == SwapOutcome::Committed;
        match version.end {
            End::Serves if !is_committed => Err(format!("{:?}", report.outcome)),
            End::Serves => self.expect_image(name, image),
            End::RolledBack if is_committed => Err(String::from("it was not rolled back")),
            End::RolledBack if self.instance(name) != old => {
                Err(String::from("the old instance does not serve on"))
            }
            End::RolledBack => self.expect_image(name, old_image),
            End::Escalates => {
                let end = time::after(PATIENCE_NS);
                while self.expect_image(name, old_image).is_err() && time::now() < end {
                    time::sleep(LOOK_NS);
                }
                self.expect_image(name, old_image)
            }
        }
    }

    fn expect_image(&self, name: &str, expected: &str) -> Result<(), String> {
        let image = self.image(name).map_err(|failed| failed.message)?;
        if image == expected {
            Ok(())
        } else {
            Err(format!("{image} runs in place of {expected}"))
        }
    }

    /// Returns the image that a service runs.
    fn image(&self, name: &str) -> Result<String, Failed> {
        for version in self.init.versions() {
            let version = version?;
            if version.name == name {
                return Ok(version.image);
            }
        }
        Err(Failed::new("no such service").about(name))
    }

    fn instance(&self, name: &str) -> Option<Instance> {
        let found = services::find(&self.init, name)?;
        Some((found.process, found.generation))
    }
}

fn with_report(line: Object, report: &SwapReport) -> Object {
    let line = line
        .number("took_ns", report.took_ns)
        .number("state_bytes", report.state_bytes)
        .number(
            "committed",
            (report.outcome == SwapOutcome::Committed).into(),
        );
    let line = match report.pause_ns {
        Some(ns) => line.number("pause_ns", ns),
        None => line,
    };
    match report.outcome {
        SwapOutcome::Committed => line,
        SwapOutcome::RolledBack { phase, reason } => line
            .text("phase", &format!("{phase:?}"))
            .text("reason", &format!("{reason:?}")),
    }
}
