//! What a besieged machine prints: lines with JSON, numbered lines, complaints.

use std::collections::BTreeMap;

use serde_json::Value;

/// Start of the lines with JSON.
const EVENT: &str = "#siege ";
/// Start of the numbered lines.
const LINE: &str = "#line ";
/// Start of what the program complains about.
const COMPLAINT: &str = "siege: ";
/// Most complaints that are kept of one machine.
const MAX_COMPLAINTS: usize = 20;

/// A kill.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Kill {
    pub(crate) service: String,
    pub(crate) kind: String,
    pub(crate) gap_ns: u64,
    pub(crate) redelivered: u64,
    pub(crate) is_recovered: bool,
    /// The service that was killed before it, or with it.
    pub(crate) after: String,
}

/// Another fault than a kill.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    pub(crate) service: String,
    pub(crate) kind: String,
    /// Whether the instruction was executed or the byte read or written; `None` if nobody watched.
    pub(crate) is_activated: Option<bool>,
    /// Whether anybody noticed it.
    pub(crate) is_manifest: bool,
    /// Whether the service answered afterwards, and no workload saw a fault.
    pub(crate) is_recovered: bool,
    pub(crate) gap_ns: u64,
    /// How long it took until a service that turned for ever was ended.
    pub(crate) detection_ns: Option<u64>,
    /// The line, for those that were not recovered.
    pub(crate) about: Value,
}

/// A fault that was about to be put in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Injection {
    pub(crate) service: String,
    pub(crate) kind: String,
    pub(crate) address: u64,
}

/// Time without faults.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Quiet {
    pub(crate) ns: u64,
    pub(crate) restarts: u64,
    pub(crate) late_heartbeats: u64,
}

impl Quiet {
    /// Adds more of it.
    pub(crate) fn add(&mut self, other: &Self) {
        self.ns += other.ns;
        self.restarts += other.restarts;
        self.late_heartbeats += other.late_heartbeats;
    }
}

/// A swap.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Swap {
    pub(crate) service: String,
    pub(crate) kind: String,
    pub(crate) image: String,
    /// How long nobody received; `None` when the old version was never stopped.
    pub(crate) pause_ns: Option<u64>,
    pub(crate) took_ns: u64,
    pub(crate) is_committed: bool,
    /// Crashes that came of it.
    pub(crate) crashes: u64,
    /// In which phase it was rolled back.
    pub(crate) phase: String,
    /// Whether it came out as it must.
    pub(crate) is_recovered: bool,
}

/// What the oracles counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) operations: u64,
    pub(crate) client_errors: u64,
    pub(crate) wrong: u64,
    pub(crate) lost: u64,
    pub(crate) duplicated: u64,
}

impl Counts {
    fn of(event: &Value) -> Self {
        let number = |name: &str| event[name].as_u64().unwrap_or(0);
        Self {
            operations: number("operations"),
            client_errors: number("client_errors"),
            wrong: number("wrong"),
            lost: number("lost"),
            duplicated: number("duplicated"),
        }
    }

    /// Adds what another one counted.
    pub(crate) fn add(&mut self, other: &Self) {
        self.operations += other.operations;
        self.client_errors += other.client_errors;
        self.wrong += other.wrong;
        self.lost += other.lost;
        self.duplicated += other.duplicated;
    }

    /// Returns how many things went wrong.
    pub(crate) fn faults(&self) -> u64 {
        self.client_errors + self.wrong + self.lost + self.duplicated
    }
}

/// The numbered lines: each must come once, in order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Lines {
    /// The number that must come next.
    next: u64,
    seen: u64,
    lost: u64,
    duplicated: u64,
    wrong: u64,
}

impl Lines {
    fn take(&mut self, number: &str) {
        let Ok(number) = number.parse::<u64>() else {
            self.wrong += number.len() as u64;
            return;
        };
        self.seen += 1;
        if number < self.next {
            self.duplicated += 1;
        } else {
            self.lost += number - self.next;
            self.next = number + 1;
        }
    }
}

