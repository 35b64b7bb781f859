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
    format!(
        "{}.{:03} s",
        ns / 1_000_000_000,
        ns % 1_000_000_000 / 1_000_000
    )
}

/// Returns a time since 1970 as `2024-05-01 12:34` in UTC.
pub fn date(seconds: i64) -> String {
    let days = seconds.div_euclid(86_400);
    let second = seconds.rem_euclid(86_400);
    // Days are counted from 1 March of year 0 of a 400-year cycle, so that the leap day is the
    // last one of its year.
    let shifted = days.saturating_add(719_468);
    let (cycle, day) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day_of_year = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day_of_month = day_of_year - (153 * month + 2) / 5 + 1;
    let (month, carry) = if month < 10 {
        (month + 3, 0)
    } else {
        (month - 9, 1)
    };
    let year = cycle * 400 + year + carry;
    format!(
        "{year:04}-{month:02}-{day_of_month:02} {:02}:{:02}",
        second / 3600,
        second % 3600 / 60
    )
}

#[cfg(test)]
mod tests {
    use super::{date, duration, seconds, size};

    #[test]
    fn dates_know_leap_years() {
        assert_eq!(date(0), "1970-01-01 00:00");
        assert_eq!(date(951_782_399), "2000-02-28 23:59");
        assert_eq!(date(951_782_400), "2000-02-29 00:00");
        assert_eq!(date(4_107_542_400), "2100-03-01 00:00");
        assert_eq!(date(1_714_567_890), "2024-05-01 12:51");
        assert_eq!(date(-1), "1969-12-31 23:59");
    }

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
