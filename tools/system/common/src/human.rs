//! Numbers for people, without floating point.

use alloc::format;
use alloc::string::String;

/// Returns a size such as `512 B`, `1.5 KiB` or `64.0 MiB`.
pub fn size(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    // Tenths of the unit, rounded; one that rounds to 1024.0 belongs to the next unit.
    let mut unit_bytes = 1024_u128;
    for unit in UNITS {
        let tenths = (u128::from(bytes) * 10 + unit_bytes / 2) / unit_bytes;
        if tenths < 10_240 {
            return format!("{}.{} {unit}", tenths / 10, tenths % 10);
        }
        unit_bytes *= 1024;
    }
    format!("{bytes} B")
}

/// Returns a duration such as `850 ns`, `12.3 us`, `4.56 ms`, `1.234 s` or `2 min 05 s`.
pub fn duration(ns: u64) -> String {
    match ns {
        0..1_000 => format!("{ns} ns"),
        1_000..1_000_000 => format!("{}.{} us", ns / 1_000, ns % 1_000 / 100),
        1_000_000..1_000_000_000 => {
            format!("{}.{:02} ms", ns / 1_000_000, ns % 1_000_000 / 10_000)
        }
        1_000_000_000..60_000_000_000 => seconds(ns),
        _ => {
            let seconds = ns / 1_000_000_000;
            if seconds < 3600 {
                format!("{} min {:02} s", seconds / 60, seconds % 60)
            } else {
                format!("{} h {:02} min", seconds / 3600, seconds % 3600 / 60)
            }
        }
    }
}

/// Returns a duration in seconds with three places, such as `0.042 s`.
pub fn seconds(ns: u64) -> String {
    format!("{}.{:03} s", ns / 1_000_000_000, ns % 1_000_000_000 / 1_000_000)
}

#[cfg(test)]
mod tests {
    use super::{duration, seconds, size};

    #[test]
    fn sizes_have_one_place() {
        assert_eq!(size(0), "0 B");
        assert_eq!(size(1023), "1023 B");
        assert_eq!(size(1024), "1.0 KiB");
        assert_eq!(size(1536), "1.5 KiB");
        assert_eq!(size(1024 * 1024 - 1), "1.0 MiB");
        assert_eq!(size(64 << 20), "64.0 MiB");
        assert_eq!(size(u64::MAX), "16.0 EiB");
    }

    #[test]
    fn durations_keep_three_figures() {
        assert_eq!(duration(999), "999 ns");
        assert_eq!(duration(12_345), "12.3 us");
        assert_eq!(duration(4_567_000), "4.56 ms");
        assert_eq!(duration(1_234_567_890), "1.234 s");
        assert_eq!(duration(125_000_000_000), "2 min 05 s");
        assert_eq!(duration(7_260_000_000_000), "2 h 01 min");
        assert_eq!(seconds(42_000_000), "0.042 s");
    }
}
