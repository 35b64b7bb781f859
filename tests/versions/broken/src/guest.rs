//! What the versions do.

use core::hint::black_box;

use libipc::gate;
use libipc::proto::block::BlockSchema;
use libipc::proto::disk::DiskSchema;
use libipc::schema::Interface;
use libsys::state::{NoPrevious, State, open_mapped};
use libsys::time;
use serde::{Deserialize, Serialize};

use crate::Fault;

/// What the state is called in the log.
const WHAT: &str = "queues and buffers";

/// A state that cannot be made from that of `block`, though it says so.
#[derive(Default, Serialize, Deserialize)]
struct Impossible;

impl State for Impossible {
    type Record = ();
    type Previous = block::Tables;
    const SCHEMA: &'static str = "block.impossible";

    fn apply(&mut self, (): ()) {}
}

impl From<block::Tables> for Impossible {
    fn from(_: block::Tables) -> Self {
        panic!("made to crash in a migration")
    }
}

/// A state that has nothing to do with that of `block`.
#[derive(Default, Serialize, Deserialize)]
struct Stranger;

impl State for Stranger {
    type Record = ();
    type Previous = NoPrevious;
    const SCHEMA: &'static str = "block.stranger";

    fn apply(&mut self, (): ()) {}
}

/// Runs until the fault. Returns the exit code where that is an end.
pub fn run(fault: Fault) -> i32 {
    libsys::log_ring::init(log::LevelFilter::Info);
    // Every version has all of the program: one cut down to its fault is hardly one.
    match black_box(fault) {
        Fault::CrashesAtStart => panic!("made to crash at the start"),
        Fault::HangsAtStart => hang(),
        Fault::CrashesInMigration => say(open_mapped::<Impossible>(WHAT).err()),
        Fault::KnowsAnotherSchema => say(open_mapped::<Stranger>(WHAT).err()),
        Fault::FailsItsTest | Fault::HangsInItsTest | Fault::CrashesAfterCommit => {
            say(open_mapped::<block::Tables>(WHAT).err());
            gate::pass(&[BlockSchema::SCHEMA], || test(fault));
            panic!("made to crash after the commit")
        }
        Fault::ServesAnotherInterface => {
            say(open_mapped::<block::Tables>(WHAT).err());
            gate::pass(&[DiskSchema::SCHEMA], || Ok(()));
        }
    }
    log::error!("{fault:?}: nobody minded");
    1
}

fn test(fault: Fault) -> Result<(), &'static str> {
    match fault {
        Fault::FailsItsTest => Err("made to fail"),
        Fault::HangsInItsTest => hang(),
        _ => Ok(()),
    }
}

/// Waits for ever, without a heartbeat.
fn hang() -> ! {
    loop {
        time::sleep(1_000 * time::MS);
    }
}

fn say(error: Option<&'static str>) {
    if let Some(error) = error {
        log::error!("{error}");
    }
}
