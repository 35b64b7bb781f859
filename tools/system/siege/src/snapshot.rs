//! What memory and handles are in use.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use libipc::proto::memory::MemoryManagerClient;
use libsys::abi::ProcessState;
use libsys::{Handle, System, time};
use skink_program::Failed;
use skink_program::files::printable;

/// Frames by which the memory in use may differ: heaps of those that are never killed grow to
/// what they once needed.
const SPARE_FRAMES: u64 = 8;
/// Files that are kept open for one such frame more: journals in state regions are longer than before.
const OPEN_PER_FRAME: u64 = 16;
/// Bytes by which the kernel's may differ: its tables grow to what they once held, and stay.
const SPARE_KERNEL_BYTES: u64 = 32 << 10;

/// Dead processes that `init` may still hold: the last one of each service whose memory is
/// pinned, until the next one dies.
const SPARE_DEAD: u64 = 5;
const HANDLES_OF_INIT: &str = "handles of init";
/// How often what is in use is looked at until it stays, ns.
const LOOK_NS: u64 = 20 * time::MS;
/// Looks in a row that must see the same.
const EQUAL_LOOKS: u32 = 5;
/// How long to wait for that, ns.
const PATIENCE_NS: u64 = 20_000 * time::MS;

/// A number.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Use {
    pub(crate) name: String,
    pub(crate) number: u64,
    /// How much more is no leak.
    spare: u64,
}

/// What is in use.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Snapshot(Vec<Use>);

impl Snapshot {
    /// Takes the numbers as soon as they stay as they are: what the dead leave behind is cleared
    /// away bit by bit. `open` files are kept open meanwhile.
    ///
    /// # Errors
    ///
    /// When kernel or memory manager do not answer.
    pub(crate) fn settled(
        system: &Handle<System>,
        memory: &MemoryManagerClient,
        open: u32,
    ) -> Result<Self, Failed> {
        let end = time::after(PATIENCE_NS);
        let (mut last, mut equal) = (Self::take(system, memory, open)?, 0);
        while equal < EQUAL_LOOKS && time::now() < end {
            time::sleep(LOOK_NS);
            let now = Self::take(system, memory, open)?;
            equal = if now == last { equal + 1 } else { 0 };
            last = now;
        }
        Ok(last)
    }

    /// Takes the numbers.
    ///
    /// # Errors
    ///
    /// When kernel or memory manager do not answer.
    fn take(
        system: &Handle<System>,
        memory: &MemoryManagerClient,
        open: u32,
    ) -> Result<Self, Failed> {
        let totals = memory.totals()?;
        // This program notes what it sees: its own memory is no leak.
        let own = memory.usage()?.resident_pages;
        let (_, kernel) = system.system_info()?;
        let used = |name: &str, number, spare| Use {
            name: String::from(name),
            number,
            spare,
        };
        let frames = totals.total.saturating_sub(totals.free).saturating_sub(own);
        let mut numbers = alloc::vec![
            used(
                "frames",
                frames,
                SPARE_FRAMES + u64::from(open) / OPEN_PER_FRAME
            ),
            used("memory objects", totals.object_count, 0),
            used("spaces", totals.spaces, 0),
            used("kernel bytes", kernel.pool_used, SPARE_KERNEL_BYTES),
            used("threads", kernel.threads, 0),
            used("endpoints", kernel.endpoints, 0),
            used("senders", kernel.senders, 0),
            used("notifications", kernel.notifications, 0),
            used("kernel memory objects", kernel.memories, 0),
        ];
        let (mut alive, mut dead, mut next) = (0, 0, 0);
        while let Some(info) = system.next_process(next)? {
            if info.state == ProcessState::Alive as u32 {
                alive += 1;
            } else {
                dead += 1;
            }
            let length = info.name.iter().position(|byte| *byte == 0);
            let name = printable(&info.name[..length.unwrap_or(info.name.len())]);
            let name = format!("handles of {name}");
            let handles = u64::from(info.handles);
            // One that is being cleared away has the name of the next instance.
            match numbers.iter_mut().find(|known| known.name == name) {
                Some(known) => known.number += handles,
                None => {
                    let spare = if name == HANDLES_OF_INIT {
                        SPARE_DEAD
                    } else {
                        0
                    };
                    numbers.push(used(&name, handles, spare));
                }
            }
            next = info.id.saturating_add(1);
        }
        numbers.push(used("processes", alive, 0));
        numbers.push(used("dead processes", dead, SPARE_DEAD));
        Ok(Snapshot(numbers))
    }

    /// Returns, of each number, what it was before, what it is now, and whether the difference is
    /// a leak.
    pub(crate) fn compare(&self, before: &Snapshot) -> Vec<(Use, u64, bool)> {
        let old = |name: &String| {
            let found = before.0.iter().find(|known| known.name == *name);
            found.map_or(0, |known| known.number)
        };
        let all = self.0.iter();
        all.map(|now| {
            let old = old(&now.name);
            (now.clone(), old, now.number > old.saturating_add(now.spare))
        })
        .collect()
    }
}
