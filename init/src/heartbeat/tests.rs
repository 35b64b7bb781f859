//! Servers that hang and servers that do not, in simulated time.

use proptest::prelude::*;

use super::*;

/// The default.
const SETTINGS: Heartbeat = Heartbeat {
    period_ms: 10,
    timeout_ms: 30,
    request_ms: 300,
};
/// Within which a hang is found, ns, when the server has half of a CPU at least.
const BOUND: u64 = 85 * MS;
/// The same when it has a CPU to itself.
const BOUND_ALONE: u64 = 55 * MS;
/// How often the kernel bills a thread that runs alone on its CPU, ns.
const BILLED_EVERY: u64 = 10 * MS;

/// Looks whenever it is time to, each time `delay` late, until it says so or it is `end`. Returns
/// when it said `Hung`.
fn watch(
    start: u64,
    end: u64,
    mut delay: impl FnMut() -> u64,
    mut seen: impl FnMut(u64) -> Look,
) -> Option<u64> {
    let mut watcher = Watcher::new(&SETTINGS, start);
    while watcher.next_look() <= end {
        let now = watcher.next_look() + delay();
        if watcher.judge(&SETTINGS, seen(now), now) == Judgement::Hung {
            return Some(now);
        }
    }
    None
}

/// CPU time as the kernel has billed it at `now`, if billing happens at `phase` and so on.
fn billed(used: u64, now: u64, phase: u64, since: u64) -> u64 {
    let open = (now + BILLED_EVERY - phase) % BILLED_EVERY;
    used.saturating_sub(open.min(now - since))
}

#[test]
fn a_loop_that_never_waits_is_endless() {
    const LIMIT: u64 = 100 * MS;
    let mut unrest = Unrest::default();
    let looks = |unrest: &mut Unrest, cpu: &mut u64, count, doing: fn(u64) -> Doing| {
        (0..count).find(|at| {
            *cpu += 9 * MS;
            unrest.is_endless(doing(*at), *cpu, 10 * MS, LIMIT)
        })
    };
    let mut cpu = 0;
    // Busy, but seen to wait now and then.
    assert_eq!(
        looks(&mut unrest, &mut cpu, 500, |at| match at % 10 {
            0 => Doing::Waiting,
            _ => Doing::Running,
        }),
        None
    );
    assert_eq!(looks(&mut unrest, &mut cpu, 1, |_| Doing::Waiting), None);
    assert_eq!(
        looks(&mut unrest, &mut cpu, 500, |_| Doing::Running),
        Some(11)
    );
    // Neither a stopped clock nor a sleep is work.
    unrest = Unrest::default();
    for _ in 0..500 {
        assert!(!unrest.is_endless(Doing::Running, cpu, 10 * MS, LIMIT));
    }
    unrest = Unrest::default();
    assert!(!unrest.is_endless(Doing::Running, 1_000 * MS, 10 * MS, LIMIT));
}

