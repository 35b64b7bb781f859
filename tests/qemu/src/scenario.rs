//! One test: what to boot, what to do, what to expect.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;

use crate::{Artefacts, Boot, Exit, Machine, Session, disk, exec_word};

/// The disk of a scenario.
#[derive(Clone, Debug)]
pub enum Disk {
    /// No disk.
    None,
    /// The image with sample files ([`crate::disk::SAMPLE_FILES`]).
    Sample,
    /// The image with files of all kinds ([`crate::disk::user`]).
    User,
    /// The image for campaigns ([`crate::disk::make_siege`]).
    Siege,
    /// The image of [`fixtures::bad_images`] that has this name.
    Bad(&'static str),
    /// An image made beforehand.
    File(PathBuf),
}

impl Disk {
    /// Returns where the image is, made if need be. The guest's writes are dropped.
    fn prepare(&self, artefacts: &Artefacts) -> anyhow::Result<Option<PathBuf>> {
        Ok(Some(match self {
            Self::None => return Ok(None),
            Self::Sample => artefacts.sample_disk.clone(),
            Self::User => disk::user(&artefacts.scratch)?.image.clone(),
            Self::Siege => {
                let image = artefacts.scratch.join("siege.img");
                disk::make_siege(&image)?;
                image
            }
            Self::Bad(name) => disk::bad(&artefacts.scratch, name)?.path.clone(),
            Self::File(file) => file.clone(),
        }))
    }
}

/// What a finished machine left behind.
#[derive(Clone, Debug)]
pub struct Run {
    /// Serial output without carriage returns.
    pub output: String,
    /// How the machine ended.
    pub exit: Exit,
    /// The number of CPUs.
    pub cpus: u32,
}

impl Run {
    /// Fails unless the guest powered off with an exit code.
    ///
    /// # Errors
    /// Any other end.
    pub fn expect_code(&self, code: u32) -> anyhow::Result<()> {
        anyhow::ensure!(
            self.exit == Exit::Orderly(code),
            "expected exit code {code}, but the machine ended with {:?}",
            self.exit
        );
        Ok(())
    }

    /// Fails unless the output has a text in it.
    ///
    /// # Errors
    /// The text is missing.
    pub fn expect_text(&self, text: &str) -> anyhow::Result<()> {
        anyhow::ensure!(self.output.contains(text), "the output lacks {text:?}");
        Ok(())
    }

    /// Returns the named tests that a test program inside the system has reported, one line each:
    /// `ok NAME` or `FAILED NAME: why`.
    pub fn guest_tests(&self) -> impl Iterator<Item = (String, Result<(), String>)> + '_ {
        self.output.lines().filter_map(|line| {
            if let Some(name) = line.strip_prefix("ok ") {
                return Some((name.to_owned(), Ok(())));
            }
            let (name, why) = line
                .strip_prefix("FAILED ")?
                .split_once(": ")
                .unwrap_or((line, ""));
            Some((name.to_owned(), Err(why.to_owned())))
        })
    }
}

type Check = Box<dyn Fn(&Run) -> anyhow::Result<()>>;
type Dialogue = Box<dyn Fn(&mut Session) -> anyhow::Result<()>>;

/// One test, run once per number of CPUs, each run with its own boot.
pub struct Scenario {
    name: String,
    cpus: Vec<u32>,
    memory: String,
    is_virtual: bool,
    disk: Disk,
    reads_per_second: Option<u32>,
    boot: Boot,
    time_limit: Duration,
    words: String,
    commands: Option<String>,
    dialogue: Option<Dialogue>,
    check: Option<Check>,
    has_guest_tests: bool,
}

