//! Clients and servers of a storm of calls, and what they count.

use alloc::vec::Vec;
use core::sync::atomic::Ordering;

use libsys::ipc::{self, Outgoing, Received, Request};
use libsys::mappings::Mapping;
use libsys::{Endpoint, Error, Handle, MapFlags, Memory, Sender, time};

use super::{Role, WRONG};
use crate::random::Random;
use crate::wire::{self, NEVER, ask};

/// What is counted, for each participant: words in memory that the test shares with all of them,
/// so that the death of one loses nothing.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Count {
    /// Client: calls begun.
    Begun,
    /// Client: calls that were answered.
    Answered,
    /// Client: calls that ran out of time.
    TimedOut,
    /// Client: calls that ended otherwise.
    Failed,
    /// Client: the error of the last of those.
    LastError,
    /// Server: requests received.
    Received,
    /// Server: requests received that were marked as redelivered.
    Redelivered,
    /// Server: answers that reached their callers.
    Delivered,
    /// Server: answers whose callers no longer waited.
    Late,
    /// Server: answers of which it is not told what became.
    Blind,
}

/// Bytes of one participant's counts.
const SLOT_BYTES: u64 = 128;

/// The shared counts.
pub(crate) struct Counts(Mapping);

impl Counts {
    /// Maps the memory in which they are.
    pub(crate) fn map(memory: &Handle<Memory>) -> Result<Self, Error> {
        Mapping::map(memory, MapFlags::READ | MapFlags::WRITE).map(Counts)
    }

    /// Returns a count of a participant; 0 for one behind the end of the memory.
    pub(crate) fn get(&self, participant: u64, count: Count) -> u64 {
        let word = self.0.atomic_u64(offset(participant, count));
        word.map_or(0, |word| word.load(Ordering::SeqCst))
    }

    fn add(&self, participant: u64, count: Count) {
        if let Ok(word) = self.0.atomic_u64(offset(participant, count)) {
            word.fetch_add(1, Ordering::SeqCst);
        }
    }

    fn set(&self, participant: u64, count: Count, value: u64) {
        if let Ok(word) = self.0.atomic_u64(offset(participant, count)) {
            word.store(value, Ordering::SeqCst);
        }
    }
}

const fn offset(participant: u64, count: Count) -> usize {
    (participant * SLOT_BYTES) as usize + count as usize * 8
}

/// Longest time that a client gives a call, ns.
const PATIENCE: u64 = 4 * time::MS;
/// Longest time that a server takes for a request, ns.
const DELAY: u64 = 4 * time::MS;
/// Most requests that a server holds.
const MOST_HELD: usize = 16;

/// Calls until the time in the third argument comes: number of the participant, seed, end.
pub(super) fn call(role: &Role<'_>) -> Result<i32, i32> {
    let server: Handle<Sender> = role.take("server")?;
    let memory: Handle<Memory> = role.take("counts")?;
    let counts = Counts::map(&memory).map_err(|_| WRONG)?;
    let (me, end) = (role.argument(0), role.argument(2));
    let mut random = Random::new(role.argument(1));
    while time::now() < end {
        let length = random.pick(&[0, 8, 63, 64, 65, 200, 4096]);
        let payload: Vec<u8> = (0..length).map(|_| random.next() as u8).collect();
        let deadline = match random.below(4) {
            0 => NEVER,
            _ => time::after(random.below(PATIENCE)),
        };
        let mut outgoing = Outgoing::NONE;
        if random.below(4) == 0 {
            outgoing.copy(memory.raw()).map_err(|_| WRONG)?;
        }
        counts.add(me, Count::Begun);
        match wire::call_with(&server, ask::ECHO, &payload, &outgoing, deadline) {
            Ok(answer) => {
                counts.add(me, Count::Answered);
                if !answer.bytes.iter().rev().eq(&payload) {
                    return Ok(WRONG);
                }
            }
            // Never too early.
            Err(Error::Timeout) if time::now() >= deadline => counts.add(me, Count::TimedOut),
            Err(error) => {
                counts.add(me, Count::Failed);
                counts.set(me, Count::LastError, error.code());
            }
        }
    }
    Ok(0)
}

