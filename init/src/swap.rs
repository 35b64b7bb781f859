//! One swap of a running service to another version, as a state machine.
//!
//! News come in through methods ([`Swap::prepared`], [`Swap::started`], [`Swap::look`] and so on),
//! what to do comes out as [`Action`]s. The two versions are the *old* one, which serves when the
//! swap begins, and the *new* one, which runs beside it and waits at a gate.
//!
//! A service with state is swapped in two rounds. In the *rehearsal* the old version rests only until
//! its state is copied, and serves while the new one migrates the copy and tests itself: whatever
//! hangs, crashes or fails there costs clients nothing. Then the new version is started again, the old
//! one comes to rest for good, and the same is done with its last state, in a time that is bounded by
//! what the rehearsal took. Without state one round is enough: the old version rests only when the
//! test has passed.
//!
//! Invariants: the new version is told to serve only when the old one has ended; the old one is
//! told to go on only when the new one is being ended, which cannot have served then. The state
//! belongs to the old version until [`Action::Adopt`], and to the new one from there on: that is
//! the commit. Whatever fails before it is rolled back; what fails behind it is an ordinary death
//! of the new version. Each phase has a limit, so a swap always ends.
//!
//! Nothing of this outlives `init`: an `init` that is started in place finds in its ledger whether
//! the swap was committed, and in the service page which order the version was given last.

mod interfaces;
mod ticket;

use alloc::vec;
use alloc::vec::Vec;

use libipc::proto::init::{Cause, SwapOutcome, SwapPhase, SwapReason, SwapReport};
use libsys::service::{Exported, Order, Phase, Serving, Trouble};

use crate::MS;

pub use interfaces::Direction;
pub use ticket::{Ticket, waiting};

/// Who is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    /// The version that serves when the swap begins.
    Old,
    /// The version that is to serve when it ends.
    New,
}

/// What has to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Check the image and get what the new version needs; [`Swap::prepared`] tells how it went.
    Prepare,
    /// Start the new version at the gate; [`Swap::started`] tells how it went.
    Start,
    /// Give an order, with an argument.
    Order(Which, Order, u64),
    /// Copy the state of the old version to the region of the new one; [`Swap::copied`] tells how
    /// it went.
    Copy,
    /// From now on the new version, its program and its region are those of the service.
    Adopt,
    /// End a version. The new one may be started again then.
    End(Which),
    /// End the process of the new version; when it has ended it is started again.
    Stop,
    /// Tell who asked what came of it.
    Report(SwapReport),
}

/// What the service page of a version says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct View {
    /// How far it has come.
    pub phase: Phase,
    /// The word that belongs to the phase.
    pub detail: u64,
    /// Hash of the schema of its state, or 0.
    pub schema: u64,
    /// What it serves, if that is known already.
    pub serving: Serving,
    /// When it first received after it was told to serve, ns since boot, or 0.
    pub first_receive: u64,
}

/// What is known of a version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sight {
    /// It lives, and its page says this.
    Alive(View),
    /// It has ended, for this reason, and said this about it before.
    Ended(Cause, Option<Trouble>),
    /// There is none (yet).
    Nothing,
}

/// What is to be swapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subject {
    /// Bytes of the state region; 0 when there is none.
    pub state_bytes: u64,
    /// What the old version serves.
    pub serving: Serving,
    /// Whether the new version is the one before it.
    pub direction: Direction,
}

/// Where the swap is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// Something is going on in this phase; nothing is decided.
    Trying(SwapPhase),
    /// The new version was adopted; the old one has not ended yet.
    Ending,
    /// The new version was told to serve.
    Serving,
    /// It was decided to roll back.
    RollingBack(SwapPhase, SwapReason),
    /// All was reported.
    Over,
}

/// What a try is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Round {
    /// Finding out whether the new version can take over, while the old one serves.
    Rehearsal,
    /// The rehearsal has succeeded; its instance is ending.
    Between,
    /// Taking over.
    Real,
}

/// What was begun outside and has not ended yet: a swap is not over before that.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Pending {
    is_preparing: bool,
    is_starting: bool,
    is_copying: bool,
    /// The old version was told to go on and has not received yet.
    is_resuming: bool,
}

impl Pending {
    const fn is_any(self) -> bool {
        self.is_preparing || self.is_starting || self.is_copying || self.is_resuming
    }
}

