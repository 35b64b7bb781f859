//! Messages between two processes, deadlines, badges and notifications.

use alloc::string::String;
use alloc::vec::Vec;

use libsys::abi::MAX_MESSAGE_BYTES;
use libsys::ipc::{self, Outgoing, Received};
use libsys::{Endpoint, Error, Handle, Notification, Rights, time};

use crate::Test;
use crate::context::{Context, because, ensure};
use crate::wire::{self, Server, ask};

pub(super) const TESTS: &[Test] = &[
    Test {
        name: "ipc.payloads-of-every-length-arrive-unchanged",
        run: payloads,
    },
    Test {
        name: "ipc.longer-payloads-are-refused",
        run: too_long,
    },
    Test {
        name: "ipc.badge-and-sequence-tell-the-caller",
        run: badges,
    },
    Test {
        name: "ipc.deadlines-are-kept",
        run: deadlines,
    },
    Test {
        name: "ipc.dropped-requests-fail-their-caller",
        run: dropped,
    },
    Test {
        name: "ipc.a-request-is-answered-once",
        run: answered_once,
    },
    Test {
        name: "ipc.answers-to-those-who-left-are-refused",
        run: late_answers,
    },
    Test {
        name: "ipc.closed-badges-are-told-until-forgotten",
        run: closed_badges,
    },
    Test {
        name: "ipc.notifications-set-their-own-bits-only",
        run: notifications,
    },
    Test {
        name: "ipc.a-server-waits-for-calls-and-bits-in-one-place",
        run: one_place,
    },
    Test {
        name: "ipc.a-destroyed-endpoint-fails-its-callers",
        run: destroyed,
    },
];

fn payloads(context: &Context) -> Result<(), String> {
    let server = Server::start(context)?;
    let pattern: Vec<u8> = (0..MAX_MESSAGE_BYTES)
        .map(|index| (index * 7 + index / 256) as u8)
        .collect();
    for length in 0..=MAX_MESSAGE_BYTES {
        let answer =
            wire::call(&server.sender, ask::ECHO, &pattern[..length]).map_err(because("echo"))?;
        ensure!(
            answer.info.label() == ask::ECHO + 1,
            "length {length}: wrong label"
        );
        ensure!(
            answer.bytes.len() == length,
            "length {length}: {} came",
            answer.bytes.len()
        );
        let is_same = answer.bytes.iter().rev().eq(&pattern[..length]);
        ensure!(is_same, "length {length}: other bytes came");
    }
    Ok(())
}

fn too_long(context: &Context) -> Result<(), String> {
    let server = Server::start(context)?;
    for length in [MAX_MESSAGE_BYTES + 1, 0x1fff, 0x2000, usize::MAX] {
        let result = ipc::call(
            &server.sender,
            ask::ECHO,
            length,
            &Outgoing::NONE,
            time::after(0),
        );
        let error = result.err();
        ensure!(
            error == Some(Error::MessageTooLong),
            "length {length}: {error:?}"
        );
    }
    wire::call(&server.sender, ask::ECHO, &[1]).map_err(because("server is gone"))?;
    Ok(())
}

fn badges(context: &Context) -> Result<(), String> {
    let server = Server::start(context)?;
    for badge in [0, 1 << 63, u64::MAX, 0x1234_5678_9abc_def0] {
        let sender = server.endpoint.mint(badge).map_err(because("mint"))?;
        let mut last = None;
        for _ in 0..3 {
            let who = wire::call(&sender, ask::WHO, &[]).map_err(because("who"))?;
            ensure!(
                who.word(0) == badge,
                "badge {badge:#x} came as {:#x}",
                who.word(0)
            );
            ensure!(who.word(2) == 0, "a fresh request is marked redelivered");
            let sequence = who.word(1);
            let follows = last.is_none_or(|last: u64| sequence == last + 1);
            ensure!(follows, "sequence {sequence} follows {last:?}");
            last = Some(sequence);
        }
    }
    Ok(())
}

fn deadlines(context: &Context) -> Result<(), String> {
    let server = Server::start(context)?;
    let bits = Handle::<Notification>::create().map_err(because("notification"))?;
    let quiet = Handle::<Endpoint>::create().map_err(because("endpoint"))?;
    let timed = |what: &str, wait: &dyn Fn(u64) -> Option<Error>| {
        let start = time::now();
        let error = wait(start + 20 * time::MS);
        let took = time::now() - start;
        ensure!(error == Some(Error::Timeout), "{what}: {error:?}");
        ensure!(took >= 20 * time::MS, "{what}: {took} ns are too few");
        ensure!(took < 2_000 * time::MS, "{what}: {took} ns are too many");
        let now = wait(0);
        let is_now = matches!(now, Some(Error::WouldBlock | Error::Timeout));
        ensure!(is_now, "{what} with a deadline in the past: {now:?}");
        Ok(())
    };
    timed("call", &|deadline| {
        wire::call_with(&server.sender, ask::HOLD, &[], &Outgoing::NONE, deadline).err()
    })?;
    timed("receive", &|deadline| ipc::receive(&quiet, deadline).err())?;
    timed("wait", &|deadline| ipc::wait(&bits, deadline).err())
}

fn dropped(context: &Context) -> Result<(), String> {
    let server = Server::start(context)?;
    let error = wire::call(&server.sender, ask::DROP, &[]).err();
    ensure!(error == Some(Error::ReplyDropped), "got {error:?}");
    Ok(())
}

