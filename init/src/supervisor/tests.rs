//! Lives of services, by hand and at random.

use proptest::prelude::*;
use skink_manifest::service::{Heartbeat, MemorySizes, Privileges, Restart};

use super::*;
use crate::MS;

fn service(name: &str, policy: RestartPolicy) -> Service {
    Service {
        name: name.into(),
        image: name.into(),
        level: 1,
        calls: vec![],
        arguments: vec![],
        memory: MemorySizes {
            heap: 4096,
            stack: 4096,
            kernel: 4096,
            state: 0,
            dma: 0,
        },
        rights: Privileges::default(),
        ports: vec![],
        interrupts: vec![],
        restart: Restart {
            policy,
            min_delay_ms: 10,
            max_delay_ms: 100,
            reset_after_s: 1,
        },
        heartbeat: Heartbeat {
            period_ms: 100,
            timeout_ms: 200,
            request_ms: 0,
        },
    }
}

fn fresh(services: &[Service]) -> Supervisor {
    Supervisor::new(services, |_| Kept::default(), 0)
}

/// The supervisor of the next instance of `init`.
fn next(supervisor: &Supervisor, services: &[Service], now: u64) -> Supervisor {
    let kept = |at| Kept {
        life: supervisor.life(at).unwrap(),
        samples: Samples::default(),
    };
    Supervisor::new(services, kept, now)
}

/// Request number `sequence` of somebody.
fn request(sequence: u64) -> Caller {
    Caller {
        badge: 7,
        sequence,
        redelivered: false,
    }
}

fn again(caller: Caller) -> Caller {
    Caller {
        redelivered: true,
        ..caller
    }
}

fn one(policy: RestartPolicy) -> Supervisor {
    let mut supervisor = fresh(&[service("one", policy)]);
    supervisor.start_all();
    assert_eq!(supervisor.started(0, 0), None);
    supervisor.ready(0, 0);
    supervisor
}

const CRASH: Cause = Cause::Fault {
    vector: 13,
    address: 1,
    fault_address: 0,
};
const SECOND: Action = Action::Start {
    service: 0,
    generation: 2,
};

#[test]
fn services_start_in_their_order() {
    let names = ["a", "b", "c"];
    let mut supervisor = fresh(&names.map(|name| service(name, RestartPolicy::Always)));
    let start = |service| Action::Start {
        service,
        generation: 1,
    };
    assert_eq!(supervisor.start_all(), [start(0), start(1), start(2)]);
}

#[test]
fn a_crash_is_followed_by_a_start_at_once_and_the_downtime_is_measured() {
    let mut supervisor = one(RestartPolicy::Always);
    assert_eq!(supervisor.died(0, CRASH, 5 * MS), Some(SECOND));
    assert_eq!(supervisor.started(0, 6 * MS), None);
    assert_eq!(supervisor.not_ready().collect::<Vec<_>>(), [0]);
    supervisor.ready(0, 7 * MS);
    supervisor.ready(0, 9 * MS);
    let statistics = supervisor.statistics(0).unwrap();
    assert_eq!((statistics.faulted, statistics.downtimes), (1, 1));
    assert_eq!(statistics.downtime_last_ns, 2 * MS);
    let status = supervisor.status(0).unwrap();
    assert_eq!((status.state, status.restarts), (ServiceState::Running, 1));
    assert_eq!(status.last_cause, Some(CRASH));
}

#[test]
fn news_of_a_death_counts_once() {
    let mut supervisor = one(RestartPolicy::Always);
    assert_eq!(supervisor.died(0, CRASH, 1), Some(SECOND));
    assert_eq!(supervisor.died(0, CRASH, 2), None);
    assert_eq!(supervisor.statistics(0).unwrap().faulted, 1);
}