proptest! {
    /// A server turns, then loops for ever; whatever the phases of turns, looks and bills.
    #[test]
    fn a_loop_is_found_in_time(
        start in 0..40 * MS,
        hangs_at in 100 * MS..200 * MS,
        turn in 1_u64..15 * MS,
        phase in 0..BILLED_EVERY,
    ) {
        let found = watch(start, 1_000 * MS, || 0, |now| {
            let is_hung = now > hangs_at;
            let used = now.min(hangs_at) / 2 + now.saturating_sub(hangs_at);
            Look {
                beats: now.min(hangs_at) / turn,
                calls: 0,
                cpu_ns: if is_hung { billed(used, now, phase, hangs_at) } else { used },
                doing: Doing::Running,
                is_starting: false,
                oldest_request: 0,
                forgotten: 0,
            }
        });
        let found = found.expect("never found");
        prop_assert!(found > hangs_at && found - hangs_at <= BOUND_ALONE, "after {}", found - hangs_at);
    }

    /// As above, for one that sleeps and never receives again.
    #[test]
    fn an_endless_sleep_is_found_in_time(
        start in 0..40 * MS,
        hangs_at in 100 * MS..200 * MS,
        turn in 1_u64..15 * MS,
    ) {
        let found = watch(start, 1_000 * MS, || 0, |now| Look {
            beats: now.min(hangs_at) / turn,
            calls: 0,
            cpu_ns: now.min(hangs_at) / 100,
            doing: if now > hangs_at { Doing::Sleeping } else { Doing::Waiting },
            is_starting: false,
            oldest_request: 0,
            forgotten: 0,
        });
        let found = found.expect("never found");
        prop_assert!(found > hangs_at && found - hangs_at <= BOUND_ALONE, "after {}", found - hangs_at);
    }

    /// As above, for a loop that others leave only a part of the CPU. Billing then happens whenever the
    /// CPU changes hands.
    #[test]
    fn a_loop_with_half_of_a_cpu_is_found_in_time(
        start in 0..40 * MS,
        hangs_at in 100 * MS..200 * MS,
        turn in 1_u64..15 * MS,
        share in 50_u64..=100,
    ) {
        let found = watch(start, 1_000 * MS, || 0, |now| Look {
            beats: now.min(hangs_at) / turn,
            cpu_ns: now * share / 100,
            ..Look::default()
        });
        let found = found.expect("never found");
        prop_assert!(found > hangs_at && found - hangs_at <= BOUND, "after {}", found - hangs_at);
    }

    /// What a server does before it serves may take long, but not for ever.
    #[test]
    fn an_instance_may_take_its_time_to_start(
        start in 0..40 * MS,
        serves_after in 0..2 * START_NS,
        phase in 0..BILLED_EVERY,
    ) {
        let mut at_work = false;
        let found = watch(start, start + 3 * START_NS, || 0, |now| {
            let is_starting = now < start + serves_after;
            at_work |= !is_starting;
            Look {
                // It turns from then on.
                beats: if is_starting { 0 } else { now },
                cpu_ns: billed(now, now, phase, 0),
                is_starting,
                ..Look::default()
            }
        });
        match found {
            None => prop_assert!(serves_after <= START_NS + BOUND && at_work),
            Some(at) => prop_assert!(serves_after > START_NS && at >= start + START_NS),
        }
    }

    /// A server that turns at least once in 20 ms of the CPU time that it gets is never blamed,
    /// however little of it that is, however late looks come, and whatever it waits for.
    #[test]
    fn who_turns_in_time_is_never_blamed(
        start in 0..40 * MS,
        share in 1_u64..100,
        turn in 1_u64..20 * MS,
        phase in 0..BILLED_EVERY,
        delays in prop::collection::vec(0..50 * MS, 1..20),
        doing in prop::collection::vec(prop_oneof![Just(Doing::Running), Just(Doing::Waiting)], 1..20),
    ) {
        let (mut delays, mut doing) = (delays.into_iter().cycle(), doing.into_iter().cycle());
        let found = watch(start, 3_000 * MS, || delays.next().unwrap(), |now| {
            let used = |at: u64| at * share / 100;
            let bill = now.saturating_sub((now + BILLED_EVERY - phase) % BILLED_EVERY);
            Look {
                beats: used(now) / turn,
                calls: 0,
                cpu_ns: used(bill),
                doing: doing.next().unwrap(),
                is_starting: false,
                oldest_request: 0,
                forgotten: 0,
            }
        });
        prop_assert_eq!(found, None);
    }

    /// The host stops the guest for a long time in the middle of a turn, once in a while.
    #[test]
    fn a_guest_that_stood_still_is_not_blamed(
        start in 0..40 * MS,
        stops in prop::collection::vec((50 * MS..100 * MS, 20 * MS..5_000 * MS), 1..10),
    ) {
        // All clocks jump at a stop, with the server on the CPU.
        let mut total = 0;
        let mut moments = Vec::new();
        for (run, stop) in stops {
            let at = moments.last().map_or(0, |&(at, _)| at) + run;
            moments.push((at, stop));
        }
        let mut watcher = Watcher::new(&SETTINGS, start);
        let mut run = start;
        for _ in 0..100 {
            let before = total;
            run = run.max(watcher.next_look() - before);
            while let Some(&(at, stop)) = moments.first() && at <= run {
                total += stop;
                moments.remove(0);
            }
            let look = Look {
                beats: run / (10 * MS),
                calls: 0,
                cpu_ns: run + total,
                doing: Doing::Running,
                is_starting: false,
                oldest_request: 0,
                forgotten: 0,
            };
            let now = run + total;
            prop_assert_ne!(watcher.judge(&SETTINGS, look, now), Judgement::Hung);
        }
    }
}

