//! Skink beside Linux and seL4: which operations do the same job.

use super::results::{LinuxResults, Mode, Results, align, figures};

/// An operation of Skink and the ways in which Linux does the same job.
const PAIRS: &[(&str, &[&str])] = &[
    ("ipc.syscall_null", &["sys_enosys", "sys_getppid"]),
    ("ipc.notify_roundtrip", &["ipc_eventfd", "ipc_futex"]),
    (
        "ipc.roundtrip.cross_space.8B",
        &["ipc_pipe_8B", "ipc_futex"],
    ),
    (
        "ipc.roundtrip.cross_space.64B",
        &["ipc_pipe_64B", "ipc_posixmq_64B", "ipc_unix_seqpacket_64B"],
    ),
    (
        "ipc.roundtrip.cross_space.4KiB",
        &["ipc_pipe_4KiB", "ipc_unix_seqpacket_4KiB"],
    ),
    ("ipc.typed.32B", &["ipc_unix_seqpacket_32B"]),
    ("mem.fault_anon_4K", &["fault_anon_4K"]),
    ("mem.map_512_per_page", &["mmap_512_per_page"]),
    ("sched.switch", &["ctx_thread_yield"]),
    ("time.page", &["clock_gettime_vdso"]),
];

/// What seL4 needs for the operation that is nearest to one of Skink's: instructions, measured in
/// the same QEMU with the same clock. x86_64, release, commit 1326364bc, the kernel without
/// scheduling contexts and without the window against Meltdown, which Skink has not either.
const SEL4: &[(&str, &str, f64)] = &[
    ("ipc.syscall_null", "null system call", 96.0),
    ("ipc.notify_roundtrip", "Signal and Wait ping-pong", 2002.0),
    (
        "ipc.roundtrip.cross_space.0B",
        "Call and ReplyRecv, 0 words",
        417.0,
    ),
    (
        "ipc.roundtrip.cross_space.8B",
        "Call and ReplyRecv, 1 word",
        428.0,
    ),
    (
        "ipc.roundtrip.cross_space.64B",
        "Call and ReplyRecv, 4 words",
        452.0,
    ),
    (
        "ipc.roundtrip.cross_space.64B",
        "Call and ReplyRecv, 10 words",
        1605.0,
    ),
    ("mem.fault_null", "fault to a handler, resumed", 1219.0),
    ("mem.map_512_per_page", "map 512 pages, per page", 720.0),
];

/// What a round trip between two processes cannot be without: writing to `cr3` twice.
const FLOOR: &str = "ipc.floor.two_cr3";
/// The round trip that is held against it.
const ROUND_TRIP: &str = "ipc.roundtrip.cross_space.8B";
/// How many times the floor it may take.
const MOST_FLOORS: f64 = 1.25;

/// Returns how a round trip stands to the time of two switches of address space, if both were
/// measured in this run.
pub(crate) fn floor(results: &Results) -> Option<String> {
    let find = |name| results.metric(Mode::Tcg, name);
    let (floor, trip) = (find(FLOOR)?, find(ROUND_TRIP)?);
    if floor.value <= 0.0 || floor.median <= 0.0 {
        return None;
    }
    let (best, median) = (trip.value / floor.value, trip.median / floor.median);
    let verdict = if best <= MOST_FLOORS {
        "within"
    } else {
        "OVER"
    };
    Some(format!(
        "{ROUND_TRIP} takes {best:.2} times {FLOOR} ({median:.2} by the medians): \
        {verdict} the limit of {MOST_FLOORS}"
    ))
}

/// Returns Linux's metrics that do the job of one of Skink's.
pub(crate) fn linux_metrics(name: &str) -> &'static [&'static str] {
    let pair = PAIRS.iter().find(|(skink, _)| *skink == name);
    pair.map_or(&[], |(_, linux)| linux)
}

/// Returns what seL4 does for the job of one of Skink's metrics, and its instructions.
pub(crate) fn sel4(name: &str) -> impl Iterator<Item = (&'static str, f64)> {
    let found = SEL4.iter().filter(move |(skink, ..)| *skink == name);
    found.map(|&(_, what, instructions)| (what, instructions))
}

