//! Looking into other processes and changing them, and the kernel's counts of what there is.

use alloc::format;
use alloc::string::String;

use libsys::abi::layout::TIME_PAGE;
use libsys::abi::{ExitReason, KernelStats, MAX_PEEK_BYTES, PAGE_SIZE, Syscall};
use libsys::{Endpoint, Error, Handle, MapFlags, Memory, Notification, Process, Rights, time};

use crate::Test;
use crate::context::{Context, SOON, because, ensure};
use crate::{raw, wire};

pub(super) const TESTS: &[Test] = &[
    Test {
        name: "debug.memory-is-read-and-written-whatever-its-pages-allow",
        run: peek_and_poke,
    },
    Test {
        name: "debug.only-memory-that-is-there-is-reached",
        run: nowhere,
    },
    Test {
        name: "debug.only-who-has-the-right-reaches-others",
        run: rights,
    },
    Test {
        name: "debug.a-process-is-opened-by-its-number",
        run: open,
    },
    Test {
        name: "debug.counts-are-exact",
        run: counts,
    },
];

const PAGE: u64 = PAGE_SIZE as u64;
const PLACE: u64 = 0x6000_0000;

/// Makes a process with two pages of an object, the second one read only, in reverse order.
fn target(memory: &Handle<Memory>) -> Result<Handle<Process>, String> {
    let process = Handle::<Process>::create("target", 128 << 10).map_err(because("process"))?;
    let both = MapFlags::READ | MapFlags::WRITE;
    let mapped = process.map_one(PLACE, memory, 1, 1, both);
    mapped.map_err(because("map"))?;
    let mapped = process.map_one(PLACE + PAGE, memory, 0, 1, MapFlags::READ);
    mapped.map_err(because("map"))?;
    Ok(process)
}

fn peek_and_poke(context: &Context) -> Result<(), String> {
    let memory = wire::object(context, 2)?;
    let process = target(&memory)?;
    let system = context.system();
    let bytes: [u8; 6001] = core::array::from_fn(|index| (index * 7 + index / 256) as u8);
    // Over the border between the pages, in several calls.
    let start = PLACE + 1000;
    let poked = system.poke(&process, start, &bytes);
    poked.map_err(because("poke"))?;
    let mut back = [0; 6001];
    let peeked = system.peek(&process, start, &mut back);
    peeked.map_err(because("peek"))?;
    ensure!(back == bytes, "other bytes come back");
    let read = memory.read(PAGE + 1000, &mut back[..3096]);
    read.map_err(because("read"))?;
    let read = memory.read(0, &mut back[3096..]);
    read.map_err(because("read"))?;
    ensure!(back == bytes, "other bytes are in the memory");
    process.kill(0).map_err(because("kill"))
}

fn nowhere(context: &Context) -> Result<(), String> {
    let memory = wire::object(context, 2)?;
    let process = target(&memory)?;
    let system = context.system();
    let mut byte = [0x5a];
    for address in [
        PLACE - 1,
        PLACE + 2 * PAGE,
        0,
        u64::MAX,
        1 << 47,
        0xffff_8000_0000_0000,
    ] {
        let (read, written) = (
            system.peek(&process, address, &mut byte),
            system.poke(&process, address, &byte),
        );
        ensure!(
            (read, written) == (Err(Error::BadAddress), Err(Error::BadAddress)),
            "{address:#x} gives {read:?}, {written:?}"
        );
    }
    // The last byte before what is not mapped is written, and nothing behind it.
    let end = PLACE + 2 * PAGE - 1;
    let over = system.poke(&process, end, &[1, 2]);
    ensure!(over == Err(Error::BadAddress), "over the end: {over:?}");
    let peeked = system.peek(&process, TIME_PAGE, &mut byte);
    peeked.map_err(because("the time page"))?;
    for address in [TIME_PAGE, TIME_PAGE - 1, TIME_PAGE + PAGE - 1] {
        let written = system.poke(&process, address, &[0; 2]);
        ensure!(
            written == Err(Error::BadAddress),
            "the time page was written: {written:?}"
        );
    }
    let arguments = [
        system.raw().0.into(),
        process.raw().0.into(),
        PLACE,
        byte.as_ptr() as u64,
        MAX_PEEK_BYTES + 1,
        0,
    ];
    // SAFETY: the call is refused, or reads.
    let long = unsafe { raw::syscall(Syscall::ProcessPoke as u64, arguments) };
    ensure!(
        long.status == Error::InvalidArgument.code(),
        "too many bytes give {long:?}"
    );
    process.kill(0).map_err(because("kill"))?;
    let dead = system.peek(&process, PLACE, &mut byte);
    ensure!(dead == Err(Error::Dead), "a dead one gives {dead:?}");
    Ok(())
}

