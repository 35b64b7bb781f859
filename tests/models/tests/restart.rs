//! The restart and swap protocol holds, and each of its rules is needed.

use skink_models::{Finding, Search, search};

const MODEL: &str = "restart.pml";

fn check(defines: &[&str], kind: Search) -> Finding {
    search(MODEL, defines, kind).unwrap_or_else(|error| panic!("{error:#}"))
}

#[test]
fn no_call_is_lost_or_carried_out_twice_or_left_waiting() {
    let finding = check(&[], Search::Safety);
    assert_eq!(finding.error, None);
    // Every step of every process was taken, in one of these states. But a version that was not
    // committed never holds a request when it is ended.
    let holds = |line: &&String| line.contains("holder[");
    let unreached: Vec<_> = finding
        .unreached
        .iter()
        .filter(|line| !holds(line))
        .collect();
    assert_eq!(unreached, [""; 0]);
    assert!(finding.states > 1_000_000, "{}", finding.states);
}

#[test]
fn a_second_swap_after_a_rolled_back_or_committed_one_is_no_different() {
    let finding = check(&["SWAPS=2", "CRASHES=2"], Search::Safety);
    assert_eq!(finding.error, None);
}

#[test]
fn all_comes_to_rest_when_the_crashes_stop() {
    let finding = check(&["CRASHES=2"], Search::Progress);
    assert_eq!(finding.error, None);
}

/// Leaves out one rule; the search must find what goes wrong.
fn find_error(rule: &str, expected: &str) {
    let finding = check(&[&format!("BROKEN_{rule}")], Search::Safety);
    let error = finding.error.unwrap_or_default();
    assert!(error.contains(expected), "without {rule}: {error:?}");
}

#[test]
fn requests_of_the_dead_must_go_back() {
    find_error("NO_REDELIVERY", "invalid end state");
}

#[test]
fn what_was_done_must_be_noted() {
    find_error("NO_JOURNAL", "assertion violated");
}

#[test]
fn effect_and_reply_must_be_one_record() {
    find_error("TWO_RECORDS", "assertion violated");
}

#[test]
fn the_old_version_must_rest_before_its_state_is_copied() {
    find_error("COPY_EARLY", "assertion violated");
}

#[test]
fn the_old_version_at_rest_must_not_receive() {
    find_error("NO_REST", "assertion violated");
}

#[test]
fn what_was_rehearsed_with_is_not_what_is_committed() {
    find_error("STATE_OF_REHEARSAL", "assertion violated");
}

#[test]
fn the_old_version_must_outlive_the_commit() {
    find_error("OLD_DIES_FIRST", "assertion violated");
}

#[test]
fn the_old_version_must_go_on_after_a_roll_back() {
    find_error("NO_GO_ON", "invalid end state");
}
