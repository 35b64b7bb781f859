//! Servers and clients.

use alloc::vec::Vec;

use libsys::abi::HandleInfo;
use libsys::ipc::{self, Outgoing, Received, Request};
use libsys::{Endpoint, Error, Handle, Memory, Notification, RawHandle, Reply, Sender};

use super::{Role, WRONG};
use crate::wire::{self, NEVER, ask};

/// Answers requests until it is ended.
pub(super) fn serve(role: &Role<'_>) -> Result<i32, i32> {
    let endpoint: Handle<Endpoint> = role.take("endpoint")?;
    let mut held = Vec::new();
    let (mut count, mut second) = (0, 0);
    loop {
        let request = match ipc::receive(&endpoint, NEVER) {
            Ok(Received::Request(request)) => request,
            Ok(_) => continue,
            Err(error) => return Ok(error.code() as i32),
        };
        match request.info.label() {
            ask::ECHO => echo(request),
            ask::DROP => drop(request),
            ask::HOLD => held.push(request.reply),
            ask::RELEASE => {
                let all = held.len() as u64;
                let gone = held.drain(..).filter_map(|reply| finish(reply, &[]).err());
                let gone = gone.filter(|error| *error == Error::ReplyGone).count();
                answer(request, &[gone as u64, all]);
            }
            ask::CRASH => super::hostile::crash(),
            ask::INSPECT => inspect(request),
            ask::TWICE => {
                let number = request.reply.raw();
                answer(request, &[]);
                let again = finish(Handle::from_raw(number), &[]);
                second = again.err().map_or(0, Error::code);
            }
            ask::SECOND => answer(request, &[second]),
            ask::MAKE => make(request),
            ask::ONES => ones(request),
            _ => {
                let redelivered = u64::from(request.is_redelivered());
                let who = [request.badge, request.sequence, redelivered, count];
                answer(request, &who);
            }
        }
        count += 1;
    }
}

/// Takes as many requests as the argument says, reports badge and sequence of each, and holds
/// them until it is ended.
pub(super) fn hold(role: &Role<'_>) -> Result<i32, i32> {
    let endpoint: Handle<Endpoint> = role.take("endpoint")?;
    let report: Handle<Sender> = role.take("report")?;
    let mut held = Vec::new();
    for _ in 0..role.argument(0) {
        let Ok(Received::Request(request)) = ipc::receive(&endpoint, NEVER) else {
            return Err(WRONG);
        };
        let seen = wire::words(&[request.badge, request.sequence]);
        wire::call_with(&report, 0, &seen, &Outgoing::NONE, NEVER).map_err(|_| WRONG)?;
        held.push(request);
    }
    libsys::time::sleep_until(NEVER);
    Err(WRONG)
}

/// Takes one request and ends while it holds it: with exit code 0, or, with an argument, by a
/// panic.
pub(super) fn quit(role: &Role<'_>) -> Result<i32, i32> {
    let endpoint: Handle<Endpoint> = role.take("endpoint")?;
    let Ok(Received::Request(request)) = ipc::receive(&endpoint, NEVER) else {
        return Err(WRONG);
    };
    // Dropping it would answer it.
    core::mem::forget(request);
    assert!(role.argument(0) == 0, "a test wants this");
    Ok(0)
}

/// Sends one request with the argument as label and reports what came: error code and words.
pub(super) fn ask(role: &Role<'_>) -> Result<i32, i32> {
    let server: Handle<Sender> = role.take("server")?;
    let report: Handle<Sender> = role.take("report")?;
    let label = role.argument(0) as u32;
    let seen = match wire::call_with(&server, label, &[], &Outgoing::NONE, NEVER) {
        Ok(answer) => [
            0,
            answer.word(0),
            answer.word(1),
            answer.word(2),
            answer.word(3),
        ],
        Err(error) => [error.code(), 0, 0, 0, 0],
    };
    let seen = wire::words(&seen);
    wire::call_with(&report, 0, &seen, &Outgoing::NONE, NEVER).map_err(|_| WRONG)?;
    Ok(0)
}

