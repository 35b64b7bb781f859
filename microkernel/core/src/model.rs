//! What programs see of endpoints: an executable specification of IPC.
//!
//! It knows no queues, locks, processors or registers. Who comes next is looked up among all that
//! wait, so there is nothing that could be out of order. The state machine of [`crate::endpoint`]
//! is tested against this on the host, and both ways that a call can take through the kernel are
//! in the system (`tests/system`).
//!
//! The rules:
//!
//! 1. Requests are delivered in the order of their tickets, which are drawn as calls arrive. What
//!    comes back from a receiver that died has its old ticket and is marked as redelivered.
//! 2. Of several receivers that wait, the last that came is served first.
//! 3. News goes before requests: first the bits of the notification, all that are set, then closed
//!    badges in the order of their closing. A closed badge that was told is told again after the
//!    death of a receiver's process, until it is forgotten.
//! 4. The duty to answer belongs to the process that the request was delivered to. It ends with an
//!    answer, with being dropped, and with the call: then it is gone, whoever names it.
//! 5. A request that crashed [`MAX_REQUEST_CRASHES`] receivers fails.
//! 6. A page fault is a request to the pager. After the answer the program goes on where it was.
//!
//! An actor is a process with one thread. All of them have both sides of all endpoints.

use skink_abi::{Error, MAX_REQUEST_CRASHES};

use crate::endpoint::Abandon;

mod plan;

/// Number of endpoints: with two, an answer can go to one and the receiving at the other.
pub const ENDPOINTS: usize = 2;
/// Most closed badges that are not forgotten.
const MOST_NEWS: usize = 6;
/// Deliveries that are remembered, for answers that come too late.
const RECENT: usize = 8;

/// A message. The bytes follow from `content`; how, is up to who makes and compares them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Message {
    /// Its label.
    pub label: u32,
    /// Length of its payload.
    pub bytes: u16,
    /// What the payload is made of.
    pub content: u64,
}

/// The duty to answer a request, as one delivery gave it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Duty {
    /// Who called.
    pub caller: usize,
    /// Number of the delivery.
    pub delivery: u32,
}

/// What an actor asks the kernel for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Step {
    /// Calls and waits for the answer.
    Call {
        /// Whom.
        endpoint: usize,
        /// With which message.
        message: Message,
    },
    /// Calls, and gives up before anything else happens.
    CallBriefly {
        /// Whom.
        endpoint: usize,
        /// With which message.
        message: Message,
    },
    /// Waits for a message.
    Receive {
        /// Where.
        endpoint: usize,
    },
    /// Takes a message if there is one.
    TryReceive {
        /// Where.
        endpoint: usize,
    },
    /// Answers a request.
    Reply {
        /// Which.
        duty: Duty,
        /// With which message.
        message: Message,
    },
    /// Answers a request and waits for a message.
    ReplyReceive {
        /// Which.
        duty: Duty,
        /// With which message.
        message: Message,
        /// Where it waits.
        endpoint: usize,
    },
    /// Touches an address at which nothing is. The endpoint is its pager's; for ever, since no
    /// answer maps anything: all are to be empty, and the actor tries again.
    Touch {
        /// Who is told.
        endpoint: usize,
    },
    /// Closes a reply handle.
    Drop {
        /// For which request.
        duty: Duty,
    },
    /// Says that it dealt with a closed badge.
    Forget {
        /// Where the badge was closed.
        endpoint: usize,
        /// The badge.
        badge: u64,
    },
}

/// Something that happens.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Event {
    /// An actor makes a step.
    Step(usize, Step),
    /// An actor's process ends.
    End(usize, Abandon),
    /// A new process takes the place of one that has ended.
    Start(usize),
    /// Bits of the notification that is bound to an endpoint are set.
    SetBits(usize, u64),
    /// The last sender with a badge is closed.
    CloseBadge(usize, u64),
}

/// How a step ended for the actor that made it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Told {
    /// A request came.
    Request {
        /// Badge of the caller.
        badge: u64,
        /// Its ticket.
        sequence: u64,
        /// Whether an earlier receiver died holding it.
        is_redelivered: bool,
        /// What it says.
        message: Message,
        /// The duty to answer it.
        duty: Duty,
    },
    /// A page fault came.
    Fault {
        /// Badge of the pager's sender.
        badge: u64,
        /// Its ticket.
        sequence: u64,
        /// Whether an earlier receiver died holding it.
        is_redelivered: bool,
        /// The duty to answer it.
        duty: Duty,
    },
    /// Bits came.
    Bits(u64),
    /// A badge was closed.
    Closed(u64),
    /// The answer to its call came.
    Answer(Message),
    /// It was done, nothing came.
    Done,
    /// It failed.
    Failed(Error),
}

