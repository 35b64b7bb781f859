//! An actor: makes one IPC call at a time, as it is told through shared memory, and tells all that
//! it sees of it.

use core::sync::atomic::Ordering;

use libsys::abi::{Info, MAX_MESSAGE_BYTES, REGISTER_BYTES, Syscall};
use libsys::ipc;
use libsys::mappings::Mapping;
use libsys::{Endpoint, Error, Handle, MapFlags, Memory, Notification, Sender};

use super::{Role, WRONG};
use crate::raw::{self, Message};
use crate::wire::NEVER;

/// Bytes of the memory that an actor and the driver share.
const SLOT_BYTES: usize = 256;
/// Words of an IPC page.
const PAGE_WORDS: usize = MAX_MESSAGE_BYTES / 8;
/// Mark in [`Word::Strange`]: something was written to the IPC page that is no payload.
const STRANGE_PAGE: u64 = 1 << 8;
/// Mark in [`Word::Strange`]: `rbp` or `rsp` was not kept.
const STRANGE_STACK: u64 = 1 << 9;
/// Upper half of what actors have where no payload is.
const SECRET: u64 = 0x5ec2_e700;
/// Bits of a secret behind which is whose it is.
const SECRET_INDEX_BITS: u32 = 16;
/// Command that makes an actor crash; no system call has this number.
pub(crate) const CRASH: u64 = 1 << 32;

/// Command that makes an actor touch an address, or its own memory if that is 0.
pub(crate) const TOUCH: u64 = 2 << 32;

/// Words that an actor and the driver share.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Word {
    /// Driver: which system call to make.
    Command,
    /// Driver: number of the endpoint.
    Place,
    /// Driver: message info.
    Info,
    /// Driver: reply handle.
    Reply,
    /// Driver: what the payload is made of, a badge, or an address.
    Content,
    /// Driver: deadline.
    Deadline,
    /// Driver: number of the command, written last.
    Turn,
    /// Actor: number of the command that is done, written last.
    Done,
    /// Actor: the status.
    Status,
    /// Actor: `rsi`.
    InfoCame,
    /// Actor: `rdx`.
    Badge,
    /// Actor: `rdi`.
    Handles,
    /// Actor: sequence number of the last request.
    Sequence,
    /// Actor: digest of a payload in the IPC page.
    Digest,
    /// Actor: which registers hold secrets of others, and other marks; 0 if nothing is strange.
    Strange,
    /// Actor: the first register of the payload; the others follow.
    Payload,
}

/// The shared words of all actors.
pub(crate) struct Slots(Mapping);

impl Slots {
    /// Maps the memory in which they are.
    pub(crate) fn map(memory: &Handle<Memory>) -> Result<Self, Error> {
        Mapping::map(memory, MapFlags::READ | MapFlags::WRITE).map(Slots)
    }

    /// Returns a word of an actor; 0 for one behind the end of the memory.
    pub(crate) fn get(&self, actor: usize, word: Word) -> u64 {
        self.at(actor, word as usize)
    }

    /// Writes a word of an actor.
    pub(crate) fn set(&self, actor: usize, word: Word, value: u64) {
        self.put(actor, word as usize, value);
    }

    /// Returns a register of the payload as an actor saw it.
    pub(crate) fn payload(&self, actor: usize, index: usize) -> u64 {
        self.at(actor, Word::Payload as usize + index)
    }

    fn at(&self, actor: usize, index: usize) -> u64 {
        let word = self.0.atomic_u64(actor * SLOT_BYTES + index * 8);
        word.map_or(0, |word| word.load(Ordering::SeqCst))
    }

    fn put(&self, actor: usize, index: usize, value: u64) {
        if let Ok(word) = self.0.atomic_u64(actor * SLOT_BYTES + index * 8) {
            word.store(value, Ordering::SeqCst);
        }
    }
}

