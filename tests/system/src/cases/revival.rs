//! Processes that keep their handles: dead with them, and alive again.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use libsys::abi::layout::USER_END;
use libsys::abi::{FOREVER, PAGE_SIZE, PageRun, ProcessState, ThreadParams};
use libsys::ipc;
use libsys::spawn::{Child, Spawn};
use libsys::{
    Endpoint, Error, Handle, MapFlags, Memory, Notification, Process, RawHandle, Rights, Sender,
    handle, time,
};

use super::recovery::report;
use crate::Test;
use crate::context::{Context, Running, SOON, because, ensure, own};
use crate::roles::compete;
use crate::wire::{self, ask};

pub(super) const TESTS: &[Test] = &[
    Test {
        name: "revival.requests-and-handles-outlive-their-server",
        run: heirs,
    },
    Test {
        name: "revival.news-of-closed-badges-comes-again",
        run: news,
    },
    Test {
        name: "revival.nothing-leaks-over-a-thousand-lives",
        run: thousand_lives,
    },
    Test {
        name: "revival.handles-that-nobody-can-inherit-are-closed",
        run: nobody_inherits,
    },
    Test {
        name: "revival.only-the-dead-that-kept-their-handles-are-revived",
        run: refused,
    },
    Test {
        name: "revival.of-several-that-revive-one-succeeds",
        run: rivals,
    },
    Test {
        name: "revival.watchers-go-on-watching",
        run: watchers,
    },
    Test {
        name: "revival.a-program-sees-its-own-handles",
        run: own_handles,
    },
    Test {
        name: "revival.mappings-are-told-as-they-are",
        run: mappings,
    },
];

const PAGE: u64 = PAGE_SIZE as u64;
/// Kernel memory of processes without a program, bytes.
const QUOTA: u64 = 128 << 10;
const READ_WRITE: MapFlags = MapFlags(MapFlags::READ.0 | MapFlags::WRITE.0);
/// Where pages are mapped into processes without a program.
const PLACE: u64 = 0x6000_0000;

/// Waits until a process is dead.
fn wait_dead(process: &Handle<Process>) -> Result<(), String> {
    let deadline = time::after(SOON);
    loop {
        let info = process.info().map_err(because("info"))?;
        if info.state == ProcessState::Dead as u32 {
            return Ok(());
        }
        ensure!(time::now() < deadline, "not dead in time: {info:?}");
        time::sleep(time::MS / 10);
    }
}

fn kill(process: &Handle<Process>) -> Result<(), String> {
    process.kill(1).map_err(because("kill"))?;
    wait_dead(process)
}

/// Makes a process without a program that keeps its handles.
fn empty(name: &str) -> Result<Handle<Process>, String> {
    let process = Handle::<Process>::create(name, QUOTA).map_err(because("process"))?;
    process.keep_handles().map_err(because("keep"))?;
    Ok(process)
}

/// A server whose endpoint nobody else holds, and where it reports.
struct Scene<'a> {
    context: &'a Context,
    child: Child,
    reports: Handle<Endpoint>,
    reporter: Handle<Sender>,
}

impl<'a> Scene<'a> {
    /// Starts a server, with senders to it that have badges from 1 on.
    fn start(
        context: &'a Context,
        role: &str,
        arguments: &[u64],
        badges: u64,
    ) -> Result<(Self, Vec<Handle<Sender>>), String> {
        let reports = Handle::<Endpoint>::create().map_err(because("endpoint"))?;
        let reporter = reports.mint(0).map_err(because("mint"))?;
        let endpoint = Handle::<Endpoint>::create().map_err(because("endpoint"))?;
        let senders = (1..=badges).map(|badge| endpoint.mint(badge));
        let senders = senders.collect::<Result<_, _>>().map_err(because("mint"))?;
        let spawn = context
            .role(role, arguments)
            .handle("endpoint", &endpoint, Rights::ALL)
            .handle("report", &reporter, Rights::ALL);
        let child = context.child(spawn)?;
        child.process.keep_handles().map_err(because("keep"))?;
        let scene = Scene {
            context,
            child,
            reports,
            reporter,
        };
        Ok((scene, senders))
    }

    /// Starts a program in the dead server, with the handles that the first one was told of.
    fn revive(&self, role: &str) -> Result<(), String> {
        let deadline = time::after(SOON);
        while let Err(error) = self.try_to_revive(role) {
            // The memory manager may not have heard yet that it died.
            ensure!(time::now() < deadline, "not revived in time: {error}");
            wait_dead(&self.child.process)?;
            time::sleep(5 * time::MS);
        }
        Ok(())
    }

