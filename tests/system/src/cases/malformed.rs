//! Messages and calls that no stub would make.

use alloc::string::String;

use libsys::abi::{Info, Syscall};
use libsys::{Error, Handle, MapFlags, Process, time};

use crate::Test;
use crate::context::{Context, SOON, because, ensure};
use crate::raw::{self, Outcome};
use crate::roles::{KERNEL, NON_CANONICAL, REGION};
use crate::wire::{self, Server, ask};

pub(super) const TESTS: &[Test] = &[
    Test {
        name: "malformed.info-words-over-the-limits-are-refused",
        run: info_words,
    },
    Test {
        name: "malformed.marks-of-the-kernel-cannot-be-forged",
        run: marks,
    },
    Test {
        name: "malformed.handle-numbers-out-of-nowhere-are-refused",
        run: handle_numbers,
    },
    Test {
        name: "malformed.pointers-into-nowhere-are-refused",
        run: pointers,
    },
    Test {
        name: "malformed.calls-that-do-not-exist-are-refused",
        run: unknown_calls,
    },
    Test {
        name: "malformed.mappings-that-must-not-be-are-refused",
        run: mappings,
    },
    Test {
        name: "malformed.typed-requests-of-garbage-are-refused",
        run: typed_garbage,
    },
];

fn raw_call(number: u64, arguments: [u64; 6]) -> Outcome {
    // SAFETY: the callers pass arguments that are refused or only make a call through a sender.
    unsafe { raw::syscall(number, arguments) }
}

fn call_info(server: &Server, info: u64) -> Outcome {
    let sender = server.sender.raw().0.into();
    raw_call(
        Syscall::Call as u64,
        [sender, info, time::after(SOON), 0, 0, 0],
    )
}

fn alive(server: &Server) -> Result<(), String> {
    let answer = wire::call(&server.sender, ask::ECHO, &[1, 2]).map_err(because("server gone"))?;
    ensure!(answer.bytes == [2, 1], "the server is confused");
    Ok(())
}

fn info_words(context: &Context) -> Result<(), String> {
    let server = Server::start(context)?;
    let label = u64::from(ask::ECHO) << 32;
    for length in [4097, 5000, 0x1fff] {
        let outcome = call_info(&server, label | length);
        ensure!(outcome.status != 0, "length {length} was taken");
    }
    for handles in 5..8_u64 {
        let outcome = call_info(&server, label | handles << 13);
        ensure!(outcome.status != 0, "{handles} handles were taken");
    }
    alive(&server)
}

fn marks(context: &Context) -> Result<(), String> {
    let server = Server::start(context)?;
    let label = u64::from(ask::WHO) << 32;
    for mark in [
        Info::REDELIVERED,
        Info::NOTIFICATION,
        Info::CLOSED,
        Info::FAULT,
        0xff << 24,
    ] {
        let outcome = call_info(&server, label | mark);
        if outcome.status == 0 {
            // It was taken as a plain request, or the server would have ignored it for ever.
            let who = wire::call(&server.sender, ask::WHO, &[]).map_err(because("who"))?;
            ensure!(who.word(2) == 0, "mark {mark:#x} arrived");
        }
    }
    alive(&server)
}

fn handle_numbers(context: &Context) -> Result<(), String> {
    let server = Server::start(context)?;
    let own = u64::from(server.sender.raw().0);
    let wrong = [
        0,
        u64::MAX,
        0xffff,
        0xffff_ffff,
        own ^ 0x10_0000,
        own ^ 0x4000,
        own << 32,
    ];
    for number in wrong {
        for call in [
            Syscall::Call,
            Syscall::Reply,
            Syscall::Notify,
            Syscall::HandleClose,
            Syscall::MemoryInfo,
            Syscall::ProcessKill,
            Syscall::EndpointMint,
            Syscall::SystemShutdown,
            Syscall::PortIn,
            Syscall::InterruptAck,
        ] {
            let outcome = raw_call(call as u64, [number, 0, 0, 0, 0, 0]);
            let name = call.name();
            ensure!(outcome.status != 0, "{name} took handle {number:#x}");
        }
    }
    alive(&server)
}

