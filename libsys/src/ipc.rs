//! Messages: calls, replies and notifications, below the typed interfaces of `libipc`.
//!
//! The payload of every message lies in the thread's IPC page on both sides; the stubs move it
//! through registers when it is short. Write the request with [`with_page`], send it, and read
//! the answer with [`with_page`]. Who has or wants only words leaves the page alone with
//! [`call_short`] and [`serve_short`].

mod handles;

use core::hint::black_box;

use skink_abi::{Info, MAX_HANDLES, MAX_MESSAGE_BYTES, REGISTER_BYTES, RawHandle, Syscall};

pub use self::handles::{Incoming, Outgoing};

use crate::raw::{self, IpcRegisters};
use crate::{Endpoint, Error, Handle, Notification, Reply, Result, Sender};

impl Handle<Reply> {
    /// Returns whether the caller still waits: it may have ended or given up.
    pub fn is_awaited(&self) -> bool {
        self.handle_info().is_ok_and(|info| info.badge == 1)
    }
}

/// A message that was received.
#[derive(Debug)]
pub enum Received {
    /// A request to be answered; its payload of `info.bytes()` bytes is in the IPC page.
    Request(Request),
    /// Bits of the bound notification.
    Notification(u64),
    /// The last sender with this badge was closed. Free what was kept for it, then call
    /// [`Handle::<Endpoint>::forget`].
    Closed(u64),
    /// A page fault: payload [`skink_abi::FaultMessage`]; answer with
    /// [`skink_abi::MapItem`]s as payload.
    Fault(Request),
}

/// A request to be answered.
#[derive(Debug)]
pub struct Request {
    /// Label, length and marks.
    pub info: Info,
    /// The badge of the sender, set by who minted it.
    pub badge: u64,
    /// Grows from request to request; the same when redelivered.
    pub sequence: u64,
    /// The duty to answer. Dropping it fails the caller with `ReplyDropped`.
    pub reply: Handle<Reply>,
    /// Handles that came along.
    pub handles: Incoming,
}

impl Request {
    /// Returns whether an earlier receiver died holding this request.
    pub fn is_redelivered(&self) -> bool {
        self.info.has(Info::REDELIVERED)
    }
}

/// Gives access to the thread's IPC page.
///
/// Do not make a system call in `f`: messages pass through this page.
#[cfg(bare)]
#[inline]
pub fn with_page<R>(f: impl FnOnce(&mut [u8; MAX_MESSAGE_BYTES]) -> R) -> R {
    let page = raw::thread_control()
        .cast::<u8>()
        .wrapping_add(skink_abi::PAGE_SIZE);
    // SAFETY: the page behind the control page belongs to this thread alone, is always mapped,
    // and the kernel writes it only during IPC calls, which `f` must not make; a nested call of
    // this function is the same mistake and would only see the same bytes.
    f(unsafe { &mut *page.cast() })
}

/// Gives access to a page that nobody reads: on the host there are no messages.
#[cfg(not(bare))]
pub fn with_page<R>(f: impl FnOnce(&mut [u8; MAX_MESSAGE_BYTES]) -> R) -> R {
    f(&mut [0; MAX_MESSAGE_BYTES])
}

/// The part of a payload that came in registers: all of it, if it has no more than
/// [`REGISTER_BYTES`] bytes. A longer one is in the IPC page.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Words(pub [u64; REGISTER_BYTES / 8]);

impl Words {
    /// Gives the payload of the message with this info to `f`, wherever it is. As in
    /// [`with_page`], `f` must make no IPC call.
    #[inline]
    pub fn with_payload<R>(&self, info: Info, f: impl FnOnce(&[u8]) -> R) -> R {
        with_page(|page| {
            let length = info.bytes().min(MAX_MESSAGE_BYTES);
            f(if length <= REGISTER_BYTES {
                &self.as_bytes()[..length]
            } else {
                &page[..length]
            })
        })
    }

