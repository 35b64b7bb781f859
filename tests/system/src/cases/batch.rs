//! Batches: many calls in one crossing do what they do one by one, no more and no less.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use libsys::abi::{BatchEntry, MAX_BATCH, PAGE_SIZE, Syscall};
use libsys::batch::Batch;
use libsys::{Endpoint, Error, Handle, Memory, Notification, Process, Rights, ipc, time};

use crate::Test;
use crate::context::{Context, SOON, because, ending, ensure, own};
use crate::raw::{self, Outcome};
use crate::wire;

pub(super) const TESTS: &[Test] = &[
    Test {
        name: "batch.each-operation-gives-what-the-call-gives",
        run: same,
    },
    Test {
        name: "batch.long-ones-go-on-in-the-next-crossing",
        run: long,
    },
    Test {
        name: "batch.the-first-failure-ends-it",
        run: failure,
    },
    Test {
        name: "batch.results-that-nobody-takes-are-closed",
        run: untaken,
    },
    Test {
        name: "batch.calls-that-wait-or-end-are-refused",
        run: refused,
    },
    Test {
        name: "batch.too-many-entries-are-refused",
        run: too_many,
    },
    Test {
        name: "batch.long-work-is-cut",
        run: cut,
    },
    Test {
        name: "batch.a-quota-that-runs-out-ends-it",
        run: quota,
    },
    Test {
        name: "batch.a-page-that-changes-meanwhile-harms-nobody",
        run: race,
    },
    Test {
        name: "batch.nothing-is-done-after-its-process-is-killed",
        run: death,
    },
];

fn entry<const N: usize>(call: Syscall, arguments: [u64; N]) -> BatchEntry {
    let mut entry = BatchEntry {
        call: call as u64,
        ..BatchEntry::default()
    };
    entry.arguments[..N].copy_from_slice(&arguments);
    entry
}

/// Makes these entries, which may be made twice: a batch whose time is up half-way begins again.
fn make_whole(entries: &[BatchEntry]) -> Outcome {
    let count = entries.len() as u64;
    loop {
        let outcome = make(entries, count);
        let is_cut = (outcome.status, outcome.second) == (0, 0) && outcome.first < count;
        if !is_cut {
            return outcome;
        }
    }
}

/// Makes a batch of `count` entries, of which these are the first.
fn make(entries: &[BatchEntry], count: u64) -> Outcome {
    let words = entries.iter().flat_map(|entry| {
        let mut words = [entry.call; 7];
        words[1..].copy_from_slice(&entry.arguments);
        words
    });
    wire::put_words(&words.collect::<Vec<u64>>());
    // SAFETY: the calls in the entries harm no memory that is in use, as each test sees to; the
    // results go to the IPC page, to which no reference lives.
    unsafe { raw::syscall(Syscall::Batch as u64, [count, 0, 0, 0, 0, 0]) }
}

/// Returns the words of an entry as they are in the page now.
fn words_of(position: usize) -> [u64; 7] {
    ipc::with_page(|page| core::array::from_fn(|at| wire::word(page, position * 7 + at)))
}

fn notification() -> Result<Handle<Notification>, String> {
    Handle::<Notification>::create().map_err(because("notification"))
}

/// Takes the bits of a notification, none if there are none.
fn bits(notification: &Handle<Notification>) -> Result<u64, String> {
    match ipc::wait(notification, 0) {
        Ok(bits) => Ok(bits),
        Err(Error::WouldBlock) => Ok(0),
        Err(error) => Err(format!("wait: {error}")),
    }
}

fn same(context: &Context) -> Result<(), String> {
    let memory = wire::object(context, 2)?;
    same_handles(&memory)?;
    same_processes(&memory)?;
    same_mappings(&memory)
}