/// One swap.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Swap {
    subject: Subject,
    step: Step,
    round: Round,
    pending: Pending,
    begun: u64,
    /// End of the time that the step has.
    deadline: u64,
    /// When the old version was told to come to rest, until it is known when that ended.
    quiesced: Option<u64>,
    /// How long it rested in the rehearsal, ns.
    rehearsal_pause_ns: Option<u64>,
    /// How long the new version may take for state and test while the old one rests, ns.
    patience_ns: u64,
    /// When it was told that the state is there.
    opened: u64,
    /// Whether it came to rest.
    is_stopped: bool,
    /// When the version that serves in the end received first.
    received: Option<u64>,
    is_exported: bool,
    has_other_interface: bool,
}

/// Returns the limit of a phase, ns.
const fn limit(phase: SwapPhase) -> u64 {
    MS * match phase {
        // The image may be large, and the memory manager may be restarting.
        SwapPhase::Verify | SwapPhase::Start => 10_000,
        SwapPhase::Announce | SwapPhase::Test | SwapPhase::Commit => 2_000,
        // From here on clients wait.
        SwapPhase::Quiesce => 500,
        SwapPhase::Copy | SwapPhase::Migrate => 5_000,
    }
}

/// How long the new version may take at least for state and test while clients wait, ns.
const MIN_PATIENCE: u64 = 10 * MS;
/// What it may take in terms of what it took in the rehearsal.
const PATIENCE_FACTOR: u64 = 3;
/// How long it may take at most, ns: a rehearsal that its host stopped for a while must not be taken
/// for a measure.
const MAX_PATIENCE: u64 = 1_000 * MS;
/// How often it is looked at meanwhile, ns. No look counts for more than this: a guest that its host
/// stopped for a second has not waited for a second.
const PATIENCE_STEP: u64 = 2 * MS;

/// How long the old version may take to go on, ns, until the swap is over without it. Whether it
/// hangs is then a matter of its heartbeat.
const RESUME_LIMIT: u64 = 2_000 * MS;

impl Swap {
    /// Begins a swap and says what to do first.
    pub fn begin(subject: Subject, now: u64) -> (Swap, Vec<Action>) {
        let swap = Swap {
            subject,
            step: Step::Trying(SwapPhase::Verify),
            round: if subject.state_bytes > 0 {
                Round::Rehearsal
            } else {
                Round::Real
            },
            pending: Pending {
                is_preparing: true,
                ..Pending::default()
            },
            begun: now,
            deadline: now.saturating_add(limit(SwapPhase::Verify)),
            quiesced: None,
            rehearsal_pause_ns: None,
            patience_ns: 0,
            opened: now,
            is_stopped: false,
            received: None,
            is_exported: false,
            has_other_interface: false,
        };
        (swap, vec![Action::Prepare])
    }

    /// Returns whether everything has ended and was reported.
    pub fn is_over(&self) -> bool {
        self.step == Step::Over
    }

    /// Returns whether the new version was adopted.
    pub fn is_committed(&self) -> bool {
        matches!(self.step, Step::Ending | Step::Serving)
    }

    /// Returns when to look again at the latest; `u64::MAX` when only news count.
    pub fn deadline(&self) -> u64 {
        match self.step {
            Step::Over => u64::MAX,
            Step::RollingBack(..) if !self.pending.is_resuming => u64::MAX,
            _ => self.deadline,
        }
    }

    /// Notes whether image and memory are ready.
    pub fn prepared(&mut self, result: Result<(), SwapReason>, now: u64) -> Vec<Action> {
        self.pending.is_preparing = false;
        match (self.step, result) {
            (Step::Trying(SwapPhase::Verify), Ok(())) => {
                self.pending.is_starting = true;
                self.enter(SwapPhase::Start, now);
                vec![Action::Start]
            }
            (Step::Trying(SwapPhase::Verify), Err(reason)) => self.roll_back(reason, now),
            _ => self.finish_if_done(now),
        }
    }

