//! Swaps by hand, and in a world in which anything may fail at any time.

use libsys::service::{MAX_INTERFACES, Served};
use proptest::prelude::*;

use super::*;

const SERVED: Served = Served {
    id: 9,
    version: 1,
    methods: 4,
};
const SERVES: Serving = Serving {
    digest: 5 << 32 | 1,
    interfaces: [SERVED; MAX_INTERFACES],
    prefix: 66,
};
const SUBJECT: Subject = Subject {
    state_bytes: 4096,
    serving: SERVES,
    direction: Direction::Forward,
};

fn view(phase: Phase) -> View {
    View {
        phase,
        detail: 0,
        schema: 77,
        serving: SERVES,
        first_receive: 0,
    }
}

fn alive(phase: Phase) -> Sight {
    Sight::Alive(view(phase))
}

const CRASH: Cause = Cause::Exited(1);
const SERVING: Sight = Sight::Alive(View {
    phase: Phase::Working,
    detail: 0,
    schema: 77,
    serving: SERVES,
    first_receive: 0,
});

/// The old version, which went on at this time.
fn receiving(first_receive: u64) -> Sight {
    Sight::Alive(View {
        first_receive,
        ..view(Phase::Working)
    })
}

/// A swap whose new version has a copy of the state and rehearses; the old one rested for 3 ns.
fn at_rehearsal() -> Swap {
    let (mut swap, first) = Swap::begin(SUBJECT, 0);
    assert_eq!(first, [Action::Prepare]);
    assert_eq!(swap.prepared(Ok(()), 1), [Action::Start]);
    assert_eq!(swap.started(Ok(()), 2), []);
    assert_eq!(swap.look(SERVING, alive(Phase::Working), 3), []);
    assert_eq!(
        swap.look(SERVING, alive(Phase::Announced), 3),
        [Action::Order(Which::Old, Order::Quiesce, 77)]
    );
    assert_eq!(
        swap.look(alive(Phase::Quiesced), alive(Phase::Announced), 4),
        [Action::Copy]
    );
    assert_eq!(
        swap.copied(Ok(()), 5),
        [
            Action::Order(Which::Old, Order::Run, 0),
            Action::Order(Which::New, Order::Open, 0)
        ]
    );
    assert_eq!(swap.look(receiving(6), alive(Phase::Opened), 6), []);
    swap
}

/// A swap whose old version is at rest for good and whose new one has the state.
fn at_test() -> Swap {
    let mut swap = at_rehearsal();
    assert_eq!(
        swap.look(receiving(6), alive(Phase::Tested), 7),
        [Action::Stop]
    );
    assert_eq!(swap.look(receiving(6), alive(Phase::Tested), 7), []);
    assert_eq!(
        swap.look(receiving(6), Sight::Ended(CRASH, None), 8),
        [Action::End(Which::New), Action::Start]
    );
    assert_eq!(swap.started(Ok(()), 9), []);
    assert_eq!(
        swap.look(receiving(6), alive(Phase::Announced), 10),
        [Action::Order(Which::Old, Order::Quiesce, 77)]
    );
    assert_eq!(
        swap.look(alive(Phase::Quiesced), alive(Phase::Announced), 12),
        [Action::Copy]
    );
    assert_eq!(
        swap.copied(Ok(()), 13),
        [Action::Order(Which::New, Order::Open, 0)]
    );
    assert_eq!(
        swap.look(alive(Phase::Quiesced), alive(Phase::Opened), 14),
        []
    );
    swap
}

fn rolled_back(phase: SwapPhase, reason: SwapReason) -> SwapOutcome {
    SwapOutcome::RolledBack { phase, reason }
}

/// Returns the report among actions.
fn report(actions: &[Action]) -> Option<SwapReport> {
    actions.iter().find_map(|action| match action {
        Action::Report(report) => Some(*report),
        _ => None,
    })
}

#[test]
fn a_swap_commits_when_the_new_version_has_tested_itself() {
    let mut swap = at_test();
    assert_eq!(
        swap.look(alive(Phase::Quiesced), alive(Phase::Tested), 15),
        [Action::Adopt, Action::End(Which::Old)]
    );
    assert_eq!(
        swap.look(alive(Phase::Quiesced), alive(Phase::Tested), 16),
        []
    );
    assert_eq!(
        swap.look(Sight::Ended(CRASH, None), alive(Phase::Tested), 17),
        [Action::Order(Which::New, Order::Commit, 0)]
    );
    let receives = Sight::Alive(View {
        first_receive: 18,
        ..view(Phase::Working)
    });
    let report = report(&swap.look(Sight::Nothing, receives, 30)).unwrap();
    assert_eq!(report.outcome, SwapOutcome::Committed);
    // From the order to come to rest at 10 to the first receive at 18.
    assert_eq!((report.pause_ns, report.took_ns), (Some(8), 30));
    assert!(swap.is_over());
}

