//! Lines of `init` itself go to the kernel log: there is no log server under it.

use libsys::runtime::debug_log_fmt;
use log::{LevelFilter, Log, Metadata, Record};

struct KernelLog;

impl Log for KernelLog {
    fn enabled(&self, _metadata: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        debug_log_fmt(format_args!("init: {}", record.args()));
    }

    fn flush(&self) {}
}

/// Sets the logger up, with the level that the command line names as `log=…`.
pub(crate) fn start(command_line: &str) {
    let level = skink_manifest::command_line::option(command_line, "log");
    let level = level
        .and_then(|name| name.parse().ok())
        .unwrap_or(LevelFilter::Info);
    // It fails only if it was set before.
    let _ = log::set_logger(&KernelLog);
    log::set_max_level(level);
}
