//! A server of rings, and a client that writes rubbish into one.

use libipc::ring::{Entry, RingServer, RingSet};
use libsys::abi::FOREVER;
use libsys::mappings::Mapping;
use libsys::{Error, Handle, MapFlags, Memory, Notification, ipc};

use super::{Role, WRONG};
use crate::random::Random;

/// Rings of the server at most. Their doorbells are bits 0 and up.
pub(crate) const MAX_RINGS: u64 = 2;
/// Names of the handles of each ring.
pub(crate) const RINGS: [&str; MAX_RINGS as usize] = ["ring0", "ring1"];
pub(crate) const WAKES: [&str; MAX_RINGS as usize] = ["wake0", "wake1"];
/// Handle of the notification that the server waits for.
pub(crate) const BELL: &str = "bell";

const READ_WRITE: MapFlags = MapFlags(MapFlags::READ.0 | MapFlags::WRITE.0);

/// Entries that the server takes before it listens for bells.
const TURN: u32 = 64;

/// Words that the vandal writes before it lets others run.
const SCRIBBLES: u64 = 50;

/// Returns the result of an entry: it depends on all that the client wrote.
pub(crate) fn work(entry: &Entry) -> i64 {
    let words = entry
        .arguments
        .iter()
        .fold(0, |all: u64, word| all.wrapping_mul(31).wrapping_add(*word));
    let operation = u64::from(entry.opcode) << 32 | u64::from(entry.flags);
    (words ^ operation ^ entry.user_data.rotate_left(17)).cast_signed()
}

/// Serves the rings that it was given. After as many completions as the argument says it only
/// takes entries any more, and completes none.
pub(super) fn serve(role: &Role<'_>) -> Result<i32, i32> {
    let (rings, completions) = (role.argument(0), role.argument(1));
    let bell: Handle<Notification> = role.take(BELL)?;
    let mut set = RingSet::new();
    for ring in 0..rings.min(MAX_RINGS) {
        let memory: Handle<Memory> = role.take(RINGS[ring as usize])?;
        let mapping = Mapping::map(&memory, READ_WRITE).map_err(|_| WRONG)?;
        let server = RingServer::attach(mapping).map_err(|_| WRONG)?;
        set.insert(ring, ring as u8, server, role.take(WAKES[ring as usize])?);
    }
    let mut left = completions;
    loop {
        for _ in 0..TURN {
            let Some((ring, submission)) = set.next_request() else {
                break;
            };
            if left > 0 {
                left -= 1;
                set.complete(ring, submission.id, work(&submission.entry));
            }
            set.flush();
        }
        set.flush();
        // Looked at also while a ring has more: who keeps one busy for ever must not keep the bells
        // of the others from being heard.
        let deadline = if set.is_asleep() { FOREVER } else { 0 };
        match ipc::wait(&bell, deadline) {
            Ok(bits) => set.raise(bits),
            Err(Error::WouldBlock) => {}
            Err(_) => return Err(WRONG),
        }
    }
}

/// Writes rubbish into a ring for ever, and rings its doorbell.
pub(super) fn vandal(role: &Role<'_>) -> Result<i32, i32> {
    let (seed, slots) = (role.argument(0), role.argument(1));
    let memory: Handle<Memory> = role.take(RINGS[0])?;
    let bell: Handle<Notification> = role.take(BELL)?;
    let mapping = Mapping::map(&memory, READ_WRITE).map_err(|_| WRONG)?;
    let words = mapping.atomic_words();
    let mut random = Random::new(seed);
    loop {
        for _ in 0..SCRIBBLES {
            let at = random.below(words.len() as u64) as usize;
            // Small numbers are near to stamps and slots, marks and large ones to their limits.
            let value = match random.below(4) {
                0 => random.below(2 * slots),
                1 => random.below(2 * slots) | 1 << 63,
                2 => random.below(1 << 20) << 10 | random.below(slots),
                _ => random.next(),
            };
            words[at].store(value, core::sync::atomic::Ordering::Relaxed);
        }
        ipc::notify(&bell).map_err(|_| WRONG)?;
    }
}
