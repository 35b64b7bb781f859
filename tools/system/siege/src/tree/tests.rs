use proptest::prelude::*;

use super::{MAX_BYTES, MAX_FILES, MAX_WRITE, Operation, Outcome, Refusal, Tree, judge};
use crate::Verdict;

fn text(text: &str) -> String {
    text.to_owned()
}

#[test]
fn operations_do_what_their_names_say() {
    let mut tree = Tree::new(1);
    let mut check = |operation, expected| assert_eq!(tree.expect(&operation), expected);
    check(Operation::Create(text("f1"), vec![1, 2]), Outcome::End(2));
    check(
        Operation::Create(text("f1"), vec![]),
        Outcome::Refused(Refusal::Exists),
    );
    check(Operation::Append(text("f1"), vec![3]), Outcome::End(3));
    check(
        Operation::WriteAt(text("f1"), 2, vec![4, 5]),
        Outcome::End(4),
    );
    check(
        Operation::Read(text("f1")),
        Outcome::Content(vec![1, 2, 4, 5]),
    );
    check(Operation::SetSize(text("f1"), 1), Outcome::Done);
    check(Operation::MakeDir(text("d1")), Outcome::Done);
    check(Operation::Rename(text("f1"), text("d1/f2")), Outcome::Done);
    check(Operation::Size(text("d1/f2")), Outcome::Size(1));
    check(
        Operation::RemoveDir(text("d1")),
        Outcome::Refused(Refusal::NotEmpty),
    );
    check(Operation::List(text("")), Outcome::Names(vec![text("d1")]));
    check(
        Operation::List(text("d1")),
        Outcome::Names(vec![text("f2")]),
    );
    check(Operation::Unlink(text("d1/f2")), Outcome::Done);
    check(
        Operation::Unlink(text("d1/f2")),
        Outcome::Refused(Refusal::NotFound),
    );
    check(Operation::RemoveDir(text("d1")), Outcome::Done);
}

#[test]
fn each_way_to_go_wrong_is_told_apart() {
    let content = |bytes: &[u8]| Outcome::Content(bytes.to_vec());
    for (expected, seen, verdict) in [
        (Outcome::Done, Outcome::Done, Verdict::Good),
        (
            Outcome::Done,
            Outcome::Failed(text("gone")),
            Verdict::ClientError,
        ),
        (
            Outcome::Done,
            Outcome::Refused(Refusal::NotFound),
            Verdict::Duplicated(1),
        ),
        (
            Outcome::End(2),
            Outcome::Refused(Refusal::Exists),
            Verdict::Duplicated(1),
        ),
        (Outcome::End(4), Outcome::End(8), Verdict::Duplicated(1)),
        (Outcome::End(4), Outcome::End(2), Verdict::Lost(1)),
        (content(b"abc"), content(b"axx"), Verdict::Wrong(2)),
        (content(b"abc"), content(b"ab"), Verdict::Lost(1)),
        (content(b"abc"), content(b"abcabc"), Verdict::Duplicated(1)),
        (
            content(b"abc"),
            Outcome::Refused(Refusal::NotFound),
            Verdict::Lost(1),
        ),
        (
            Outcome::Names(vec![text("a")]),
            Outcome::Names(vec![]),
            Verdict::Lost(1),
        ),
        (
            Outcome::Names(vec![]),
            Outcome::Names(vec![text("a")]),
            Verdict::Duplicated(1),
        ),
        (
            Outcome::Refused(Refusal::NotFound),
            Outcome::Done,
            Verdict::Lost(1),
        ),
    ] {
        assert_eq!(judge(&expected, &seen), verdict, "{expected:?}, {seen:?}");
    }
}

#[test]
fn a_fault_that_was_accepted_counts_once() {
    let mut tree = Tree::new(1);
    tree.expect(&Operation::Create(text("f1"), vec![1]));
    tree.accept("f1", Some(vec![2]));
    assert_eq!(
        tree.expect(&Operation::Read(text("f1"))),
        Outcome::Content(vec![2])
    );
    tree.accept("f1", None);
    assert_eq!(tree.files(), Vec::<String>::new());
}

proptest! {
    #[test]
    fn drawn_operations_fit_the_model_and_a_seed_repeats(seed in any::<u64>()) {
        let mut tree = Tree::new(seed);
        let mut again = tree.clone();
        for _ in 0..300 {
            let operation = tree.draw();
            prop_assert_eq!(&again.draw(), &operation);
            let expected = tree.expect(&operation);
            prop_assert_eq!(again.expect(&operation), expected);
            prop_assert!(tree.files.len() <= MAX_FILES);
            let longest = tree.files.values().map(Vec::len).max().unwrap_or(0);
            prop_assert!(longest as u64 <= MAX_BYTES + MAX_WRITE);
        }
    }
}