    /// The machine is little-endian, as the payload is.
    #[inline]
    fn as_bytes(&self) -> &[u8; REGISTER_BYTES] {
        // SAFETY: as long, with less alignment, and any bytes are valid.
        unsafe { &*(&raw const self.0).cast() }
    }

    /// Puts a short payload into the IPC page, where a long one already is.
    #[inline]
    pub fn store(&self, info: Info) {
        if info.bytes() <= REGISTER_BYTES {
            with_page(|page| {
                for (word, chunk) in self.0.iter().zip(page.as_chunks_mut::<8>().0) {
                    *chunk = word.to_le_bytes();
                }
            });
        }
    }
}

/// Lets `f` write a payload into the thread's IPC page, with zeros behind it as far as its last word
/// goes, so that nothing else leaves the process with it: payloads are passed on by whole words.
/// Returns how many bytes it has, as `f` does. For [`call_for_words`] and [`answer_and_receive`].
///
/// # Errors
///
/// Those of `f`.
#[inline]
pub fn write_payload<E>(
    f: impl FnOnce(&mut [u8; MAX_MESSAGE_BYTES]) -> core::result::Result<usize, E>,
) -> core::result::Result<usize, E> {
    with_page(|page| {
        let bytes = f(page)?;
        end_last_word(page, bytes);
        note_written(bytes as u64);
        Ok(bytes)
    })
}

/// Puts zeros behind a payload, as far as its last word goes.
#[inline]
fn end_last_word(page: &mut [u8; MAX_MESSAGE_BYTES], bytes: usize) {
    let behind = page.get_mut(bytes..).unwrap_or_default();
    // A word at once, mostly at a place that is known: it does no harm if that is more than needed.
    match behind.first_chunk_mut::<8>() {
        Some(word) => *word = [0; 8],
        None => behind.fill(0),
    }
}

/// Sends a request of `bytes` bytes that lies in the IPC page and waits for the answer, which
/// then lies in the IPC page.
///
/// # Errors
///
/// `Timeout` at the deadline (absolute, ns since boot; [`skink_abi::FOREVER`] waits for ever),
/// `EndpointGone`, `ReplyDropped`, `ServerCrashed`, and those of a bad handle.
pub fn call(
    sender: &Handle<Sender>,
    label: u32,
    bytes: usize,
    handles: &Outgoing,
    deadline: u64,
) -> Result<(Info, Incoming)> {
    with_page(|page| end_last_word(page, bytes));
    let (info, words, incoming) = call_for_words(sender, label, bytes, handles, deadline)?;
    words.store(info);
    Ok((info, incoming))
}

/// As [`call`], but the request was written with [`write_payload`], and a short answer is left
/// in words.
///
/// # Errors
///
/// As [`call`].
#[inline]
pub fn call_for_words(
    sender: &Handle<Sender>,
    label: u32,
    bytes: usize,
    handles: &Outgoing,
    deadline: u64,
) -> Result<(Info, Words, Incoming)> {
    let mut registers = outgoing(label, bytes, handles)?;
    registers.handles = sender.raw().0.into();
    registers.deadline_or_badge = deadline;
    let words = raw::ipc(Syscall::Call, &mut registers)?;
    let info = Info(registers.info);
    Ok((info, Words(words), incoming(info)))
}

/// Sends `N` words, at most 8, and waits for the answer. Handles that come with it are closed.
///
/// # Errors
///
/// As [`call`].
#[inline]
pub fn call_short<const N: usize>(
    sender: &Handle<Sender>,
    label: u32,
    words: [u64; N],
    deadline: u64,
) -> Result<(Info, Words)> {
    let mut registers = outgoing_words(label, words);
    registers.handles = sender.raw().0.into();
    registers.deadline_or_badge = deadline;
    let words = raw::ipc(Syscall::Call, &mut registers)?;
    let info = Info(registers.info);
    drop(incoming(info));
    Ok((info, Words(words)))
}

