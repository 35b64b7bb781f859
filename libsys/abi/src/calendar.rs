//! The calendar of wall time: Gregorian, in Universal Time, without leap seconds, as Unix time counts
//! (POSIX.1-2017, 4.16).

/// A moment by the calendar.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Moment {
    /// The year, from 1970 to 9999.
    pub year: u16,
    /// The month, from 1.
    pub month: u8,
    /// The day of the month, from 1.
    pub day: u8,
    /// The hour, below 24.
    pub hour: u8,
    /// The minute, below 60.
    pub minute: u8,
    /// The second, below 60.
    pub second: u8,
}

const DAY_SECONDS: u64 = 86_400;
const FIRST_YEAR: u16 = 1970;
const LAST_YEAR: u16 = 9999;

const fn is_leap(year: u16) -> bool {
    year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
}

const fn days_of_year(year: u16) -> u64 {
    if is_leap(year) { 366 } else { 365 }
}

/// Returns the days of a month, 0 for what is no month.
const fn days_of_month(year: u16, month: u8) -> u64 {
    match month {
        2 if is_leap(year) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        1 | 3 | 5 | 7 | 8 | 10 | 12 => 31,
        _ => 0,
    }
}

impl Moment {
    /// Returns the seconds since the beginning of 1970, or `None` if there is no such moment.
    pub fn to_unix(self) -> Option<u64> {
        let is_day = self.day >= 1 && u64::from(self.day) <= days_of_month(self.year, self.month);
        let is_time = self.hour < 24 && self.minute < 60 && self.second < 60;
        if !(FIRST_YEAR..=LAST_YEAR).contains(&self.year) || !is_day || !is_time {
            return None;
        }
        let years: u64 = (FIRST_YEAR..self.year).map(days_of_year).sum();
        let months: u64 = (1..self.month)
            .map(|month| days_of_month(self.year, month))
            .sum();
        let days = years + months + u64::from(self.day) - 1;
        let hours = days * 24 + u64::from(self.hour);
        let minutes = hours * 60 + u64::from(self.minute);
        Some(minutes * 60 + u64::from(self.second))
    }

    /// Returns the moment so many seconds after the beginning of 1970, or `None` after the year
    /// 9999.
    pub fn from_unix(seconds: u64) -> Option<Moment> {
        let (mut days, rest) = (seconds / DAY_SECONDS, seconds % DAY_SECONDS);
        let mut year = FIRST_YEAR;
        while days >= days_of_year(year) {
            days -= days_of_year(year);
            year += 1;
            if year > LAST_YEAR {
                return None;
            }
        }
        let mut month = 1;
        while days >= days_of_month(year, month) {
            days -= days_of_month(year, month);
            month += 1;
        }
        Some(Moment {
            year,
            month,
            day: days as u8 + 1,
            hour: (rest / 3600) as u8,
            minute: (rest / 60 % 60) as u8,
            second: (rest % 60) as u8,
        })
    }
}

impl core::fmt::Display for Moment {
    /// As ISO 8601 has it, with a blank between date and time.
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(
            f,
            "{:04}-{:02}-{:02} {:02}:{:02}:{:02}",
            self.year, self.month, self.day, self.hour, self.minute, self.second
        )
    }
}

#[cfg(test)]
mod tests {
    use super::{DAY_SECONDS, Moment};

    fn day(year: u16, month: u8, day: u8) -> Moment {
        Moment {
            year,
            month,
            day,
            hour: 23,
            minute: 59,
            second: 58,
        }
    }

    #[test]
    fn known_moments_are_where_they_belong() {
        assert_eq!(day(1970, 1, 1).to_unix(), Some(DAY_SECONDS - 2));
        // From the list in POSIX's rationale of "Seconds Since the Epoch" and from `date -d`.
        assert_eq!(day(2000, 2, 29).to_unix(), Some(951_868_798));
        assert_eq!(day(2100, 3, 1).to_unix(), Some(4_107_628_798));
    }

    #[test]
    fn every_day_is_the_one_behind_the_day_before() {
        let mut before = None;
        // To the end of 2105, with a year 2100 that is no leap year.
        for days in 0..49_673 {
            let moment = Moment::from_unix(days * DAY_SECONDS + 7).unwrap();
            assert_eq!(moment.to_unix(), Some(days * DAY_SECONDS + 7), "{moment}");
            let date = (moment.year, moment.month, moment.day);
            assert!(before < Some(date), "{moment}");
            before = Some(date);
        }
        assert_eq!(before, Some((2105, 12, 31)));
    }

    #[test]
    fn time_ends_with_the_year_9999() {
        let last = day(9999, 12, 31).to_unix().unwrap();
        assert_eq!(Moment::from_unix(last), Some(day(9999, 12, 31)));
        assert_eq!(Moment::from_unix(last + 2), None);
        assert_eq!(Moment::from_unix(u64::MAX), None);
    }

    #[test]
    fn what_is_no_moment_has_no_time() {
        for moment in [
            day(2023, 2, 29),
            day(2024, 0, 1),
            day(2024, 13, 1),
            day(2024, 4, 31),
        ] {
            assert_eq!(moment.to_unix(), None, "{moment}");
        }
        assert_eq!(day(1969, 1, 1).to_unix(), None);
        let late = Moment {
            hour: 24,
            ..day(2024, 1, 1)
        };
        assert_eq!(late.to_unix(), None);
    }

    #[test]
    fn moments_are_shown_as_dates() {
        assert_eq!(day(2026, 3, 4).to_string(), "2026-03-04 23:59:58");
    }
}