/// A request that is answered later.
struct Held {
    due: u64,
    request: Request,
    payload: Vec<u8>,
}

/// Answers requests at once or after a while, in any order, until it is ended: number of the
/// participant, seed.
pub(super) fn serve(role: &Role<'_>) -> Result<i32, i32> {
    let endpoint: Handle<Endpoint> = role.take("endpoint")?;
    let memory: Handle<Memory> = role.take("counts")?;
    let counts = Counts::map(&memory).map_err(|_| WRONG)?;
    let me = role.argument(0);
    let mut random = Random::new(role.argument(1));
    let mut held: Vec<Held> = Vec::with_capacity(MOST_HELD);
    // What came together with an answer.
    let mut next = None;
    loop {
        let received = match next.take() {
            Some(received) => received,
            None => match wait(&endpoint, &mut held, (&counts, me)) {
                Some(received) => received,
                None => continue,
            },
        };
        let request = match received {
            Ok(Received::Request(request)) => request,
            Ok(_) | Err(Error::Timeout | Error::WouldBlock) => continue,
            Err(error) => return Ok(error.code() as i32),
        };
        counts.add(me, Count::Received);
        if request.is_redelivered() {
            counts.add(me, Count::Redelivered);
        }
        let payload = wire::payload_of(request.info);
        let late = Held {
            due: time::after(random.below(DELAY)),
            request,
            payload,
        };
        match random.below(4) {
            0 => late.answer(&counts, me),
            1 => next = Some(late.answer_and_receive(&endpoint, &counts, me)),
            _ => held.push(late),
        }
    }
}

/// Answers what is due, and waits for a request until something is. Returns nothing when it only
/// answered.
fn wait(
    endpoint: &Handle<Endpoint>,
    held: &mut Vec<Held>,
    (counts, me): (&Counts, u64),
) -> Option<Result<Received, Error>> {
    let now = time::now();
    if let Some(index) = held.iter().position(|held| held.due <= now) {
        held.swap_remove(index).answer(counts, me);
        return None;
    }
    let due = held.iter().map(|held| held.due).min();
    if held.len() == MOST_HELD {
        time::sleep_until(due.unwrap_or(now));
        return None;
    }
    Some(ipc::receive(endpoint, due.unwrap_or(NEVER)))
}

impl Held {
    /// Puts the answer into the IPC page and sends the handle of the request back with it.
    fn prepare(&mut self) -> Outgoing {
        let mut outgoing = Outgoing::NONE;
        if let Some(memory) = self.request.handles.take::<Memory>(0) {
            // It is the only one.
            let _ = outgoing.pass(memory.into_raw());
        }
        let payload = &self.payload;
        ipc::with_page(|page| {
            for (place, byte) in page.iter_mut().zip(payload.iter().rev()) {
                *place = *byte;
            }
        });
        outgoing
    }

    fn answer(mut self, counts: &Counts, me: u64) {
        let outgoing = self.prepare();
        let bytes = self.payload.len();
        match ipc::reply(self.request.reply, ask::ECHO + 1, bytes, &outgoing) {
            Ok(()) => counts.add(me, Count::Delivered),
            Err(_) => counts.add(me, Count::Late),
        }
    }

    fn answer_and_receive(
        mut self,
        endpoint: &Handle<Endpoint>,
        counts: &Counts,
        me: u64,
    ) -> Result<Received, Error> {
        counts.add(me, Count::Blind);
        let outgoing = self.prepare();
        let bytes = self.payload.len();
        let deadline = time::after(time::MS);
        let (reply, label) = (self.request.reply, ask::ECHO + 1);
        ipc::reply_receive(reply, label, bytes, &outgoing, endpoint, deadline)
    }
}