    /// Notes whether the new version runs.
    pub fn started(&mut self, result: Result<(), SwapReason>, now: u64) -> Vec<Action> {
        self.pending.is_starting = false;
        match (self.step, result) {
            (Step::Trying(SwapPhase::Start), Ok(())) => {
                self.enter(SwapPhase::Announce, now);
                Vec::new()
            }
            (Step::Trying(SwapPhase::Start), Err(reason)) => self.roll_back(reason, now),
            (_, Ok(())) => {
                // It is not wanted any more.
                let mut actions = vec![Action::End(Which::New)];
                actions.extend(self.finish_if_done(now));
                actions
            }
            (_, Err(_)) => self.finish_if_done(now),
        }
    }

    /// Notes whether the state was copied.
    pub fn copied(&mut self, result: Result<(), SwapReason>, now: u64) -> Vec<Action> {
        self.pending.is_copying = false;
        match (self.step, result) {
            (Step::Trying(SwapPhase::Copy), Ok(())) => {
                let mut actions = self.open(now);
                if self.round == Round::Rehearsal {
                    actions.insert(0, Action::Order(Which::Old, Order::Run, 0));
                }
                actions
            }
            (Step::Trying(SwapPhase::Copy), Err(reason)) => self.roll_back(reason, now),
            _ => self.finish_if_done(now),
        }
    }

    /// Gives the swap up, if it is not too late for that.
    pub fn give_up(&mut self, reason: SwapReason, now: u64) -> Vec<Action> {
        match self.step {
            Step::Trying(_) => self.roll_back(reason, now),
            _ => Vec::new(),
        }
    }

    /// Looks at both versions and at the time. To be called again after its actions were carried
    /// out, until there are none.
    pub fn look(&mut self, old: Sight, new: Sight, now: u64) -> Vec<Action> {
        match self.step {
            Step::Trying(phase) => self.look_while_trying(phase, old, new, now),
            Step::Ending => match old {
                Sight::Alive(_) if now < self.deadline => Vec::new(),
                // Ending it is all that can be done: the new one must not serve beside it.
                Sight::Alive(_) => {
                    self.deadline = now.saturating_add(limit(SwapPhase::Commit));
                    vec![Action::End(Which::Old)]
                }
                Sight::Ended(..) | Sight::Nothing => {
                    self.step = Step::Serving;
                    self.deadline = now.saturating_add(limit(SwapPhase::Commit));
                    vec![Action::Order(Which::New, Order::Commit, 0)]
                }
            },
            Step::Serving => {
                let (received, is_over) = self.look_for_receive(new, now);
                if !is_over {
                    return Vec::new();
                }
                self.received = received;
                self.report(SwapOutcome::Committed, now)
            }
            Step::RollingBack(..) => {
                if self.pending.is_resuming {
                    let (received, is_over) = self.look_for_receive(old, now);
                    if is_over {
                        self.received = received;
                        self.pending.is_resuming = false;
                    }
                }
                self.finish_if_done(now)
            }
            Step::Over => Vec::new(),
        }
    }

    /// Returns when a version that was told to serve received first, and whether there is nothing
    /// more to wait for: it has, it ended, or it takes too long.
    fn look_for_receive(&self, sight: Sight, now: u64) -> (Option<u64>, bool) {
        let earliest = self.quiesced.unwrap_or(self.begun);
        match sight {
            // A time that cannot be is taken for now.
            Sight::Alive(view) if view.first_receive != 0 => {
                let at = view.first_receive;
                (
                    Some(if (earliest..=now).contains(&at) {
                        at
                    } else {
                        now
                    }),
                    true,
                )
            }
            Sight::Alive(_) => (None, now >= self.deadline),
            Sight::Ended(..) | Sight::Nothing => (None, true),
        }
    }

