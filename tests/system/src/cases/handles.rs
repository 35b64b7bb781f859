//! Handles: only given ones work, they travel in messages, and rights only shrink.

use alloc::string::String;

use libsys::abi::ObjectKind;
use libsys::ipc::Outgoing;
use libsys::{Error, Handle, Memory, Rights};

use crate::Test;
use crate::context::{Context, SOON, because, ensure};
use crate::wire::{self, Server, ask};

pub(super) const TESTS: &[Test] = &[
    Test {
        name: "handles.copies-travel-and-stay",
        run: copies,
    },
    Test {
        name: "handles.moved-ones-leave",
        run: moves,
    },
    Test {
        name: "handles.four-travel-both-ways",
        run: four,
    },
    Test {
        name: "handles.rights-only-shrink",
        run: shrink,
    },
    Test {
        name: "handles.without-the-right-they-do-not-travel",
        run: transfer,
    },
    Test {
        name: "handles.closed-ones-stay-invalid",
        run: stale,
    },
    Test {
        name: "handles.numbers-of-others-are-worthless",
        run: stolen,
    },
    Test {
        name: "handles.kinds-are-checked",
        run: kinds,
    },
];

fn deadline() -> u64 {
    libsys::time::after(SOON)
}

fn inspect(server: &Server, handles: &Outgoing) -> Result<(u64, Rights), String> {
    let answer = wire::call_with(&server.sender, ask::INSPECT, &[], handles, deadline())
        .map_err(because("inspect"))?;
    Ok((answer.word(0), Rights(answer.word(1) as u16)))
}

fn copies(context: &Context) -> Result<(), String> {
    let server = Server::start(context)?;
    let memory = wire::object(context, 1)?;
    let mine = memory.handle_info().map_err(because("info"))?;
    let mut outgoing = Outgoing::NONE;
    outgoing.copy(memory.raw()).map_err(because("copy"))?;
    let (kind, rights) = inspect(&server, &outgoing)?;
    ensure!(kind == ObjectKind::Memory as u64, "kind {kind} came");
    ensure!(
        Rights(mine.rights as u16).contains(rights),
        "rights grew to {rights:?}"
    );
    memory
        .info()
        .map_err(because("the copied handle is gone"))?;
    Ok(())
}

fn moves(context: &Context) -> Result<(), String> {
    let server = Server::start(context)?;
    let memory = wire::object(context, 1)?;
    let raw = memory.into_raw();
    let mut outgoing = Outgoing::NONE;
    outgoing.pass(raw).map_err(because("pass"))?;
    let (kind, _) = inspect(&server, &outgoing)?;
    ensure!(kind == ObjectKind::Memory as u64, "kind {kind} came");
    let error = Handle::<Memory>::from_raw(raw).info().err();
    ensure!(
        error == Some(Error::InvalidHandle),
        "the moved handle gives {error:?}"
    );
    Ok(())
}

fn four(context: &Context) -> Result<(), String> {
    let server = Server::start(context)?;
    let memory = wire::object(context, 1)?;
    let identity = memory.info().map_err(because("info"))?.identity;
    let mut outgoing = Outgoing::NONE;
    for _ in 0..4 {
        outgoing.copy(memory.raw()).map_err(because("copy"))?;
    }
    ensure!(
        outgoing.copy(memory.raw()).is_err(),
        "a fifth handle was taken"
    );
    let mut answer = wire::call_with(&server.sender, ask::ECHO, &[9], &outgoing, deadline())
        .map_err(because("echo"))?;
    ensure!(
        answer.info.handles() == 4,
        "{} handles came back",
        answer.info.handles()
    );
    for position in 0..4 {
        let back = answer.handles.take::<Memory>(position);
        let back = back.ok_or_else(|| alloc::format!("handle {position} is missing"))?;
        ensure!(
            back.raw() != memory.raw(),
            "handle {position} is the one that was sent"
        );
        let same = back.info().map_err(because("info"))?.identity == identity;
        ensure!(same, "handle {position} names another object");
    }
    Ok(())
}

fn shrink(context: &Context) -> Result<(), String> {
    let server = Server::start(context)?;
    let memory = wire::object(context, 1)?;
    let less = Rights::READ | Rights::DUPLICATE | Rights::TRANSFER;
    let small = memory.duplicate(less).map_err(because("duplicate"))?;
    let again = small.duplicate(Rights::ALL).map_err(because("duplicate"))?;
    let rights = Rights(again.handle_info().map_err(because("info"))?.rights as u16);
    ensure!(rights == less, "a copy with all rights has {rights:?}");
    ensure!(
        again.write(0, &[1]) == Err(Error::MissingRight),
        "it can be written to"
    );
    let mut outgoing = Outgoing::NONE;
    outgoing.copy(small.raw()).map_err(because("copy"))?;
    let (_, rights) = inspect(&server, &outgoing)?;
    ensure!(
        less.contains(rights),
        "rights grew on the way to {rights:?}"
    );

    let bare = memory
        .duplicate(Rights::READ)
        .map_err(because("duplicate"))?;
    let error = bare.duplicate(Rights::READ).err();
    ensure!(
        error == Some(Error::MissingRight),
        "duplicating without the right: {error:?}"
    );
    Ok(())
}

fn transfer(context: &Context) -> Result<(), String> {
    let server = Server::start(context)?;
    let memory = wire::object(context, 1)?;
    let fixed = memory
        .duplicate(Rights::READ)
        .map_err(because("duplicate"))?;
    let mut outgoing = Outgoing::NONE;
    outgoing.copy(fixed.raw()).map_err(because("copy"))?;
    let result = wire::call_with(&server.sender, ask::INSPECT, &[], &outgoing, deadline());
    let error = result.err();
    ensure!(
        error == Some(Error::MissingRight),
        "sending it gives {error:?}"
    );
    fixed.info().map_err(because("the handle is gone"))?;
    Ok(())
}

fn stale(context: &Context) -> Result<(), String> {
    let first = wire::object(context, 1)?;
    let copy = first.duplicate(Rights::ALL).map_err(because("duplicate"))?;
    let raw = copy.raw();
    drop(copy);
    // The entry is used again, by the next handles.
    let next = [(); 8].map(|()| first.duplicate(Rights::ALL));
    for handle in next.iter().flatten() {
        ensure!(
            handle.raw() != raw,
            "a closed number was given out again at once"
        );
    }
    let ghost = Handle::<Memory>::from_raw(raw);
    let error = ghost.info().err();
    ensure!(
        error == Some(Error::InvalidHandle),
        "a closed handle gives {error:?}"
    );
    let _ = ghost.into_raw();
    Ok(())
}

fn stolen(context: &Context) -> Result<(), String> {
    let memory = wire::object(context, 1)?;
    let more = memory
        .duplicate(Rights::ALL)
        .map_err(because("duplicate"))?;
    let targets = [memory.raw().0.into(), more.raw().0.into()];
    context.start(context.role("thief", &targets))?.succeed()
}

fn kinds(context: &Context) -> Result<(), String> {
    let memory = wire::object(context, 1)?;
    let raw = memory.raw();
    let wrong = Handle::<libsys::Sender>::from_raw(raw);
    let error = wire::call(&wrong, ask::ECHO, &[]).err();
    let _ = wrong.into_raw();
    ensure!(
        error == Some(Error::WrongKind),
        "a call through memory gives {error:?}"
    );
    let wrong = Handle::<libsys::Process>::from_raw(raw);
    let error = wrong.kill(1).err();
    let _ = wrong.into_raw();
    ensure!(
        error == Some(Error::WrongKind),
        "killing memory gives {error:?}"
    );
    Ok(())
}