/// A call that is not answered yet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Call {
    endpoint: usize,
    /// Nothing for a page fault.
    message: Option<Message>,
    ticket: u64,
    is_redelivered: bool,
    crashes: u8,
    /// Who has the duty to answer, and the number of the delivery.
    holder: Option<(usize, u32)>,
}

/// What an actor is doing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    Gone,
    Free,
    Calling(Call),
    /// Touches again what it touched, when the others have gone on.
    Retrying(usize),
    /// Waits at an endpoint; the number tells who came last.
    Receiving(usize, u64),
}

/// Whether a receiver knows of a closed badge.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Known {
    Yes,
    No,
}

/// A closed badge that is not forgotten.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct News {
    endpoint: usize,
    badge: u64,
    /// Tells which comes first, of those that are known and of those that are not.
    order: u64,
    known: Known,
}

/// A number of actors and what they see.
#[derive(Clone, Debug)]
pub struct Model<const ACTORS: usize> {
    states: [State; ACTORS],
    told: [Option<Told>; ACTORS],
    /// Page faults of the step that lasts.
    faults: [u64; ACTORS],
    tickets: [u64; ENDPOINTS],
    bits: [u64; ENDPOINTS],
    news: [Option<News>; MOST_NEWS],
    recent: [Option<Duty>; RECENT],
    deliveries: u32,
    /// Draws numbers for all other orders.
    order: u64,
}

impl<const ACTORS: usize> Default for Model<ACTORS> {
    fn default() -> Self {
        Self::new()
    }
}

impl<const ACTORS: usize> Model<ACTORS> {
    /// Actors that have done nothing yet.
    #[must_use]
    pub const fn new() -> Self {
        Model {
            states: [State::Free; ACTORS],
            told: [None; ACTORS],
            faults: [0; ACTORS],
            tickets: [0; ENDPOINTS],
            bits: [0; ENDPOINTS],
            news: [None; MOST_NEWS],
            recent: [None; RECENT],
            deliveries: 0,
            order: 0,
        }
    }

    /// Returns the badge with which an actor calls.
    #[must_use]
    pub const fn badge_of(actor: usize) -> u64 {
        actor as u64 + 1
    }

    /// Returns how an actor's last step ended; nothing while it lasts.
    #[must_use]
    pub fn told(&self, actor: usize) -> Option<Told> {
        self.told[actor]
    }

    /// Returns whether an actor's process lives.
    #[must_use]
    pub fn is_alive(&self, actor: usize) -> bool {
        self.states[actor] != State::Gone
    }

    /// Returns whether an actor waits for an answer.
    #[must_use]
    pub fn is_calling(&self, actor: usize) -> bool {
        matches!(self.states[actor], State::Calling(_))
    }

    /// Returns how often an actor has faulted that waits for its pager; 0 if it does not.
    #[must_use]
    pub fn faults(&self, actor: usize) -> u64 {
        match self.states[actor] {
            State::Calling(Call { message: None, .. }) => self.faults[actor],
            _ => 0,
        }
    }

    /// Returns whether an actor waits for a message.
    #[must_use]
    pub fn is_receiving(&self, actor: usize) -> bool {
        matches!(self.states[actor], State::Receiving(..))
    }

    /// Lets something happen. Steps are for actors that are free.
    pub fn apply(&mut self, event: Event) {
        match event {
            Event::Step(actor, step) => {
                self.told[actor] = None;
                self.faults[actor] = 0;
                self.step(actor, step);
                for retrying in 0..ACTORS {
                    if let State::Retrying(endpoint) = self.states[retrying] {
                        self.touch(retrying, endpoint);
                    }
                }
            }
            Event::End(actor, how) => self.end(actor, how),
            Event::Start(actor) => self.states[actor] = State::Free,
            Event::SetBits(endpoint, bits) => {
                self.bits[endpoint] |= bits;
                self.settle(endpoint);
            }
            Event::CloseBadge(endpoint, badge) => {
                let order = self.draw();
                let news = News {
                    endpoint,
                    badge,
                    order,
                    known: Known::No,
                };
                if let Some(place) = self.news.iter_mut().find(|place| place.is_none()) {
                    *place = Some(news);
                }
                self.settle(endpoint);
            }
        }
    }

