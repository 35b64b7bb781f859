//! Receivers without room, callers without `fs`.

use alloc::vec::Vec;

use libsys::abi::{Info, MAX_PROCESS_HANDLES, Syscall};
use libsys::ipc::{self, Outgoing, Received};
use libsys::{Endpoint, Error, Handle, Memory, Notification, Rights, Sender, time};

use super::{Role, SURVIVED, WRONG};
use crate::context::SOON;
use crate::raw::{self, Message};
use crate::wire::{self, NEVER, ask};

/// How long a receiver without room lets requests arrive before it asks for them, ns.
const LATE: u64 = 50 * time::MS;

/// Fills its handle table, makes room for one handle, and receives a request with two; then makes
/// more room and receives it again. Without an
/// argument the request waits first, with one the receiver does.
pub(super) fn full(role: &Role<'_>) -> Result<i32, i32> {
    let endpoint: Handle<Endpoint> = role.take("endpoint")?;
    let bits = Handle::<Notification>::create().map_err(|_| WRONG)?;
    let (mut copies, full) = fill(&bits)?;
    copies.pop();
    if role.argument(0) == 0 {
        time::sleep(LATE);
    }
    if ipc::receive(&endpoint, time::after(SOON)).err() != Some(full) {
        return Ok(WRONG);
    }
    // What was taken for the request was given back: there is room for one, as before.
    let again = bits.duplicate(Rights::ALL).map_err(|_| WRONG)?;
    if bits.duplicate(Rights::ALL).err() != Some(full) {
        return Ok(WRONG);
    }
    drop(again);
    copies.truncate(copies.len() - 2);
    let Ok(Received::Request(mut request)) = ipc::receive(&endpoint, time::after(SOON)) else {
        return Ok(WRONG);
    };
    let memory = request.handles.take::<Memory>(0).ok_or(WRONG)?;
    let mut word = [0; 8];
    memory.read(0, &mut word).map_err(|_| WRONG)?;
    let bytes = wire::put_words(&[
        u64::from_le_bytes(word),
        u64::from(request.is_redelivered()),
    ]);
    ipc::reply(request.reply, 0, bytes, &Outgoing::NONE).map_err(|_| WRONG)?;
    Ok(0)
}

/// Makes copies of a handle until there is no room for another; returns them and why.
fn fill(bits: &Handle<Notification>) -> Result<(Vec<Handle<Notification>>, Error), i32> {
    let mut copies = Vec::with_capacity(MAX_PROCESS_HANDLES);
    loop {
        match bits.duplicate(Rights::ALL) {
            Ok(copy) => copies.push(copy),
            Err(full @ (Error::NoMemory | Error::TooManyHandles)) => return Ok((copies, full)),
            Err(_) => return Err(WRONG),
        }
    }
}

/// Fills its handle table and makes as many calls as the argument says whose answers carry a
/// handle; each must fail for lack of room.
pub(super) fn stuffed(role: &Role<'_>) -> Result<i32, i32> {
    let server: Handle<Sender> = role.take("server")?;
    let bits = Handle::<Notification>::create().map_err(|_| WRONG)?;
    let (_copies, full) = fill(&bits)?;
    for _ in 0..role.argument(0) {
        let answer = wire::call_with(&server, ask::MAKE, &[], &Outgoing::NONE, NEVER);
        if answer.err() != Some(full) {
            return Ok(WRONG);
        }
    }
    Ok(0)
}

/// Clears the base of `fs` before each of as many calls as the argument says.
pub(super) fn without_fs(role: &Role<'_>) -> Result<i32, i32> {
    let server: Handle<Sender> = role.take("server")?;
    let mut code = 0;
    for turn in 0..role.argument(0) {
        let question = turn.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let mut message = Message {
            handles: server.raw().0.into(),
            info: Info::new(ask::ECHO, 8, 0).0,
            deadline: NEVER,
            ..Message::default()
        };
        message.words[0] = question;
        raw::ipc_without_fs(Syscall::Call, &mut message);
        if message.status != 0 || message.words[0] != question.swap_bytes() {
            code = WRONG;
            break;
        }
    }
    // Not by returning: what comes then may make calls that need `fs`.
    // SAFETY: it ends this process.
    unsafe { raw::syscall(Syscall::ProcessExit as u64, [code as u64, 0, 0, 0, 0, 0]) };
    Ok(SURVIVED)
}