fn same_handles(memory: &Handle<Memory>) -> Result<(), String> {
    let endpoint = Handle::<Endpoint>::create().map_err(because("endpoint"))?;
    let bell = notification()?;
    let third = bell.mint(0b100).map_err(because("mint"))?;
    let mut batch = Batch::with_capacity(3);
    let sender = batch.mint(&endpoint, 77);
    let copy = batch.duplicate(memory, Rights::READ);
    batch.notify(&third);
    let mut done = batch.run();
    done.check().map_err(because("batch"))?;
    let sender = done.take(sender).map_err(because("sender"))?;
    let copy = done.take(copy).map_err(because("copy"))?;
    drop(done);

    let single = endpoint.mint(77).map_err(because("mint"))?;
    let (ours, theirs) = (single.handle_info(), sender.handle_info());
    ensure!(ours.is_ok() && ours == theirs, "{theirs:?}, not {ours:?}");
    let single = memory
        .duplicate(Rights::READ)
        .map_err(because("duplicate"))?;
    let (ours, theirs) = (single.handle_info(), copy.handle_info());
    ensure!(ours.is_ok() && ours == theirs, "{theirs:?}, not {ours:?}");
    let bits = bits(&bell)?;
    ensure!(bits == 0b100, "bits {bits:#b} came");
    let closed = make(&[entry(Syscall::HandleClose, [copy.raw().0.into()])], 1);
    ensure!((closed.status, closed.first) == (0, 1), "{closed:?}");
    let error = copy.handle_info().err();
    let _ = copy.into_raw();
    ensure!(
        error == Some(Error::InvalidHandle),
        "a closed handle: {error:?}"
    );
    Ok(())
}

fn same_processes(memory: &Handle<Memory>) -> Result<(), String> {
    let bell = notification()?;
    let process = Handle::<Process>::create("batch", 64 << 10).map_err(because("no process"))?;
    let single = process
        .grant(memory, Rights::READ)
        .map_err(because("grant"))?;
    let mut info = process.info().map_err(because("info"))?;
    info.id = 0;
    let mut batch = Batch::with_capacity(3);
    batch.watch(&process, &bell);
    let granted = batch.grant(&process, memory.raw(), Rights::READ);
    batch.info(&process, &mut info);
    let done = batch.run();
    done.check().map_err(because("batch"))?;
    let number = done.value(granted).map_err(because("granted"))?;
    ensure!(
        number as u16 == single.0 as u16 + 1,
        "number {number:#x} behind {single:?}"
    );
    let seen = process.info().map_err(because("info"))?;
    ensure!(info == seen && seen.handles == 2, "{info:?}, not {seen:?}");
    process.kill(0).map_err(because("kill"))?;
    let bits = ipc::wait(&bell, time::after(SOON)).map_err(because("not watched"))?;
    ensure!(bits == u64::MAX, "the watcher has bits {bits:#x}");
    Ok(())
}

#[cfg(bare)]
fn same_mappings(memory: &Handle<Memory>) -> Result<(), String> {
    use libsys::MapFlags;
    use libsys::mappings::Reservation;

    let place = Reservation::new(2).map_err(because("no room"))?;
    let (first, second) = (place.address(), place.address() + PAGE_SIZE as u64);
    let process = libsys::startup::process();
    let both = MapFlags::READ | MapFlags::WRITE;
    process
        .map_one(first, memory, 0, 1, both)
        .map_err(because("map"))?;
    process
        .map_one(second, memory, 1, 1, both)
        .map_err(because("map"))?;
    let mut batch = Batch::with_capacity(2);
    batch.unmap(&process, first, 1);
    batch.protect(&process, second, 1, MapFlags::READ);
    batch.run().check().map_err(because("batch"))?;
    // The one can be mapped again, the other can be read but not written.
    process
        .map_one(first, memory, 0, 1, both)
        .map_err(because("not unmapped"))?;
    memory
        .write(PAGE_SIZE as u64, &[7])
        .map_err(because("write"))?;
    let mut byte = [0];
    let arguments = [memory.raw().0.into(), 0, second, 1, 0, 0];
    // SAFETY: the page is mapped here and used by nobody else.
    let read = unsafe { raw::syscall(Syscall::MemoryRead as u64, arguments) };
    memory
        .read(PAGE_SIZE as u64, &mut byte)
        .map_err(because("read"))?;
    ensure!(
        read.status == Error::BadAddress.code() && byte == [7],
        "a page that was protected was written: {read:?}"
    );
    let mut batch = Batch::with_capacity(2);
    batch.unmap(&process, first, 1);
    batch.unmap(&process, second, 1);
    batch.run().check().map_err(because("unmap"))
}