fn pointers(context: &Context) -> Result<(), String> {
    let memory = wire::object(context, 1)?;
    let raw = u64::from(memory.raw().0);
    for address in [
        KERNEL,
        NON_CANONICAL,
        u64::MAX - 4095,
        u64::MAX,
        0x7fff_ffff_f000,
        8,
        0,
    ] {
        for (call, arguments) in [
            (Syscall::MemoryRead, [raw, 0, address, 64, 0, 0]),
            (Syscall::MemoryWrite, [raw, 0, address, 64, 0, 0]),
            (Syscall::HandleInfo, [raw, address, 0, 0, 0, 0]),
            (Syscall::MemoryInfo, [raw, address, 0, 0, 0, 0]),
            (Syscall::DebugLog, [address, 16, 0, 0, 0, 0]),
        ] {
            let outcome = raw_call(call as u64, arguments);
            let error = Error::from_code(outcome.status);
            let is_refused = matches!(error, Some(Error::BadAddress | Error::InvalidArgument));
            ensure!(
                is_refused,
                "{} with {address:#x} gives {error:?}",
                call.name()
            );
        }
    }
    Ok(())
}

fn unknown_calls(_context: &Context) -> Result<(), String> {
    for number in [84_000, 1 << 32, u64::MAX, 9, 255, 1 << 63] {
        if Syscall::from_number(number).is_some() {
            continue;
        }
        let outcome = raw_call(number, [0; 6]);
        let error = Error::from_code(outcome.status);
        ensure!(
            error == Some(Error::InvalidSyscall),
            "call {number} gives {error:?}"
        );
    }
    Ok(())
}

fn mappings(context: &Context) -> Result<(), String> {
    // An empty process of its own, so that nothing of ours is at risk.
    let target = Handle::<Process>::create("mappings", 128 << 10).map_err(because("process"))?;
    let memory = wire::object(context, 2)?;
    let both = MapFlags::WRITE | MapFlags::EXECUTE;
    for (what, address, offset, pages, flags) in [
        ("a writable and executable", REGION, 0, 1, both),
        ("a misaligned", REGION + 1, 0, 1, MapFlags::READ),
        ("a kernel", KERNEL, 0, 1, MapFlags::READ),
        ("a non-canonical", NON_CANONICAL, 0, 1, MapFlags::READ),
        ("an overflowing", u64::MAX - 4095, 0, 2, MapFlags::READ),
        ("an endless", REGION, 0, u64::MAX, MapFlags::READ),
        ("a too long", REGION, 1, 2, MapFlags::READ),
        ("an overflowing object", REGION, u64::MAX, 2, MapFlags::READ),
    ] {
        let result = target.map_one(address, &memory, offset, pages, flags);
        ensure!(result.is_err(), "{what} mapping was made");
    }
    target
        .map_one(REGION, &memory, 0, 2, MapFlags::READ)
        .map_err(because("a good mapping"))?;
    let again = target.map_one(REGION + 4096, &memory, 0, 1, MapFlags::READ);
    ensure!(
        again == Err(Error::AlreadyMapped),
        "mapping twice gives {again:?}"
    );
    target.unmap(REGION, 2).map_err(because("unmap"))?;
    target.kill(0).map_err(because("kill"))?;
    Ok(())
}

fn typed_garbage(context: &Context) -> Result<(), String> {
    let sender = context.memory().client().sender().ok_or("no sender")?;
    let mut bytes = [0_u8; 512];
    for round in 0..200_u64 {
        for (index, byte) in bytes.iter_mut().enumerate() {
            *byte = (round.wrapping_mul(0x9e37_79b9) >> (index % 24)) as u8 ^ index as u8;
        }
        // Any interface, any method; what is refused is refused in words, by a living server.
        let label = (round as u32).wrapping_mul(0x0101_0101);
        let length = round as usize * 5 % bytes.len();
        let answer = wire::call(sender, label, &bytes[..length]);
        ensure!(answer.is_ok(), "round {round}: {:?}", answer.err());
    }
    context.totals().map(|_| ())
}
