//! What the versions do.

use core::convert::Infallible;
use core::hint::black_box;

use libipc::gate;
use libipc::proto::block::BlockSchema;
use libipc::proto::disk::DiskSchema;
use libipc::proto::file_system::FileSystemSchema;
use libipc::schema::{Interface, Schema};
use libipc::wire::Status;
use libsys::abi::FOREVER;
use libsys::ipc::{self, Outgoing, Received};
use libsys::state::{MappedMemory, NoPrevious, State, open_mapped};
use libsys::{Endpoint, service, startup, time};
use serde::{Deserialize, Serialize};
use tmpfs::TmpFs;

use crate::Fault;

/// What the state is called in the log.
const WHAT: &str = "queues and buffers";

/// A later version of what `block` serves, without its methods.
const TURNED_AROUND: Schema = Schema {
    version: BlockSchema::SCHEMA.version + 1,
    hash: !BlockSchema::SCHEMA.hash,
    methods: &[],
    ..*BlockSchema::SCHEMA
};

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
        Fault::ServesAnotherVersion => {
            say(open_mapped::<block::Tables>(WHAT).err());
            gate::pass(&[&TURNED_AROUND], || Ok(()));
        }
        Fault::AnswersRubbish => {
            libsys::gate::announce(TmpFs::<MappedMemory>::schema());
            gate::pass(&[FileSystemSchema::SCHEMA], || Ok(()));
            say(answer_rubbish().err());
        }
    }
    log::error!("{fault:?}: nobody minded");
    1
}

/// Answers every request with bytes of which no reply begins.
fn answer_rubbish() -> Result<Infallible, &'static str> {
    const BYTES: usize = 16;
    let startup = startup::read().ok_or("start-up pages are damaged")?;
    let endpoint = startup::take::<Endpoint>(&startup, "self").ok_or("no handle named self")?;
    libsys::gate::note_receive();
    if let Some(page) = service::page() {
        page.set_ready();
    }
    loop {
        let received = ipc::receive(&endpoint, FOREVER).map_err(|_| "cannot receive")?;
        if let Received::Request(request) = received {
            ipc::with_page(|page| page[..BYTES].fill(0xff));
            // A caller that is gone is none to be lied to.
            let _ = ipc::reply(request.reply, Status::Answer as u32, BYTES, &Outgoing::NONE);
        }
    }
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