#[cfg(not(bare))]
fn same_mappings(_memory: &Handle<Memory>) -> Result<(), String> {
    Err("not in the system".into())
}

fn long(_context: &Context) -> Result<(), String> {
    const COUNT: usize = 3 * MAX_BATCH + 5;
    let before = own()?.handles;
    let endpoint = Handle::<Endpoint>::create().map_err(because("endpoint"))?;
    let mut batch = Batch::with_capacity(COUNT);
    let tickets: Vec<_> = (0..COUNT as u64)
        .map(|badge| batch.mint(&endpoint, badge))
        .collect();
    let mut done = batch.run();
    done.check().map_err(because("batch"))?;
    for (badge, ticket) in tickets.into_iter().enumerate() {
        let sender = done.take(ticket).map_err(because("sender"))?;
        let info = sender.handle_info().map_err(because("info"))?;
        ensure!(info.badge == badge as u64, "{badge} has {info:?}");
    }
    drop((done, endpoint));
    let after = own()?.handles;
    ensure!(after == before, "{after} handles are open, not {before}");
    Ok(())
}

fn failure(_context: &Context) -> Result<(), String> {
    let bell = notification()?;
    let [first, third] = [0b1, 0b100].map(|bits| bell.mint(bits));
    let first = first.map_err(because("mint"))?;
    let third = third.map_err(because("mint"))?;
    let entries = [
        entry(Syscall::Notify, [first.raw().0.into()]),
        entry(Syscall::HandleClose, [0x7fff_ffff]),
        entry(Syscall::Notify, [third.raw().0.into()]),
    ];
    let outcome = make_whole(&entries);
    let expected = Outcome {
        status: 0,
        first: 1,
        second: Error::InvalidHandle.code(),
    };
    ensure!(outcome == expected, "{outcome:?}, not {expected:?}");
    ensure!(
        words_of(2)[..2] == [Syscall::Notify as u64, third.raw().0.into()],
        "an entry that was not made was written to"
    );
    let bits = bits(&bell)?;
    ensure!(bits == 0b1, "bits {bits:#b} were set");

    let mut batch = Batch::with_capacity(3);
    batch.notify(&first);
    let copy = batch.duplicate(&first, Rights::ALL);
    let wrong = Handle::<Notification>::from_raw(libsys::RawHandle(0x7fff_ffff));
    let position = batch.notify(&wrong);
    let last = batch.duplicate(&third, Rights::ALL);
    let mut done = batch.run();
    let _ = wrong.into_raw();
    let failure = done.failure();
    ensure!(
        failure == Some((position, Error::InvalidHandle)),
        "failure {failure:?}"
    );
    done.take(copy).map_err(because("one before the failure"))?;
    let error = done.take(last).err();
    ensure!(
        error == Some(Error::InvalidHandle),
        "one behind the failure: {error:?}"
    );
    Ok(())
}

fn untaken(_context: &Context) -> Result<(), String> {
    let bell = notification()?;
    let before = own()?.handles;
    let mut batch = Batch::with_capacity(2);
    let kept = batch.duplicate(&bell, Rights::ALL);
    let _left = batch.duplicate(&bell, Rights::ALL);
    let mut done = batch.run();
    done.check().map_err(because("batch"))?;
    let kept = done.take(kept).map_err(because("handle"))?;
    drop(done);
    let after = own()?.handles;
    ensure!(
        after == before + 1,
        "{after} handles are open, it were {before}"
    );
    drop(kept);
    Ok(())
}

