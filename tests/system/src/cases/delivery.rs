//! What a message may carry, and what becomes of one that cannot be delivered.

use alloc::format;
use alloc::string::String;

use libsys::abi::{FOREVER, Info, MAX_MESSAGE_BYTES, Syscall};
use libsys::ipc::{self, Outgoing, Received};
use libsys::{Endpoint, Error, Handle, Notification, Rights, time};

use super::recovery::report;
use crate::Test;
use crate::context::{Context, Running, SOON, because, ensure, expect_exit};
use crate::raw::{self, Message};
use crate::wire::{self, Server, ask};

pub(super) const TESTS: &[Test] = &[
    Test {
        name: "delivery.a-request-that-does-not-fit-is-delivered-later",
        run: no_room,
    },
    Test {
        name: "delivery.answers-that-do-not-fit-cost-their-server-nothing",
        run: no_room_for_answers,
    },
    Test {
        name: "delivery.short-messages-carry-no-old-bytes",
        run: old_bytes,
    },
    Test {
        name: "delivery.long-messages-carry-no-old-bytes",
        run: old_bytes_of_pages,
    },
    Test {
        name: "delivery.a-revoked-endpoint-takes-and-gives-nothing",
        run: revoked,
    },
    Test {
        name: "delivery.a-caller-without-fs-harms-no-server",
        run: without_fs,
    },
];

/// What old bytes are made of.
const OLD: u8 = 0xa5;
/// Kernel memory with which the handle table reaches its limit before the quota does, bytes.
const AMPLE_QUOTA: u64 = 768 << 10;
const WORD: u64 = 0x0123_4567_89ab_cdef;

fn no_room(context: &Context) -> Result<(), String> {
    for quota in [libsys::spawn::DEFAULT_KERNEL_QUOTA, AMPLE_QUOTA] {
        for receiver_waits in [0, 1] {
            no_room_once(context, quota, receiver_waits)
                .map_err(|why| format!("quota {quota}, receiver waits {receiver_waits}: {why}"))?;
        }
    }
    Ok(())
}

fn no_room_once(context: &Context, quota: u64, receiver_waits: u64) -> Result<(), String> {
    let endpoint = Handle::<Endpoint>::create().map_err(because("endpoint"))?;
    let sender = endpoint.mint(1).map_err(because("mint"))?;
    let memory = wire::object(context, 1)?;
    memory
        .write(0, &WORD.to_le_bytes())
        .map_err(because("write"))?;
    let spawn = context
        .role("full", &[receiver_waits])
        .handle("endpoint", &endpoint, Rights::ALL)
        .kernel_quota(quota);
    let receiver = context.start(spawn)?;
    if receiver_waits != 0 {
        receiver.until("receiving", |info| info.receiving == 1)?;
    }
    let mut outgoing = Outgoing::NONE;
    // Two, of which the first still fits.
    for _ in 0..2 {
        outgoing.copy(memory.raw()).map_err(because("copy"))?;
    }
    let answer = wire::call_with(&sender, ask::WHO, &[], &outgoing, time::after(SOON));
    let end = receiver.end()?;
    expect_exit(&end, 0)?;
    let answer = answer.map_err(because("the call failed"))?;
    let (word, redelivered) = (answer.word(0), answer.word(1));
    ensure!(word == WORD, "the handle led to {word:#x}");
    ensure!(redelivered == 0, "it is marked as redelivered");
    Ok(())
}

fn no_room_for_answers(context: &Context) -> Result<(), String> {
    const CALLS: u64 = 40;
    let endpoint = Handle::<Endpoint>::create().map_err(because("endpoint"))?;
    let sender = endpoint.mint(1).map_err(because("mint"))?;
    let server = wire::serve(context, &endpoint)?;
    let before = idle_handles(&server)?;
    let spawn = context
        .role("stuffed-client", &[CALLS])
        .handle("server", &sender, Rights::ALL);
    context.start(spawn)?.succeed()?;
    // Nor do answers to callers that have gone.
    for _ in 0..CALLS {
        let result = wire::call_with(&sender, ask::MAKE, &[], &Outgoing::NONE, time::now() + 1);
        ensure!(
            matches!(result, Ok(_) | Err(Error::Timeout)),
            "a call with little time: {:?}",
            result.err()
        );
    }
    let after = idle_handles(&server)?;
    ensure!(
        after == before,
        "the server has {after} handles, had {before}"
    );
    Ok(())
}