#[test]
fn a_failed_self_test_has_the_old_version_go_on() {
    let mut swap = at_test();
    let failed = Sight::Alive(View {
        detail: Trouble::SelfTest as u64,
        ..view(Phase::Failed)
    });
    assert_eq!(
        swap.look(alive(Phase::Quiesced), failed, 20),
        [
            Action::End(Which::New),
            Action::Order(Which::Old, Order::Run, 0)
        ]
    );
    assert_eq!(swap.look(alive(Phase::Quiesced), Sight::Nothing, 21), []);
    let goes_on = Sight::Alive(View {
        first_receive: 22,
        ..view(Phase::Working)
    });
    let report = report(&swap.look(goes_on, Sight::Nothing, 23)).unwrap();
    assert_eq!(
        report.outcome,
        rolled_back(SwapPhase::Test, SwapReason::SelfTest)
    );
    assert_eq!(report.pause_ns, Some(12));
}

#[test]
fn what_fails_in_the_rehearsal_costs_no_more_than_the_copy() {
    for (sight, reason) in [
        (Sight::Ended(CRASH, None), SwapReason::NewDied(CRASH)),
        (
            Sight::Ended(CRASH, Some(Trouble::SelfTest)),
            SwapReason::SelfTest,
        ),
        (
            Sight::Ended(CRASH, Some(Trouble::UnknownSchema)),
            SwapReason::UnknownSchema,
        ),
        (alive(Phase::Opened), SwapReason::TimedOut),
    ] {
        let mut swap = at_rehearsal();
        let actions = swap.look(receiving(6), sight, swap.deadline());
        assert_eq!(actions[0], Action::End(Which::New));
        let report = report(&actions).unwrap();
        assert_eq!(report.outcome, rolled_back(SwapPhase::Test, reason));
        assert_eq!(report.pause_ns, Some(3));
    }
}

#[test]
fn a_version_that_hangs_only_when_clients_wait_is_found_soon() {
    let mut swap = at_test();
    let (quiesced, opened) = (alive(Phase::Quiesced), alive(Phase::Opened));
    // The host stops the guest for a second: that is no time that the version had.
    let mut now = 1_000 * MS;
    let mut looks = 1;
    assert_eq!(swap.look(quiesced, opened, now), []);
    while swap.look(quiesced, opened, now).is_empty() {
        now = swap.deadline();
        looks += 1;
        assert!(looks < 1_000, "never found");
    }
    let waited = now - 1_000 * MS;
    assert!(
        (MIN_PATIENCE / 2..=MIN_PATIENCE).contains(&waited),
        "{waited}"
    );
}

#[test]
fn without_state_the_old_version_rests_only_when_the_test_has_passed() {
    let subject = Subject {
        state_bytes: 0,
        ..SUBJECT
    };
    let (mut swap, _) = Swap::begin(subject, 0);
    swap.prepared(Ok(()), 1);
    swap.started(Ok(()), 2);
    assert_eq!(
        swap.look(SERVING, alive(Phase::Announced), 3),
        [Action::Order(Which::New, Order::Open, 0)]
    );
    assert_eq!(
        swap.look(SERVING, alive(Phase::Tested), 4),
        [Action::Order(Which::Old, Order::Quiesce, 77)]
    );
    assert_eq!(swap.look(SERVING, alive(Phase::Tested), 5), []);
    assert_eq!(
        swap.look(alive(Phase::Quiesced), alive(Phase::Tested), 6),
        [Action::Adopt, Action::End(Which::Old)]
    );
}

