//! The state machine of endpoints, with as much around it as the kernel has, against the model.

use std::collections::{BTreeMap, VecDeque};

use proptest::prelude::*;
use skink_abi::Error;

use super::{Duty, ENDPOINTS, Event, Message, Model, Step, Told};
use crate::endpoint::tests::Threads;
use crate::endpoint::{Abandon, Arrival, Callers, Endpoint, Requeue};

const ACTORS: usize = 6;

/// A call that an actor has made, as the kernel keeps it with the thread.
#[derive(Clone, Copy)]
struct Call {
    endpoint: usize,
    message: Option<Message>,
    is_redelivered: bool,
    holder: Option<(usize, u32)>,
}

/// What the kernel does around the state machine: it moves messages, duties and news.
struct Kernel {
    threads: Threads,
    endpoints: [Endpoint; ENDPOINTS],
    calls: [Option<Call>; ACTORS],
    receiving: [Option<usize>; ACTORS],
    told: [Option<Told>; ACTORS],
    bits: [u64; ENDPOINTS],
    closed: [VecDeque<u64>; ENDPOINTS],
    told_badges: [VecDeque<u64>; ENDPOINTS],
    deliveries: u32,
    /// Who touches again, and where that is told.
    retrying: Option<(usize, usize)>,
}

impl Kernel {
    fn new() -> Self {
        Kernel {
            threads: Threads::new(ACTORS),
            endpoints: [Endpoint::NEW; ENDPOINTS],
            calls: [None; ACTORS],
            receiving: [None; ACTORS],
            told: [None; ACTORS],
            bits: [0; ENDPOINTS],
            closed: Default::default(),
            told_badges: Default::default(),
            deliveries: 0,
            retrying: None,
        }
    }

    fn apply(&mut self, event: Event) {
        match event {
            Event::Step(actor, step) => {
                self.told[actor] = None;
                self.step(actor, step);
                if let Some((actor, endpoint)) = self.retrying.take() {
                    self.call(actor, endpoint, None);
                }
            }
            Event::End(actor, how) => self.end(actor, how),
            Event::Start(_) => {}
            Event::SetBits(endpoint, bits) => {
                self.bits[endpoint] |= bits;
                self.offer_news(endpoint);
            }
            Event::CloseBadge(endpoint, badge) => {
                self.closed[endpoint].push_back(badge);
                self.offer_news(endpoint);
            }
        }
    }

    fn step(&mut self, actor: usize, step: Step) {
        match step {
            Step::Call { endpoint, message } => self.call(actor, endpoint, Some(message)),
            Step::Touch { endpoint } => self.call(actor, endpoint, None),
            Step::CallBriefly { endpoint, message } => {
                self.call(actor, endpoint, Some(message));
                self.stop_calling(actor);
                self.told[actor] = Some(Told::Failed(Error::Timeout));
            }
            Step::Receive { endpoint } => self.receive(actor, endpoint),
            Step::TryReceive { endpoint } => {
                self.receive(actor, endpoint);
                if self.receiving[actor].take().is_some() {
                    self.endpoints[endpoint].forget_receiver(&self.threads, actor as u32);
                    self.told[actor] = Some(Told::Failed(Error::WouldBlock));
                }
            }
            Step::Reply { duty, message } => {
                let result = self.answer(actor, duty, Told::Answer(message));
                self.told[actor] = Some(result.map_or_else(Told::Failed, |()| Told::Done));
            }
            Step::Drop { duty } => {
                let result = self.answer(actor, duty, Told::Failed(Error::ReplyDropped));
                self.told[actor] = Some(result.map_or_else(Told::Failed, |()| Told::Done));
            }
            Step::ReplyReceive {
                duty,
                message,
                endpoint,
            } => match self.answer(actor, duty, Told::Answer(message)) {
                Ok(()) | Err(Error::ReplyGone) => self.receive(actor, endpoint),
                Err(error) => self.told[actor] = Some(Told::Failed(error)),
            },
            Step::Forget { endpoint, badge } => {
                let told = &mut self.told_badges[endpoint];
                let found = told.iter().position(|&other| other == badge);
                let removed = found.and_then(|index| told.remove(index));
                let failed = Told::Failed(Error::InvalidArgument);
                self.told[actor] = Some(removed.map_or(failed, |_| Told::Done));
            }
        }
    }