    fn try_to_revive(&self, role: &str) -> Result<(), String> {
        let mut spawn: Spawn<'_> = self
            .context
            .role(role, &[])
            .revive(&self.child.process, self.child.own);
        for (name, number) in &self.child.handles {
            // The last life's name for its space.
            if name != "memory" {
                spawn = spawn.known(name, RawHandle(*number));
            }
        }
        self.context.child(spawn).map(drop)
    }

    fn client(&self, sender: &Handle<Sender>) -> Result<Running, String> {
        let spawn = self
            .context
            .role("client", &[ask::WHO.into()])
            .handle("server", sender, Rights::ALL)
            .handle("report", &self.reporter, Rights::ALL);
        let client = self.context.start(spawn)?;
        client.until("calling", |info| info.calls > 0 && info.calling == 1)?;
        Ok(client)
    }

    fn report(&self) -> Result<[u64; 5], String> {
        report(&self.reports)
    }
}

impl Drop for Scene<'_> {
    fn drop(&mut self) {
        // An error means that it has ended already.
        let _ = self.child.process.kill(1);
    }
}

fn heirs(context: &Context) -> Result<(), String> {
    let (scene, senders) = Scene::start(context, "holder", &[3], 4)?;
    let mut clients = Vec::new();
    let mut seen = Vec::new();
    for sender in &senders[..3] {
        clients.push(scene.client(sender)?);
        let [badge, sequence, ..] = scene.report()?;
        seen.push((badge, sequence));
    }
    let process = &scene.child.process;
    let before = process.info().map_err(because("info"))?;
    kill(process)?;
    let dead = process.info().map_err(because("info"))?;
    ensure!(
        dead.handles == before.handles && dead.threads == 0,
        "it had {} handles, dead it has {} and {} threads",
        before.handles,
        dead.handles,
        dead.threads
    );
    // One that comes while nobody lives.
    clients.push(scene.client(&senders[3])?);
    scene.revive("server")?;
    let mut answers = Vec::new();
    for _ in 0..4 {
        let [error, badge, sequence, redelivered, order] = scene.report()?;
        ensure!(error == 0, "{badge} got {:?}", Error::from_code(error));
        answers.push((order, badge, sequence, redelivered));
    }
    answers.sort_unstable();
    for (index, (_, badge, sequence, redelivered)) in answers.into_iter().enumerate() {
        let is_old = index < 3;
        ensure!(badge == index as u64 + 1, "{badge} came as number {index}");
        ensure!(
            (redelivered == 1) == is_old,
            "the mark of {badge} is {redelivered}"
        );
        let is_same = !is_old || seen[index] == (badge, sequence);
        ensure!(is_same, "{:?} became {sequence}", seen[index]);
    }
    let alive = process.info().map_err(because("info"))?;
    ensure!(
        (alive.id, alive.reason, alive.kernel_quota) == (before.id, 0, before.kernel_quota),
        "another process is alive: {alive:?}"
    );
    clients.iter().try_for_each(Running::succeed)
}

fn news(context: &Context) -> Result<(), String> {
    let (scene, mut senders) = Scene::start(context, "heir", &[], 2)?;
    let before = scene.report()?;
    drop(senders.remove(0));
    for life in 0..3 {
        let [badge, what, ..] = scene.report()?;
        ensure!(
            (badge, what) == (1, 2),
            "life {life} was told {what} of badge {badge}"
        );
        kill(&scene.child.process)?;
        scene.revive("heir")?;
        // It has a sender to its space more in each life: that is what it would have to close.
        let after = scene.report()?;
        let more = life + 1;
        ensure!(
            after[0] == before[0] + more
                && after[1] == before[1]
                && after[2] == before[2]
                && after[3] == before[3] + more,
            "life {life}: of {before:?} handles are left {after:?}"
        );
    }
    Ok(())
}

/// What may not grow.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Account {
    own_bytes: u64,
    own_handles: u32,
    bytes: u64,
    handles: u32,
    pool: u64,
    references: u64,
}

/// Gives a dead process pages and a thread that ends it.
fn live(process: &Handle<Process>, memory: &Handle<Memory>) -> Result<(), String> {
    process.revive().map_err(because("revive"))?;
    for page in 0..4 {
        // Far apart, so that each takes page tables of its own.
        let address = PLACE + (page << 30);
        process
            .map_one(address, memory, page, 1, READ_WRITE)
            .map_err(because("map"))?;
    }
    let params = ThreadParams {
        // Nothing is mapped there.
        entry: PLACE - PAGE,
        stack: PLACE + PAGE,
        argument: 0,
        control: PLACE,
        control_memory: memory.raw().0,
        control_page: 4,
    };
    process.start_thread(&params).map_err(because("thread"))?;
    wait_dead(process)
}