impl std::fmt::Debug for Scenario {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Scenario")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

impl Scenario {
    /// Starts a scenario: two CPUs, 256 MiB, no disk, 60 seconds. The name is a sentence about
    /// behaviour.
    #[must_use]
    pub fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            cpus: vec![2],
            memory: "256M".to_owned(),
            is_virtual: false,
            disk: Disk::None,
            reads_per_second: None,
            boot: Boot::Direct,
            time_limit: Duration::from_mins(1),
            words: String::new(),
            commands: None,
            dialogue: None,
            check: None,
            has_guest_tests: false,
        }
    }

    /// Sets the numbers of CPUs to run with, one boot each.
    #[must_use]
    pub fn smp(mut self, cpus: &[u32]) -> Self {
        self.cpus = cpus.to_vec();
        self
    }

    /// Sets the memory in QEMU's notation.
    #[must_use]
    pub fn memory(mut self, memory: &str) -> Self {
        memory.clone_into(&mut self.memory);
        self
    }

    /// Lets the machine's clock count instructions: what takes how long does not depend on the host.
    #[must_use]
    pub fn virtual_time(mut self) -> Self {
        self.is_virtual = true;
        self
    }

    /// Sets the disk.
    #[must_use]
    pub fn disk(mut self, disk: Disk) -> Self {
        self.disk = disk;
        self
    }

    /// Makes the disk slow: so many reads in a second, and as many at the device as fit.
    #[must_use]
    pub fn slow_disk(mut self, reads_per_second: u32) -> Self {
        self.reads_per_second = Some(reads_per_second);
        self
    }

    /// Sets the way to the loader.
    #[must_use]
    pub fn boot(mut self, boot: Boot) -> Self {
        self.boot = boot;
        self
    }

    /// Sets how long one run may take.
    #[must_use]
    pub fn time_limit(mut self, seconds: u64) -> Self {
        self.time_limit = Duration::from_secs(seconds);
        self
    }

    /// Puts words on the kernel's command line.
    #[must_use]
    pub fn words(mut self, words: &str) -> Self {
        words.clone_into(&mut self.words);
        self
    }

    /// Makes the shell run commands and power off.
    #[must_use]
    pub fn exec(mut self, commands: &str) -> Self {
        self.commands = Some(commands.to_owned());
        self
    }

    /// Talks to the console. The machine is ended afterwards.
    #[must_use]
    pub fn interact(
        mut self,
        dialogue: impl Fn(&mut Session) -> anyhow::Result<()> + 'static,
    ) -> Self {
        self.dialogue = Some(Box::new(dialogue));
        self
    }

    /// Checks what a machine that ended by itself left behind. Without it, exit code 0 is expected.
    #[must_use]
    pub fn expect(mut self, check: impl Fn(&Run) -> anyhow::Result<()> + 'static) -> Self {
        self.check = Some(Box::new(check));
        self
    }

    /// Counts the tests that the guest reports ([`Run::guest_tests`]) one by one; there must be
    /// at least one.
    #[must_use]
    pub fn expect_guest_tests(mut self) -> Self {
        self.has_guest_tests = true;
        self
    }

    /// Returns the name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn cpu_counts(&self) -> &[u32] {
        &self.cpus
    }

    pub(crate) fn has_guest_tests(&self) -> bool {
        self.has_guest_tests
    }

    /// Boots once and returns what came of it: `None` after a dialogue.
    pub(crate) fn run_once(
        &self,
        artefacts: &Artefacts,
        log_name: &str,
        cpus: u32,
    ) -> anyhow::Result<Option<Run>> {
        let mut machine = Machine::new(artefacts, log_name);
        machine.cpus = cpus;
        self.memory.clone_into(&mut machine.memory);
        machine.is_virtual = self.is_virtual;
        machine.boot = self.boot;
        machine.disk = self
            .disk
            .prepare(artefacts)
            .context("cannot make the disk")?;
        if let Some(reads) = self.reads_per_second {
            let limit = format!("drive.disk0.throttling.iops-read={reads}");
            machine.extra.extend(["-set".to_owned(), limit]);
        }
        self.words.clone_into(&mut machine.command_line);
        if let Some(commands) = &self.commands {
            machine.command_line = format!("{} quiet {}", self.words, exec_word(commands));
        }
        let mut session = Session::start(&machine, artefacts, self.time_limit)?;
        if let Some(dialogue) = &self.dialogue {
            dialogue(&mut session)?;
            return Ok(None);
        }
        let exit = session.wait_for_end(|_| {})?;
        let run = Run {
            output: session.transcript(),
            exit,
            cpus,
        };
        match &self.check {
            Some(check) => check(&run)?,
            None if !self.has_guest_tests => run.expect_code(0)?,
            None => {}
        }
        Ok(Some(run))
    }
}
