//! Both ways of a call through the kernel, the fast and the general one, against the model of
//! `skink_kcore::model`.
//!
//! A random program is run step by step: an event happens, the driver waits until all that follows
//! from it can be seen, and compares it with what the model says. The fast path is for calls
//! without a deadline; one in an hour means the same to a program and goes the general way.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use libsys::abi::{FOREVER, FaultMessage, Info, REGISTER_BYTES, Syscall};
use libsys::ipc;
use libsys::{Endpoint, Error, Handle, Memory, Notification, Rights, Sender, time};
use skink_kcore::endpoint::Abandon;
use skink_kcore::model::{Duty, ENDPOINTS, Event, Message, Model, Step, Told};

use crate::Test;
use crate::context::{Context, Running, SOON, because, ensure};
use crate::random::Random;
use crate::roles::{CRASH, NOWHERE, Slots, TOUCH, Word, digest, payload_word};
use crate::wire;

pub(super) const TESTS: &[Test] = &[
    Test {
        name: "paths.the-fast-one-does-what-the-model-says",
        run: |context| run(context, &[FAST]),
    },
    Test {
        name: "paths.the-general-one-does-what-the-model-says",
        run: |context| run(context, &[GENERAL]),
    },
    Test {
        name: "paths.mixed-at-random-they-do-what-the-model-says",
        run: |context| run(context, &[FAST, GENERAL]),
    },
];

const ACTORS: usize = 5;
/// Programs that are run.
const PROGRAMS: u64 = 12;
/// Events of each.
const EVENTS: u64 = 120;
/// The way of a call that waits for ever, if all else allows it.
const FAST: Option<u64> = None;
/// The way of a call that waits this long, ns.
const GENERAL: Option<u64> = Some(3_600_000 * time::MS);
/// The processor's error code of a touch in Ring 3 that reads.
const USER_READ: u64 = 1 << 2;
/// A deadline that has passed: a call is delivered if somebody waits for it, and given up then.
const PAST: u64 = 1;
/// How often is looked whether an actor waits, ns.
const LOOK: u64 = time::MS / 10;

/// An endpoint of the actors and what belongs to it.
struct Place {
    endpoint: Handle<Endpoint>,
    bits: Handle<Notification>,
    /// One for each actor, kept open so that the death of an actor closes no badge.
    senders: Vec<Handle<Sender>>,
}

/// An actor's process.
struct Actor {
    process: Option<Running>,
    commands: Handle<Notification>,
    /// Number of its last command.
    turn: u64,
    /// Number of the last command whose outcome was compared.
    compared: u64,
    /// Calls that it had made before that, and page faults that had been resolved.
    before: (u64, u64),
}

/// Plays programs.
struct Driver<'a> {
    context: &'a Context,
    model: Model<ACTORS>,
    places: Vec<Place>,
    actors: Vec<Actor>,
    memory: Handle<Memory>,
    slots: Slots,
    results: Handle<Notification>,
    /// Reply handles by delivery.
    replies: Vec<(Duty, u64)>,
    random: Random,
    ways: &'a [Option<u64>],
}

fn run(context: &Context, ways: &[Option<u64>]) -> Result<(), String> {
    let first_seed = time::now() | 1;
    context.note(format!(
        "seeds {first_seed:#x} and the {} behind it",
        PROGRAMS - 1
    ));
    for program in 0..PROGRAMS {
        // The lowest bit does not count.
        let seed = first_seed.wrapping_add(2 * program);
        let mut driver = Driver::new(context, seed, ways).map_err(|why| format!("start: {why}"))?;
        for number in 0..EVENTS {
            let event = driver.model.plan(driver.random.next());
            driver
                .happen(event)
                .map_err(|why| format!("seed {seed:#x}, event {number}, {event:?}: {why}"))?;
        }
    }
    Ok(())
}

impl<'a> Driver<'a> {
    fn new(context: &'a Context, seed: u64, ways: &'a [Option<u64>]) -> Result<Self, String> {
        let memory = wire::object(context, 1)?;
        let places: Result<_, _> = (0..ENDPOINTS).map(|_| Place::new()).collect();
        let mut driver = Driver {
            context,
            model: Model::new(),
            places: places?,
            actors: Vec::new(),
            slots: Slots::map(&memory).map_err(because("map"))?,
            memory,
            results: Handle::<Notification>::create().map_err(because("notification"))?,
            replies: Vec::new(),
            random: Random::new(seed),
            ways,
        };
        for actor in 0..ACTORS {
            driver.actors.push(Actor {
                process: None,
                commands: Handle::<Notification>::create().map_err(because("notification"))?,
                turn: 0,
                compared: 0,
                before: (0, 0),
            });
            driver.start(actor)?;
        }
        Ok(driver)
    }