fn thousand_lives(context: &Context) -> Result<(), String> {
    const LIVES: u64 = 1_000;
    let process = empty("cat")?;
    let memory = wire::object(context, 8)?;
    let endpoint = Handle::<Endpoint>::create().map_err(because("endpoint"))?;
    let given = process
        .grant(&endpoint, Rights::ALL)
        .map_err(because("grant"))?;
    process
        .grant(&process, Rights::ALL)
        .map_err(because("grant"))?;
    kill(&process)?;
    let account = || -> Result<Account, String> {
        let (own, info) = (own()?, process.info().map_err(because("info"))?);
        Ok(Account {
            own_bytes: own.kernel_bytes,
            own_handles: own.handles,
            bytes: info.kernel_bytes,
            handles: info.handles,
            pool: context.kernel_stats()?.pool_used,
            references: memory.info().map_err(because("memory"))?.references,
        })
    };
    live(&process, &memory)?;
    let before = account()?;
    for life in 0..LIVES {
        live(&process, &memory)?;
        let after = account()?;
        // Others use the pool too, and children of tests before this one give back what they had.
        let same = Account {
            pool: before.pool,
            own_bytes: after.own_bytes.max(before.own_bytes),
            ..after
        };
        ensure!(same == before, "life {life}: {before:?} became {after:?}");
        let grown = after.pool.saturating_sub(before.pool);
        ensure!(grown <= 64 * PAGE, "life {life}: the pool grew by {grown}");
    }
    // The number still names the same.
    process.revive().map_err(because("revive"))?;
    let again = process
        .grant(&endpoint, Rights::ALL)
        .map_err(because("grant"))?;
    ensure!(again != given, "a kept number was given out again");
    Ok(())
}

/// Has somebody call through a sender, and tells what came of it.
fn gone(scene: &Scene<'_>, client: &Running) -> Result<(), String> {
    let error = Error::from_code(scene.report()?[0]);
    ensure!(
        error == Some(Error::EndpointGone),
        "who waited for the server that nobody can revive got {error:?}"
    );
    client.succeed()
}

fn nobody_inherits(context: &Context) -> Result<(), String> {
    let before = own()?.kernel_bytes;
    // The last handle goes when it is dead.
    {
        let (mut scene, senders) = Scene::start(context, "server", &[], 1)?;
        kill(&scene.child.process)?;
        let client = scene.client(&senders[0])?;
        let other = empty("other")?;
        scene.child.process = other;
        gone(&scene, &client)?;
    }
    // It goes while it lives: it dies later, by itself.
    {
        let (mut scene, senders) = Scene::start(context, "holder", &[1], 2)?;
        let first = scene.client(&senders[0])?;
        scene.report()?;
        let process = core::mem::replace(&mut scene.child.process, empty("other")?);
        let rival = process
            .duplicate(Rights::MANAGE)
            .map_err(because("duplicate"))?;
        drop(process);
        rival.kill(1).map_err(because("kill"))?;
        drop(rival);
        gone(&scene, &first)?;
    }
    // It never had a thread.
    drop(empty("never")?);
    let deadline = time::after(SOON);
    while own()?.kernel_bytes > before + (64 << 10) {
        ensure!(
            time::now() < deadline,
            "{} bytes are in use, before it were {before}",
            own()?.kernel_bytes
        );
        time::sleep(time::MS);
    }
    Ok(())
}

fn refused(_context: &Context) -> Result<(), String> {
    let plain = Handle::<Process>::create("plain", QUOTA).map_err(because("process"))?;
    ensure!(
        plain.revive() == Err(Error::StillAlive),
        "a live one without the mark was revived"
    );
    kill(&plain)?;
    ensure!(
        plain.revive() == Err(Error::Dead) && plain.keep_handles() == Err(Error::Dead),
        "one that had closed its handles was revived"
    );
    let kept = empty("kept")?;
    kept.keep_handles().map_err(because("marked twice"))?;
    ensure!(
        kept.revive() == Err(Error::StillAlive),
        "a live one was revived"
    );
    kept.kill(1).map_err(because("kill"))?;
    // Until it is dead there is one answer only.
    let deadline = time::after(SOON);
    loop {
        match kept.revive() {
            Ok(()) => break,
            Err(Error::StillAlive) => ensure!(time::now() < deadline, "it never dies"),
            Err(error) => return Err(format!("a dying one gives {error:?}")),
        }
    }
    let look = kept
        .duplicate(Rights::INSPECT)
        .map_err(because("duplicate"))?;
    kill(&kept)?;
    let mut runs = [PageRun::default(); 1];
    ensure!(
        look.revive() == Err(Error::MissingRight)
            && look.keep_handles() == Err(Error::MissingRight)
            && look.mappings(0, &mut runs) == Err(Error::MissingRight),
        "rights are not asked for"
    );
    let bits = Handle::<Notification>::create().map_err(because("notification"))?;
    let nothing = kept.grant(&bits, Rights::ALL).err();
    ensure!(
        nothing == Some(Error::Dead) && kept.watch(&bits) == Err(Error::Dead),
        "a dead one takes {nothing:?}"
    );
    Ok(())
}