fn rights(context: &Context) -> Result<(), String> {
    let memory = wire::object(context, 2)?;
    let process = target(&memory)?;
    let duplicate = context.system().duplicate(Rights::INSPECT);
    let looker = duplicate.map_err(because("duplicate"))?;
    let duplicate = process.duplicate(Rights::INSPECT);
    let look = duplicate.map_err(because("duplicate"))?;
    let mut byte = [0];
    let missing = Err(Error::MissingRight);
    let number = process.info().map_err(because("info"))?.id;
    ensure!(
        looker.open_process(number).err() == Some(Error::MissingRight)
            && looker.peek(&process, PLACE, &mut byte) == missing
            && looker.poke(&process, PLACE, &byte) == missing
            && context.system().peek(&look, PLACE, &mut byte) == missing
            && context.system().poke(&look, PLACE, &byte) == missing,
        "rights are not asked for"
    );
    process.kill(0).map_err(because("kill"))
}

fn open(context: &Context) -> Result<(), String> {
    let system = context.system();
    let child = context.start(context.role("holder", &[0]))?;
    let number = child.info()?.id;
    let opened = system.open_process(number).map_err(because("open"))?;
    let info = opened.info().map_err(because("info"))?;
    ensure!(info.id == number, "{} was opened", info.id);
    opened.kill(77).map_err(because("kill"))?;
    let end = child.end()?;
    let is_killed = end.reason == ExitReason::Killed as u32 && end.code == 77;
    ensure!(is_killed, "it ended by {}", crate::context::ending(&end));
    // As long as somebody has a handle it can be opened.
    drop(child);
    drop(
        system
            .open_process(number)
            .map_err(because("open a dead one"))?,
    );
    drop(opened);
    for number in [0, number, u64::MAX] {
        let deadline = time::after(SOON);
        loop {
            match system.open_process(number).map(drop) {
                Err(Error::Unavailable) => break,
                // The memory manager may have a handle to it for a while.
                Ok(()) => time::sleep(time::MS),
                Err(error) => return Err(format!("process {number} gives {error}")),
            }
            ensure!(time::now() < deadline, "process {number} is still there");
        }
    }
    Ok(())
}

/// What changes by the objects of [`counts`].
fn counted(stats: &KernelStats) -> [u64; 8] {
    [
        stats.handles,
        stats.processes,
        stats.threads,
        stats.endpoints,
        stats.senders,
        stats.notifications,
        stats.memories,
        stats.mappings,
    ]
}

fn counts(context: &Context) -> Result<(), String> {
    let memory = wire::object(context, 2)?;
    let deadline = time::after(SOON);
    // Others make and close things now and then: sometimes they do not.
    loop {
        let before = counted(&context.kernel_stats()?);
        let process = target(&memory)?;
        let endpoint = Handle::<Endpoint>::create().map_err(because("endpoint"))?;
        let senders = [(); 2].map(|()| endpoint.mint(1));
        let notification = Handle::<Notification>::create().map_err(because("notification"))?;
        let slice = memory.slice(0, 1).map_err(because("slice"))?;
        let during = counted(&context.kernel_stats()?);
        process.kill(0).map_err(because("kill"))?;
        while process.info().map_err(because("info"))?.state != 2 {
            time::sleep(time::MS);
        }
        drop((process, senders, endpoint, notification, slice));
        let after = counted(&context.kernel_stats()?);
        let more: [u64; 8] =
            core::array::from_fn(|index| during[index].wrapping_sub(before[index]));
        if more == [6, 1, 0, 1, 2, 1, 1, 2] && after == before {
            return Ok(());
        }
        ensure!(
            time::now() < deadline,
            "{before:?} became {during:?}, then {after:?}"
        );
    }
}