/// Returns a table of Skink and seL4: how many times as much seL4 takes.
pub(crate) fn sel4_table(skink: &Results) -> String {
    let titles = ["Skink", "instructions", "instructions", "ratio", "seL4"];
    let mut rows = vec![titles.map(str::to_owned)];
    for &(ours, what, theirs) in SEL4 {
        let our = skink.value(Mode::Icount, ours);
        if let Some(our) = our.filter(|our| *our > 0.0) {
            rows.push([
                ours.to_owned(),
                figures(our),
                figures(theirs),
                format!("{:.2}", theirs / our),
                what.to_owned(),
            ]);
        }
    }
    align(&rows)
}

/// Returns a table of both systems with ratios: how many times as much Linux takes.
pub(crate) fn table(skink: &Results, linux: &LinuxResults) -> String {
    let titles = [
        "Skink",
        "instructions",
        "ns",
        "Linux",
        "instructions",
        "ns",
        "ratios",
    ];
    let mut rows = vec![titles.map(str::to_owned)];
    for (ours, theirs) in PAIRS {
        let our = |mode| skink.value(mode, ours);
        if our(Mode::Icount).is_none() {
            continue;
        }
        for (at, theirs) in theirs.iter().enumerate() {
            let their = |mode| linux.value(mode, theirs);
            let show = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), figures);
            let ratio = |mode| {
                let (ours, theirs) = our(mode).filter(|ours| *ours > 0.0).zip(their(mode))?;
                Some(format!("{:.1}", theirs / ours))
            };
            let ratios = Mode::ALL.map(|mode| ratio(mode).unwrap_or_else(|| "-".to_owned()));
            let name = if at == 0 { ours } else { "" };
            rows.push([
                name.to_owned(),
                show(our(Mode::Icount)),
                show(our(Mode::Tcg)),
                (*theirs).to_owned(),
                show(their(Mode::Icount)),
                show(their(Mode::Tcg)),
                ratios.join(" / "),
            ]);
        }
    }
    align(&rows)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::results::{Metric, RunResults};

    fn run(mode: Mode, name: &str, value: f64) -> RunResults {
        let metric = Metric {
            name: name.to_owned(),
            value,
            median: value,
            p99: None,
            unit: "instructions",
            samples: 1,
        };
        RunResults {
            mode,
            metrics: vec![metric],
        }
    }

    #[test]
    fn a_round_trip_is_held_against_its_floor() {
        let floor_of = |trip, floor_ns| {
            let mut results = Results::new("abc".to_owned());
            let mut both = run(Mode::Tcg, ROUND_TRIP, trip);
            both.metrics.extend(run(Mode::Tcg, FLOOR, floor_ns).metrics);
            results.runs = vec![both];
            floor(&results)
        };
        let within = floor_of(5000.0, 4000.0).unwrap();
        assert!(
            within.contains("1.25 times") && within.contains("within"),
            "{within}"
        );
        let over = floor_of(5100.0, 4000.0).unwrap();
        assert!(
            over.contains("1.27 times") && over.contains("OVER"),
            "{over}"
        );
        assert_eq!(floor_of(5000.0, 0.0), None);
        let mut results = Results::new("abc".to_owned());
        results.runs = vec![
            run(Mode::Tcg, ROUND_TRIP, 1.0),
            run(Mode::Icount, FLOOR, 1.0),
        ];
        assert_eq!(floor(&results), None);
    }

    #[test]
    fn sel4_stands_beside_what_was_measured() {
        let mut skink = Results::new("abc".to_owned());
        skink.runs = vec![run(Mode::Icount, "ipc.syscall_null", 192.0)];
        let table = sel4_table(&skink);
        let lines: Vec<&str> = table.lines().collect();
        assert_eq!(lines.len(), 2, "{table}");
        assert!(lines[1].ends_with("0.50 null system call"), "{table}");
    }

    #[test]
    fn ratios_say_how_many_times_as_much_linux_takes() {
        let mut skink = Results::new("abc".to_owned());
        skink.runs = vec![
            run(Mode::Icount, "ipc.syscall_null", 50.0),
            run(Mode::Tcg, "ipc.syscall_null", 0.0),
        ];
        let linux = LinuxResults {
            kernel: "6".to_owned(),
            runs: vec![run(Mode::Icount, "sys_enosys", 228.0)],
        };
        let table = table(&skink, &linux);
        let line = table.lines().nth(1).unwrap();
        assert!(
            line.contains("sys_enosys") && line.ends_with("4.6 / -"),
            "{table}"
        );
        assert_eq!(table.lines().count(), 3, "{table}");
    }
}
