//! Endpoints outlive their servers: requests come back, in order, marked, and not for ever.

use alloc::string::String;
use alloc::vec::Vec;

use libsys::ipc::{self, Outgoing, Received};
use libsys::{Endpoint, Error, Handle, Rights, Sender, time};

use crate::Test;
use crate::context::{Context, Running, SOON, because, ending, ensure, expect_exit};
use crate::wire::{self, ask};

pub(super) const TESTS: &[Test] = &[
    Test {
        name: "recovery.requests-come-back-in-order-and-marked",
        run: redelivery,
    },
    Test {
        name: "recovery.a-waiting-server-that-dies-loses-nothing",
        run: waiting_server,
    },
    Test {
        name: "recovery.a-request-that-kills-its-servers-is-given-up",
        run: poison,
    },
    Test {
        name: "recovery.an-orderly-end-is-no-crash",
        run: orderly_end,
    },
    Test {
        name: "recovery.a-panic-is-a-crash",
        run: panic,
    },
    Test {
        name: "recovery.handles-in-a-request-survive-its-server",
        run: handles,
    },
    Test {
        name: "recovery.news-of-closed-badges-survives-its-server",
        run: closed_badge,
    },
];

/// An endpoint with clients, and where they report what came of their requests.
struct Scene<'a> {
    context: &'a Context,
    endpoint: Handle<Endpoint>,
    reports: Handle<Endpoint>,
    reporter: Handle<Sender>,
}

impl<'a> Scene<'a> {
    fn new(context: &'a Context) -> Result<Self, String> {
        let endpoint = Handle::<Endpoint>::create().map_err(because("endpoint"))?;
        let reports = Handle::<Endpoint>::create().map_err(because("endpoint"))?;
        let reporter = reports.mint(0).map_err(because("mint"))?;
        Ok(Scene {
            context,
            endpoint,
            reports,
            reporter,
        })
    }

    /// Starts a client with a badge and waits until its request is on its way.
    fn client(&self, badge: u64, label: u32) -> Result<Running, String> {
        let sender = self.endpoint.mint(badge).map_err(because("mint"))?;
        let spawn = self
            .context
            .role("client", &[label.into()])
            .handle("server", &sender, Rights::ALL)
            .handle("report", &self.reporter, Rights::ALL);
        let client = self.context.start(spawn)?;
        client.until("calling", |info| info.calls > 0 && info.calling == 1)?;
        Ok(client)
    }

    /// Starts a server that takes so many requests and answers none.
    fn holder(&self, requests: u64) -> Result<Running, String> {
        let spawn = self
            .context
            .role("holder", &[requests])
            .handle("endpoint", &self.endpoint, Rights::ALL)
            .handle("report", &self.reporter, Rights::ALL);
        self.context.start(spawn)
    }

    fn server(&self) -> Result<Running, String> {
        wire::serve(self.context, &self.endpoint)
    }

    fn report(&self) -> Result<[u64; 5], String> {
        report(&self.reports)
    }
}

/// Takes the next report of a child.
pub(super) fn report(reports: &Handle<Endpoint>) -> Result<[u64; 5], String> {
    let received = ipc::receive(reports, time::after(SOON)).map_err(because("no report"))?;
    let Received::Request(request) = received else {
        return Err(alloc::format!("not a report: {received:?}"));
    };
    let bytes = wire::payload_of(request.info);
    let words = [0, 1, 2, 3, 4].map(|index| wire::word(&bytes, index));
    ipc::reply(request.reply, 0, 0, &Outgoing::NONE).map_err(because("reporter gone"))?;
    Ok(words)
}

fn redelivery(context: &Context) -> Result<(), String> {
    let scene = Scene::new(context)?;
    let mut clients = Vec::new();
    for badge in [11, 12, 13] {
        clients.push(scene.client(badge, ask::WHO)?);
    }
    let holder = scene.holder(3)?;
    let mut seen = Vec::new();
    for _ in 0..3 {
        let [badge, sequence, ..] = scene.report()?;
        seen.push((badge, sequence));
    }
    let badges: Vec<u64> = seen.iter().map(|(badge, _)| *badge).collect();
    ensure!(badges == [11, 12, 13], "the first server saw {badges:?}");
    // One more behind those that will be redelivered.
    clients.push(scene.client(14, ask::WHO)?);
    holder.kill()?;
    let _server = scene.server()?;
    let mut answers = Vec::new();
    for _ in 0..4 {
        let [error, badge, sequence, redelivered, order] = scene.report()?;
        ensure!(
            error == 0,
            "client {badge} got {:?}",
            Error::from_code(error)
        );
        answers.push((order, badge, sequence, redelivered));
    }
    answers.sort_unstable();
    for (index, (order, badge, sequence, redelivered)) in answers.into_iter().enumerate() {
        let expected = 11 + index as u64;
        ensure!(
            badge == expected,
            "request {order} came from {badge}, not {expected}"
        );
        let is_old = index < 3;
        ensure!(
            (redelivered == 1) == is_old,
            "mark of {badge} is {redelivered}"
        );
        let is_same = !is_old || seen[index].1 == sequence;
        ensure!(
            is_same,
            "sequence of {badge} was {:?}, is {sequence}",
            seen[index]
        );
    }
    clients.iter().try_for_each(Running::succeed)
}