/// Waits for the next message on the endpoint.
///
/// # Errors
///
/// `Timeout` at the deadline (`WouldBlock` for deadline 0), `EndpointGone`.
pub fn receive(endpoint: &Handle<Endpoint>, deadline: u64) -> Result<Received> {
    receive_short(endpoint, deadline).map(stored)
}

/// As [`receive`], but a short payload is left in words.
///
/// # Errors
///
/// As [`receive`].
#[inline]
pub fn receive_short(endpoint: &Handle<Endpoint>, deadline: u64) -> Result<(Received, Words)> {
    let mut registers = IpcRegisters {
        handles: u64::from(endpoint.raw().0) << 32,
        deadline_or_badge: deadline,
        ..IpcRegisters::default()
    };
    let words = raw::ipc(Syscall::Receive, &mut registers)?;
    Ok((received(&registers, &words), Words(words)))
}

/// Answers a request with `bytes` bytes that lie in the IPC page.
///
/// # Errors
///
/// `ReplyGone` when the caller no longer waits. The duty to answer is gone in any case.
pub fn reply(reply: Handle<Reply>, label: u32, bytes: usize, handles: &Outgoing) -> Result<()> {
    with_page(|page| end_last_word(page, bytes));
    let mut registers = outgoing(label, bytes, handles)?;
    registers.handles = reply.raw().0.into();
    let result = raw::ipc(Syscall::Reply, &mut registers);
    if result.is_ok() {
        // The kernel has consumed it.
        let _ = reply.into_raw();
    }
    result.map(|_words| ())
}

/// Answers a request and waits for the next message, in one crossing. A caller that no longer
/// waits is no error here.
///
/// # Errors
///
/// As [`receive`].
#[expect(
    clippy::too_many_arguments,
    reason = "the reply and the receive in one crossing"
)]
pub fn reply_receive(
    reply: Handle<Reply>,
    label: u32,
    bytes: usize,
    handles: &Outgoing,
    endpoint: &Handle<Endpoint>,
    deadline: u64,
) -> Result<Received> {
    with_page(|page| end_last_word(page, bytes));
    let mut registers = outgoing(label, bytes, handles)?;
    registers.handles = u64::from(reply.into_raw().0) | u64::from(endpoint.raw().0) << 32;
    registers.deadline_or_badge = deadline;
    let words = raw::ipc(Syscall::ReplyReceive, &mut registers)?;
    Ok(stored((received(&registers, &words), Words(words))))
}

/// An answer without handles that lies in the IPC page, where [`write_payload`] wrote it.
#[derive(Debug)]
pub struct Answer {
    /// The duty to answer.
    pub reply: Handle<Reply>,
    /// Label and length of the payload.
    pub info: Info,
    /// Whether what is about to be sent is held against what was written once more.
    pub is_compared: bool,
}

impl Answer {
    /// Ends the process if what is about to be sent is not what was written, or has a label besides: an
    /// instruction that went wrong on the way there would have the caller believe what nobody said.
    #[inline(always)]
    fn compare(info: Info, words: Option<&[u64; REGISTER_BYTES / 8]>) {
        if info.bytes() == 0 {
            // The label says why, or that all is well.
            return;
        }
        let mut differences = info.0 ^ written();
        if let Some(words) = words {
            // A sum, which is 0 if nothing differs, is less to run than a comparison for each word.
            let page_words = with_page(|page| page_words(black_box(page)));
            let pairs = words.iter().zip(page_words);
            differences = pairs.fold(differences, |sum, (word, other)| sum | (word ^ other));
        }
        assert!(differences == 0, "a reply changes on its way out");
    }
}

/// Sends an answer, if there is one, and waits for the next message, of which a short payload is
/// left in words.
///
/// # Errors
///
/// As [`receive`].
#[inline]
pub fn answer_and_receive(
    answer: Option<Answer>,
    endpoint: &Handle<Endpoint>,
    deadline: u64,
) -> Result<(Received, Words)> {
    let (mut registers, syscall, reply) = match answer {
        Some(answer) => {
            let (registers, words) = prepared(answer.info);
            if answer.is_compared {
                Answer::compare(Info(black_box(registers.info)), words.as_ref());
            }
            (registers, Syscall::ReplyReceive, answer.reply.into_raw().0)
        }
        None => (IpcRegisters::default(), Syscall::Receive, 0),
    };
    registers.handles = u64::from(reply) | u64::from(endpoint.raw().0) << 32;
    registers.deadline_or_badge = deadline;
    let words = raw::ipc(syscall, &mut registers)?;
    Ok((received(&registers, &words), Words(words)))
}