fn refused(_context: &Context) -> Result<(), String> {
    let bell = notification()?;
    let handle = bell.raw().0.into();
    let calls = [
        Syscall::Call,
        Syscall::ReplyReceive,
        Syscall::Receive,
        Syscall::Reply,
        Syscall::Wait,
        Syscall::Batch,
        Syscall::ProcessExit,
        Syscall::ThreadExit,
        Syscall::ThreadYield,
    ];
    let numbers = calls.map(|call| call as u64);
    let unknown = [9, 0xffff, 1 << 32 | Syscall::Null as u64, u64::MAX];
    for call in numbers.into_iter().chain(unknown) {
        let second = BatchEntry {
            call,
            arguments: [handle; 6],
        };
        let entries = [entry(Syscall::Notify, [handle]), second];
        let outcome = make_whole(&entries);
        let expected = Outcome {
            status: 0,
            first: 1,
            second: Error::InvalidSyscall.code(),
        };
        ensure!(outcome == expected, "{call}: {outcome:?}");
        ensure!(bits(&bell)? == u64::MAX, "{call}: the one before was lost");
    }
    Ok(())
}

fn too_many(_context: &Context) -> Result<(), String> {
    let bell = notification()?;
    let entries = [entry(Syscall::Notify, [bell.raw().0.into()]); MAX_BATCH];
    for count in [MAX_BATCH as u64 + 1, 1 << 32, u64::MAX] {
        let outcome = make(&entries, count);
        ensure!(
            outcome.status == Error::InvalidArgument.code(),
            "{count}: {outcome:?}"
        );
    }
    let bits = bits(&bell)?;
    ensure!(bits == 0, "bits {bits:#x} were set");
    let none = make(&entries, 0);
    ensure!(
        (none.status, none.first, none.second) == (0, 0, 0),
        "{none:?}"
    );
    let all = make(&entries, MAX_BATCH as u64);
    ensure!((all.status, all.second) == (0, 0), "{all:?}");
    Ok(())
}

fn cut(context: &Context) -> Result<(), String> {
    const BYTES: u64 = 64 << 10;
    let memory = wire::object(context, BYTES / PAGE_SIZE as u64)?;
    let zero = entry(Syscall::MemoryZero, [memory.raw().0.into(), 0, BYTES]);
    let outcome = make(&[zero; MAX_BATCH], MAX_BATCH as u64);
    ensure!((outcome.status, outcome.second) == (0, 0), "{outcome:?}");
    let made = outcome.first;
    ensure!(
        (1..MAX_BATCH as u64).contains(&made),
        "{made} calls of {BYTES} bytes each were made without a break"
    );
    context.note(format!("{made} of {MAX_BATCH} calls were made"));
    Ok(())
}

fn quota(context: &Context) -> Result<(), String> {
    context.start(context.role("batch-quota", &[]))?.succeed()
}

fn race(context: &Context) -> Result<(), String> {
    let bell = notification()?;
    let before = own()?.kernel_bytes;
    let spawn = context
        .role("batch-race", &[])
        .handle("bits", &bell, Rights::ALL);
    context.start(spawn)?.succeed()?;
    let after = own()?.kernel_bytes;
    ensure!(
        after <= before + PAGE_SIZE as u64,
        "{after} bytes of kernel memory are in use, it were {before}"
    );
    Ok(())
}

fn death(context: &Context) -> Result<(), String> {
    let bell = notification()?;
    let spawn = context
        .role("batch-death", &[])
        .handle("bits", &bell, Rights::ALL);
    let end = context.start(spawn)?.end()?;
    ensure!(
        end.reason == libsys::abi::ExitReason::Killed as u32,
        "it ended with {}",
        ending(&end)
    );
    let bits = bits(&bell)?;
    ensure!(bits == 0, "bits {bits:#x} were set after the end");
    Ok(())
}
