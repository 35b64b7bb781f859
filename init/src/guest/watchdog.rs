//! The third thread: ends `init` when its main thread hangs, so that the kernel starts it anew.
//!
//! It shares nothing with the main thread but a counter and a notification, takes no lock and
//! allocates nothing, so that whatever holds the main thread up does not hold it up. Who hangs is
//! decided as for any service ([`init::heartbeat`]).

use core::sync::atomic::{AtomicU64, Ordering};

use init::heartbeat::{Doing, Judgement, Look, Unrest, Watcher};
use init::swap;
use libipc::proto::init::Cause;
use libsys::mappings::Reservation;
use libsys::thread::{self, ThreadPlace};
use libsys::{Handle, Memory, Notification, ipc, startup, time};
use skink_manifest::service::Heartbeat;

use super::kit::Common;
use super::own;

/// Pages of the thread: control page, IPC page and stack.
pub(crate) const THREAD_PAGES: u64 = 6;
/// Exit code of an `init` that hung.
pub(crate) const EXIT_CODE: u64 = 138;
/// How the main thread is watched: by the CPU time that `init` uses without a turn, as services are by
/// default. No turn takes longer than a few milliseconds: whatever may, says that it goes on
/// ([`turned`]);
const LOOP: Heartbeat = Heartbeat {
    period_ms: 10,
    timeout_ms: 30,
    request_ms: 0,
};
/// the same where a false alarm is possible or has just been: with several CPUs a host can stop the one
/// that the main thread runs on, whose CPU time goes on, while the one that watches runs. On one CPU
/// both stand still;
const CAREFUL_LOOP: Heartbeat = Heartbeat {
    timeout_ms: 500,
    ..LOOP
};
/// how long after a hang that was found, ns;
const CAREFUL_NS: u64 = 10_000 * time::MS;
/// and by the time that passes, in case that it waits for somebody, which it never should.
const BLOCK: Heartbeat = Heartbeat {
    period_ms: 250,
    timeout_ms: 5_000,
    request_ms: 0,
};

/// How much CPU time `init` uses at most without waiting for a message in between, ns, and where a false
/// alarm is possible. Its loop may turn for nothing: then nobody else gets on.
const BUSY_NS: u64 = 1_000 * time::MS;
/// See [`BUSY_NS`].
const CAREFUL_BUSY_NS: u64 = 10_000 * time::MS;

/// Turns of the main loop.
static TURNS: AtomicU64 = AtomicU64::new(0);

/// Notes that the main loop has turned, or that `init` is at work on what takes long.
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
    let careful_until = if common.system.system_info()?.0.cpus > 1 {
        u64::MAX
    } else if own::cause_of_last_end() == Some(Cause::Hung) {
        time::after(CAREFUL_NS)
    } else {
        0
    };
    thread::spawn(&place, move || watch(&common.wake, careful_until)).map(drop)
}

/// Watches, with more care until a time.
fn watch(wake: &Handle<Notification>, careful_until: u64) -> ! {
    let process = startup::process();
    let now = time::now();
    let mut watchers = [(LOOP, Doing::Running), (BLOCK, Doing::Sleeping)]
        .map(|(settings, doing)| (Watcher::new(&settings, now), settings, doing));
    let mut unrest = Unrest::default();
    let mut last_look = now;
    loop {
        let next = watchers
            .iter()
            .map(|(watcher, ..)| watcher.next_look())
            .min();
        time::sleep_until(next.unwrap_or(0));
        let (cpu_ns, forgotten, is_idle) = process.info().map_or((0, 0, true), |info| {
            // Only the main thread waits for messages, and all but swaps are answered when it does.
            let is_idle = info.receiving > 0;
            let forgotten = info.duties.saturating_sub(swap::waiting());
            (
                info.cpu_ns + info.served_ns,
                if is_idle { forgotten } else { 0 },
                is_idle,
            )
        });
        let now = time::now();
        let limit_ns = if now < careful_until {
            CAREFUL_BUSY_NS
        } else {
            BUSY_NS
        };
        // As for a heartbeat, a look counts for no more than the time that was planned.
        let elapsed_ns = (now - last_look).min(u64::from(LOOP.period_ms) * time::MS);
        last_look = now;
        let doing = if is_idle {
            Doing::Waiting
        } else {
            Doing::Running
        };
        if unrest.is_endless(doing, cpu_ns, elapsed_ns, limit_ns) {
            // It does not come back, and there is nobody to tell.
            let _ = process.kill(EXIT_CODE);
        }
        for (watcher, settings, doing) in &mut watchers {
            let now = time::now();
            if watcher.next_look() > now {
                continue;
            }
            let look = Look {
                beats: TURNS.load(Ordering::Relaxed),
                cpu_ns,
                doing: *doing,
                forgotten,
                ..Look::default()
            };
            let settings = match *settings {
                LOOP if now < careful_until => CAREFUL_LOOP,
                settings => settings,
            };
            // Neither can fail, and there is nobody to tell.
            match watcher.judge(&settings, look, now) {
                // It may have nothing to do.
                Judgement::Suspect => drop(ipc::notify(wake)),
                Judgement::Hung | Judgement::Overdue => drop(process.kill(EXIT_CODE)),
                Judgement::Alive | Judgement::Late => {}
            }
        }
    }
}
