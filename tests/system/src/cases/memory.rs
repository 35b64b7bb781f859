//! Demand paging, protection, sharing, and that frames come back.

use alloc::format;
use alloc::string::String;

use libipc::Failure;
use libipc::proto::memory::{MemoryError, Protection};
use libsys::{MapFlags, Rights, time};

use crate::Test;
use crate::context::{Context, SOON, because, ensure, expect_fault};
use crate::roles::{CHILD_WORD, REGION, SHARED_WORD};
use crate::wire;

pub(super) const TESTS: &[Test] = &[
    Test {
        name: "memory.pages-come-on-touch-and-go-back",
        run: touch,
    },
    Test {
        name: "memory.any-order-of-touches-works",
        run: orders,
    },
    Test {
        name: "memory.threads-touch-the-same-pages",
        run: threads,
    },
    Test {
        name: "memory.unmapped-pages-are-gone",
        run: unmapped,
    },
    Test {
        name: "memory.protected-pages-are-not-written",
        run: protected,
    },
    Test {
        name: "memory.objects-are-shared-as-far-as-rights-go",
        run: shared,
    },
    Test {
        name: "memory.objects-that-nobody-uses-are-freed",
        run: objects,
    },
    Test {
        name: "memory.bad-requests-get-clear-errors",
        run: bad_requests,
    },
];

const PAGE_FAULT: u64 = 14;
/// Pages by which the free memory may differ because of others.
const SLACK: u64 = 256;

/// Waits until as many pages are free again as before, but for a few that others may have taken.
fn frames_return(context: &Context, before: u64) -> Result<(), String> {
    let deadline = time::after(SOON);
    loop {
        let free = context.totals()?.free;
        if free + SLACK >= before {
            return Ok(());
        }
        ensure!(
            time::now() < deadline,
            "{free} pages are free, before it were {before}"
        );
        time::sleep(10 * time::MS);
    }
}

fn touch(context: &Context) -> Result<(), String> {
    const PAGES: u64 = (32 << 20) / 4096;
    let before = context.totals()?;
    let room = before.free > PAGES + 2 * SLACK;
    ensure!(room, "the machine has too little memory for this test");
    let end = {
        let child = context.start(context.role("touch", &[PAGES, 0]))?;
        child.end()?
    };
    crate::context::expect_exit(&end, 0)?;
    let faults = end.faults;
    context.note(format!("{PAGES} pages came with {faults} faults"));
    ensure!(
        faults < PAGES,
        "touching in sequence took a fault for each page"
    );
    frames_return(context, before.free)
}

fn orders(context: &Context) -> Result<(), String> {
    let before = context.totals()?;
    for order in [1, 2] {
        let end = context.run("touch", &[1024, order])?;
        crate::context::expect_exit(&end, 0).map_err(|why| format!("order {order}: {why}"))?;
    }
    frames_return(context, before.free)
}

fn threads(context: &Context) -> Result<(), String> {
    context.start(context.role("threads", &[]))?.succeed()
}

fn unmapped(context: &Context) -> Result<(), String> {
    let end = context.run("after-unmap", &[])?;
    expect_fault(&end, PAGE_FAULT)?;
    let at = end.fault_address;
    ensure!(at == REGION + 3 * 4096, "address {at:#x} is reported");
    Ok(())
}

fn protected(context: &Context) -> Result<(), String> {
    expect_fault(&context.run("after-protect", &[])?, PAGE_FAULT)
}

fn shared(context: &Context) -> Result<(), String> {
    let memory = wire::object(context, 2)?;
    let mut word = [0xff; 8];
    memory.read(4096, &mut word).map_err(because("read"))?;
    ensure!(word == [0; 8], "a fresh object is not zero");
    memory
        .write(0, &SHARED_WORD.to_le_bytes())
        .map_err(because("write"))?;

    let spawn = context
        .role("share", &[0])
        .handle("shared", &memory, Rights::READ);
    context
        .start(spawn)?
        .succeed()
        .map_err(|why| format!("reader: {why}"))?;
    let both = Rights::READ | Rights::WRITE;
    let spawn = context.role("share", &[1]).handle("shared", &memory, both);
    context
        .start(spawn)?
        .succeed()
        .map_err(|why| format!("writer: {why}"))?;
    memory
        .read(CHILD_WORD, &mut word)
        .map_err(because("read"))?;
    let value = u64::from_le_bytes(word);
    ensure!(value == !SHARED_WORD, "the child's word is {value:#x}");
    Ok(())
}

fn objects(context: &Context) -> Result<(), String> {
    let before = context.totals()?;
    let large = wire::object(context, 512)?;
    let with = context.totals()?;
    let grown = with.objects - before.objects.min(with.objects);
    ensure!(
        grown >= 512,
        "an object of 512 pages makes {grown} pages of objects"
    );
    let info = large.info().map_err(because("info"))?;
    let is_physical = info.physical != u64::MAX && info.pages == 512;
    ensure!(is_physical, "its place for DMA is not told: {info:?}");
    // A child that maps it and dies must not keep it.
    large
        .write(0, &SHARED_WORD.to_le_bytes())
        .map_err(because("write"))?;
    let spawn = context
        .role("share", &[0])
        .handle("shared", &large, Rights::READ);
    context.start(spawn)?.succeed()?;
    drop(large);
    frames_return(context, before.free)
}

fn bad_requests(context: &Context) -> Result<(), String> {
    let memory = context.memory();
    let map = |address, pages| {
        memory
            .map_anonymous(address, pages, Protection::ReadWrite)
            .err()
    };
    for (address, pages, error) in [
        (REGION + 1, 1, MemoryError::BadRange),
        (0, 1, MemoryError::BadRange),
        (REGION, 0, MemoryError::BadRange),
        (REGION, u64::MAX, MemoryError::BadRange),
        (u64::MAX - 4095, 1, MemoryError::BadRange),
        (0xffff_8000_0000_0000, 1, MemoryError::BadRange),
        (libsys::abi::layout::HEAP, 1, MemoryError::Overlap),
    ] {
        let result = map(address, pages);
        let expected = Some(Failure::Server(error));
        ensure!(
            result == expected,
            "{address:#x} for {pages} pages: {result:?}"
        );
    }
    let result = memory.unmap(REGION, 1).err();
    ensure!(
        result == Some(Failure::Server(MemoryError::NotMapped)),
        "unmap: {result:?}"
    );
    let result = memory.protect(REGION, 1, Protection::Read).err();
    ensure!(
        result == Some(Failure::Server(MemoryError::NotMapped)),
        "protect: {result:?}"
    );
    let result = memory.create_object(1 << 40).err();
    ensure!(
        result == Some(Failure::Server(MemoryError::BadRange)),
        "object: {result:?}"
    );

    // Memory that must not be written cannot be mapped behind the manager's back either.
    let object = wire::object(context, 1)?;
    let read = object
        .duplicate(Rights::READ)
        .map_err(because("duplicate"))?;
    let mapping = libsys::mappings::Mapping::map(&read, MapFlags::READ | MapFlags::WRITE);
    ensure!(mapping.is_err(), "a read-only object was mapped writable");
    Ok(())
}