#[test]
fn a_crash_loop_waits_and_starts_when_due() {
    let mut supervisor = one(RestartPolicy::Always);
    assert!(supervisor.died(0, CRASH, 0).is_some());
    supervisor.started(0, 0);
    assert_eq!(supervisor.died(0, CRASH, 0), None);
    assert_eq!(supervisor.next_deadline(), 10 * MS);
    assert_eq!(supervisor.due(9 * MS), []);
    assert_eq!(
        supervisor.due(10 * MS),
        [Action::Start {
            service: 0,
            generation: 3
        }]
    );
    supervisor.started(0, 11 * MS);
    supervisor.ready(0, 12 * MS);
    assert_eq!(supervisor.statistics(0).unwrap().downtime_last_ns, 12 * MS);
}

#[test]
fn a_failed_start_backs_off_like_a_crash() {
    let mut supervisor = fresh(&[service("one", RestartPolicy::Always)]);
    supervisor.start_all();
    assert_eq!(supervisor.not_started(0, 0), Some(SECOND));
    assert_eq!(supervisor.not_started(0, 0), None);
    assert_eq!(supervisor.next_deadline(), 10 * MS);
    assert_eq!(supervisor.statistics(0).unwrap().not_started, 2);
}

#[test]
fn a_kill_on_request_is_no_crash() {
    let mut supervisor = one(RestartPolicy::Always);
    for generation in 2..20 {
        let (first, second) = (request(2 * generation), request(2 * generation + 1));
        assert_eq!(
            supervisor.kill(0, Cause::Asked, &first),
            Ok(Some(Action::End(0)))
        );
        assert_eq!(
            supervisor.kill(0, Cause::Asked, &second),
            Ok(Some(Action::End(0)))
        );
        let next = Some(Action::Start {
            service: 0,
            generation,
        });
        assert_eq!(supervisor.died(0, Cause::Killed(9), 1), next);
        assert_eq!(
            supervisor.kill(0, Cause::Asked, &request(0)),
            Err(InitError::NotRunning)
        );
        supervisor.started(0, 1);
    }
    assert_eq!(supervisor.statistics(0).unwrap().asked, 18);
    assert_eq!(
        supervisor.kill(1, Cause::Asked, &request(0)),
        Err(InitError::NoSuchService)
    );
}

#[test]
fn a_version_that_took_over_is_the_next_instance_and_gives_way_when_it_crashes() {
    let mut supervisor = one(RestartPolicy::Always);
    assert_eq!(supervisor.next_generation(0), Some(2));
    supervisor.adopted(0, Previous::SameSchema, 5);
    let status = supervisor.status(0).unwrap();
    assert_eq!((status.generation, status.restarts), (2, 0));
    assert_eq!(status.running_since, Some(5));
    let mut now = 6;
    for step in [Step::Restart, Step::Restart, Step::PreviousVersion] {
        let _ = supervisor.died(0, CRASH, now);
        now += 200 * MS;
        let _ = supervisor.due(now);
        assert_eq!(supervisor.take_step(0), step);
        assert_eq!(supervisor.take_step(0), Step::Restart);
        supervisor.started(0, now);
    }
    // Kills on request count for nothing.
    for _ in 0..20 {
        supervisor
            .kill(0, Cause::Asked, &Caller::default())
            .unwrap();
        let _ = supervisor.died(0, CRASH, now);
        assert_eq!(supervisor.take_step(0), Step::Restart);
        supervisor.started(0, now);
    }
}

#[test]
fn what_the_system_needs_is_not_killed_on_request() {
    let mut supervisor = one(RestartPolicy::PowerOff);
    assert_eq!(
        supervisor.kill(0, Cause::Asked, &request(1)),
        Err(InitError::Critical)
    );
    assert_eq!(supervisor.restart(0, &request(1)), Err(InitError::Critical));
    assert_eq!(supervisor.died(0, CRASH, 1), Some(Action::PowerOff(0)));
}