/// Returns a word of the payload that is made of something.
pub(crate) fn payload_word(content: u64, index: usize) -> u64 {
    (content ^ index as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1
}

/// Returns the digest of words in order.
pub(crate) fn digest(words: impl Iterator<Item = u64>) -> u64 {
    words.fold(0, |sum: u64, word| {
        (sum.rotate_left(5) ^ word).wrapping_mul(0x2545_f491_4f6c_dd1d)
    })
}

/// An actor at work.
struct Actor {
    me: usize,
    endpoints: [Handle<Endpoint>; 2],
    senders: [Handle<Sender>; 2],
    slots: Slots,
    /// What it has in its IPC page.
    page: [u64; PAGE_WORDS],
}

/// Does what it is told until it is ended: number of the actor, number of its first turn.
pub(super) fn act(role: &Role<'_>) -> Result<i32, i32> {
    let slots: Handle<Memory> = role.take("slots")?;
    let commands: Handle<Notification> = role.take("commands")?;
    let results: Handle<Notification> = role.take("results")?;
    let mut actor = Actor {
        me: role.argument(0) as usize,
        endpoints: [role.take("endpoint-0")?, role.take("endpoint-1")?],
        senders: [role.take("sender-0")?, role.take("sender-1")?],
        slots: Slots::map(&slots).map_err(|_| WRONG)?,
        page: [0; PAGE_WORDS],
    };
    let mut turn = role.argument(1);
    loop {
        actor.slots.set(actor.me, Word::Done, turn);
        ipc::notify(&results).map_err(|_| WRONG)?;
        while actor.slots.get(actor.me, Word::Turn) == turn {
            ipc::wait(&commands, NEVER).map_err(|_| WRONG)?;
        }
        turn = actor.slots.get(actor.me, Word::Turn);
        match actor.told(Word::Command) {
            CRASH => crash(),
            TOUCH => actor.touch(),
            command if command == Syscall::HandleClose as u64 => {
                actor.plain(command, [actor.told(Word::Reply), 0]);
            }
            command if command == Syscall::EndpointForget as u64 => {
                actor.plain(command, [actor.endpoint(), actor.told(Word::Content)]);
            }
            command => actor.talk(command),
        }
    }
}

/// Ends this process as one that has failed, with all of its handles open.
fn crash() {
    // SAFETY: it ends this process.
    unsafe { raw::syscall(Syscall::ProcessExit as u64, [1, 0, 0, 0, 0, 0]) };
}

impl Actor {
    fn told(&self, word: Word) -> u64 {
        self.slots.get(self.me, word)
    }

    fn tell(&self, word: Word, value: u64) {
        self.slots.set(self.me, word, value);
    }

    fn place(&self) -> usize {
        usize::from(self.told(Word::Place) != 0)
    }

    fn endpoint(&self) -> u64 {
        self.endpoints[self.place()].raw().0.into()
    }

    /// What stands where no payload does: nobody else must ever see it.
    fn secret(&self, index: usize) -> u64 {
        SECRET << 32 | (self.me as u64) << SECRET_INDEX_BITS | index as u64
    }

    /// Returns whether a word is a secret of another actor. One of its own may be in any register
    /// after a call that failed: the kernel leaves there what the thread once had in it.
    fn is_of_another(&self, word: u64) -> bool {
        let owner = word >> SECRET_INDEX_BITS;
        word >> 32 == SECRET && owner != self.secret(0) >> SECRET_INDEX_BITS
    }

    fn touch(&self) {
        let mut address = self.told(Word::Content);
        if address == 0 {
            address = (&raw const self.page).expose_provenance() as u64;
        }
        // SAFETY: a word of `self`, or what is a page fault for ever.
        unsafe { core::ptr::with_exposed_provenance::<u64>(address as usize).read_volatile() };
    }

    fn plain(&self, command: u64, [first, second]: [u64; 2]) {
        // SAFETY: it closes a reply handle or forgets a badge, on which no memory depends.
        let outcome = unsafe { raw::syscall(command, [first, second, 0, 0, 0, 0]) };
        self.tell(Word::Status, outcome.status);
        self.tell(Word::Strange, 0);
    }

    /// Makes an IPC call with its own secrets in everything that is not sent.
    fn talk(&mut self, command: u64) {
        let info = Info(self.told(Word::Info));
        let content = self.told(Word::Content);
        let sent = info.bytes().div_ceil(8);
        let in_page = info.bytes() > REGISTER_BYTES;
        let mut message = Message {
            handles: self.handles(command),
            info: info.0,
            deadline: self.told(Word::Deadline),
            ..Message::default()
        };
        for index in 0..PAGE_WORDS {
            let is_sent = index < sent && in_page;
            self.page[index] = match is_sent {
                true => payload_word(content, index),
                false => self.secret(index),
            };
        }
        for (index, word) in message.words.iter_mut().enumerate() {
            *word = match index < sent && !in_page {
                true => payload_word(content, index),
                false => self.secret(index),
            };
        }
        ipc::with_page(|page| {
            for (place, word) in page.as_chunks_mut::<8>().0.iter_mut().zip(self.page) {
                *place = word.to_le_bytes();
            }
        });
        let is_kept = raw::ipc_keeping(command, &mut message);
        let came = match message.status {
            0 if command != Syscall::Reply as u64 => Info(message.info).bytes(),
            _ => 0,
        };
        self.report(&message, came);
        if !is_kept {
            self.tell(Word::Strange, STRANGE_STACK);
        }
    }

    fn handles(&self, command: u64) -> u64 {
        if command == Syscall::Call as u64 {
            self.senders[self.place()].raw().0.into()
        } else if command == Syscall::Receive as u64 {
            self.endpoint() << 32
        } else if command == Syscall::Reply as u64 {
            self.told(Word::Reply)
        } else {
            self.endpoint() << 32 | self.told(Word::Reply)
        }
    }

    /// Tells what a call left, with this many bytes of payload.
    fn report(&self, after: &Message, came: usize) {
        let from_page = match came {
            0..=REGISTER_BYTES => 0,
            _ => came.div_ceil(8),
        };
        let mut strange = 0;
        for (index, word) in after.words.iter().enumerate() {
            if self.is_of_another(*word) {
                strange |= 1 << index;
            }
            self.slots
                .put(self.me, Word::Payload as usize + index, *word);
        }
        let (sum, is_clean) = ipc::with_page(|page| {
            let page = page.as_chunks::<8>().0;
            let words = page.iter().map(|word| u64::from_le_bytes(*word));
            let is_clean = words
                .clone()
                .zip(self.page)
                .skip(from_page)
                .all(|(word, own)| word == own);
            (digest(words.take(from_page)), is_clean)
        });
        if !is_clean {
            strange |= STRANGE_PAGE;
        }
        self.tell(Word::Status, after.status);
        self.tell(Word::InfoCame, after.info);
        self.tell(Word::Badge, after.deadline);
        self.tell(Word::Handles, after.handles);
        self.tell(Word::Sequence, raw::sequence());
        self.tell(Word::Digest, sum);
        self.tell(Word::Strange, strange);
    }
}
