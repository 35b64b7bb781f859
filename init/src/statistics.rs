//! How a service has fared: deaths by cause, and downtimes.

use alloc::vec::Vec;

use libipc::proto::init::{Cause, ServiceStatistics};
use serde::{Deserialize, Serialize};

/// Downtimes that percentiles are computed from: the last ones.
const SAMPLES: usize = 128;

/// The last values of a series, oldest first to go.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Samples {
    values: Vec<u64>,
    /// Where the next one goes; within the series, whatever was read from memory.
    next: usize,
}

impl Samples {
    /// Adds a value.
    pub fn add(&mut self, value: u64) {
        if self.values.len() < SAMPLES {
            self.values.push(value);
        } else {
            let place = self.next % SAMPLES;
            self.values[place] = value;
            self.next = (place + 1) % SAMPLES;
        }
    }

    /// Returns the smallest value that at least `percent` of all do not exceed; 0 without any.
    fn percentile(&self, percent: usize) -> u64 {
        let mut sorted = self.values.clone();
        sorted.sort_unstable();
        let rank = (sorted.len() * percent).div_ceil(100);
        sorted.get(rank.saturating_sub(1)).copied().unwrap_or(0)
    }
}

/// How a service has fared since boot.
#[derive(Clone, Debug, Default)]
pub struct Statistics {
    counts: ServiceStatistics,
    samples: Samples,
    last_cause: Option<Cause>,
}

impl Statistics {
    /// Goes on with what is known already.
    pub fn new(counts: ServiceStatistics, samples: Samples, last_cause: Option<Cause>) -> Self {
        Statistics {
            counts,
            samples,
            last_cause,
        }
    }

    /// Returns all counts, without percentiles.
    pub const fn counts(&self) -> &ServiceStatistics {
        &self.counts
    }

    /// Counts a death.
    pub fn add_death(&mut self, cause: Cause) {
        let counter = match cause {
            Cause::Exited(_) => &mut self.counts.exited,
            Cause::Fault { .. } => &mut self.counts.faulted,
            Cause::Asked => &mut self.counts.asked,
            Cause::Hung | Cause::Overdue => &mut self.counts.hung,
            Cause::Reported => &mut self.counts.reported,
            Cause::Doubted => &mut self.counts.doubted,
            Cause::NotStarted => &mut self.counts.not_started,
            Cause::Killed(_) => &mut self.counts.killed,
        };
        *counter = counter.saturating_add(1);
        self.last_cause = Some(cause);
    }

    /// Adds the time from a death until the service served again.
    pub fn add_downtime(&mut self, ns: u64) {
        self.samples.add(ns);
        self.counts.downtimes = self.counts.downtimes.saturating_add(1);
        self.counts.downtime_last_ns = ns;
        self.counts.downtime_max_ns = self.counts.downtime_max_ns.max(ns);
    }

    /// Counts a heartbeat that came late.
    pub fn add_late_heartbeat(&mut self) {
        self.counts.late_heartbeats = self.counts.late_heartbeats.saturating_add(1);
    }

    /// Returns why the last instance ended.
    pub const fn last_cause(&self) -> Option<Cause> {
        self.last_cause
    }

    /// Returns the last downtime, ns.
    pub const fn last_downtime_ns(&self) -> u64 {
        self.counts.downtime_last_ns
    }

    /// Returns everything, percentiles included.
    pub fn report(&self, crashes_in_row: u32) -> ServiceStatistics {
        ServiceStatistics {
            crashes_in_row,
            downtime_p50_ns: self.samples.percentile(50),
            downtime_p99_ns: self.samples.percentile(99),
            ..self.counts.clone()
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn percentiles_are_values_that_occurred() {
        let mut statistics = Statistics::default();
        assert_eq!(statistics.report(0), ServiceStatistics::default());
        for ns in 1..=100 {
            statistics.add_downtime(ns);
        }
        let report = statistics.report(3);
        assert_eq!((report.downtime_p50_ns, report.downtime_p99_ns), (50, 99));
        assert_eq!(
            (report.downtime_last_ns, report.downtime_max_ns),
            (100, 100)
        );
        assert_eq!((report.downtimes, report.crashes_in_row), (100, 3));
    }

    #[test]
    fn deaths_are_counted_by_cause() {
        let mut statistics = Statistics::default();
        statistics.add_death(Cause::Exited(3));
        statistics.add_death(Cause::Hung);
        statistics.add_death(Cause::Hung);
        let report = statistics.report(0);
        assert_eq!((report.exited, report.hung, report.faulted), (1, 2, 0));
        assert_eq!(statistics.last_cause(), Some(Cause::Hung));
    }

    proptest! {
        #[test]
        fn percentiles_agree_with_sorting_the_last_samples(
            values in prop::collection::vec(any::<u64>(), 1..400),
        ) {
            let mut statistics = Statistics::default();
            for &value in &values {
                statistics.add_downtime(value);
            }
            let mut last: Vec<u64> = values[values.len().saturating_sub(SAMPLES)..].to_vec();
            last.sort_unstable();
            let at = |percent: usize| last[(last.len() * percent).div_ceil(100) - 1];
            let report = statistics.report(0);
            prop_assert_eq!(report.downtime_p50_ns, at(50));
            prop_assert_eq!(report.downtime_p99_ns, at(99));
            prop_assert_eq!(report.downtime_max_ns, *values.iter().max().unwrap());
        }
    }
}