fn waiting_server(context: &Context) -> Result<(), String> {
    let scene = Scene::new(context)?;
    let first = scene.server()?;
    first.until("receiving", |info| info.receiving == 1)?;
    first.kill()?;
    let client = scene.client(21, ask::WHO)?;
    let _second = scene.server()?;
    let [error, badge, _, redelivered, _] = scene.report()?;
    ensure!(
        error == 0 && badge == 21,
        "got {:?}",
        Error::from_code(error)
    );
    ensure!(redelivered == 0, "marked redelivered, but no server had it");
    client.succeed()
}

fn poison(context: &Context) -> Result<(), String> {
    let scene = Scene::new(context)?;
    let client = scene.client(31, ask::CRASH)?;
    for life in 1..=u64::from(libsys::abi::MAX_REQUEST_CRASHES) {
        let end = scene.server()?.end()?;
        let is_fault = end.reason == libsys::abi::ExitReason::Fault as u32;
        ensure!(is_fault, "server {life} ended by {}", ending(&end));
    }
    let error = Error::from_code(scene.report()?[0]);
    ensure!(
        error == Some(Error::ServerCrashed),
        "its sender got {error:?}"
    );
    client.succeed()?;
    // The next server lives on, for others.
    let server = scene.server()?;
    let innocent = scene.client_result(32)?;
    ensure!(
        innocent == 0,
        "another client got {:?}",
        Error::from_code(innocent)
    );
    let info = server.info()?;
    ensure!(info.reason == 0, "the server ended by {}", ending(&info));
    Ok(())
}

/// Has as many servers as crashes are allowed take a client's request and end while they hold
/// it: in order, or by a panic.
fn quitters(scene: &Scene<'_>, panics: u64) -> Result<(), String> {
    let code = if panics == 0 { 0 } else { 101 };
    for life in 1..=u64::from(libsys::abi::MAX_REQUEST_CRASHES) {
        let spawn =
            scene
                .context
                .role("quit", &[panics])
                .handle("endpoint", &scene.endpoint, Rights::ALL);
        let end = scene.context.start(spawn)?.end()?;
        expect_exit(&end, code).map_err(|why| alloc::format!("server {life}: {why}"))?;
    }
    Ok(())
}

fn orderly_end(context: &Context) -> Result<(), String> {
    let scene = Scene::new(context)?;
    let client = scene.client(61, ask::WHO)?;
    quitters(&scene, 0)?;
    quitters(&scene, 0)?;
    let _server = scene.server()?;
    let [error, badge, _, redelivered, _] = scene.report()?;
    ensure!(
        error == 0 && badge == 61,
        "its sender got {:?}",
        Error::from_code(error)
    );
    ensure!(redelivered == 1, "it is not marked as redelivered");
    client.succeed()
}

fn panic(context: &Context) -> Result<(), String> {
    let scene = Scene::new(context)?;
    let client = scene.client(62, ask::WHO)?;
    quitters(&scene, 1)?;
    let error = Error::from_code(scene.report()?[0]);
    ensure!(
        error == Some(Error::ServerCrashed),
        "its sender got {error:?}"
    );
    client.succeed()
}

impl Scene<'_> {
    /// Runs a client to its end and returns the error code that it got.
    fn client_result(&self, badge: u64) -> Result<u64, String> {
        let sender = self.endpoint.mint(badge).map_err(because("mint"))?;
        let result = wire::call(&sender, ask::WHO, &[]);
        Ok(result.err().map_or(0, Error::code))
    }
}

fn handles(context: &Context) -> Result<(), String> {
    // The caller here is this process: the dead server is one that never ran, because the
    // endpoint had none when the handle was sent.
    let scene = Scene::new(context)?;
    let memory = wire::object(context, 1)?;
    let sender = scene.endpoint.mint(41).map_err(because("mint"))?;
    let raw = memory
        .duplicate(Rights::ALL)
        .map_err(because("duplicate"))?
        .into_raw();
    let mut outgoing = Outgoing::NONE;
    outgoing.pass(raw).map_err(because("pass"))?;
    let deadline = time::after(20 * time::MS);
    let result = wire::call_with(&sender, ask::INSPECT, &[], &outgoing, deadline);
    ensure!(
        result.err() == Some(Error::Timeout),
        "nobody serves, but an answer came"
    );
    let kept = Handle::<libsys::Memory>::from_raw(raw);
    kept.info()
        .map_err(because("a moved handle left with a request that failed"))?;
    let _server = scene.server()?;
    let mut outgoing = Outgoing::NONE;
    outgoing.pass(kept.into_raw()).map_err(because("pass"))?;
    let answer = wire::call_with(&sender, ask::INSPECT, &[], &outgoing, time::after(SOON))
        .map_err(because("inspect"))?;
    let kind = answer.word(0);
    ensure!(
        kind == libsys::abi::ObjectKind::Memory as u64,
        "kind {kind} came"
    );
    Ok(())
}

fn closed_badge(context: &Context) -> Result<(), String> {
    let scene = Scene::new(context)?;
    drop(scene.endpoint.mint(51).map_err(because("mint"))?);
    // The first server takes the news and dies without forgetting; `server` ignores news.
    let server = scene.server()?;
    server.until("receiving", |info| info.receiving == 1)?;
    time::sleep(10 * time::MS);
    server.kill()?;
    let news = ipc::receive(&scene.endpoint, time::after(1_000 * time::MS));
    ensure!(
        matches!(news, Ok(Received::Closed(51))),
        "the next receiver got {news:?}"
    );
    scene.endpoint.forget(51).map_err(because("forget"))
}
