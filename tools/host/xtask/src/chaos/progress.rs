//! How far a campaign is: a bar on a terminal, else a line from time to time.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

/// How often a line is printed where there is no bar.
const PERIOD: Duration = Duration::from_secs(30);

/// The progress of all machines together.
#[derive(Debug)]
pub(crate) struct Progress {
    bar: ProgressBar,
    started: Instant,
    said: Mutex<Instant>,
}

impl Progress {
    /// Begins to show how many of these kills are done.
    pub(crate) fn new(kills: u64) -> Self {
        let bar = ProgressBar::new(kills);
        let template = "{bar:30} {pos}/{len} kills, {per_sec}, {eta} left, {elapsed_precise}";
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        Self {
            bar,
            started: Instant::now(),
            said: Mutex::new(Instant::now()),
        }
    }

    /// Counts kills.
    pub(crate) fn add(&self, kills: u64) {
        self.bar.inc(kills);
        let Ok(mut said) = self.said.lock() else {
            return;
        };
        if self.bar.is_hidden() && said.elapsed() >= PERIOD {
            *said = Instant::now();
            let (done, all) = (self.bar.position(), self.bar.length().unwrap_or(0));
            let seconds = self.started.elapsed().as_secs_f64();
            let rate = done as f64 / seconds;
            let left = all.saturating_sub(done) as f64 / rate.max(0.001);
            eprintln!("{done}/{all} kills, {rate:.1}/s, {left:.0} s left");
        }
    }

    /// Says something without disturbing the bar.
    pub(crate) fn say(&self, text: &str) {
        self.bar.suspend(|| eprintln!("{text}"));
    }

    /// Takes the bar away.
    pub(crate) fn finish(&self) {
        self.bar.finish_and_clear();
    }
}