/// Sets bits, and checks that it can do nothing else with the handle.
pub(super) fn notify(role: &Role<'_>) -> Result<i32, i32> {
    let bits: Handle<Notification> = role.take("bits")?;
    ipc::notify(&bits).map_err(|_| WRONG)?;
    let is_refused = ipc::wait(&bits, 0) == Err(Error::MissingRight)
        && bits
            .mint(u64::MAX)
            .is_err_and(|error| error == Error::MissingRight);
    Ok(if is_refused { 0 } else { WRONG })
}

/// Tries handle numbers that it was not given, among them those in its arguments.
pub(super) fn steal(role: &Role<'_>) -> Result<i32, i32> {
    let own: Vec<u32> = role
        .program
        .startup()
        .handles
        .iter()
        .map(|(_, raw)| *raw)
        .collect();
    let process = libsys_process();
    let mut guesses: Vec<u32> = role.arguments.iter().map(|number| *number as u32).collect();
    for index in 0..64_u32 {
        // Generation 0 is never valid; the others were never given to this process.
        for generation in [0, 2, 3, 0x7fff, 0xffff] {
            guesses.push(generation << 16 | index);
        }
    }
    for raw in guesses {
        if raw == 0 || own.contains(&raw) || raw == process {
            continue;
        }
        let stolen: Handle<Sender> = Handle::from_raw(RawHandle(raw));
        let result = stolen.handle_info();
        // Not ours: it must not be closed if it should exist against all expectation.
        let _ = stolen.into_raw();
        if result.is_ok() {
            return Ok(WRONG);
        }
    }
    Ok(0)
}

#[cfg(bare)]
fn libsys_process() -> u32 {
    libsys::startup::header().process
}

#[cfg(not(bare))]
fn libsys_process() -> u32 {
    0
}

fn echo(mut request: Request) {
    let bytes = request.info.bytes();
    let mut outgoing = Outgoing::NONE;
    for position in 0..request.info.handles() {
        if let Some(handle) = request.handles.take::<Memory>(position) {
            // At most four came, so four fit.
            let _ = outgoing.pass(handle.into_raw());
        }
    }
    ipc::with_page(|page| page[..bytes].reverse());
    // A caller that gave up is no concern of this server.
    let _ = ipc::reply(request.reply, request.info.label() + 1, bytes, &outgoing);
}

fn inspect(mut request: Request) {
    let info = match request.handles.take::<Memory>(0) {
        Some(memory) => memory.handle_info(),
        None => request
            .handles
            .take::<Notification>(0)
            .map_or(Err(Error::WrongKind), |other| other.handle_info()),
    };
    let HandleInfo {
        kind,
        rights,
        badge,
    } = info.unwrap_or_default();
    answer(request, &[kind.into(), rights.into(), badge]);
}

fn make(request: Request) {
    let mut outgoing = Outgoing::NONE;
    if let Ok(bits) = Handle::<Notification>::create() {
        // It is the only one.
        let _ = outgoing.pass(bits.into_raw());
    }
    // A caller that gave up is no concern of this server.
    let _ = ipc::reply(request.reply, 0, 0, &outgoing);
}

fn ones(request: Request) {
    let bytes = ipc::with_page(|page| {
        let length = wire::word(page, 0).min(page.len() as u64) as usize;
        // What is behind them stays as it is.
        page[..length].fill(1);
        length
    });
    // A caller that gave up is no concern of this server.
    let _ = ipc::reply(request.reply, 0, bytes, &Outgoing::NONE);
}

fn answer(request: Request, words: &[u64]) {
    // A caller that gave up is no concern of this server.
    let _ = finish(request.reply, words);
}

fn finish(reply: Handle<Reply>, words: &[u64]) -> Result<(), Error> {
    let bytes = wire::put_words(words);
    ipc::reply(reply, 0, bytes, &Outgoing::NONE)
}
