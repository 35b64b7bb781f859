//! How much slower a file of the disk is read while the driver of the disk is killed again and
//! again.

use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;
use core::fmt::Write;
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use bench::arguments::Format;
use bench::kills::{Phase, Reading};
use libipc::Failure;
use libipc::files::{File, SeekFrom};
use libipc::proto::init::{InitClient, InitError};
use libipc::proto::vfs::OpenOptions;
use libsys::state::crc32c;
use libsys::time;
use skink_program::{Failed, Outcome, Program};

use super::files::LARGE;
use super::helpers::{Spinner, ThreadRoom};
use super::kit::Kit;

/// Who is killed.
const DRIVER: &str = "virtio-blk";
/// Bytes that are read at once.
const PIECE: usize = 256 * 1024;
/// How often it is looked whether the other thread has ended, ns.
const LOOK_NS: u64 = time::MS;

/// Reads in all phases and prints what came out.
pub(crate) fn run(program: &mut Program, format: Format) -> Outcome {
    let kit = Kit::new(program)?;
    let init = program.init()?;
    let mut file = kit.files().open(LARGE, OpenOptions::read())?;
    // Brings pages, and tells what is to be read each time.
    let expected = read_through(&mut file)?;
    let spinner = Spinner::start(&kit)?;
    let mut readings = Vec::new();
    for phase in Phase::ALL {
        readings.push(read((&init, &spinner), &kit, &mut file, (phase, expected))?);
    }
    match format {
        Format::Json => bench::kills::write_json(program.out(), &readings)?,
        Format::Table => write!(program.out(), "{}", bench::kills::table(&readings))?,
    }
    program.finish()
}

/// Length and checksum of a file.
type Content = (u64, u32);

fn read_through(file: &mut File) -> Result<Content, Failed> {
    let mut piece = vec![0; PIECE];
    let (mut bytes, mut checksum) = (0, 0);
    file.seek(SeekFrom::Start(0))?;
    loop {
        let count = file.read(&mut piece)?;
        if count == 0 {
            return Ok((bytes, checksum));
        }
        bytes += count as u64;
        checksum = crc32c(checksum, &piece[..count]);
    }
}

/// Reads the file again and again during a phase.
fn read(
    (init, spinner): (&InitClient, &Spinner),
    kit: &Kit,
    file: &mut File,
    (phase, expected): (Phase, Content),
) -> Result<Reading, Failed> {
    let waited = || Ok::<_, Failed>(kit.system.system_info()?.1.idle_ns + spinner.cpu_ns()?);
    let (start, waited_before) = (time::now(), waited()?);
    let killer = match phase.period_ns {
        0 => None,
        period => Some(Killer::start(init.clone(), kit, period)?),
    };
    let mut passes = 0;
    while time::now() - start < phase.time_ns {
        if read_through(file)? != expected {
            return Err(Failed::new(format_args!(
                "{LARGE} was read otherwise after {} kills",
                killer.map_or(0, |killer| killer.count())
            )));
        }
        passes += 1;
    }
    let (ns, waited_ns) = (time::now() - start, waited()? - waited_before);
    let (kills, away_ns) = killer.map_or(Ok((0, 0)), Killer::end)?;
    Ok(Reading {
        phase,
        bytes: passes * expected.0,
        ns,
        waited_ns,
        away_ns,
        kills,
    })
}

/// A thread that kills the driver.
struct Killer(Arc<Shared>);

#[derive(Default)]
struct Shared {
    kills: AtomicU32,
    away_ns: AtomicU64,
    is_over: AtomicBool,
    has_failed: AtomicBool,
    has_ended: AtomicBool,
}

impl Killer {
    /// Starts it: the first kill comes after half a period.
    fn start(init: InitClient, kit: &Kit, period_ns: u64) -> Result<Self, Failed> {
        let shared = Arc::new(Shared::default());
        let own = Arc::clone(&shared);
        let first = time::now() + period_ns / 2;
        ThreadRoom::new(kit)?.start(move || {
            own.work(&init, first, period_ns);
            own.has_ended.store(true, Ordering::SeqCst);
        })?;
        Ok(Killer(shared))
    }

    fn count(&self) -> u32 {
        self.0.kills.load(Ordering::SeqCst)
    }

    /// Waits for its end and returns how often it killed, and how long the driver was away.
    fn end(self) -> Result<(u32, u64), Failed> {
        self.0.is_over.store(true, Ordering::SeqCst);
        while !self.0.has_ended.load(Ordering::SeqCst) {
            time::sleep(LOOK_NS);
        }
        if self.0.has_failed.load(Ordering::SeqCst) {
            let what: String = format!("{DRIVER} cannot be killed");
            return Err(Failed::new(what));
        }
        Ok((self.count(), self.0.away_ns.load(Ordering::SeqCst)))
    }
}

impl Shared {
    fn work(&self, init: &InitClient, first: u64, period_ns: u64) {
        let mut due = first;
        loop {
            while time::now() < due {
                if self.is_over.load(Ordering::SeqCst) {
                    self.add_away(init);
                    return;
                }
                time::sleep((due - time::now().min(due)).min(10 * time::MS));
            }
            self.add_away(init);
            match init.kill(DRIVER) {
                Ok(()) => {
                    self.kills.fetch_add(1, Ordering::SeqCst);
                }
                // It is not back from the last time.
                Err(Failure::Server(InitError::NotRunning)) => {}
                Err(_) => {
                    self.has_failed.store(true, Ordering::SeqCst);
                    return;
                }
            }
            due += period_ns;
        }
    }

    /// Adds for how long the driver was away after the last kill, if there was one.
    fn add_away(&self, init: &InitClient) {
        if self.kills.load(Ordering::SeqCst) == 0 {
            return;
        }
        let mut services = init.services().filter_map(Result::ok);
        match services.find(|service| service.name == DRIVER) {
            Some(driver) => {
                self.away_ns
                    .fetch_add(driver.last_downtime_ns, Ordering::SeqCst);
            }
            None => self.has_failed.store(true, Ordering::SeqCst),
        }
    }
}