/// All that a machine printed.
#[derive(Debug, Default)]
pub(crate) struct Events {
    /// What was printed of a line that has not ended yet.
    rest: Vec<u8>,
    pub(crate) kills: Vec<Kill>,
    pub(crate) faults: Vec<Fault>,
    pub(crate) swaps: Vec<Swap>,
    /// What nobody has told the end of yet.
    pub(crate) pending: Option<Injection>,
    pub(crate) quiet: Quiet,
    quiet_minutes: u64,
    pub(crate) counts: Counts,
    /// Deaths that nobody asked for: service, cause, number.
    pub(crate) unasked: BTreeMap<(String, String), u64>,
    /// What is in use: name, before, after.
    pub(crate) uses: Vec<(String, u64, u64)>,
    /// How many of them are leaks.
    pub(crate) leaks: u64,
    pub(crate) complaints: Vec<String>,
    pub(crate) elapsed_ns: u64,
    /// How many kills of those that were asked for it ended before.
    pub(crate) left: u64,
    /// What the campaign has told, number of lines.
    pub(crate) told: u64,
    lines: Lines,
    has_ended: bool,
}

impl Events {
    /// Takes what was printed now.
    pub(crate) fn take(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            match byte {
                b'\r' => {}
                b'\n' => {
                    let line = std::mem::take(&mut self.rest);
                    self.line(&String::from_utf8_lossy(&line));
                }
                byte => self.rest.push(byte),
            }
        }
    }

    /// Says that nothing more comes.
    pub(crate) fn finish(&mut self) {
        let line = std::mem::take(&mut self.rest);
        self.line(&String::from_utf8_lossy(&line));
        let lines = self.lines;
        self.counts.lost += lines.lost;
        self.counts.duplicated += lines.duplicated;
        self.counts.wrong += lines.wrong;
    }

    /// Returns how many kills, other faults, swaps and quiet minutes there were so far.
    pub(crate) fn strikes(&self) -> u64 {
        (self.kills.len() + self.faults.len() + self.swaps.len()) as u64 + self.quiet_minutes
    }

    /// Returns whether the campaign came to its end.
    pub(crate) fn has_ended(&self) -> bool {
        self.has_ended
    }

    fn line(&mut self, line: &str) {
        if let Some(number) = line.strip_prefix(LINE) {
            self.lines.take(number);
        } else if let Some(complaint) = line.strip_prefix(COMPLAINT) {
            if self.complaints.len() < MAX_COMPLAINTS {
                self.complaints.push(complaint.to_owned());
            }
        } else if let Some(text) = line.strip_prefix(EVENT) {
            match serde_json::from_str(text) {
                Ok(event) => {
                    self.told += 1;
                    self.event(&event);
                }
                Err(_) => self.garbled(line),
            }
        } else if line.contains(EVENT) || line.contains(LINE) {
            self.garbled(line);
        }
    }

    /// Counts a line that is not as it was written.
    fn garbled(&mut self, line: &str) {
        self.counts.wrong += line.len() as u64;
        self.complaints.push(format!("a garbled line: {line:?}"));
    }

    fn event(&mut self, event: &Value) {
        let number = |name: &str| event[name].as_u64().unwrap_or(0);
        match event["event"].as_str() {
            // Each run of the workload that writes lines begins with 0.
            Some("loads") => {
                let old = std::mem::take(&mut self.lines);
                self.counts.lost += old.lost;
                self.counts.duplicated += old.duplicated;
                self.counts.wrong += old.wrong;
            }
            Some("load") => {
                let counts = Counts::of(event);
                self.counts.add(&counts);
                if event["name"] == "lines" {
                    self.counts.lost += counts.operations.saturating_sub(self.lines.next);
                }
            }
            Some("use") => {
                if number("leaked") == 1 {
                    self.leaks += 1;
                }
                let used = (text(event, "name"), number("before"), number("after"));
                self.uses.push(used);
            }
            Some("deaths") => self.deaths(event),
            Some("end") => {
                self.elapsed_ns = number("elapsed_ns");
                self.left = number("left");
                self.has_ended = true;
            }
            Some(strike) => self.strike(strike, event),
            None => {}
        }
    }

    fn strike(&mut self, name: &str, event: &Value) {
        let number = |name: &str| event[name].as_u64().unwrap_or(0);
        let text = |name: &str| text(event, name);
        match name {
            "kill" => self.kills.push(Kill {
                service: text("service"),
                kind: text("kind"),
                gap_ns: number("gap_ns"),
                redelivered: number("redelivered"),
                is_recovered: number("recovered") == 1,
                after: text("after"),
            }),
            "inject" => {
                self.pending = Some(Injection {
                    service: text("service"),
                    kind: text("kind"),
                    address: number("address"),
                });
            }
            "fault" => {
                self.pending = None;
                self.faults.push(Fault {
                    service: text("service"),
                    kind: text("kind"),
                    is_activated: event["activated"].as_u64().map(|number| number == 1),
                    is_manifest: number("manifested") == 1,
                    is_recovered: number("recovered") == 1 && Counts::of(event).faults() == 0,
                    gap_ns: number("gap_ns"),
                    detection_ns: event["detection_ns"].as_u64(),
                    about: event.clone(),
                });
            }
            "quiet" => {
                self.quiet_minutes += 1;
                self.quiet.add(&Quiet {
                    ns: number("ns"),
                    restarts: number("restarts"),
                    late_heartbeats: number("late_heartbeats"),
                });
            }
            "swap" => self.swaps.push(Swap {
                service: text("service"),
                kind: text("kind"),
                image: text("image"),
                pause_ns: event["pause_ns"].as_u64(),
                took_ns: number("took_ns"),
                is_committed: number("committed") == 1,
                crashes: number("crashes"),
                phase: text("phase"),
                is_recovered: number("recovered") == 1,
            }),
            _ => {}
        }
    }

    fn deaths(&mut self, event: &Value) {
        let service = event["service"].as_str().unwrap_or_default();
        for (cause, count) in event.as_object().into_iter().flatten() {
            if let Some(count) = count.as_u64().filter(|count| *count > 0) {
                let key = (service.to_owned(), cause.clone());
                *self.unasked.entry(key).or_default() += count;
            }
        }
    }
}