fn idle_handles(server: &Running) -> Result<u32, String> {
    // It may have just begun with a request whose caller has gone.
    time::sleep(5 * time::MS);
    let info = server.until("receiving", |info| info.receiving == 1)?;
    Ok(info.handles)
}

/// Answers the next call with as many old bytes as a message can have.
fn answer_with_old_bytes(endpoint: &Handle<Endpoint>, bytes: usize) -> Result<(), String> {
    let received = ipc::receive(endpoint, time::after(SOON)).map_err(because("receive"))?;
    let Received::Request(request) = received else {
        return Err(format!("not a request: {received:?}"));
    };
    ipc::with_page(|page| page[..bytes].fill(OLD));
    ipc::reply(request.reply, 0, bytes, &Outgoing::NONE).map_err(because("reply"))
}

fn old_bytes(context: &Context) -> Result<(), String> {
    // An answer: the server has had long requests before.
    let server = Server::start(context)?;
    let old = [OLD; MAX_MESSAGE_BYTES];
    for length in [MAX_MESSAGE_BYTES, 64] {
        wire::call(&server.sender, ask::ECHO, &old[..length]).map_err(because("echo"))?;
        let mut message = Message {
            handles: server.sender.raw().0.into(),
            info: Info::new(ask::SECOND, 0, 0).0,
            deadline: time::after(SOON),
            ..Message::default()
        };
        raw::ipc(Syscall::Call, &mut message);
        ensure!(message.status == 0, "status {}", message.status);
        expect_clean("an answer", &message, 8)?;
    }
    // A request: the client has had a long answer before.
    let endpoint = Handle::<Endpoint>::create().map_err(because("endpoint"))?;
    let reports = Handle::<Endpoint>::create().map_err(because("endpoint"))?;
    let sender = endpoint.mint(1).map_err(because("mint"))?;
    let reporter = reports.mint(1).map_err(because("mint"))?;
    for length in [MAX_MESSAGE_BYTES, 64] {
        let spawn = context
            .role("client", &[ask::WHO.into()])
            .handle("server", &sender, Rights::ALL)
            .handle("report", &reporter, Rights::ALL);
        let client = context.start(spawn)?;
        answer_with_old_bytes(&endpoint, length)?;
        let mut message = Message {
            handles: u64::from(reports.raw().0) << 32,
            deadline: time::after(SOON),
            ..Message::default()
        };
        raw::ipc(Syscall::Receive, &mut message);
        ensure!(message.status == 0, "status {}", message.status);
        let reply = Handle::<libsys::Reply>::from_raw(libsys::RawHandle(message.handles as u32));
        expect_clean("a request", &message, 40)?;
        ipc::reply(reply, 0, 0, &Outgoing::NONE).map_err(because("reply"))?;
        client.succeed()?;
    }
    Ok(())
}

/// Checks that nothing stands in the registers behind the payload.
fn expect_clean(what: &str, message: &Message, bytes: usize) -> Result<(), String> {
    let info = Info(message.info);
    ensure!(
        info.bytes() == bytes,
        "{what} has {} bytes, not {bytes}",
        info.bytes()
    );
    let rest = &message.words[bytes / 8..];
    ensure!(
        rest.iter().all(|&word| word == 0),
        "{what} of {bytes} bytes has {rest:x?} behind them"
    );
    Ok(())
}

