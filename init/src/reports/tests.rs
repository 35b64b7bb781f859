use proptest::prelude::*;
use skink_manifest::{compile, decode};

use super::*;

/// How many reports about the first service are heard at once of each.
const ALLOWED: [(usize, u64); 3] = [(0, 1), (1, 3), (2, 1)];

/// A service, one that calls it, and one whose programs call it.
fn services() -> Vec<Service> {
    let files = [
        ("a", "name = \"a\"\ndescription = \"A.\"\nlevel = 1\n"),
        (
            "b",
            "name = \"b\"\ndescription = \"B.\"\nlevel = 2\ncalls = [\"a\"]\n",
        ),
        (
            "c",
            "name = \"c\"\ndescription = \"C.\"\nlevel = 3\ncalls = [\"a\"]\ngrants = [\"bundle\"]\n",
        ),
    ];
    decode(&compile(&files).unwrap()).unwrap()
}

#[test]
fn only_callers_and_oneself_are_heard() {
    let services = services();
    let [a, b] = [0, 1].map(|at| (at, &services[at]));
    assert_eq!((a.1.name.as_str(), b.1.name.as_str()), ("a", "b"));
    let mut reports = Reports::default();
    assert_eq!(reports.judge(a, b, 0), Verdict::NotAllowed);
    assert_eq!(reports.judge(b, a, 0), Verdict::End);
    assert_eq!(reports.judge(a, a, GAP_NS), Verdict::End);
}

#[test]
fn a_report_about_the_instance_that_is_gone_is_not_heard() {
    let services = services();
    let [a, b, c] = [0, 1, 2].map(|at| (at, &services[at]));
    let mut reports = Reports::default();
    assert_eq!(reports.judge(b, a, 5), Verdict::End);
    assert_eq!(reports.judge(c, a, 5), Verdict::TooSoon);
    assert_eq!(reports.judge(b, a, 5 + GAP_NS - 1), Verdict::TooSoon);
    assert_eq!(reports.judge(c, a, 5 + GAP_NS), Verdict::End);
}

#[test]
fn programs_and_oneself_are_heard_once_and_others_three_times() {
    let services = services();
    for (by, allowed) in ALLOWED {
        let mut reports = Reports::default();
        let mut heard = |now| reports.judge((by, &services[by]), (0, &services[0]), now);
        for report in 0..allowed {
            assert_eq!(heard(report * GAP_NS), Verdict::End);
        }
        assert_eq!(heard(allowed * GAP_NS), Verdict::TooMany);
        assert_eq!(heard(REFILL_NS - 1), Verdict::TooMany);
        assert_eq!(heard(REFILL_NS), Verdict::End);
        assert_eq!(heard(REFILL_NS + GAP_NS), Verdict::TooMany);
    }
}

#[test]
fn everybody_calls_the_memory_manager() {
    let files = [
        (
            "memory-manager",
            "name = \"memory-manager\"\ndescription = \"M.\"\nlevel = 1\n",
        ),
        ("a", "name = \"a\"\ndescription = \"A.\"\nlevel = 2\n"),
    ];
    let services = decode(&compile(&files).unwrap()).unwrap();
    let at = |name| services.iter().position(|one| one.name == name).unwrap();
    let [manager, a] = ["memory-manager", "a"].map(|name| (at(name), &services[at(name)]));
    let mut reports = Reports::default();
    assert_eq!(reports.judge(a, manager, 0), Verdict::End);
    assert_eq!(reports.judge(manager, a, 0), Verdict::NotAllowed);
}

#[test]
fn a_restart_that_was_asked_for_begins_anew() {
    let services = services();
    let [a, c] = [0, 2].map(|at| (at, &services[at]));
    let mut reports = Reports::default();
    for now in 0..9 {
        assert_eq!(reports.judge(c, a, now), Verdict::End);
        assert_eq!(reports.judge(c, a, now), Verdict::TooSoon);
        reports.forget(a.0);
    }
}

#[test]
fn init_hears_three_reports_about_itself_and_one_more_a_minute() {
    for minutes in 0..5 {
        let now = minutes * REFILL_NS;
        assert!(is_heard_about_oneself(2 + minutes as u32, now));
        assert!(!is_heard_about_oneself(3 + minutes as u32, now));
        assert!(!is_heard_about_oneself(u32::MAX, now));
    }
}

proptest! {
    /// Whatever a caller does, a service loses no more to it than one instance a minute, and as
    /// many as it may report at once.
    #[test]
    fn harm_is_bounded(
        (by, allowed) in prop::sample::select(&ALLOWED[..]),
        gaps in prop::collection::vec(0..REFILL_NS / 10, 1..200),
    ) {
        let services = services();
        let mut reports = Reports::default();
        let (mut now, mut ended) = (0, Vec::new());
        for gap in gaps {
            now += gap;
            if reports.judge((by, &services[by]), (0, &services[0]), now) == Verdict::End {
                ended.push(now);
            }
        }
        for (first, from) in ended.iter().enumerate() {
            for (last, to) in ended.iter().enumerate().skip(first) {
                let count = (last - first) as u64 + 1;
                prop_assert!(count <= allowed + (to - from) / REFILL_NS);
            }
        }
    }
}
