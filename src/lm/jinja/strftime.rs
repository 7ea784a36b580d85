//! The date that a template may ask for.

use std::fmt::Write;
use std::time::{SystemTime, UNIX_EPOCH};

/// A moment, in UTC; spelled `2026-11-30T05:17:09Z`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    seconds: i64,
}

const DAY: i64 = 86_400;
const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const DAYS: [&str; 7] =
    ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];

impl Moment {
    /// Returns the present.
    pub fn now() -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        Self { seconds: since.map_or(0, |since| since.as_secs() as i64) }
    }

    /// Returns the moment so many seconds after 1970 began.
    pub fn from_unix(seconds: i64) -> Self {
        Self { seconds }
    }

    /// Returns the moment that is spelled as [`Moment`] is shown; `None` for another spelling.
    pub fn parse(text: &str) -> Option<Self> {
        let number = |range: std::ops::Range<usize>| text.get(range)?.parse::<i64>().ok();
        let (year, month, day) = (number(0..4)?, number(5..7)?, number(8..10)?);
        let (hour, minute, second) = (number(11..13)?, number(14..16)?, number(17..19)?);
        let days = days_from_civil(year, month, day);
        let found = Self { seconds: days * DAY + hour * 3600 + minute * 60 + second };
        (found.to_string() == text).then_some(found)
    }

    /// Year, month and day.
    fn date(self) -> (i64, i64, i64) {
        // Source: H. Hinnant, "chrono-compatible low-level date algorithms", civil_from_days.
        let z = self.seconds.div_euclid(DAY) + 719_468;
        let era = z.div_euclid(146_097);
        let doe = z.rem_euclid(146_097);
        let yoe = (doe - doe / 1460 + doe / 36_524 - doe / 146_096) / 365;
        let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
        let mp = (5 * doy + 2) / 153;
        let month = if mp < 10 { mp + 3 } else { mp - 9 };
        (yoe + era * 400 + i64::from(month <= 2), month, doy - (153 * mp + 2) / 5 + 1)
    }

    /// Hour, minute and second.
    fn time(self) -> (i64, i64, i64) {
        let second = self.seconds.rem_euclid(DAY);
        (second / 3600, second / 60 % 60, second % 60)
    }
}

fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = year - i64::from(month <= 2);
    let (era, yoe) = (year.div_euclid(400), year.rem_euclid(400));
    let doy = (153 * (if month > 2 { month - 3 } else { month + 9 }) + 2) / 5 + day - 1;
    era * 146_097 + yoe * 365 + yoe / 4 - yoe / 100 + doy - 719_468
}

impl std::fmt::Display for Moment {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let ((year, month, day), (hour, minute, second)) = (self.date(), self.time());
        write!(f, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
    }
}

/// Returns the moment as C's `strftime` writes it in English.
///
/// # Errors
/// For a directive that is not known here.
pub(super) fn strftime(moment: &Moment, format: &str) -> Result<String, String> {
    let ((year, month, day), (hour, minute, second)) = (moment.date(), moment.time());
    let weekday = (moment.seconds.div_euclid(DAY) + 4).rem_euclid(7);
    let of_year = days_from_civil(year, month, day) - days_from_civil(year, 1, 1) + 1;
    let hour_12 = if hour % 12 == 0 { 12 } else { hour % 12 };
    let (name, month_name) = (DAYS[weekday as usize], MONTHS[(month - 1) as usize]);
    let nested = |format: &str| strftime(moment, format);
    let mut made = String::new();
    let mut chars = format.chars();
    while let Some(c) = chars.next() {
        if c != '%' {
            made.push(c);
            continue;
        }
        let mut directive = chars.next();
        // glibc: no zeros before the number.
        let plain = directive == Some('-');
        if plain {
            directive = chars.next();
        }
        let mut pad = |number: i64, width: usize| {
            let width = if plain { 0 } else { width };
            let _ = write!(made, "{number:0width$}");
        };
        match directive {
            Some('Y') => pad(year, 4),
            Some('y') => pad(year.rem_euclid(100), 2),
            Some('m') => pad(month, 2),
            Some('d') => pad(day, 2),
            Some('H') => pad(hour, 2),
            Some('I') => pad(hour_12, 2),
            Some('M') => pad(minute, 2),
            Some('S') => pad(second, 2),
            Some('j') => pad(of_year, 3),
            Some('w') => pad(weekday, 1),
            Some('u') => pad(if weekday == 0 { 7 } else { weekday }, 1),
            Some('f') => made.push_str("000000"),
            Some('e') => {
                let _ = write!(made, "{day:2}");
            }
            Some('B') => made.push_str(month_name),
            Some('b' | 'h') => made.push_str(&month_name[..3]),
            Some('A') => made.push_str(name),
            Some('a') => made.push_str(&name[..3]),
            Some('p') => made.push_str(if hour < 12 { "AM" } else { "PM" }),
            Some('F') => made.push_str(&nested("%Y-%m-%d")?),
            Some('T' | 'X') => made.push_str(&nested("%H:%M:%S")?),
            Some('R') => made.push_str(&nested("%H:%M")?),
            Some('D' | 'x') => made.push_str(&nested("%m/%d/%y")?),
            Some('c') => made.push_str(&nested("%a %b %e %H:%M:%S %Y")?),
            // Of a date without a zone, as `datetime.now()` has it.
            Some('z' | 'Z') => {}
            Some('s') => {
                let _ = write!(made, "{}", moment.seconds);
            }
            Some('n') => made.push('\n'),
            Some('t') => made.push('\t'),
            Some('%') => made.push('%'),
            other => {
                let other = other.map(String::from).unwrap_or_default();
                return Err(format!("`strftime_now` with `%{other}`, which is not known"));
            }
        }
    }
    Ok(made)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// By Python: datetime.fromtimestamp(n, UTC).strftime(...).
    #[test]
    fn dates_are_written_as_c_writes_them() {
        let moment = Moment::from_unix(1_709_210_709);
        assert_eq!(moment.to_string(), "2024-02-29T12:45:09Z");
        assert_eq!(Moment::parse("2024-02-29T12:45:09Z"), Some(moment));
        assert_eq!(Moment::parse("2024-02-30T12:45:09Z"), None);
        assert_eq!(Moment::parse("today"), None);
        let all = "%d %b %Y|%B %-d, %A %a|%j %y %I:%M %p|%F %T|%%";
        assert_eq!(
            strftime(&moment, all).unwrap(),
            "29 Feb 2024|February 29, Thursday Thu|060 24 12:45 PM|2024-02-29 12:45:09|%"
        );
        assert_eq!(Moment::from_unix(-1).to_string(), "1969-12-31T23:59:59Z");
        assert!(strftime(&moment, "%Q").is_err());
    }
}
