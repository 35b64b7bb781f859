use std::path::PathBuf;

use skink_qemu::Exit;

use super::*;
use crate::chaos::batch::{Batch, End};
use crate::chaos::events::Events;

pub(crate) fn figures(printed: &str) -> Figures {
    Figures::new("abcdef".to_owned(), 3, &settings(), &[outcome(printed)])
}

fn settings() -> Settings {
    Settings {
        services: Vec::new(),
        plan: vec!["single".to_owned()],
        gap_us: "0..5".to_owned(),
        cpus: 1,
        is_virtual: true,
        shift: 0,
        open: 0,
        disk: PathBuf::new(),
        programs: None,
    }
}

fn outcome(printed: &str) -> Outcome {
    let mut events = Events::default();
    events.take(printed.as_bytes());
    events.finish();
    Outcome {
        batch: Batch {
            index: 0,
            seed: 3,
            kills: 2,
            skip: 0,
        },
        events,
        end: End::Exited(Exit::Orderly(0)),
        trouble: None,
        log: PathBuf::from("log"),
        replay: "again".to_owned(),
    }
}

pub(crate) fn printed() -> String {
    let kill = |service: &str, gap: u64| {
        format!(
            "#siege {{\"event\":\"kill\",\"service\":\"{service}\",\"kind\":\"single\",\
             \"gap_ns\":{gap},\"redelivered\":1,\"recovered\":1}}\n"
        )
    };
    let end = "#siege {\"event\":\"end\",\"elapsed_ns\":7}\n";
    [
        kill("vfs", 2_000_000),
        kill("vfs", 1_000_000),
        kill("log", 500_000),
        end.to_owned(),
    ]
    .concat()
}

#[test]
fn the_file_has_the_promised_form() {
    let figures = figures(&printed());
    assert!(figures.is_good());
    let file: Value = serde_json::from_str(&figures.json(&[outcome(&printed())]).unwrap()).unwrap();
    for (name, value) in [
        ("kills", 3),
        ("recovered", 3),
        ("lost", 0),
        ("wrong", 0),
        ("duplicated", 0),
        ("client_errors", 0),
        ("injected", 3),
        ("reboots", 0),
    ] {
        assert_eq!(file["totals"][name], value, "{name}");
    }
    assert_eq!(file["seed"], 3);
    let vfs = &file["services"][1];
    assert_eq!(vfs["service"], "vfs");
    assert_eq!(vfs["gap_ns"]["p50"], 1_000_000);
    assert_eq!(vfs["gap_ns"]["max"], 2_000_000);
    assert_eq!(file["batches"][0]["replay"], "again");
}

#[test]
fn faults_that_nobody_noticed_stay_in_the_count() {
    let fault = |shows: u64| {
        format!(
            "#siege {{\"event\":\"fault\",\"service\":\"vfs\",\"kind\":\"flip\",\
             \"manifested\":{shows},\"recovered\":1}}\n"
        )
    };
    let figures = figures(&[fault(0), fault(1), printed()].concat());
    assert!(figures.is_good());
    let totals = figures.totals();
    assert_eq!(
        (&totals["injected"], &totals["manifested"]),
        (&json!(5), &json!(4))
    );
    assert!(
        figures
            .summary()
            .contains("2 other faults, 1 activated, 1 manifested, 1 of them recovered")
    );
    let read = Figures::parse(&figures.json(&[]).unwrap()).unwrap();
    assert_eq!(read.summary(), figures.summary());
}

#[test]
fn each_version_has_a_row_and_hangs_have_their_times() {
    let printed = "\
        #siege {\"event\":\"swap\",\"service\":\"block\",\"kind\":\"swap\",\"image\":\"block-2\",\
        \"took_ns\":9000000,\"committed\":1,\"pause_ns\":4000000,\"recovered\":1}\n\
        #siege {\"event\":\"swap\",\"service\":\"block\",\"kind\":\"broken\",\"image\":\"broken-test\",\
        \"took_ns\":9,\"committed\":0,\"phase\":\"Test\",\"recovered\":1}\n\
        #siege {\"event\":\"fault\",\"service\":\"vfs\",\"kind\":\"hang\",\"manifested\":1,\
        \"recovered\":1,\"detection_ns\":50000000}\n\
        #siege {\"event\":\"end\",\"elapsed_ns\":7}\n";
    let figures = figures(printed);
    assert!(figures.is_good());
    let table = figures.markdown();
    for row in [
        "| `block` | its other version | 1 | 1 | 1 |  | 4.00 | 4.00 | 4.00 | 4.00 |",
        "| `block` | `broken-test` | 1 | 0 | 1 | test 1 | - | - | - | - |",
        "| `vfs` | 1 | 1 | 1 | 50.00 | 50.00 | 50.00 | 50.00 |",
        "2 swaps, 1 committed, 2 as they must come out.",
    ] {
        assert!(table.contains(row), "{row} is not in {table}");
    }
    let read = Figures::parse(&figures.json(&[]).unwrap()).unwrap();
    assert_eq!(read.markdown(), table);
}