#[test]
fn a_stopped_service_comes_back_on_request_only() {
    let mut supervisor = one(RestartPolicy::Never);
    assert_eq!(supervisor.died(0, Cause::Exited(0), 1), None);
    assert_eq!(supervisor.status(0).unwrap().state, ServiceState::Stopped);
    assert_eq!(
        (supervisor.due(u64::MAX), supervisor.next_deadline()),
        (vec![], u64::MAX)
    );
    assert_eq!(supervisor.restart(0, &request(1)), Ok(Some(SECOND)));
    assert_eq!(supervisor.restart(0, &request(1)), Ok(None));
    supervisor.started(0, 2);
    assert_eq!(supervisor.restart(0, &request(1)), Ok(Some(Action::End(0))));
    let third = Some(Action::Start {
        service: 0,
        generation: 3,
    });
    assert_eq!(supervisor.died(0, Cause::Killed(0), 3), third);
}

#[test]
fn a_hung_service_is_ended_and_the_cause_is_known() {
    let mut supervisor = one(RestartPolicy::Always);
    let mut ended = false;
    for _ in 0..20 {
        let now = supervisor.next_deadline();
        if now == u64::MAX {
            break;
        }
        assert_eq!(supervisor.to_look_at(now), [0]);
        let silent = Look {
            cpu_ns: now,
            ..Look::default()
        };
        ended |= supervisor.looked(0, silent, now) == Some(Action::End(0));
    }
    assert!(ended);
    assert_eq!(supervisor.died(0, Cause::Killed(1), 500 * MS), Some(SECOND));
    assert_eq!(supervisor.statistics(0).unwrap().hung, 1);
}

#[test]
fn a_request_that_was_carried_out_is_not_carried_out_again() {
    let services = [service("one", RestartPolicy::Always)];
    let mut supervisor = one(RestartPolicy::Always);
    let (kill, restart) = (request(1), request(2));
    assert_eq!(
        supervisor.kill(0, Cause::Asked, &kill),
        Ok(Some(Action::End(0)))
    );
    // `init` dies before it answers; the next one comes up when the service runs again.
    let mut supervisor = next(&supervisor, &services, 1);
    assert_eq!(supervisor.start_all(), [Action::End(0)]);
    assert_eq!(supervisor.died(0, Cause::Killed(9), 2), Some(SECOND));
    supervisor.started(0, 3);
    assert_eq!(supervisor.kill(0, Cause::Asked, &again(kill)), Ok(None));
    // Another request is another one, even delivered again.
    assert_eq!(
        supervisor.restart(0, &again(restart)),
        Ok(Some(Action::End(0)))
    );
    supervisor.died(0, Cause::Killed(9), 4);
    supervisor.started(0, 5);
    let mut supervisor = next(&supervisor, &services, 6);
    assert_eq!(supervisor.restart(0, &again(restart)), Ok(None));
    assert_eq!(supervisor.statistics(0).unwrap().asked, 2);
}

#[test]
fn the_next_init_takes_running_services_up_as_they_are() {
    let services = [service("one", RestartPolicy::Always)];
    let mut supervisor = one(RestartPolicy::Always);
    supervisor.died(0, CRASH, 5);
    supervisor.started(0, 6);
    let before = supervisor.status(0);
    let mut supervisor = next(&supervisor, &services, 1_000 * MS);
    assert_eq!(supervisor.start_all(), []);
    assert_eq!(supervisor.status(0), before);
    // It is watched from now on, not since the time when nobody looked.
    assert_eq!(supervisor.next_deadline(), 1_100 * MS);
    assert_eq!(supervisor.not_ready().collect::<Vec<_>>(), [0]);
    supervisor.ready(0, 1_001 * MS);
    assert_eq!(
        supervisor.statistics(0).unwrap().downtime_last_ns,
        1_001 * MS - 5
    );
}

#[test]
fn a_power_off_that_was_decided_is_carried_out_by_the_next_init() {
    let services = [service("one", RestartPolicy::PowerOff)];
    let mut supervisor = one(RestartPolicy::PowerOff);
    assert!(supervisor.died(0, CRASH, 1).is_some());
    let mut supervisor = next(&supervisor, &services, 2);
    assert_eq!(supervisor.start_all(), [Action::PowerOff(0)]);
}