#[test]
fn other_interfaces_are_refused_and_versions_with_more_methods_are_not() {
    let grown = Serving {
        digest: SERVES.digest + 1,
        interfaces: SERVES.interfaces.map(|served| Served {
            version: 2,
            methods: 5,
            ..served
        }),
        ..SERVES
    };
    let changed = Serving {
        prefix: 67,
        ..grown
    };
    let versions = SwapReason::OtherVersion {
        interface: 9,
        old: 1,
        new: 2,
    };
    for (serving, expected) in [(grown, None), (changed, Some(versions))] {
        let mut swap = at_test();
        let tested = Sight::Alive(View {
            serving,
            ..view(Phase::Tested)
        });
        let actions = swap.look(alive(Phase::Quiesced), tested, 20);
        assert_eq!(actions.contains(&Action::Adopt), expected.is_none());
        if let Some(reason) = expected {
            let report = report(&swap.look(Sight::Nothing, Sight::Nothing, 21)).unwrap();
            assert_eq!(report.outcome, rolled_back(SwapPhase::Test, reason));
        } else {
            swap.look(Sight::Nothing, tested, 21);
            let report = report(&swap.look(Sight::Nothing, Sight::Nothing, 22)).unwrap();
            assert!(report.has_other_interface);
        }
    }
}

#[test]
fn a_refused_image_stops_nobody() {
    let (mut swap, _) = Swap::begin(SUBJECT, 5);
    let reason = SwapReason::TooLarge {
        needed: 9,
        reserved: 8,
    };
    let report = report(&swap.prepared(Err(reason), 7)).unwrap();
    assert_eq!(report.outcome, rolled_back(SwapPhase::Verify, reason));
    assert_eq!((report.pause_ns, report.took_ns), (None, 2));
}

#[test]
fn a_version_that_does_not_come_to_rest_goes_on_without_a_pause() {
    let (mut swap, _) = Swap::begin(SUBJECT, 0);
    swap.prepared(Ok(()), 0);
    swap.started(Ok(()), 0);
    swap.look(SERVING, alive(Phase::Announced), 0);
    let actions = swap.look(SERVING, alive(Phase::Announced), swap.deadline());
    assert_eq!(
        actions[..2],
        [
            Action::End(Which::New),
            Action::Order(Which::Old, Order::Run, 0)
        ]
    );
    let report = report(&actions).unwrap();
    assert_eq!(
        report.outcome,
        rolled_back(SwapPhase::Quiesce, SwapReason::TimedOut)
    );
    assert_eq!(report.pause_ns, None);
}

#[test]
fn what_was_begun_is_waited_for_before_the_swap_is_over() {
    let (mut swap, _) = Swap::begin(SUBJECT, 0);
    swap.prepared(Ok(()), 0);
    assert_eq!(swap.give_up(SwapReason::Asked, 1), []);
    assert!(!swap.is_over());
    let actions = swap.started(Ok(()), 2);
    assert_eq!(actions[0], Action::End(Which::New));
    assert!(report(&actions).is_some() && swap.is_over());
}

/// A version in the world.
#[derive(Clone, Copy, Debug, Default)]
struct Version {
    is_alive: bool,
    was_started: bool,
    order: u8,
    phase: u8,
    detail: u64,
    serving: Serving,
    first_receive: u64,
    /// It never does anything again by itself.
    hangs: bool,
}

impl Version {
    fn sight(&self) -> Sight {
        if self.is_alive {
            Sight::Alive(View {
                phase: match self.phase {
                    0 => Phase::Working,
                    1 => Phase::Announced,
                    2 => Phase::Tested,
                    3 => Phase::Quiesced,
                    4 => Phase::Failed,
                    5 => Phase::Opened,
                    _ => Phase::Nonsense,
                },
                detail: self.detail,
                schema: 1,
                serving: self.serving,
                first_receive: self.first_receive,
            })
        } else if self.was_started {
            Sight::Ended(CRASH, None)
        } else {
            Sight::Nothing
        }
    }
}

/// Everything around a swap: both versions, their state, and who was told what.
#[derive(Debug)]
struct World {
    swap: Swap,
    now: u64,
    old: Version,
    new: Version,
    is_preparing: bool,
    is_starting: bool,
    is_copying: bool,
    is_adopted: bool,
    /// What the state of the old one and of the new one is: counts the requests served.
    old_state: u64,
    new_state: Option<u64>,
    reports: Vec<SwapReport>,
}

impl World {
    fn new() -> Self {
        let (swap, actions) = Swap::begin(SUBJECT, 0);
        let mut world = World {
            swap,
            // A receive at 0 would be none.
            now: 1,
            old: Version {
                is_alive: true,
                was_started: true,
                serving: SERVES,
                ..Version::default()
            },
            new: Version::default(),
            is_preparing: false,
            is_starting: false,
            is_copying: false,
            is_adopted: false,
            old_state: 0,
            new_state: None,
            reports: vec![],
        };
        world.perform(actions);
        world
    }