#[test]
fn who_waits_or_calls_others_is_not_to_blame() {
    let waits = watch(
        0,
        5_000 * MS,
        || 0,
        |now| Look {
            cpu_ns: now,
            doing: Doing::Waiting,
            ..Look::default()
        },
    );
    assert_eq!(waits, None);
    let calls = watch(
        0,
        5_000 * MS,
        || 0,
        |now| Look {
            calls: now / (5 * MS),
            cpu_ns: now,
            ..Look::default()
        },
    );
    assert_eq!(calls, None);
    // Ready, but others run.
    assert_eq!(watch(0, 5_000 * MS, || 0, |_| Look::default()), None);
}

#[test]
fn a_turn_after_most_of_the_time_out_is_late() {
    let mut watcher = Watcher::new(&SETTINGS, 0);
    let mut look = |now_ms: u64, beats| {
        let seen = Look {
            beats,
            calls: 0,
            cpu_ns: now_ms * MS,
            doing: Doing::Running,
            is_starting: false,
            oldest_request: 0,
            forgotten: 0,
        };
        watcher.judge(&SETTINGS, seen, now_ms * MS)
    };
    assert_eq!(look(10, 0), Judgement::Suspect);
    assert_eq!(look(20, 0), Judgement::Suspect);
    assert_eq!(look(30, 0), Judgement::Suspect);
    assert_eq!(look(40, 1), Judgement::Late);
    assert_eq!(look(50, 2), Judgement::Alive);
}

#[test]
fn a_request_that_is_never_answered_is_found_and_one_after_the_other_is_not() {
    let mut watcher = Watcher::new(&SETTINGS, 0);
    let mut turns = |from_ms: u64, to_ms: u64, since: fn(u64) -> u64| {
        let mut found = None;
        while watcher.next_look() <= to_ms * MS {
            let now = watcher.next_look();
            let look = Look {
                beats: now,
                oldest_request: since(now),
                ..Look::default()
            };
            assert!(now >= from_ms * MS);
            if watcher.judge(&SETTINGS, look, now) == Judgement::Overdue {
                found.get_or_insert(now);
            }
        }
        found
    };
    // Each takes 200 ms.
    assert_eq!(turns(0, 2_000, |now| now / (200 * MS) * 200 * MS + 1), None);
    let found = turns(2_000, 4_000, |_| 2_000 * MS).expect("never found");
    let expected = 2_300 * MS..=2_400 * MS;
    assert!(expected.contains(&found), "{found}");
}

#[test]
fn a_request_that_is_lost_is_found_and_one_that_is_just_being_told_of_is_not() {
    let judge = |forgotten: &[u64]| {
        let mut watcher = Watcher::new(&SETTINGS, 0);
        let judge = |&forgotten| {
            let now = watcher.next_look();
            let look = Look {
                beats: now,
                doing: Doing::Waiting,
                forgotten,
                ..Look::default()
            };
            watcher.judge(&SETTINGS, look, now)
        };
        forgotten.iter().map(judge).collect::<Vec<_>>()
    };
    use Judgement::{Alive, Overdue};
    assert_eq!(judge(&[0, 1, 1, 0, 1, 2]), [Alive; 6]);
    assert_eq!(judge(&[1, 2, 1]), [Alive, Alive, Overdue]);
}

#[test]
fn period_zero_means_never() {
    let settings = Heartbeat {
        period_ms: 0,
        timeout_ms: 0,
        request_ms: 0,
    };
    assert_eq!(Watcher::new(&settings, 5).next_look(), u64::MAX);
}
