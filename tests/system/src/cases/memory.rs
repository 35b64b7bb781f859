//! Demand paging, protection, sharing, and that frames come back.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use libipc::Failure;
use libipc::proto::memory::{MemoryError, Protection};
use libsys::{Error, Handle, MapFlags, Process, Rights, time};

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
        name: "memory.a-slice-keeps-what-it-is-cut-from",
        run: slices,
    },
    Test {
        name: "memory.a-range-is-mapped-as-a-whole-or-not-at-all",
        run: all_or_nothing,
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

/// Waits until the memory manager has looked at all objects and freed one that nobody uses.
fn unused_are_freed(context: &Context) -> Result<(), String> {
    let unused = wire::object(context, 1)?;
    let count = context.totals()?.object_count;
    drop(unused);
    let deadline = time::after(SOON);
    while context.totals()?.object_count >= count {
        ensure!(
            time::now() < deadline,
            "an object that nobody uses is not freed"
        );
        time::sleep(10 * time::MS);
    }
    Ok(())
}

fn slices(context: &Context) -> Result<(), String> {
    const PAGES: u64 = 8;
    let before = context.totals()?;
    let whole = wire::object(context, PAGES)?;
    let part = whole.slice(2, 4).map_err(because("slice"))?;
    let small = part.slice(1, 2).map_err(because("slice of a slice"))?;
    let mine = [0x5a; 2 * 4096];
    small.write(0, &mine).map_err(because("write"))?;
    drop(whole);
    drop(part);
    unused_are_freed(context)?;
    // Were the pages free, these would get them.
    let others: Result<Vec<_>, String> = (0..64).map(|_| wire::object(context, PAGES)).collect();
    for other in &others? {
        other
            .write(0, &[0xc3; PAGES as usize * 4096])
            .map_err(because("write"))?;
    }
    let mut now = [0; 2 * 4096];
    small.read(0, &mut now).map_err(because("read"))?;
    ensure!(now == mine, "what was in the slice is gone");
    drop(small);
    frames_return(context, before.free)
}

fn all_or_nothing(context: &Context) -> Result<(), String> {
    const PAGES: u64 = 8;
    const TAKEN: u64 = 5;
    let memory = wire::object(context, PAGES)?;
    let space = Handle::<Process>::create("space", 128 << 10).map_err(because("process"))?;
    let at = |page| REGION + page * 4096;
    let map = |page, pages, flags| space.map_one(at(page), &memory, 0, pages, flags);
    map(TAKEN, 1, MapFlags::READ).map_err(because("map"))?;
    let before = space.info().map_err(because("info"))?.mapped_pages;
    let references = memory.info().map_err(because("info"))?.references;
    let error = map(0, PAGES, MapFlags::READ | MapFlags::WRITE).err();
    ensure!(
        error == Some(Error::AlreadyMapped),
        "mapping over another gives {error:?}"
    );
    let after = space.info().map_err(because("info"))?.mapped_pages;
    ensure!(after == before, "{after} pages are mapped, not {before}");
    let now = memory.info().map_err(because("info"))?.references;
    ensure!(
        now == references,
        "the object has {now} references, had {references}"
    );
    // Each page but the one in the way is free.
    for page in (0..PAGES).filter(|&page| page != TAKEN) {
        map(page, 1, MapFlags::READ)
            .map_err(|error| format!("page {page} is not free: {error}"))?;
    }
    let error = map(TAKEN, 1, MapFlags::READ).err();
    ensure!(
        error == Some(Error::AlreadyMapped),
        "the page in the way is gone: {error:?}"
    );
    space.kill(0).map_err(because("kill"))
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