    fn old_receives(&self) -> bool {
        self.old.is_alive && self.old.phase != 3
    }

    fn new_receives(&self) -> bool {
        self.new.is_alive && self.new.order == Order::Commit as u8
    }

    fn perform(&mut self, actions: Vec<Action>) {
        for action in actions {
            match action {
                Action::Prepare => self.is_preparing = true,
                Action::Start => self.is_starting = true,
                Action::Order(Which::Old, order, _) => self.old.order = order as u8,
                Action::Order(Which::New, order, _) => {
                    if order == Order::Commit {
                        assert!(self.is_adopted && !self.old.is_alive, "two receivers");
                    }
                    if order == Order::Open {
                        assert_eq!(self.new_state, Some(self.old_state), "state not final");
                    }
                    self.new.order = order as u8;
                }
                Action::Copy => {
                    assert!(!self.old_receives(), "copy of a state that changes");
                    self.is_copying = true;
                }
                Action::Adopt => {
                    assert!(!self.is_adopted && !self.old_receives());
                    assert_eq!(self.new_state, Some(self.old_state), "state not final");
                    self.is_adopted = true;
                }
                Action::End(Which::Old) => {
                    assert!(self.is_adopted, "only one that has a successor");
                    self.old.hangs = false;
                    self.old.order = 99;
                }
                Action::End(Which::New) => self.new.is_alive = false,
                Action::Stop => (self.new.hangs, self.new.order) = (false, 99),
                Action::Report(report) => self.reports.push(report),
            }
        }
    }

    fn look(&mut self) {
        for _ in 0..20 {
            let actions = self.swap.look(self.old.sight(), self.new.sight(), self.now);
            if actions.is_empty() {
                return;
            }
            self.perform(actions);
        }
        panic!("the swap never comes to an end of its actions");
    }

    /// One step of the old version, which is restarted when it died before the commit.
    fn step_old(&mut self) {
        let old = &mut self.old;
        if !old.is_alive {
            if !self.is_adopted {
                *old = Version {
                    is_alive: true,
                    was_started: true,
                    serving: SERVES,
                    ..Version::default()
                };
            }
            return;
        }
        if old.hangs {
            return;
        }
        match old.order {
            // It was killed.
            99 => old.is_alive = false,
            4 if old.phase == 0 => (old.phase, old.first_receive) = (3, 0),
            0 if old.phase == 3 => (old.phase, old.first_receive) = (0, self.now),
            0 if old.phase == 0 => self.old_state += 1,
            _ => {}
        }
    }

    fn step_new(&mut self) {
        let new = &mut self.new;
        if !new.is_alive || new.hangs {
            return;
        }
        match (new.order, new.phase) {
            // It was killed.
            (99, _) => new.is_alive = false,
            (1, 0) => new.phase = 1,
            (2, 1) => new.phase = 5,
            (2, 5) => (new.phase, new.serving) = (2, SERVES),
            (3, 2) => (new.phase, new.first_receive) = (0, self.now),
            (3, 0) => self.new_state = self.new_state.map(|served| served + 1),
            _ => {}
        }
    }

    fn apply(&mut self, event: Event) {
        let now = self.now;
        let actions = match event {
            Event::Prepared(result) if self.is_preparing => {
                self.is_preparing = false;
                self.swap.prepared(result, now)
            }
            Event::Started(result) if self.is_starting => {
                self.is_starting = false;
                if result.is_ok() {
                    self.new = Version {
                        is_alive: true,
                        was_started: true,
                        order: Order::Hold as u8,
                        ..Version::default()
                    };
                }
                self.swap.started(result, now)
            }
            Event::Copied(result) if self.is_copying => {
                self.is_copying = false;
                if result.is_ok() {
                    self.new_state = Some(self.old_state);
                }
                self.swap.copied(result, now)
            }
            Event::Asked => self.swap.give_up(SwapReason::Asked, now),
            other => {
                self.happen(other);
                vec![]
            }
        };
        self.perform(actions);
        self.look();
        assert!(
            !(self.old_receives() && self.new_receives()),
            "two receivers"
        );
    }