fn old_bytes_of_pages(context: &Context) -> Result<(), String> {
    const OURS: u8 = 0x11;
    let server = Server::start(context)?;
    for length in [65, 66, 71, 72, 1001] {
        // The server's page is full of old bytes, ours of others.
        let old = [OLD; MAX_MESSAGE_BYTES];
        wire::call(&server.sender, ask::ECHO, &old).map_err(because("echo"))?;
        ipc::with_page(|page| page.fill(OURS));
        let bytes = wire::put_words(&[length as u64]);
        let sent = ipc::call(
            &server.sender,
            ask::ONES,
            bytes,
            &Outgoing::NONE,
            time::after(SOON),
        );
        let (info, _) = sent.map_err(because("call"))?;
        ensure!(info.bytes() == length, "{} bytes came", info.bytes());
        let (ones, stranger) = ipc::with_page(|page| {
            let ones = page[..length].iter().all(|&byte| byte == 1);
            let mut rest = page[length..].iter().copied();
            (ones, rest.find(|&byte| byte != OURS && byte != 0))
        });
        ensure!(ones, "other bytes came within {length}");
        ensure!(
            stranger.is_none(),
            "{stranger:x?} came behind {length} bytes"
        );
    }
    Ok(())
}

fn revoked(context: &Context) -> Result<(), String> {
    let endpoint = Handle::<Endpoint>::create().map_err(because("endpoint"))?;
    let other = endpoint
        .duplicate(Rights::ALL)
        .map_err(because("duplicate"))?;
    let sender = endpoint.mint(1).map_err(because("mint"))?;
    let reports = Handle::<Endpoint>::create().map_err(because("endpoint"))?;
    let reporter = reports.mint(1).map_err(because("mint"))?;
    let server = wire::serve(context, &endpoint)?;
    // A request that the server holds when the endpoint goes.
    let spawn = context
        .role("client", &[ask::HOLD.into()])
        .handle("server", &sender, Rights::ALL)
        .handle("report", &reporter, Rights::ALL);
    let client = context.start(spawn)?;
    client.until("calling", |info| info.calls > 0 && info.calling == 1)?;
    server.until("receiving", |info| info.receiving == 1)?;
    wire::call(&sender, ask::ECHO, &[]).map_err(because("echo"))?;
    server.until("receiving", |info| info.receiving == 1)?;
    endpoint.revoke().map_err(because("revoke"))?;

    let gone = Error::EndpointGone;
    let code = report(&reports)?[0];
    ensure!(
        code == gone.code(),
        "the caller got {:?}",
        Error::from_code(code)
    );
    // The server ends with the error that its receiving gave.
    expect_exit(&server.end()?, gone.code()).map_err(|why| format!("receiver: {why}"))?;
    for deadline in [0, time::after(100 * time::MS), FOREVER] {
        let error = ipc::receive(&other, deadline).err();
        ensure!(error == Some(gone), "receiving from it gives {error:?}");
    }
    let mut calls = [0, time::after(100 * time::MS), FOREVER]
        .into_iter()
        .map(|deadline| wire::call_with(&sender, ask::WHO, &[], &Outgoing::NONE, deadline).err());
    let wrong = calls.find(|error| *error != Some(gone));
    ensure!(wrong.is_none(), "a call gives {wrong:?}");
    let bits = Handle::<Notification>::create().map_err(because("notification"))?;
    let error = bits.bind(&other).err();
    ensure!(error == Some(gone), "binding to it gives {error:?}");
    // What a new handle is given is still a handle, to nothing.
    let late = other
        .mint(2)
        .and_then(|late| wire::call(&late, ask::WHO, &[]).map(|_| ()));
    ensure!(late == Err(gone), "a call by a new sender gives {late:?}");
    client.succeed()
}

fn without_fs(context: &Context) -> Result<(), String> {
    const CALLS: u64 = 200;
    let endpoint = Handle::<Endpoint>::create().map_err(because("endpoint"))?;
    let sender = endpoint.mint(1).map_err(because("mint"))?;
    let server = wire::serve(context, &endpoint)?;
    // It must wait already, so that the call switches to it directly.
    server.until("receiving", |info| info.receiving == 1)?;
    let spawn = context
        .role("without-fs", &[CALLS])
        .handle("server", &sender, Rights::ALL);
    let client = context.start(spawn)?.end()?;
    let info = server.info()?;
    ensure!(
        info.reason == 0,
        "the server ended by {}",
        crate::context::ending(&info)
    );
    expect_exit(&client, 0)?;
    wire::call(&sender, ask::ECHO, &[1]).map_err(because("server gone"))?;
    Ok(())
}