fn text(event: &Value, name: &str) -> String {
    event[name].as_str().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Events {
        let mut events = Events::default();
        for part in text.as_bytes().chunks(7) {
            events.take(part);
        }
        events.finish();
        events
    }

    #[test]
    fn events_are_read_in_whatever_pieces_they_come() {
        let events = read(
            "boot\r\n#siege {\"event\":\"begin\",\"seed\":1}\r\n\
             \r#siege {\"event\":\"kill\",\"service\":\"vfs\",\"kind\":\"single\",\"gap_ns\":5,\
             \"redelivered\":2,\"recovered\":1}\n\
             #siege {\"event\":\"load\",\"name\":\"tree\",\"operations\":9,\"lost\":1}\n\
             #siege {\"event\":\"use\",\"name\":\"spaces\",\"before\":1,\"after\":2,\"leaked\":1}\n\
             #siege {\"event\":\"deaths\",\"service\":\"log\",\"hung\":3,\"exited\":0}\n\
             siege: something\n#siege {\"event\":\"end\",\"elapsed_ns\":7}\n",
        );
        let kill = Kill {
            service: "vfs".to_owned(),
            kind: "single".to_owned(),
            gap_ns: 5,
            redelivered: 2,
            is_recovered: true,
            after: String::new(),
        };
        assert_eq!(events.kills, [kill]);
        assert_eq!((events.counts.operations, events.counts.lost), (9, 1));
        assert_eq!(events.uses, [("spaces".to_owned(), 1, 2)]);
        assert_eq!(events.leaks, 1);
        assert_eq!(events.unasked.len(), 1);
        assert_eq!(events.complaints, ["something"]);
        assert!(events.has_ended() && events.elapsed_ns == 7);
    }

    #[test]
    fn lines_that_are_missing_or_come_twice_are_counted() {
        let count = |text: &str| {
            let counts = read(text).counts;
            (counts.lost, counts.duplicated, counts.wrong)
        };
        assert_eq!(count("#line 0\n#line 1\n#line 2\n"), (0, 0, 0));
        assert_eq!(count("#line 0\n#line 3\n"), (2, 0, 0));
        assert_eq!(count("#line 0\n#line 0\n#line 1\n"), (0, 1, 0));
        assert_eq!(count("#line 0x\n"), (0, 0, 2));
        assert_eq!(count("#li#line 0\n").2, 10);
        let begin = "#siege {\"event\":\"loads\"}\n";
        assert_eq!(
            count(&format!("{begin}#line 0\n{begin}#line 0\n")),
            (0, 0, 0)
        );
        let load = "#siege {\"event\":\"load\",\"name\":\"lines\",\"operations\":2}\n";
        assert_eq!(count(&format!("{begin}#line 0\n{load}")), (1, 0, 0));
    }

    #[test]
    fn a_fault_that_a_workload_saw_is_not_recovered() {
        let fault = |lost: u64| {
            let line = format!(
                "#siege {{\"event\":\"fault\",\"service\":\"vfs\",\"kind\":\"flip\",\
                 \"manifested\":1,\"recovered\":1,\"lost\":{lost}}}\n"
            );
            read(&line).faults.remove(0)
        };
        assert!(fault(0).is_manifest && fault(0).is_recovered);
        assert!(!fault(1).is_recovered);
    }

    #[test]
    fn a_fault_whose_end_nobody_told_is_known() {
        let inject =
            "#siege {\"event\":\"inject\",\"service\":\"vfs\",\"kind\":\"nop\",\"address\":7}\n";
        let pending = read(inject).pending.unwrap();
        assert_eq!((pending.service.as_str(), pending.address), ("vfs", 7));
        let fault =
            "#siege {\"event\":\"fault\",\"service\":\"vfs\",\"kind\":\"nop\",\"activated\":1}\n";
        let events = read(&format!("{inject}{fault}"));
        assert_eq!(events.pending, None);
        assert_eq!(events.faults[0].is_activated, Some(true));
    }

    #[test]
    fn quiet_minutes_are_summed() {
        let minute =
            "#siege {\"event\":\"quiet\",\"ns\":60,\"restarts\":1,\"late_heartbeats\":2}\n";
        let events = read(&[minute, minute].concat());
        let quiet = events.quiet;
        assert_eq!(
            (quiet.ns, quiet.restarts, quiet.late_heartbeats),
            (120, 2, 4)
        );
        assert_eq!(events.strikes(), 2);
    }

    #[test]
    fn swaps_tell_how_they_ended() {
        let events = read(
            "#siege {\"event\":\"swap\",\"service\":\"vfs\",\"kind\":\"swap\",\"image\":\"vfs-2\",\
             \"took_ns\":9,\"committed\":1,\"pause_ns\":4,\"recovered\":1}\n\
             #siege {\"event\":\"swap\",\"kind\":\"broken\",\"phase\":\"Start\",\"recovered\":0}\n",
        );
        let [there, broken] = events.swaps.as_slice() else {
            panic!("{:?}", events.swaps)
        };
        assert!(there.is_committed && there.is_recovered && there.pause_ns == Some(4));
        assert!(!broken.is_committed && !broken.is_recovered && broken.pause_ns.is_none());
        assert_eq!(broken.phase, "Start");
        assert_eq!(events.strikes(), 2);
    }

    #[test]
    fn json_that_was_torn_is_wrong() {
        let events = read("#siege {\"event\":\"kill\"\n");
        assert!(events.counts.wrong > 0 && !events.has_ended());
    }
}
