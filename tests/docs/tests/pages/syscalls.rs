//! The reference of system calls.

use skink_abi::{Error, ObjectKind, Syscall};
use skink_docs::read;

const PAGE: &str = "docs/reference/syscalls.md";

#[test]
fn every_call_has_a_row_with_its_number() {
    let page = read(PAGE);
    for call in Syscall::ALL {
        let row = format!("| {} | `{}` |", *call as u16, call.name());
        assert!(page.contains(&row), "{PAGE} lacks the row {row}");
    }
    let rows = page.lines().filter(|line| {
        let number = line
            .strip_prefix("| ")
            .and_then(|rest| rest.split_once(" | `"));
        number.is_some_and(|(number, rest)| number.parse::<u16>().is_ok() && rest.contains("` | ("))
    });
    assert_eq!(
        rows.count(),
        Syscall::ALL.len(),
        "{PAGE} has calls that do not exist"
    );
}

#[test]
fn every_error_has_a_row_with_its_code() {
    let page = read(PAGE);
    for error in Error::ALL {
        let row = format!("| {} | `{error:?}` |", error.code());
        assert!(page.contains(&row), "{PAGE} lacks the row {row}");
    }
}

#[test]
fn every_kind_of_object_has_a_row_with_its_number() {
    let page = read(PAGE);
    for kind in ObjectKind::ALL {
        let row = format!("| {} | `{kind:?}` |", kind as u8);
        assert!(page.contains(&row), "{PAGE} lacks the row {row}");
    }
}

#[test]
fn limits_have_their_values() {
    let page = read(PAGE);
    for (name, value) in [
        ("REGISTER_BYTES", skink_abi::REGISTER_BYTES as u64),
        ("MAX_MESSAGE_BYTES", skink_abi::MAX_MESSAGE_BYTES as u64),
        ("MAX_HANDLES", skink_abi::MAX_HANDLES as u64),
        ("MAX_PROCESS_HANDLES", skink_abi::MAX_PROCESS_HANDLES as u64),
        ("MAX_MAP_PAGES", skink_abi::MAX_MAP_PAGES),
        ("MAX_ZERO_PAGES", skink_abi::MAX_ZERO_PAGES),
        ("MAX_BATCH", skink_abi::MAX_BATCH as u64),
        ("MAX_BATCH_NS", skink_abi::MAX_BATCH_NS),
        ("MAX_REQUEST_CRASHES", skink_abi::MAX_REQUEST_CRASHES.into()),
        ("NAME_BYTES", skink_abi::NAME_BYTES as u64),
    ] {
        let row = format!("| `{name}` | {value} |");
        assert!(page.contains(&row), "{PAGE} lacks the row {row}");
    }
}