    fn call(&mut self, actor: usize, endpoint: usize, message: Option<Message>) {
        self.calls[actor] = Some(Call {
            endpoint,
            message,
            is_redelivered: false,
            holder: None,
        });
        match self.endpoints[endpoint].arrive(&self.threads, actor as u32) {
            Arrival::Deliver(receiver) => self.deliver(actor, receiver as usize),
            Arrival::Queued => {}
        }
    }

    fn deliver(&mut self, caller: usize, receiver: usize) {
        let delivery = self.deliveries;
        self.deliveries += 1;
        let call = self.calls[caller].as_mut().expect("it calls");
        call.holder = Some((receiver, delivery));
        self.receiving[receiver] = None;
        let badge = Model::<ACTORS>::badge_of(caller);
        let sequence = self.threads.ticket(caller as u32);
        let is_redelivered = call.is_redelivered;
        let duty = Duty { caller, delivery };
        self.told[receiver] = Some(match call.message {
            Some(message) => Told::Request {
                badge,
                sequence,
                is_redelivered,
                message,
                duty,
            },
            None => Told::Fault {
                badge,
                sequence,
                is_redelivered,
                duty,
            },
        });
    }

    fn receive(&mut self, actor: usize, endpoint: usize) {
        if let Some(news) = self.take_news(endpoint) {
            self.told[actor] = Some(news);
        } else if let Some(caller) = self.endpoints[endpoint].take(&self.threads) {
            self.deliver(caller as usize, actor);
        } else {
            self.endpoints[endpoint].wait(&self.threads, actor as u32);
            self.receiving[actor] = Some(endpoint);
        }
    }

    fn take_news(&mut self, endpoint: usize) -> Option<Told> {
        match core::mem::take(&mut self.bits[endpoint]) {
            0 => {}
            bits => return Some(Told::Bits(bits)),
        }
        let badge = self.closed[endpoint].pop_front()?;
        self.told_badges[endpoint].push_back(badge);
        Some(Told::Closed(badge))
    }

    fn offer_news(&mut self, endpoint: usize) {
        while let Some(receiver) = self.endpoints[endpoint].next_receiver() {
            let Some(news) = self.take_news(endpoint) else {
                break;
            };
            self.endpoints[endpoint].take_receiver(&self.threads);
            self.receiving[receiver as usize] = None;
            self.told[receiver as usize] = Some(news);
        }
    }

    fn answer(&mut self, actor: usize, duty: Duty, told: Told) -> Result<(), Error> {
        let call = self.calls[duty.caller].ok_or(Error::ReplyGone)?;
        match call.holder {
            Some((holder, delivery)) if delivery == duty.delivery => {
                if holder != actor {
                    return Err(Error::InvalidHandle);
                }
            }
            _ => return Err(Error::ReplyGone),
        }
        self.calls[duty.caller] = None;
        match call.message {
            Some(_) => self.told[duty.caller] = Some(told),
            None => self.retrying = Some((duty.caller, call.endpoint)),
        }
        Ok(())
    }

    fn stop_calling(&mut self, actor: usize) {
        if let Some(call) = self.calls[actor].take()
            && call.holder.is_none()
        {
            self.endpoints[call.endpoint].forget_caller(&self.threads, actor as u32);
        }
    }