/// Something that happens.
#[derive(Clone, Copy, Debug)]
enum Event {
    Started,
    NotStarted,
    Ready,
    Died,
    Kill,
    Restart,
    Wait(u64),
    Look(u64),
    /// `init` dies; whether a start that had begun had come to its end.
    InitDies(bool),
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        3 => Just(Event::Started),
        1 => Just(Event::NotStarted),
        2 => Just(Event::Ready),
        2 => Just(Event::Died),
        1 => Just(Event::Kill),
        1 => Just(Event::Restart),
        3 => (0..200 * MS).prop_map(Event::Wait),
        1 => (0_u64..3).prop_map(Event::Look),
        1 => any::<bool>().prop_map(Event::InitDies),
    ]
}

proptest! {
    /// The model knows only which instances exist: one is begun by each `Start`, and ends by a
    /// failed start or a death. When `init` dies, what it had decided and not done is lost, and a
    /// start that had begun is either complete or ended.
    #[test]
    fn there_is_never_a_second_instance_and_none_is_forgotten(
        events in prop::collection::vec(event(), 0..200),
    ) {
        let services = [service("one", RestartPolicy::Always)];
        let mut supervisor = fresh(&services);
        let (mut now, mut begun, mut is_running, mut is_resumed) = (0, false, false, false);
        let mut actions = supervisor.start_all();
        let mut generations = 0;
        for event in events {
            for action in core::mem::take(&mut actions) {
                match action {
                    Action::Start { service: 0, generation } => {
                        prop_assert!(!begun && !is_running);
                        // Begun once more by the next `init` it is the same instance.
                        if !(is_resumed && generation == generations) {
                            generations += 1;
                        }
                        prop_assert_eq!(generation, generations);
                        (begun, is_resumed) = (true, false);
                    }
                    Action::End(0) => prop_assert!(is_running),
                    other => prop_assert!(false, "{:?}", other),
                }
            }
            match event {
                Event::Started if begun => {
                    (begun, is_running) = (false, true);
                    actions.extend(supervisor.started(0, now));
                }
                Event::NotStarted if begun => {
                    begun = false;
                    actions.extend(supervisor.not_started(0, now));
                }
                Event::Died if is_running => {
                    is_running = false;
                    actions.extend(supervisor.died(0, CRASH, now));
                }
                Event::Started | Event::NotStarted | Event::Died => {}
                Event::Ready => supervisor.ready(0, now),
                Event::Kill => actions.extend(supervisor.kill(0, Cause::Asked, &request(1)).ok().flatten()),
                Event::Restart => actions.extend(supervisor.restart(0, &request(1)).unwrap()),
                Event::Wait(ns) => now += ns,
                Event::InitDies(is_complete) => {
                    supervisor = next(&supervisor, &services, now);
                    is_resumed = true;
                    if begun && is_complete {
                        is_running = true;
                        actions = Vec::from_iter(supervisor.started(0, now));
                    } else {
                        actions.clear();
                    }
                    begun = false;
                    actions.extend(supervisor.start_all());
                }
                Event::Look(beats) => {
                    actions.extend(supervisor.looked(0, Look { beats, cpu_ns: now, ..Look::default() }, now));
                }
            }
            actions.extend(supervisor.due(now));
            // It runs, is begun, or has a time at which it will be.
            let waits = matches!(supervisor.status(0).unwrap().state, ServiceState::BackOff);
            prop_assert!(is_running || begun || !actions.is_empty() || waits);
            prop_assert!(!waits || supervisor.next_deadline() <= now + 100 * MS);
        }
        let statistics = supervisor.statistics(0).unwrap();
        prop_assert!(statistics.downtimes < generations.max(1) as u32);
    }
}