    fn step(&mut self, actor: usize, step: Step) {
        match step {
            Step::Call { endpoint, message } => self.call(actor, endpoint, Some(message)),
            Step::CallBriefly { endpoint, message } => {
                self.call(actor, endpoint, Some(message));
                self.finish(actor, Told::Failed(Error::Timeout));
            }
            Step::Touch { endpoint } => self.touch(actor, endpoint),
            Step::Receive { endpoint } => self.receive(actor, endpoint),
            Step::TryReceive { endpoint } => {
                self.receive(actor, endpoint);
                if self.is_receiving(actor) {
                    self.finish(actor, Told::Failed(Error::WouldBlock));
                }
            }
            Step::Reply { duty, message } => {
                let result = self.discharge(actor, duty, Told::Answer(message));
                self.finish(actor, result.map_or_else(Told::Failed, |()| Told::Done));
            }
            Step::ReplyReceive {
                duty,
                message,
                endpoint,
            } => match self.discharge(actor, duty, Told::Answer(message)) {
                // A caller that has gone is no error of the server.
                Ok(()) | Err(Error::ReplyGone) => self.receive(actor, endpoint),
                Err(error) => self.finish(actor, Told::Failed(error)),
            },
            Step::Drop { duty } => {
                let result = self.discharge(actor, duty, Told::Failed(Error::ReplyDropped));
                self.finish(actor, result.map_or_else(Told::Failed, |()| Told::Done));
            }
            Step::Forget { endpoint, badge } => {
                let told = self.forget(endpoint, badge);
                self.finish(actor, told);
            }
        }
    }

    fn touch(&mut self, actor: usize, endpoint: usize) {
        self.faults[actor] += 1;
        self.call(actor, endpoint, None);
    }

    fn call(&mut self, actor: usize, endpoint: usize, message: Option<Message>) {
        let ticket = self.tickets[endpoint];
        self.tickets[endpoint] += 1;
        self.states[actor] = State::Calling(Call {
            endpoint,
            message,
            ticket,
            is_redelivered: false,
            crashes: 0,
            holder: None,
        });
        self.settle(endpoint);
    }

    fn receive(&mut self, actor: usize, endpoint: usize) {
        self.states[actor] = State::Receiving(endpoint, self.draw());
        self.settle(endpoint);
    }

    /// Ends a call for the sake of whoever has the duty to.
    fn discharge(&mut self, actor: usize, duty: Duty, told: Told) -> Result<(), Error> {
        let State::Calling(call) = self.states[duty.caller] else {
            return Err(Error::ReplyGone);
        };
        match call.holder {
            Some((holder, delivery)) if delivery == duty.delivery => {
                if holder != actor {
                    return Err(Error::InvalidHandle);
                }
                match call.message {
                    Some(_) => self.finish(duty.caller, told),
                    None => self.states[duty.caller] = State::Retrying(call.endpoint),
                }
                Ok(())
            }
            _ => Err(Error::ReplyGone),
        }
    }

    fn forget(&mut self, endpoint: usize, badge: u64) -> Told {
        let is_it = |news: &News| {
            news.known == Known::Yes && news.endpoint == endpoint && news.badge == badge
        };
        match self
            .news
            .iter_mut()
            .find(|place| place.as_ref().is_some_and(is_it))
        {
            Some(place) => {
                *place = None;
                Told::Done
            }
            None => Told::Failed(Error::InvalidArgument),
        }
    }

    /// Ends a process: its requests go back, then what was told is told again.
    fn end(&mut self, actor: usize, how: Abandon) {
        self.states[actor] = State::Gone;
        self.told[actor] = None;
        for caller in 0..ACTORS {
            if self.held_by(caller, actor).is_some() {
                self.abandon(caller, how);
            }
        }
        for endpoint in 0..ENDPOINTS {
            while let Some(index) = self.first_news(endpoint, Known::Yes) {
                let order = self.draw();
                if let Some(news) = &mut self.news[index] {
                    news.known = Known::No;
                    news.order = order;
                }
            }
            self.settle(endpoint);
        }
    }

