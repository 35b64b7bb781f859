//! The third thread: ends `init` when its main thread hangs, so that the kernel starts it anew.
//!
//! It shares nothing with the main thread but a counter and a notification, takes no lock and
//! allocates nothing, so that whatever holds the main thread up does not hold it up. Who hangs is
//! decided as for any service ([`init::heartbeat`]).

use core::sync::atomic::{AtomicU64, Ordering};

use init::heartbeat::{Judgement, Look, Watcher};
use libsys::mappings::Reservation;
use libsys::thread::{self, ThreadPlace};
use libsys::{Handle, Memory, Notification, ipc, startup, time};
use skink_manifest::service::Heartbeat;

use super::kit::Common;

/// Pages of the thread: control page, IPC page and stack.
pub(crate) const THREAD_PAGES: u64 = 6;
/// Exit code of an `init` that hung.
pub(crate) const EXIT_CODE: u64 = 138;
/// How the main thread is watched.
const HEARTBEAT: Heartbeat = Heartbeat {
    period_ms: 1_000,
    timeout_ms: 2_000,
};

/// Turns of the main loop.
static TURNS: AtomicU64 = AtomicU64::new(0);

/// Notes that the main loop has turned.
pub(crate) fn turned() {
    TURNS.fetch_add(1, Ordering::Relaxed);
}

/// Starts the thread.
pub(crate) fn start(memory: &Handle<Memory>, common: &'static Common) -> libsys::Result<()> {
    // One more page than the thread has: a guard in front of its stack.
    let place = Reservation::new(THREAD_PAGES + 1)?;
    let address = place.address();
    // The thread never ends.
    core::mem::forget(place);
    let place = ThreadPlace {
        memory,
        first_page: 0,
        pages: THREAD_PAGES,
        address,
    };
    thread::spawn(&place, || watch(&common.wake)).map(drop)
}

fn watch(wake: &Handle<Notification>) -> ! {
    let process = startup::process();
    let mut watcher = Watcher::new(&HEARTBEAT, time::now());
    loop {
        time::sleep_until(watcher.next_look());
        let look = Look {
            beats: TURNS.load(Ordering::Relaxed),
            is_calling: false,
        };
        match watcher.judge(&HEARTBEAT, look, time::now()) {
            // Neither can fail, and there is nobody to tell.
            Judgement::Ping => drop(ipc::notify(wake)),
            Judgement::Hung => drop(process.kill(EXIT_CODE)),
            Judgement::Alive | Judgement::Late | Judgement::Waiting => {}
        }
    }
}