fn rivals(context: &Context) -> Result<(), String> {
    const ROUNDS: u64 = 5_000;
    let target = empty("target")?;
    target
        .grant(&target, Rights::ALL)
        .map_err(because("grant"))?;
    kill(&target)?;
    let before = target.info().map_err(because("info"))?;
    let mut rivals = Vec::new();
    for _ in 1..context.cpus()?.clamp(2, 4) {
        let spawn = context
            .role("rival", &[ROUNDS])
            .handle("target", &target, Rights::ALL);
        rivals.push(context.start(spawn)?);
    }
    let revived = compete(&target, ROUNDS).map_err(because("revive or kill"))?;
    rivals.iter().try_for_each(Running::succeed)?;
    context.note(format!("{revived} times by this one of {ROUNDS}"));
    // It may live: the last to act may have lost both times.
    let _ = target.kill(1);
    wait_dead(&target)?;
    let after = target.info().map_err(because("info"))?;
    ensure!(
        (before.handles, before.kernel_bytes) == (after.handles, after.kernel_bytes),
        "{before:?} became {after:?}"
    );
    target.revive().map_err(because("the last time"))
}

fn watchers(_context: &Context) -> Result<(), String> {
    let bits = Handle::<Notification>::create().map_err(because("notification"))?;
    let first = bits.mint(1).map_err(because("mint"))?;
    let second = bits.mint(6).map_err(because("mint"))?;
    let process = empty("watched")?;
    for watcher in [&first, &second, &first] {
        process.watch(watcher).map_err(because("watch"))?;
    }
    let other = Handle::<Notification>::create().map_err(because("notification"))?;
    process.watch(&other).map_err(because("a second watcher"))?;
    let third = Handle::<Notification>::create().map_err(because("notification"))?;
    ensure!(
        process.watch(&third) == Err(Error::AlreadyBound),
        "a third watcher was taken"
    );
    for life in 0..3 {
        process.kill(1).map_err(because("kill"))?;
        wait_dead(&process)?;
        let told = ipc::wait(&bits, time::after(SOON)).map_err(because("no bits"))?;
        ensure!(told == 7, "life {life}: bits {told:#x} were set");
        ipc::wait(&other, time::after(SOON)).map_err(because("no bits"))?;
        process.revive().map_err(because("revive"))?;
    }
    Ok(())
}

fn own_handles(context: &Context) -> Result<(), String> {
    let memory = wire::object(context, 1)?;
    let endpoint = Handle::<Endpoint>::create().map_err(because("endpoint"))?;
    let closed = endpoint.mint(3).map_err(because("mint"))?;
    let closed_raw = closed.raw();
    drop(closed);
    let all: Vec<_> = handle::own().collect();
    let (used, known) = (own()?.handles as usize, all.len());
    ensure!(used == known, "{known} are shown, {used} are used");
    let is_rising = all.is_sorted_by_key(|(raw, _)| raw.index());
    let kind_of = |raw| all.iter().find(|entry| entry.0 == raw).map(|entry| entry.1);
    ensure!(
        is_rising
            && kind_of(memory.raw()) == Some(libsys::abi::ObjectKind::Memory)
            && kind_of(endpoint.raw()) == Some(libsys::abi::ObjectKind::Endpoint)
            && kind_of(closed_raw).is_none(),
        "they are shown wrongly: {all:?}"
    );
    let wrong = Handle::<Endpoint>::adopt(memory.raw()).err();
    ensure!(
        wrong == Some(Error::WrongKind),
        "memory was adopted as an endpoint: {wrong:?}"
    );
    let stale = Handle::<Sender>::adopt(closed_raw).err();
    ensure!(
        stale == Some(Error::InvalidHandle),
        "a closed handle was adopted: {stale:?}"
    );
    let adopted = Handle::<Memory>::adopt(memory.into_raw()).map_err(because("adopt"))?;
    adopted.info().map_err(because("the adopted handle"))?;
    Ok(())
}