    fn look_while_trying(
        &mut self,
        phase: SwapPhase,
        old: Sight,
        new: Sight,
        now: u64,
    ) -> Vec<Action> {
        let Sight::Alive(old) = old else {
            return self.roll_back(SwapReason::OldDied, now);
        };
        self.note_end_of_rehearsal_pause(old, now);
        if self.round == Round::Between {
            return match new {
                Sight::Alive(_) => self.check_time(now),
                Sight::Ended(..) | Sight::Nothing => self.begin_again(now),
            };
        }
        let is_started = !matches!(phase, SwapPhase::Verify | SwapPhase::Start);
        let new = match new {
            Sight::Alive(view) => Some(view),
            Sight::Ended(_, Some(trouble)) if is_started => {
                return self.failed(Some(trouble), now);
            }
            Sight::Ended(cause, None) if is_started => {
                return self.roll_back(SwapReason::NewDied(cause), now);
            }
            Sight::Ended(..) | Sight::Nothing => None,
        };
        let Some(new) = new.filter(|_| is_started) else {
            return self.check_time(now);
        };
        let is_nonsense = |view: View| view.phase == Phase::Nonsense;
        match new.phase {
            Phase::Failed => return self.failed(Trouble::from_word(new.detail), now),
            Phase::Nonsense => return self.roll_back(SwapReason::Nonsense, now),
            _ if is_nonsense(old) => return self.roll_back(SwapReason::Nonsense, now),
            _ => {}
        }
        match (phase, old.phase, new.phase) {
            (SwapPhase::Announce, _, Phase::Announced) if self.subject.state_bytes == 0 => {
                self.open(now)
            }
            // It must have gone on since the rehearsal: an order that follows another one at once
            // may be all that it sees.
            (SwapPhase::Announce, _, Phase::Announced) if self.quiesced.is_none() => {
                self.quiesce(new.schema, now)
            }
            (SwapPhase::Migrate, _, Phase::Opened) => {
                self.step = Step::Trying(SwapPhase::Test);
                if !self.is_waited_for() {
                    self.enter(SwapPhase::Test, now);
                }
                Vec::new()
            }
            (SwapPhase::Migrate | SwapPhase::Test, phase, Phase::Tested)
                if phase == Phase::Quiesced || !self.is_waited_for() =>
            {
                self.tested(new, now)
            }
            (SwapPhase::Quiesce, Phase::Quiesced, Phase::Tested)
                if self.subject.state_bytes == 0 =>
            {
                self.is_stopped = true;
                self.commit(new, now)
            }
            (SwapPhase::Quiesce, Phase::Quiesced, _) => self.take_state(old, now),
            _ => self.check_time(now),
        }
    }

    /// The old version is at rest: its state is final.
    fn take_state(&mut self, old: View, now: u64) -> Vec<Action> {
        self.is_stopped = true;
        self.is_exported = old.detail == Exported::Done as u64;
        self.pending.is_copying = true;
        self.enter(SwapPhase::Copy, now);
        vec![Action::Copy]
    }

    /// Has the new version read the state.
    fn open(&mut self, now: u64) -> Vec<Action> {
        self.enter(SwapPhase::Migrate, now);
        self.opened = now;
        if self.is_waited_for() {
            self.deadline = now.saturating_add(PATIENCE_STEP);
        }
        vec![Action::Order(Which::New, Order::Open, 0)]
    }

    /// Returns whether clients wait until the new version has read the state and tested itself.
    fn is_waited_for(&self) -> bool {
        self.round == Round::Real && self.subject.state_bytes > 0
    }

    /// Has the old version come to rest; the new one keeps its state in this schema.
    fn quiesce(&mut self, schema: u64, now: u64) -> Vec<Action> {
        self.enter(SwapPhase::Quiesce, now);
        self.quiesced = Some(now);
        vec![Action::Order(Which::Old, Order::Quiesce, schema)]
    }

    /// The new version could take over.
    fn tested(&mut self, new: View, now: u64) -> Vec<Action> {
        self.step = Step::Trying(SwapPhase::Test);
        if let Err(reason) = self.compare(new) {
            return self.roll_back(reason, now);
        }
        if self.round == Round::Rehearsal {
            let took = now.saturating_sub(self.opened);
            let expected = took.saturating_mul(PATIENCE_FACTOR);
            self.patience_ns = expected.clamp(MIN_PATIENCE, MAX_PATIENCE);
            self.round = Round::Between;
            self.enter(SwapPhase::Start, now);
            return vec![Action::Stop];
        }
        if self.subject.state_bytes == 0 {
            return self.quiesce(new.schema, now);
        }
        self.commit(new, now)
    }

    /// Starts the new version again, to take over this time.
    fn begin_again(&mut self, now: u64) -> Vec<Action> {
        self.round = Round::Real;
        self.pending.is_starting = true;
        self.enter(SwapPhase::Start, now);
        vec![Action::End(Which::New), Action::Start]
    }