/// Answers requests with the `N` words that `answer` makes of badge, info and payload, and returns
/// as soon as there is something else: news, a fault, or a request that comes with handles. For
/// servers that are asked for little and often; all that they do stays in registers.
///
/// # Errors
///
/// As [`receive`].
pub fn serve_short<const N: usize>(
    endpoint: &Handle<Endpoint>,
    mut answer: impl FnMut(u64, Info, &Words) -> [u64; N],
) -> Result<(Received, Words)> {
    const OTHER: u64 =
        Info::NOTIFICATION | Info::CLOSED | Info::FAULT | Info::new(0, 0, MAX_HANDLES | 3).0;
    let receive_side = u64::from(endpoint.raw().0) << 32;
    let mut registers = IpcRegisters {
        handles: receive_side,
        deadline_or_badge: skink_abi::FOREVER,
        ..IpcRegisters::default()
    };
    let mut words = raw::ipc(Syscall::Receive, &mut registers)?;
    loop {
        if registers.info & OTHER != 0 {
            return Ok((received(&registers, &words), Words(words)));
        }
        let (badge, info) = (registers.deadline_or_badge, Info(registers.info));
        let answer = answer(badge, info, &Words(words));
        let reply = registers.handles;
        registers = outgoing_words(0, answer);
        registers.handles = reply | receive_side;
        registers.deadline_or_badge = skink_abi::FOREVER;
        words = raw::ipc(Syscall::ReplyReceive, &mut registers)?;
    }
}

/// Sets the bits of a notification handle.
///
/// # Errors
///
/// Those of a bad handle.
pub fn notify(notification: &Handle<Notification>) -> Result<()> {
    raw::plain(Syscall::Notify, [notification.raw().0.into()]).map(|_| ())
}

/// Waits until bits of the notification are set, takes and returns them.
///
/// # Errors
///
/// `Timeout` at the deadline, `WouldBlock` for deadline 0.
pub fn wait(notification: &Handle<Notification>, deadline: u64) -> Result<u64> {
    let arguments = [notification.raw().0.into(), deadline];
    raw::plain(Syscall::Wait, arguments).map(|(bits, _)| bits)
}

/// Prepares the registers of a message whose payload lies in the IPC page, with zeros behind its
/// last byte as far as its last word goes. Of the words behind that the kernel takes none.
#[inline]
fn outgoing(label: u32, bytes: usize, handles: &Outgoing) -> Result<IpcRegisters> {
    if bytes > MAX_MESSAGE_BYTES {
        return Err(Error::MessageTooLong);
    }
    let info = Info::new(label, bytes, handles.count).moving(handles.moved);
    if handles.count > 0 {
        set_send_handles(handles.handles);
    }
    Ok(prepared(info).0)
}

/// As [`outgoing`], when the handles are where they should be. Also returns the words that are in the
/// registers, if the payload goes there.
#[inline(always)]
fn prepared(info: Info) -> (IpcRegisters, Option<[u64; REGISTER_BYTES / 8]>) {
    let mut registers = IpcRegisters {
        info: info.0,
        ..IpcRegisters::default()
    };
    let is_short = (1..=REGISTER_BYTES).contains(&info.bytes());
    let words = is_short.then(|| with_page(|page| page_words(page)));
    if let Some(words) = &words {
        registers.set_words(words);
    }
    (registers, words)
}