    /// Returns a caller's request if an actor has the duty to answer it.
    fn held_by(&self, caller: usize, actor: usize) -> Option<Call> {
        match self.states[caller] {
            State::Calling(call) if call.holder.is_some_and(|(holder, _)| holder == actor) => {
                Some(call)
            }
            _ => None,
        }
    }

    fn abandon(&mut self, caller: usize, how: Abandon) {
        let State::Calling(call) = &mut self.states[caller] else {
            return;
        };
        call.holder = None;
        call.is_redelivered = true;
        call.crashes += u8::from(how == Abandon::Crashed);
        let (endpoint, crashes) = (call.endpoint, call.crashes);
        if crashes >= MAX_REQUEST_CRASHES {
            self.finish(caller, Told::Failed(Error::ServerCrashed));
        } else {
            self.settle(endpoint);
        }
    }

    /// Returns whether the rules say all that follows from the end of an actor: not who gets which
    /// request if several meet receivers that wait, since they come one by one; nor when a process
    /// is gone whose page fault is given up.
    #[must_use]
    pub fn is_end_certain(&self, actor: usize) -> bool {
        let is_last_try =
            |call: Call| call.message.is_none() && call.crashes + 1 >= MAX_REQUEST_CRASHES;
        if (0..ACTORS).any(|caller| self.held_by(caller, actor).is_some_and(is_last_try)) {
            return false;
        }
        (0..ENDPOINTS).all(|endpoint| {
            let here = |caller: &usize| {
                let call = self.held_by(*caller, actor);
                call.is_some_and(|call| call.endpoint == endpoint)
            };
            (0..ACTORS).filter(here).count() <= 1 || self.last_receiver(endpoint).is_none()
        })
    }

    /// Lets those who wait have what there is.
    fn settle(&mut self, endpoint: usize) {
        while let Some(receiver) = self.last_receiver(endpoint) {
            let Some(told) = self.take(endpoint, receiver) else {
                break;
            };
            self.finish(receiver, told);
        }
    }

    /// Takes what comes next at an endpoint.
    fn take(&mut self, endpoint: usize, receiver: usize) -> Option<Told> {
        match core::mem::take(&mut self.bits[endpoint]) {
            0 => {}
            bits => return Some(Told::Bits(bits)),
        }
        if let Some(index) = self.first_news(endpoint, Known::No) {
            let order = self.draw();
            let news = self.news[index].as_mut()?;
            news.known = Known::Yes;
            news.order = order;
            return Some(Told::Closed(news.badge));
        }
        let caller = self.first_caller(endpoint)?;
        let delivery = self.deliveries;
        self.deliveries += 1;
        let duty = Duty { caller, delivery };
        self.recent[delivery as usize % RECENT] = Some(duty);
        let State::Calling(call) = &mut self.states[caller] else {
            return None;
        };
        call.holder = Some((receiver, delivery));
        let (badge, sequence) = (Self::badge_of(caller), call.ticket);
        let is_redelivered = call.is_redelivered;
        Some(match call.message {
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
        })
    }

    fn finish(&mut self, actor: usize, told: Told) {
        self.states[actor] = State::Free;
        self.told[actor] = Some(told);
    }

    fn draw(&mut self) -> u64 {
        self.order += 1;
        self.order
    }

    fn last_receiver(&self, at: usize) -> Option<usize> {
        let waiting = self.states.iter().enumerate();
        waiting
            .filter_map(|(actor, state)| match state {
                State::Receiving(endpoint, order) if *endpoint == at => Some((*order, actor)),
                _ => None,
            })
            .max()
            .map(|(_, actor)| actor)
    }

    fn first_caller(&self, at: usize) -> Option<usize> {
        let waiting = self.states.iter().enumerate();
        waiting
            .filter_map(|(actor, state)| match state {
                State::Calling(call) if call.endpoint == at && call.holder.is_none() => {
                    Some((call.ticket, actor))
                }
                _ => None,
            })
            .min()
            .map(|(_, actor)| actor)
    }

    fn first_news(&self, at: usize, known: Known) -> Option<usize> {
        let news = self.news.iter().enumerate();
        news.filter_map(|(index, news)| Some((index, news.as_ref()?)))
            .filter(|(_, news)| news.endpoint == at && news.known == known)
            .min_by_key(|(_, news)| news.order)
            .map(|(index, _)| index)
    }
}

#[cfg(test)]
mod tests;