    /// Notes when the old version received again, which rested only for the rehearsal.
    fn note_end_of_rehearsal_pause(&mut self, old: View, now: u64) {
        let is_released = match self.step {
            Step::Trying(SwapPhase::Quiesce | SwapPhase::Copy) => false,
            _ => self.round != Round::Real || self.rehearsal_pause_ns.is_none(),
        };
        if is_released
            && self.is_stopped
            && let Some(quiesced) = self.quiesced
            && let (Some(at), true) = self.look_for_receive(Sight::Alive(old), now)
        {
            self.rehearsal_pause_ns = Some(at.saturating_sub(quiesced));
            self.quiesced = None;
            self.is_stopped = false;
        }
    }

    /// Returns whether the interfaces differ, if the new version can take the place of the old one.
    fn compare(&self, new: View) -> Result<bool, SwapReason> {
        let subject = &self.subject;
        interfaces::compare(&subject.serving, &new.serving, subject.direction)
    }

    fn commit(&mut self, new: View, now: u64) -> Vec<Action> {
        self.has_other_interface = match self.compare(new) {
            Ok(is_other) => is_other,
            Err(reason) => return self.roll_back(reason, now),
        };
        self.step = Step::Ending;
        self.deadline = now.saturating_add(limit(SwapPhase::Commit));
        vec![Action::Adopt, Action::End(Which::Old)]
    }

    /// The new version says that it cannot take over.
    fn failed(&mut self, trouble: Option<Trouble>, now: u64) -> Vec<Action> {
        let reason = match trouble {
            Some(Trouble::UnknownSchema) => SwapReason::UnknownSchema,
            Some(Trouble::StateLost) => SwapReason::StateLost,
            Some(Trouble::SelfTest) => {
                self.step = Step::Trying(SwapPhase::Test);
                SwapReason::SelfTest
            }
            Some(Trouble::CannotServe) => SwapReason::CannotServe,
            None => SwapReason::Nonsense,
        };
        self.roll_back(reason, now)
    }

    fn check_time(&mut self, now: u64) -> Vec<Action> {
        if now < self.deadline {
            return Vec::new();
        }
        let is_testing = matches!(
            self.step,
            Step::Trying(SwapPhase::Migrate | SwapPhase::Test)
        );
        if is_testing && self.is_waited_for() && self.patience_ns > PATIENCE_STEP {
            self.patience_ns -= PATIENCE_STEP;
            self.deadline = now.saturating_add(PATIENCE_STEP);
            return Vec::new();
        }
        self.roll_back(SwapReason::TimedOut, now)
    }

    fn enter(&mut self, phase: SwapPhase, now: u64) {
        self.step = Step::Trying(phase);
        self.deadline = now.saturating_add(limit(phase));
    }

    /// Ends the new version and has the old one go on.
    fn roll_back(&mut self, reason: SwapReason, now: u64) -> Vec<Action> {
        let phase = match self.step {
            Step::Trying(phase) => phase,
            _ => SwapPhase::Commit,
        };
        self.step = Step::RollingBack(phase, reason);
        let mut actions = Vec::new();
        let is_there = !matches!(phase, SwapPhase::Verify | SwapPhase::Start);
        if is_there || self.round == Round::Between {
            actions.push(Action::End(Which::New));
        }
        if self.quiesced.is_some() {
            actions.push(Action::Order(Which::Old, Order::Run, 0));
            self.pending.is_resuming = self.is_stopped;
            self.deadline = now.saturating_add(RESUME_LIMIT);
        }
        actions.extend(self.finish_if_done(now));
        actions
    }

    fn finish_if_done(&mut self, now: u64) -> Vec<Action> {
        match self.step {
            Step::RollingBack(phase, reason) if !self.pending.is_any() => {
                self.report(SwapOutcome::RolledBack { phase, reason }, now)
            }
            _ => Vec::new(),
        }
    }

    fn report(&mut self, outcome: SwapOutcome, now: u64) -> Vec<Action> {
        self.step = Step::Over;
        let since = |at: u64| self.received.unwrap_or(now).saturating_sub(at);
        let last_pause_ns = self.quiesced.filter(|_| self.is_stopped).map(since);
        vec![Action::Report(SwapReport {
            outcome,
            // The longer one of two, if there were two.
            pause_ns: last_pause_ns.max(self.rehearsal_pause_ns),
            took_ns: now.saturating_sub(self.begun),
            state_bytes: self.subject.state_bytes,
            is_exported: self.is_exported,
            has_other_interface: self.has_other_interface,
        })]
    }
}

#[cfg(test)]
mod tests;