#[test]
fn what_is_kept_makes_the_same_table() {
    let figures = figures(&printed());
    let read = Figures::parse(&figures.json(&[]).unwrap()).unwrap();
    assert_eq!(read.markdown(), figures.markdown());
    assert!(
        figures
            .markdown()
            .contains("| `vfs` | 2 | 2 | 1.00 | 2.00 | 2.00 | 2.00 | 2 |")
    );
    for text in ["", "{}", "{\"schema\":1}"] {
        assert!(Figures::parse(text).is_err(), "{text}");
    }
}

#[test]
fn anything_that_goes_wrong_makes_it_bad() {
    for more in [
        "#siege {\"event\":\"load\",\"name\":\"tree\",\"lost\":1}\n",
        "#siege {\"event\":\"use\",\"name\":\"x\",\"before\":1,\"after\":2,\"leaked\":1}\n",
        "#siege {\"event\":\"deaths\",\"service\":\"vfs\",\"hung\":1}\n",
        "#siege {\"event\":\"kill\",\"service\":\"vfs\",\"kind\":\"single\",\"recovered\":0}\n",
        "#line 1\n",
        "#siege {\"event\":\"fault\",\"service\":\"vfs\",\"kind\":\"hang\",\"manifested\":1,\"recovered\":0}\n",
        "#siege {\"event\":\"swap\",\"service\":\"vfs\",\"kind\":\"swap\",\"recovered\":0}\n",
        "siege: vfs does not run\n",
    ] {
        let printed = format!("{more}{}", printed());
        assert!(!figures(&printed).is_good(), "{more}");
    }
    assert!(!figures("").is_good());
    let mut torn = outcome(&printed());
    torn.trouble = Some("gone".to_owned());
    assert!(torn.is_lost());
    assert!(failures(&[torn])[0].contains("again: again"));
}

#[test]
fn a_boot_that_goes_on_where_another_ended_counts_once() {
    let fault = |kind: &str| {
        format!(
            "#siege {{\"event\":\"fault\",\"service\":\"vfs\",\"kind\":\"{kind}\",\"manifested\":1,\"recovered\":1}}\n"
        )
    };
    let end = "#siege {\"event\":\"end\",\"elapsed_ns\":7}\n";
    let inject =
        "#siege {\"event\":\"inject\",\"service\":\"vfs\",\"kind\":\"nop\",\"address\":7}\n";
    let first = outcome(&[&fault("data"), inject].concat());
    let mut second = outcome(&[&fault("stack"), end].concat());
    second.batch.skip = 2;
    let settings = settings();
    let figures = Figures::new("abc".to_owned(), 3, &settings, &[first, second]);
    assert!(
        figures.command.contains("--kills 2 --batch 2 "),
        "{}",
        figures.command
    );
    let totals = figures.totals();
    for (name, value) in [
        ("injected", 3),
        ("manifested", 3),
        ("manifested_recovered", 2),
    ] {
        assert_eq!(totals[name], value, "{name}");
    }
    assert_eq!(
        (figures.boots, figures.reboots, figures.misses.len()),
        (2, 1, 1)
    );
}

#[test]
fn faults_that_pass_have_a_row_for_each_service() {
    let fault = |kind: &str, died: u64, gap: u64| {
        format!(
            "#siege {{\"event\":\"fault\",\"service\":\"vfs\",\"kind\":\"{kind}\",\"activated\":1,\
             \"manifested\":1,\"died\":{died},\"recovered\":1,\"gap_ns\":{gap}}}\n"
        )
    };
    let printed = [
        fault("slow", 1, 2_000_000),
        fault("slow", 0, 1_000_000),
        fault("exhaust-files", 0, 3_000_000),
        printed(),
    ];
    let table = figures(&printed.concat()).markdown();
    for row in [
        "| `vfs` | `exhaust-files` | 1 | 1 | 0 | 1 | 3.00 | 3.00 | 3.00 | 3.00 |",
        "| `vfs` | `slow` | 2 | 2 | 1 | 2 | 1.00 | 2.00 | 2.00 | 2.00 |",
    ] {
        assert!(table.contains(row), "{row} is not in {table}");
    }
    assert!(!table.contains("of manifested"), "{table}");
}
