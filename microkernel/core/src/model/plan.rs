//! Random programs: which events are possible, and which of them numbers pick.

use crate::endpoint::Abandon;

use super::{Duty, ENDPOINTS, Event, Known, Message, Model, News, State, Step};

/// Lengths of payloads at which something may change: words, registers that are saved in groups,
/// all registers, pages.
const LENGTHS: [u16; 17] = [
    0, 1, 7, 8, 9, 24, 25, 31, 32, 33, 63, 64, 65, 72, 1024, 4095, 4096,
];
/// The answer to a page fault.
const NOTHING: Message = Message {
    label: 0,
    bytes: 0,
    content: 0,
};
/// Badges that are closed start here; those of actors are below.
const FIRST_CLOSED: u64 = 1000;

/// Numbers that pick: an endless supply, all of it from one.
struct Picks(u64);

impl Picks {
    /// Returns a number below a limit, by a step of `SplitMix64` (Steele et al., 2014).
    fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit.max(1) as u64) as usize
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.0;
        word = (word ^ word >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ word >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^ word >> 31
    }

    fn message(&mut self) -> Message {
        Message {
            label: self.next() as u32,
            bytes: LENGTHS[self.below(LENGTHS.len())],
            content: self.next(),
        }
    }
}

impl<const ACTORS: usize> Model<ACTORS> {
    /// Returns an event that is possible now, picked by a number.
    #[must_use]
    pub fn plan(&self, number: u64) -> Event {
        let picks = &mut Picks(number);
        let first = picks.below(ACTORS);
        let kind = picks.below(100);
        let mut free = (0..ACTORS).map(|at| (first + at) % ACTORS);
        let free = free.find(|&actor| self.states[actor] == State::Free);
        let crashing = (0..ACTORS)
            .filter(|&actor| self.states[actor] == State::Free)
            .find(|&actor| self.owes(actor));
        match kind {
            _ if !self.is_alive(first) => Event::Start(first),
            0 | 1 if self.is_end_certain(first) => Event::End(first, Abandon::Killed),
            // Only one who runs can crash, and it matters when it owes an answer.
            2..=5 => match crashing.filter(|&actor| self.is_end_certain(actor)) {
                Some(actor) => Event::End(actor, Abandon::Crashed),
                None => Event::SetBits(picks.below(ENDPOINTS), 1 << picks.below(64)),
            },
            6..=8 if self.news.contains(&None) => {
                Event::CloseBadge(picks.below(ENDPOINTS), FIRST_CLOSED + self.order)
            }
            _ => match free {
                Some(actor) if kind > 11 => Event::Step(actor, self.plan_step(actor, picks)),
                _ => Event::SetBits(picks.below(ENDPOINTS), 1 << picks.below(64)),
            },
        }
    }

    fn plan_step(&self, actor: usize, picks: &mut Picks) -> Step {
        // Most of it at one place, so that many meet.
        let endpoint = usize::from(picks.below(4) == 0);
        let message = picks.message();
        // Not too many wait for answers, seldom those who owe one: else nothing would go on.
        let may_wait = !self.owes(actor) || picks.below(16) == 0;
        let can_wait = may_wait && self.others_awake(actor) > 1;
        // Those who meet go on.
        let is_met = self.last_receiver(endpoint).is_some();
        let calls = if is_met { 93 } else { 50 };
        let duty = self.plan_duty(actor, picks);
        let is_fault = duty.is_some_and(|duty| self.faults(duty.caller) > 0);
        let message = if is_fault { NOTHING } else { message };
        match (picks.below(100), duty) {
            (0 | 1, _) if can_wait && (0..ACTORS).all(|other| self.faults(other) == 0) => {
                Step::Touch { endpoint }
            }
            (..=4, _) => self.plan_forget(endpoint, picks),
            (5..=9, _) => Step::TryReceive { endpoint },
            (10..=13, _) => Step::CallBriefly { endpoint, message },
            (14..=17, Some(duty)) if !is_fault => Step::Drop { duty },
            (14..=37, Some(duty)) => Step::Reply { duty, message },
            (38..=89, Some(duty)) => Step::ReplyReceive {
                duty,
                message,
                endpoint,
            },
            (kind, _) if can_wait && kind < calls => Step::Call { endpoint, message },
            _ => Step::Receive { endpoint },
        }
    }

    fn owes(&self, actor: usize) -> bool {
        (0..ACTORS).any(|caller| self.held_by(caller, actor).is_some())
    }

    fn others_awake(&self, actor: usize) -> usize {
        let others = (0..ACTORS).filter(|&other| other != actor);
        others
            .filter(|&other| self.is_alive(other) && !self.is_calling(other))
            .count()
    }

    /// Picks a duty to name: mostly one that the actor has, sometimes that of another, or one that
    /// is gone.
    fn plan_duty(&self, actor: usize, picks: &mut Picks) -> Option<Duty> {
        let first = picks.below(ACTORS);
        let own = (0..ACTORS)
            .map(|at| (first + at) % ACTORS)
            .find_map(|caller| {
                let (_, delivery) = self.held_by(caller, actor)?.holder?;
                Some(Duty { caller, delivery })
            });
        if own.is_some() && picks.below(16) > 0 {
            return own;
        }
        let recent = self.recent[picks.below(self.recent.len())];
        recent.filter(|_| own.is_some() || picks.below(4) == 0)
    }

    fn plan_forget(&self, endpoint: usize, picks: &mut Picks) -> Step {
        let first = picks.below(self.news.len());
        let news = self.news.iter().cycle().skip(first);
        let told = news
            .take(self.news.len())
            .flatten()
            .find(|news| news.known == Known::Yes);
        let unknown = News {
            endpoint,
            badge: 0,
            order: 0,
            known: Known::Yes,
        };
        let News {
            endpoint, badge, ..
        } = *told.unwrap_or(&unknown);
        Step::Forget { endpoint, badge }
    }
}