/// Collects all that is mapped into a process, so many runs per call.
fn all_runs(process: &Handle<Process>, most: usize) -> Result<Vec<PageRun>, String> {
    let mut all = Vec::new();
    let mut address = 0;
    while address < USER_END {
        let mut runs = [PageRun::default(); 64];
        let (count, next) = process
            .mappings(address, &mut runs[..most])
            .map_err(because("mappings"))?;
        ensure!(
            next > address && next % PAGE == 0,
            "after {address:#x} comes {next:#x}"
        );
        all.extend_from_slice(&runs[..count]);
        address = next;
    }
    Ok(all)
}

/// The pages of runs one by one: address, physical address, flags.
fn pages(runs: &[PageRun]) -> Vec<(u64, u64, u32, u32)> {
    let each = |run: &PageRun| {
        let run = *run;
        (0..run.pages).map(move |page| {
            let bytes = page * PAGE;
            let (flags, limit) = (run.flags.0, run.limit.0);
            (run.address + bytes, run.physical + bytes, flags, limit)
        })
    };
    runs.iter().flat_map(each).collect()
}

fn mappings(context: &Context) -> Result<(), String> {
    const PAGES: u64 = 700;
    let process = empty("mapped")?;
    let time_page = all_runs(&process, 64)?;
    ensure!(
        time_page.len() == 1 && time_page[0].pages == 1,
        "an empty space has {time_page:?}"
    );
    let memory = wire::object(context, PAGES)?
        .duplicate(Rights::READ | Rights::WRITE | Rights::DUPLICATE)
        .map_err(because("duplicate"))?;
    let read_only = memory
        .duplicate(Rights::READ)
        .map_err(because("duplicate"))?;
    let map = |address, memory: &Handle<Memory>, first, count, flags| {
        process
            .map_one(address, memory, first, count, flags)
            .map_err(because("map"))
    };
    // Over the end of a page table; backwards; with other rights; far away.
    let far = USER_END - 2 * PAGE;
    map(PLACE, &memory, 0, PAGES, READ_WRITE)?;
    map(2 * PLACE, &memory, 1, 1, MapFlags::READ)?;
    map(2 * PLACE + PAGE, &memory, 0, 1, MapFlags::READ)?;
    map(2 * PLACE + 2 * PAGE, &read_only, 1, 1, MapFlags::READ)?;
    map(far, &memory, 5, 1, READ_WRITE)?;
    let runs = all_runs(&process, 64)?;
    let seen = pages(&runs);
    let info = process.info().map_err(because("info"))?;
    ensure!(
        seen.len() as u64 == PAGES + 5 && info.mapped_pages == PAGES + 5,
        "{} pages are shown, {} are mapped",
        seen.len(),
        info.mapped_pages
    );
    let start = runs[1].physical;
    let both = READ_WRITE.0;
    let expected = (0..PAGES)
        .map(|page| (PLACE + page * PAGE, start + page * PAGE, both, both))
        .chain([
            (2 * PLACE, start + PAGE, 1, both),
            (2 * PLACE + PAGE, start, 1, both),
            (2 * PLACE + 2 * PAGE, start + PAGE, 1, 1),
            (far, start + 5 * PAGE, both, both),
        ]);
    let expected: Vec<_> = expected.collect();
    ensure!(seen[1..] == expected[..], "{runs:x?} are shown");
    ensure!(runs.len() == 6, "{} runs instead of 6", runs.len());
    for most in [1, 2, 5] {
        let few = pages(&all_runs(&process, most)?);
        ensure!(few == seen, "{most} at a time something else is shown");
    }
    bad_places(&process)?;
    process.revive().map_err(because("revive"))?;
    let again = all_runs(&process, 64)?;
    ensure!(again == time_page, "a revived one has {again:?}");
    Ok(())
}

/// Asks for mappings where there are none to tell, and kills the process.
fn bad_places(process: &Handle<Process>) -> Result<(), String> {
    let mut runs = [PageRun::default(); 1];
    ensure!(
        process.mappings(PLACE + 1, &mut runs) == Err(Error::InvalidArgument)
            && process.mappings(FOREVER - PAGE + 1, &mut runs) == Err(Error::InvalidArgument),
        "bad addresses are taken"
    );
    kill(process)?;
    ensure!(
        process.mappings(0, &mut runs) == Err(Error::Dead),
        "a dead one has mappings"
    );
    Ok(())
}