    /// Starts an actor's process and waits until it is ready.
    fn start(&mut self, actor: usize) -> Result<(), String> {
        let turn = self.actors[actor].turn + 1;
        self.actors[actor].turn = turn;
        self.actors[actor].compared = turn;
        self.slots.set(actor, Word::Turn, turn);
        let [first, second] = [0, 1].map(|place: usize| &self.places[place]);
        let both = Rights::READ | Rights::WRITE | Rights::DUPLICATE | Rights::TRANSFER;
        let spawn = self
            .context
            .role("actor", &[actor as u64, turn])
            .handle("slots", &self.memory, both)
            .handle("commands", &self.actors[actor].commands, Rights::ALL)
            .handle("results", &self.results, Rights::ALL)
            .handle("endpoint-0", &first.endpoint, Rights::ALL)
            .handle("endpoint-1", &second.endpoint, Rights::ALL)
            .handle("sender-0", &first.senders[actor], Rights::ALL)
            .handle("sender-1", &second.senders[actor], Rights::ALL);
        self.actors[actor].process = Some(self.context.start(spawn)?);
        self.wait_done(actor)?;
        // All that it needs for this must be there when it gets another pager.
        self.slots.set(actor, Word::Content, 0);
        self.send(actor, TOUCH)?;
        self.actors[actor].compared = self.actors[actor].turn;
        self.wait_done(actor)
    }

    /// Lets an event happen and compares all that can be seen of it.
    fn happen(&mut self, event: Event) -> Result<(), String> {
        match event {
            Event::Step(actor, step) => self.command(actor, step)?,
            Event::End(actor, how) => self.end(actor, how)?,
            Event::Start(actor) => self.start(actor)?,
            Event::SetBits(place, bits) => {
                let bits = self.places[place]
                    .bits
                    .mint(bits)
                    .map_err(because("mint"))?;
                ipc::notify(&bits).map_err(because("notify"))?;
            }
            Event::CloseBadge(place, badge) => {
                let sender = self.places[place].endpoint.mint(badge);
                drop(sender.map_err(because("mint"))?);
            }
        }
        self.model.apply(event);
        for actor in 0..ACTORS {
            self.compare(actor)
                .map_err(|why| format!("actor {actor}: {why}"))?;
        }
        Ok(())
    }

    fn end(&mut self, actor: usize, how: Abandon) -> Result<(), String> {
        if how == Abandon::Crashed {
            self.send(actor, CRASH)?;
        }
        let Some(process) = self.actors[actor].process.take() else {
            return Err("it has no process".into());
        };
        match how {
            Abandon::Crashed => process.end(),
            Abandon::Killed => process.kill(),
        }
        .map(|_| ())
    }

    /// Tells an actor to make a step.
    fn command(&mut self, actor: usize, step: Step) -> Result<(), String> {
        let way = self.random.pick(self.ways);
        let deadline = way.map_or(FOREVER, time::after);
        let (call, place, message, duty, deadline) = match step {
            Step::Touch { endpoint } => {
                let pager = &self.places[endpoint].senders[actor];
                self.process(actor)?.set_pager(pager)?;
                self.slots.set(actor, Word::Content, NOWHERE);
                return self.send(actor, TOUCH);
            }
            Step::Call { endpoint, message } => {
                (Syscall::Call, endpoint, Some(message), None, deadline)
            }
            Step::CallBriefly { endpoint, message } => {
                (Syscall::Call, endpoint, Some(message), None, PAST)
            }
            Step::Receive { endpoint } => (Syscall::Receive, endpoint, None, None, deadline),
            Step::TryReceive { endpoint } => (Syscall::Receive, endpoint, None, None, 0),
            Step::Reply { duty, message } => {
                (Syscall::Reply, 0, Some(message), Some(duty), deadline)
            }
            Step::ReplyReceive {
                duty,
                message,
                endpoint,
            } => (
                Syscall::ReplyReceive,
                endpoint,
                Some(message),
                Some(duty),
                deadline,
            ),
            Step::Drop { duty } => (Syscall::HandleClose, 0, None, Some(duty), 0),
            Step::Forget { endpoint, badge } => {
                self.slots.set(actor, Word::Content, badge);
                (Syscall::EndpointForget, endpoint, None, None, 0)
            }
        };
        if let Some(message) = message {
            self.slots.set(actor, Word::Content, message.content);
        }
        let reply = duty.map_or(Ok(0), |duty| self.reply_handle(duty))?;
        let info = message.map_or(0, |message| info_of(message).0);
        self.slots.set(actor, Word::Info, info);
        self.slots.set(actor, Word::Place, place as u64);
        self.slots.set(actor, Word::Reply, reply);
        self.slots.set(actor, Word::Deadline, deadline);
        self.send(actor, call as u64)
    }