    /// Whatever was begun succeeds, and a long time passes.
    fn settle(&mut self) {
        self.apply(Event::Prepared(Ok(())));
        self.apply(Event::Started(Ok(())));
        self.apply(Event::Copied(Ok(())));
        self.apply(Event::StepOld);
        self.apply(Event::StepNew);
        self.apply(Event::Wait(11_000 * MS));
    }

    /// What happens outside of `init`.
    fn happen(&mut self, event: Event) {
        match event {
            Event::StepOld => self.step_old(),
            Event::StepNew => self.step_new(),
            // Who was killed for a commit is not started again.
            Event::OldDies => self.old.is_alive = false,
            Event::NewDies => self.new.is_alive = false,
            Event::OldHangs => self.old.hangs = true,
            Event::NewHangs => self.new.hangs = true,
            // It may say what it likes, but not that it lives on after the commit.
            Event::NewSays(phase, detail) if self.new.order < 3 || self.new.order == 99 => {
                (self.new.phase, self.new.detail) = (phase, detail);
            }
            Event::Wait(ns) => self.now += ns,
            // News that nobody waits for.
            _ => {}
        }
    }
}

/// Something that happens.
#[derive(Clone, Copy, Debug)]
enum Event {
    Prepared(Result<(), SwapReason>),
    Started(Result<(), SwapReason>),
    Copied(Result<(), SwapReason>),
    StepOld,
    StepNew,
    OldDies,
    NewDies,
    OldHangs,
    NewHangs,
    NewSays(u8, u64),
    Asked,
    Wait(u64),
}

fn outcome() -> impl Strategy<Value = Result<(), SwapReason>> {
    prop_oneof![9 => Just(Ok(())), 1 => Just(Err(SwapReason::NoMemory))]
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        8 => outcome().prop_map(Event::Prepared),
        8 => outcome().prop_map(Event::Started),
        8 => outcome().prop_map(Event::Copied),
        20 => Just(Event::StepOld),
        20 => Just(Event::StepNew),
        1 => Just(Event::OldDies),
        1 => Just(Event::NewDies),
        1 => Just(Event::OldHangs),
        1 => Just(Event::NewHangs),
        1 => (0_u8..7, 0_u64..6).prop_map(|(phase, detail)| Event::NewSays(phase, detail)),
        1 => Just(Event::Asked),
        6 => (0..10 * MS).prop_map(Event::Wait),
        1 => (0..3_000 * MS).prop_map(Event::Wait),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    /// Whatever happens when: one of both receives in the end, and the state is its.
    #[test]
    fn one_version_receives_in_the_end_and_has_the_state(
        events in prop::collection::vec(event(), 0..250),
    ) {
        let mut world = World::new();
        for event in events {
            world.apply(event);
        }
        // What was begun ends at some time, and time goes on: two rounds of eight phases, and the looks
        // at a version that clients wait for.
        let mut rounds = 2 * 8 + MAX_PATIENCE / PATIENCE_STEP;
        while !world.swap.is_over() && rounds > 0 {
            world.settle();
            rounds -= 1;
        }
        // Whoever was told something at the end does it.
        for _ in 0..3 {
            world.settle();
        }
        prop_assert!(world.swap.is_over(), "{world:?}");
        prop_assert_eq!(world.reports.len(), 1);
        let is_committed = world.reports[0].outcome == SwapOutcome::Committed;
        prop_assert_eq!(is_committed, world.is_adopted);
        if is_committed {
            prop_assert!(!world.old.is_alive);
            prop_assert!(world.new_state >= Some(world.old_state));
            prop_assert!(!world.new.is_alive || world.new_receives());
        } else {
            prop_assert!(!world.new.is_alive, "{world:?}");
            prop_assert_eq!(world.old.order, Order::Run as u8);
            prop_assert!(world.old_receives() || world.old.hangs);
        }
    }

    /// A swap in which nothing fails commits, in whatever order things go on.
    #[test]
    fn without_failures_it_commits(events in prop::collection::vec(0_u8..6, 500..600)) {
        let mut world = World::new();
        for event in events {
            world.apply(match event {
                0 => Event::Prepared(Ok(())),
                1 => Event::Started(Ok(())),
                2 => Event::Copied(Ok(())),
                3 => Event::StepOld,
                4 => Event::StepNew,
                // Of the patience with a version that clients wait for it uses little.
                _ => Event::Wait(MS / 50),
            });
        }
        if world.swap.is_over() {
            prop_assert_eq!(world.reports[0].outcome, SwapOutcome::Committed);
        }
        prop_assert!(world.is_adopted);
    }
}