fn answered_once(context: &Context) -> Result<(), String> {
    let server = Server::start(context)?;
    wire::call(&server.sender, ask::TWICE, &[]).map_err(because("first answer"))?;
    let second = wire::call(&server.sender, ask::SECOND, &[]).map_err(because("question"))?;
    let error = Error::from_code(second.word(0));
    ensure!(
        error == Some(Error::ReplyGone),
        "the second answer got {error:?}"
    );
    Ok(())
}

fn late_answers(context: &Context) -> Result<(), String> {
    let server = Server::start(context)?;
    let mut late = 0;
    while late < 3 {
        let deadline = time::after(5 * time::MS);
        let held = wire::call_with(&server.sender, ask::HOLD, &[], &Outgoing::NONE, deadline);
        ensure!(
            held.err() == Some(Error::Timeout),
            "a held request was answered"
        );
        // A server that got no CPU in that time has not got the request either.
        let released = wire::call(&server.sender, ask::RELEASE, &[]).map_err(because("release"))?;
        let [gone, all] = [released.word(0), released.word(1)];
        ensure!(gone == all, "{gone} of {all} late answers were refused");
        late += all;
    }
    Ok(())
}

fn closed_badges(context: &Context) -> Result<(), String> {
    let endpoint = Handle::<Endpoint>::create().map_err(because("endpoint"))?;
    let sender = endpoint.mint(77).map_err(because("mint"))?;
    let second = sender
        .duplicate(Rights::ALL)
        .map_err(because("duplicate"))?;
    let spawn = context
        .role("exit", &[0])
        .handle("server", &second, Rights::ALL);
    let child = context.start(spawn)?;
    drop(sender);
    drop(second);
    child.succeed()?;
    let news = ipc::receive(&endpoint, time::after(1_000 * time::MS));
    ensure!(
        matches!(news, Ok(Received::Closed(77))),
        "no news of the closed badge: {news:?}"
    );
    endpoint.forget(77).map_err(because("forget"))?;
    let again = ipc::receive(&endpoint, time::after(5 * time::MS));
    ensure!(again.is_err(), "forgotten, but told again: {again:?}");
    ensure!(
        endpoint.forget(77).is_err(),
        "what is forgotten can be forgotten again"
    );
    Ok(())
}

fn notifications(context: &Context) -> Result<(), String> {
    let all = Handle::<Notification>::create().map_err(because("notification"))?;
    let some = all.mint(0b1010).map_err(because("mint"))?;
    context
        .start(
            context
                .role("notifier", &[])
                .handle("bits", &some, Rights::ALL),
        )?
        .succeed()?;
    let bits = ipc::wait(&all, time::after(1_000 * time::MS)).map_err(because("wait"))?;
    ensure!(bits == 0b1010, "bits {bits:#b} came");
    let other = all.mint(0b1 << 63).map_err(because("mint"))?;
    for handle in [&some, &other, &some] {
        ipc::notify(handle).map_err(because("notify"))?;
    }
    let bits = ipc::wait(&all, 0).map_err(because("wait"))?;
    ensure!(bits == 0b1010 | 1 << 63, "collected bits are {bits:#b}");
    ensure!(ipc::wait(&all, 0).is_err(), "bits came twice");
    Ok(())
}

fn one_place(context: &Context) -> Result<(), String> {
    let endpoint = Handle::<Endpoint>::create().map_err(because("endpoint"))?;
    let sender = endpoint.mint(5).map_err(because("mint"))?;
    let bits = Handle::<Notification>::create().map_err(because("notification"))?;
    bits.bind(&endpoint).map_err(because("bind"))?;
    let report = Handle::<Endpoint>::create().map_err(because("endpoint"))?;
    let reporter = report.mint(0).map_err(because("mint"))?;
    let spawn = context
        .role("client", &[ask::WHO.into()])
        .handle("server", &sender, Rights::ALL)
        .handle("report", &reporter, Rights::ALL);
    let _client = context.start(spawn)?;
    ipc::notify(&bits).map_err(because("notify"))?;
    let (mut has_bits, mut has_call) = (false, false);
    while !(has_bits && has_call) {
        let received = ipc::receive(&endpoint, time::after(1_000 * time::MS));
        match received.map_err(because("receive"))? {
            Received::Notification(u64::MAX) => has_bits = true,
            Received::Request(request) => has_call = request.badge == 5,
            other => return Err(alloc::format!("unexpected: {other:?}")),
        }
    }
    Ok(())
}

fn destroyed(context: &Context) -> Result<(), String> {
    let endpoint = Handle::<Endpoint>::create().map_err(because("endpoint"))?;
    let sender = endpoint.mint(5).map_err(because("mint"))?;
    let report = Handle::<Endpoint>::create().map_err(because("endpoint"))?;
    let reporter = report.mint(0).map_err(because("mint"))?;
    let spawn = context
        .role("client", &[ask::WHO.into()])
        .handle("server", &sender, Rights::ALL)
        .handle("report", &reporter, Rights::ALL);
    let client = context.start(spawn)?;
    client.until("calling", |info| info.calls > 0 && info.calling == 1)?;
    endpoint.revoke().map_err(because("revoke"))?;
    let code = super::recovery::report(&report)?[0];
    let error = Error::from_code(code);
    let is_told = matches!(error, Some(Error::EndpointGone | Error::Revoked));
    ensure!(is_told, "its caller got {error:?}");
    let error = wire::call(&sender, ask::WHO, &[]).err();
    ensure!(
        error.is_some(),
        "a call to a destroyed endpoint was answered"
    );
    Ok(())
}