    fn send(&mut self, actor: usize, command: u64) -> Result<(), String> {
        let info = self.process(actor)?.info()?;
        let this = &mut self.actors[actor];
        this.before = (info.calls, info.faults);
        this.turn += 1;
        self.slots.set(actor, Word::Command, command);
        self.slots.set(actor, Word::Turn, this.turn);
        ipc::notify(&this.commands).map_err(because("notify"))
    }

    fn process(&self, actor: usize) -> Result<&Running, String> {
        let process = self.actors[actor].process.as_ref();
        process.ok_or_else(|| "it has no process".into())
    }

    fn reply_handle(&self, duty: Duty) -> Result<u64, String> {
        let found = self.replies.iter().rev().find(|(known, _)| *known == duty);
        found
            .map(|(_, handle)| *handle)
            .ok_or_else(|| format!("{duty:?} is not known"))
    }

    fn is_done(&self, actor: usize) -> bool {
        self.slots.get(actor, Word::Done) == self.actors[actor].turn
    }

    fn wait_done(&self, actor: usize) -> Result<(), String> {
        while !self.is_done(actor) {
            match ipc::wait(&self.results, time::after(SOON)) {
                Ok(_) => {}
                Err(error) => {
                    let info = self.process(actor)?.info()?;
                    return Err(format!("it does not come to an end: {error}, {info:?}"));
                }
            }
        }
        Ok(())
    }

    /// Waits until the kernel says that an actor's step waits.
    fn wait_blocked(&self, actor: usize) -> Result<(), String> {
        let deadline = time::after(SOON);
        let (calls, resolved) = self.actors[actor].before;
        let faults = self.model.faults(actor);
        loop {
            let info = self.process(actor)?.info()?;
            ensure!(
                !self.is_done(actor),
                "it came to an end: {}",
                self.show(actor)
            );
            // One that waits for a command has no step to make. A page fault is no call; all but
            // the last of them are resolved.
            let is_blocked = match (self.model.is_calling(actor), faults) {
                (true, 0) => info.calling == 1 && info.calls > calls,
                (true, _) => info.calling == 1 && info.faults == resolved + faults - 1,
                (false, _) => info.receiving == 1,
            };
            if is_blocked {
                return Ok(());
            }
            ensure!(time::now() < deadline, "it does not wait: {info:?}");
            time::sleep(LOOK);
        }
    }

    /// Compares what an actor sees with the model.
    fn compare(&mut self, actor: usize) -> Result<(), String> {
        if !self.model.is_alive(actor) {
            return Ok(());
        }
        if self.model.is_calling(actor) || self.model.is_receiving(actor) {
            return self.wait_blocked(actor);
        }
        self.wait_done(actor)?;
        let turn = self.actors[actor].turn;
        let Some(told) = self
            .model
            .told(actor)
            .filter(|_| self.actors[actor].compared < turn)
        else {
            return Ok(());
        };
        self.actors[actor].compared = turn;
        self.check(actor, told)
            .map_err(|why| format!("expected {told:x?}: {why}; {}", self.show(actor)))?;
        if let Told::Request { duty, .. } | Told::Fault { duty, .. } = told {
            let handle = self.slots.get(actor, Word::Handles);
            self.replies.push((duty, handle));
        }
        Ok(())
    }

