//! Answers that are lost, with the process that gives them or without.

use alloc::string::String;

use libsys::abi::{AtAnswer, ExitReason};
use libsys::{Endpoint, Error, Handle, Process, Rights, Sender};

use crate::Test;
use crate::context::{Context, Running, because, ending, ensure};
use crate::wire::{self, Answer, ask};

pub(super) const TESTS: &[Test] = &[
    Test {
        name: "answers.one-that-is-lost-is-given-again",
        run: lost,
    },
    Test {
        name: "answers.a-server-ends-with-its-answer",
        run: ended,
    },
    Test {
        name: "answers.what-was-set-can-be-taken-back",
        run: taken_back,
    },
];

/// A server, and who calls it.
struct Scene<'a> {
    context: &'a Context,
    endpoint: Handle<Endpoint>,
    sender: Handle<Sender>,
    server: Running,
    process: Handle<Process>,
}

impl<'a> Scene<'a> {
    fn new(context: &'a Context) -> Result<Self, String> {
        let endpoint = Handle::<Endpoint>::create().map_err(because("endpoint"))?;
        let sender = endpoint.mint(71).map_err(because("mint"))?;
        let server = wire::serve(context, &endpoint)?;
        let number = server.info()?.id;
        let process = context.system().open_process(number);
        Ok(Scene {
            context,
            process: process.map_err(because("open"))?,
            endpoint,
            sender,
            server,
        })
    }

    fn set(&self, what: AtAnswer) -> Result<bool, String> {
        let set = self.context.system().at_answer(&self.process, what);
        set.map_err(because("at answer"))
    }

    /// Asks who asks: badge, sequence, whether it is redelivered, how many requests came before.
    fn ask(&self) -> Result<Answer, String> {
        wire::call(&self.sender, ask::WHO, &[]).map_err(because("who"))
    }
}

fn lost(context: &Context) -> Result<(), String> {
    let scene = Scene::new(context)?;
    let first = scene.ask()?;
    scene.set(AtAnswer::Lose)?;
    let again = scene.ask()?;
    let [badge, sequence, redelivered, count] = [0, 1, 2, 3].map(|place| again.word(place));
    ensure!(
        badge == 71 && sequence == first.word(1) + 1,
        "request {sequence} of {badge} came behind {}",
        first.word(1)
    );
    ensure!(
        redelivered == 1 && count == first.word(3) + 2,
        "marked {redelivered}, {count} requests before it"
    );
    let pending = scene.set(AtAnswer::Deliver)?;
    ensure!(!pending, "it is to happen again");
    let next = scene.ask()?;
    ensure!(
        next.word(2) == 0 && next.word(3) == count + 1,
        "the next one is number {}, marked {}",
        next.word(3),
        next.word(2)
    );
    // One with a handle is delivered; the next one is lost.
    scene.set(AtAnswer::Lose)?;
    let made = wire::call(&scene.sender, ask::MAKE, &[]).map_err(because("make"))?;
    ensure!(made.info.handles() == 1, "no handle came");
    let next = scene.ask()?;
    ensure!(
        next.word(2) == 1 && next.word(3) == count + 4,
        "behind it comes number {}, marked {}",
        next.word(3),
        next.word(2)
    );
    Ok(())
}

fn ended(context: &Context) -> Result<(), String> {
    let scene = Scene::new(context)?;
    scene.set(AtAnswer::End)?;
    let watched = &scene.server;
    // It waits here for a server: the next one begins when the first is gone.
    let client =
        context
            .role("client", &[ask::WHO.into()])
            .handle("server", &scene.sender, Rights::ALL);
    let reports = Handle::<Endpoint>::create().map_err(because("endpoint"))?;
    let reporter = reports.mint(0).map_err(because("mint"))?;
    let client = context.start(client.handle("report", &reporter, Rights::ALL))?;
    let end = watched.end()?;
    let is_killed = end.reason == ExitReason::Killed as u32 && end.code == 0;
    ensure!(is_killed, "it ended by {}", ending(&end));
    let dead = context.system().at_answer(&scene.process, AtAnswer::End);
    ensure!(dead == Err(Error::Dead), "a dead one gives {dead:?}");
    let _next = wire::serve(context, &scene.endpoint)?;
    let [error, badge, _, redelivered, count] = super::recovery::report(&reports)?;
    ensure!(
        (error, badge, redelivered, count) == (0, 71, 1, 0),
        "error {error}, badge {badge}, marked {redelivered}, {count} before it"
    );
    client.succeed()
}

fn taken_back(context: &Context) -> Result<(), String> {
    let scene = Scene::new(context)?;
    for what in [AtAnswer::End, AtAnswer::Lose] {
        let pending = scene.set(what)?;
        ensure!(!pending, "something was set before {what:?}");
        let pending = scene.set(AtAnswer::Deliver)?;
        ensure!(pending, "{what:?} was not set");
        let answer = scene.ask()?;
        ensure!(answer.word(2) == 0, "{what:?} happened");
    }
    let looker = scene.process.duplicate(Rights::INSPECT);
    let looker = looker.map_err(because("duplicate"))?;
    let refused = context.system().at_answer(&looker, AtAnswer::End);
    ensure!(
        refused == Err(Error::MissingRight),
        "without the right it gives {refused:?}"
    );
    Ok(())
}