/// Returns the words with which a payload begins.
#[inline(always)]
fn page_words(page: &[u8; MAX_MESSAGE_BYTES]) -> [u64; REGISTER_BYTES / 8] {
    let mut words = [0; REGISTER_BYTES / 8];
    for (word, chunk) in words.iter_mut().zip(page.as_chunks::<8>().0) {
        *word = u64::from_le_bytes(*chunk);
    }
    words
}

/// Prepares the registers of a message of words.
#[inline]
fn outgoing_words<const N: usize>(label: u32, words: [u64; N]) -> IpcRegisters {
    const { assert!(N * 8 <= REGISTER_BYTES) };
    let mut registers = IpcRegisters {
        info: Info::new(label, N * 8, 0).0,
        ..IpcRegisters::default()
    };
    registers.set_words(&words);
    registers
}

/// Leaves the payload in the IPC page.
fn stored((received, words): (Received, Words)) -> Received {
    if let Received::Request(request) | Received::Fault(request) = &received {
        words.store(request.info);
    }
    received
}

#[inline(always)]
fn received(registers: &IpcRegisters, words: &[u64; REGISTER_BYTES / 8]) -> Received {
    let info = Info(registers.info);
    let badge = registers.deadline_or_badge;
    // One comparison for what comes most often.
    if info.0 & (Info::NOTIFICATION | Info::CLOSED | Info::FAULT) == 0 {
        return Received::Request(request(registers));
    }
    if info.has(Info::NOTIFICATION) {
        return Received::Notification(words[0]);
    }
    if info.has(Info::CLOSED) {
        return Received::Closed(badge);
    }
    Received::Fault(request(registers))
}

#[inline(always)]
fn request(registers: &IpcRegisters) -> Request {
    let info = Info(registers.info);
    Request {
        info,
        badge: registers.deadline_or_badge,
        sequence: sequence(),
        reply: Handle::from_raw(RawHandle(registers.handles as u32)),
        handles: incoming(info),
    }
}

/// Reads the handles that came with a message.
#[cfg(bare)]
#[inline(always)]
fn incoming(info: Info) -> Incoming {
    if info.handles() == 0 {
        Incoming::default()
    } else {
        read_incoming(info)
    }
}

#[cfg(bare)]
#[cold]
fn read_incoming(info: Info) -> Incoming {
    let control = raw::thread_control();
    // SAFETY: the control page is always mapped and is the thread's own; the kernel wrote these
    // fields in the call that has just returned.
    let (handles, kinds) = unsafe { ((*control).received_handles, (*control).received_kinds) };
    let handles = handles.into_iter().map(RawHandle).zip(kinds);
    Incoming::of(handles.take(info.handles()))
}

#[cfg(not(bare))]
fn incoming(_info: Info) -> Incoming {
    Incoming::default()
}

#[cfg(bare)]
#[inline]
fn sequence() -> u64 {
    // SAFETY: the control page is always mapped and is the thread's own.
    unsafe { (*raw::thread_control()).sequence }
}

#[cfg(not(bare))]
fn sequence() -> u64 {
    0
}

/// Which of the thread's own words tells how long the payload is that it wrote last.
#[cfg(bare)]
const WRITTEN: usize = 0;

#[cfg(bare)]
#[inline]
fn note_written(bytes: u64) {
    // SAFETY: the control page is always mapped and is the thread's own.
    unsafe { (*raw::thread_control()).local[WRITTEN] = bytes };
}

#[cfg(bare)]
#[inline]
fn written() -> u64 {
    // SAFETY: the control page is always mapped and is the thread's own.
    unsafe { (*raw::thread_control()).local[WRITTEN] }
}

#[cfg(not(bare))]
fn note_written(_bytes: u64) {}

#[cfg(not(bare))]
fn written() -> u64 {
    0
}

#[cfg(bare)]
fn set_send_handles(handles: [u32; MAX_HANDLES]) {
    // SAFETY: the control page is always mapped and is the thread's own.
    unsafe { (*raw::thread_control()).send_handles = handles };
}

#[cfg(not(bare))]
fn set_send_handles(_handles: [u32; MAX_HANDLES]) {}