    fn end(&mut self, actor: usize, how: Abandon) {
        self.told[actor] = None;
        self.stop_calling(actor);
        if let Some(endpoint) = self.receiving[actor].take() {
            self.endpoints[endpoint].forget_receiver(&self.threads, actor as u32);
        }
        for caller in 0..ACTORS {
            let call = self.calls[caller];
            if call.is_some_and(|call| call.holder.is_some_and(|(holder, _)| holder == actor)) {
                self.abandon(caller, how);
            }
        }
        for endpoint in 0..ENDPOINTS {
            let told = core::mem::take(&mut self.told_badges[endpoint]);
            self.closed[endpoint].extend(told);
            self.offer_news(endpoint);
        }
    }

    fn abandon(&mut self, caller: usize, how: Abandon) {
        let call = self.calls[caller].as_mut().expect("it calls");
        call.is_redelivered = true;
        call.holder = None;
        let endpoint = &mut self.endpoints[call.endpoint];
        if endpoint.abandon(&self.threads, caller as u32, how) == Requeue::Poisoned {
            self.calls[caller] = None;
            self.told[caller] = Some(Told::Failed(Error::ServerCrashed));
        } else if let Some(receiver) = endpoint.take_receiver(&self.threads) {
            let first = endpoint.take(&self.threads).expect("one came back");
            self.deliver(first as usize, receiver as usize);
        }
    }

    fn is_calling(&self, actor: usize) -> bool {
        self.calls[actor].is_some()
    }
}

/// Checks that all see what the model says.
fn compare(kernel: &Kernel, model: &Model<ACTORS>) -> Result<(), TestCaseError> {
    for actor in 0..ACTORS {
        prop_assert_eq!(kernel.told[actor], model.told(actor), "actor {}", actor);
        prop_assert_eq!(kernel.is_calling(actor), model.is_calling(actor));
        let is_receiving = kernel.receiving[actor].is_some();
        prop_assert_eq!(is_receiving, model.is_receiving(actor));
    }
    Ok(())
}

proptest! {
    /// Random programs, step by step.
    #[test]
    fn endpoints_do_what_the_model_says(
        picks in prop::collection::vec(any::<u64>(), 0..300)
    ) {
        let (mut kernel, mut model) = (Kernel::new(), Model::<ACTORS>::new());
        for number in picks {
            let event = model.plan(number);
            kernel.apply(event);
            model.apply(event);
            compare(&kernel, &model)?;
        }
    }
}

/// Names an outcome.
fn name(told: Told) -> String {
    match told {
        Told::Request {
            is_redelivered: true,
            ..
        } => "Redelivered".into(),
        Told::Failed(error) => format!("{error:?}"),
        told => {
            let text = format!("{told:?}");
            let end = text.find(|end: char| !end.is_alphabetic());
            text[..end.unwrap_or(text.len())].into()
        }
    }
}

/// A program that tests nothing finds nothing.
#[test]
fn random_programs_come_to_all_outcomes() {
    let mut model = Model::<ACTORS>::new();
    let mut seen = BTreeMap::new();
    for number in 0..10_000_u64 {
        let before: Vec<_> = (0..ACTORS).map(|actor| model.told(actor)).collect();
        model.apply(model.plan(number));
        for (actor, before) in before.into_iter().enumerate() {
            let told = model.told(actor);
            if let Some(told) = told.filter(|_| told != before) {
                *seen.entry(name(told)).or_insert(0) += 1;
            }
        }
    }
    let expected = [
        "Answer",
        "Bits",
        "Closed",
        "Done",
        "Fault",
        "InvalidArgument",
        "InvalidHandle",
        "Redelivered",
        "ReplyDropped",
        "ReplyGone",
        "Request",
        "ServerCrashed",
        "Timeout",
        "WouldBlock",
    ];
    let names: Vec<_> = seen.keys().map(String::as_str).collect();
    assert_eq!(names, expected, "{seen:?}");
    assert!(seen.values().all(|&count| count > 10), "{seen:?}");
    assert!(seen["Request"] > 1000, "{seen:?}");
}
