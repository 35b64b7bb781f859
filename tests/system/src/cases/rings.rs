//! Rings between processes: of a server that is killed in the middle, and beside a client that
//! writes rubbish.

use alloc::string::String;

use libipc::ring::{Completion, Entry, RingClient, pages_for};
use libsys::mappings::Mapping;
use libsys::{Handle, MapFlags, Memory, Notification, Rights, ipc, time};

use crate::Test;
use crate::context::{Context, Running, SOON, because, ensure};
use crate::random::Random;
use crate::roles::rings::{BELL, RINGS, WAKES, work};
use crate::wire;

pub(super) const TESTS: &[Test] = &[
    Test {
        name: "rings.entries-come-back-with-their-results",
        run: honest,
    },
    Test {
        name: "rings.a-server-killed-in-mid-batch-loses-nothing",
        run: killed_in_mid_batch,
    },
    Test {
        name: "rings.a-server-killed-at-any-time-loses-nothing",
        run: killed_at_any_time,
    },
    Test {
        name: "rings.a-client-that-writes-rubbish-harms-nobody-else",
        run: vandal,
    },
];

const SLOTS: usize = 32;
const READ_WRITE: MapFlags = MapFlags(MapFlags::READ.0 | MapFlags::WRITE.0);
/// Entries in tests that take all the time they need.
const MANY: u64 = 2_000;
/// Completions after which a server that is not to stop stops.
const NEVER: u64 = u64::MAX;

/// One end of a ring, and what a server needs of the other.
struct Line {
    memory: Handle<Memory>,
    wake: Handle<Notification>,
    ring: RingClient,
    submitted: u64,
    /// Sums of the numbers of entries, and of results, that are still to come.
    open: u64,
    completed: u64,
}

impl Line {
    /// Makes a ring whose doorbell is this bit of the bell.
    fn new(context: &Context, bell: &Handle<Notification>, bit: u8) -> Result<Self, String> {
        let memory = wire::object(context, pages_for(SLOTS) as u64)?;
        let mapping = Mapping::map(&memory, READ_WRITE).map_err(because("map"))?;
        let mut ring = RingClient::create(mapping, SLOTS).map_err(because("ring"))?;
        ring.set_doorbell(bell.mint(1 << bit).map_err(because("mint"))?);
        Ok(Line {
            memory,
            wake: notification()?,
            ring,
            submitted: 0,
            open: 0,
            completed: 0,
        })
    }

    /// Submits as many entries as there is room for, up to a total.
    fn submit(&mut self, total: u64) {
        while self.submitted < total && self.ring.submit(&entry(self.submitted)).is_ok() {
            self.open = self.open.wrapping_add(mixed(self.submitted));
            self.submitted += 1;
        }
        self.ring.flush();
    }

    /// Takes completions and checks them.
    fn take(&mut self) -> Result<(), String> {
        while let Some(Completion { user_data, result }) = self.ring.next_completion() {
            ensure!(
                user_data < self.submitted && result == work(&entry(user_data)),
                "entry {user_data} came back with {result:#x}"
            );
            self.open = self.open.wrapping_sub(mixed(user_data));
            self.completed += 1;
        }
        Ok(())
    }

    /// Waits for completions, if there are none.
    fn wait(&self) -> Result<(), String> {
        if self.ring.in_flight() > 0 && self.ring.prepare_wait() {
            ipc::wait(&self.wake, time::after(SOON)).map_err(because("no completion came"))?;
        }
        Ok(())
    }

    /// Has so many entries done, in all, and checks that each was completed once.
    fn finish(&mut self, total: u64) -> Result<(), String> {
        while self.completed < total {
            self.submit(total);
            self.take()?;
            self.wait()?;
        }
        ensure!(
            self.completed == total && self.open == 0 && self.ring.in_flight() == 0,
            "{} of {total} completions, {} in flight",
            self.completed,
            self.ring.in_flight()
        );
        Ok(())
    }
}

fn entry(number: u64) -> Entry {
    Entry {
        user_data: number,
        opcode: 1,
        flags: 2,
        arguments: [number, 3, 4, 5, !number],
    }
}

/// Something whose sums tell which numbers are in them.
fn mixed(number: u64) -> u64 {
    (number + 1)
        .wrapping_mul(0x9e37_79b9_7f4a_7c15)
        .rotate_left(31)
}

fn notification() -> Result<Handle<Notification>, String> {
    Handle::<Notification>::create().map_err(because("notification"))
}

/// Starts a server of these rings that stops completing after so many entries.
fn serve(
    context: &Context,
    bell: &Handle<Notification>,
    lines: &[&Line],
    completions: u64,
) -> Result<Running, String> {
    let arguments = [lines.len() as u64, completions];
    let mut spawn = context
        .role("ring-server", &arguments)
        .handle(BELL, bell, Rights::WAIT);
    for (index, line) in lines.iter().enumerate() {
        spawn = spawn
            .handle(RINGS[index], &line.memory, Rights::ALL)
            .handle(WAKES[index], &line.wake, Rights::NOTIFY);
    }
    context.start(spawn)
}

fn honest(context: &Context) -> Result<(), String> {
    let bell = notification()?;
    let mut line = Line::new(context, &bell, 0)?;
    let _server = serve(context, &bell, &[&line], NEVER)?;
    line.finish(MANY)
}

fn killed_in_mid_batch(context: &Context) -> Result<(), String> {
    let bell = notification()?;
    let mut line = Line::new(context, &bell, 0)?;
    // Each dies holding all that is in flight, and has completed some of it.
    for life in 1..=4 {
        let server = serve(context, &bell, &[&line], 7)?;
        let completed = 7 * life;
        while line.completed < completed {
            line.submit(MANY);
            line.take()?;
            if line.completed < completed {
                line.wait()?;
            }
        }
        server.kill()?;
    }
    ensure!(line.ring.in_flight() > 0, "nothing was in flight");
    let _server = serve(context, &bell, &[&line], NEVER)?;
    line.finish(MANY)
}

fn killed_at_any_time(context: &Context) -> Result<(), String> {
    let bell = notification()?;
    let mut line = Line::new(context, &bell, 0)?;
    let mut random = Random::new(23);
    for _ in 0..8 {
        let server = serve(context, &bell, &[&line], NEVER)?;
        let end = time::after(time::MS + random.below(4 * time::MS));
        while time::now() < end {
            line.submit(u64::MAX);
            line.take()?;
        }
        server.kill()?;
    }
    let total = line.submitted;
    let _server = serve(context, &bell, &[&line], NEVER)?;
    line.finish(total)
}

fn vandal(context: &Context) -> Result<(), String> {
    let bell = notification()?;
    let hostile = Line::new(context, &bell, 0)?;
    let mut line = Line::new(context, &bell, 1)?;
    let server = serve(context, &bell, &[&hostile, &line], NEVER)?;
    // Who answers has taken both rings: what is no ring any more it would rightly refuse.
    line.finish(1)?;
    let doorbell = bell.mint(1).map_err(because("mint"))?;
    let spawn = context
        .role("ring-vandal", &[5, SLOTS as u64])
        .handle(RINGS[0], &hostile.memory, Rights::ALL)
        .handle(BELL, &doorbell, Rights::NOTIFY);
    let vandal = context.start(spawn)?;
    vandal.until("writing", |info| info.cpu_ns > 0)?;
    line.finish(MANY)?;
    for child in [&server, &vandal] {
        let info = child.info()?;
        ensure!(info.reason == 0, "a child ended with {}", info.code);
    }
    vandal.kill()?;
    line.finish(2 * MANY)
}