    fn check(&self, actor: usize, told: Told) -> Result<(), String> {
        let saw = |word| self.slots.get(actor, word);
        let status = match told {
            Told::Failed(error) => error.code(),
            _ => 0,
        };
        ensure!(saw(Word::Status) == status, "another status");
        ensure!(saw(Word::Strange) == 0, "registers or pages of others");
        match told {
            Told::Failed(_) | Told::Done => Ok(()),
            Told::Bits(bits) => {
                let info = Info::new(0, 8, 0).0 | Info::NOTIFICATION;
                self.check_head(actor, info, Some(0))?;
                self.check_registers(actor, &[bits])
            }
            Told::Closed(badge) => {
                self.check_head(actor, Info::CLOSED, Some(badge))?;
                self.check_registers(actor, &[])
            }
            Told::Fault {
                badge,
                sequence,
                is_redelivered,
                ..
            } => {
                let mark = if is_redelivered { Info::REDELIVERED } else { 0 };
                let info = Info::new(0, size_of::<FaultMessage>(), 0).0 | Info::FAULT;
                self.check_head(actor, info | mark, Some(badge))?;
                ensure!(saw(Word::Sequence) == sequence, "another sequence number");
                let instruction = self.slots.payload(actor, 1);
                self.check_registers(actor, &[NOWHERE, instruction, USER_READ])
            }
            Told::Answer(message) => {
                self.check_head(actor, info_of(message).0, None)?;
                self.check_payload(actor, message)
            }
            Told::Request {
                badge,
                sequence,
                is_redelivered,
                message,
                ..
            } => {
                let mark = if is_redelivered { Info::REDELIVERED } else { 0 };
                self.check_head(actor, info_of(message).0 | mark, Some(badge))?;
                ensure!(saw(Word::Sequence) == sequence, "another sequence number");
                self.check_payload(actor, message)
            }
        }
    }

    fn check_head(&self, actor: usize, info: u64, badge: Option<u64>) -> Result<(), String> {
        ensure!(
            self.slots.get(actor, Word::InfoCame) == info,
            "another info, not {info:#x}"
        );
        let saw = self.slots.get(actor, Word::Badge);
        ensure!(badge.is_none_or(|badge| badge == saw), "another badge");
        Ok(())
    }

    fn check_payload(&self, actor: usize, message: Message) -> Result<(), String> {
        let bytes = usize::from(message.bytes);
        let words = (0..bytes.div_ceil(8)).map(|index| payload_word(message.content, index));
        if bytes <= REGISTER_BYTES {
            return self.check_registers(actor, &words.collect::<Vec<_>>());
        }
        ensure!(
            self.slots.get(actor, Word::Digest) == digest(words),
            "another payload in the page"
        );
        self.check_registers(actor, &[])
    }

    /// Checks that the registers hold these words and nothing behind them.
    fn check_registers(&self, actor: usize, words: &[u64]) -> Result<(), String> {
        for index in 0..REGISTER_BYTES / 8 {
            let word = words.get(index).copied().unwrap_or(0);
            let saw = self.slots.payload(actor, index);
            ensure!(saw == word, "register {index} has {saw:#x}, not {word:#x}");
        }
        Ok(())
    }

    /// Tells what an actor saw.
    fn show(&self, actor: usize) -> String {
        let saw = |word| self.slots.get(actor, word);
        let status = saw(Word::Status);
        let payload: Vec<u64> = (0..8).map(|at| self.slots.payload(actor, at)).collect();
        format!(
            "it saw status {status} ({:?}), info {:#x}, badge {:#x}, handle {:#x}, sequence {}, \
             strange {:#x}, registers {payload:x?}",
            Error::from_code(status),
            saw(Word::InfoCame),
            saw(Word::Badge),
            saw(Word::Handles),
            saw(Word::Sequence),
            saw(Word::Strange),
        )
    }
}

impl Place {
    fn new() -> Result<Place, String> {
        let endpoint = Handle::<Endpoint>::create().map_err(because("endpoint"))?;
        let bits = Handle::<Notification>::create().map_err(because("notification"))?;
        bits.bind(&endpoint).map_err(because("bind"))?;
        let senders: Result<_, _> = (0..ACTORS)
            .map(|actor| endpoint.mint(Model::<ACTORS>::badge_of(actor)))
            .collect();
        Ok(Place {
            endpoint,
            bits,
            senders: senders.map_err(because("mint"))?,
        })
    }
}

fn info_of(message: Message) -> Info {
    Info::new(message.label, message.bytes.into(), 0)
}
