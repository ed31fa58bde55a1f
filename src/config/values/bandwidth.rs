//! Parses `--bwlimit`: a rate, or a timetable of rates.
//!
//! Two notations of timetables are understood:
//!
//! - spans of each day: `08:00-18:00=2MB,else=off`. The first span that the time is in counts, and `else` at all other
//!   times; without `else` there is no limit then. A span may cross midnight.
//! - rclone's: `08:00,2M 18:00,off`, or with days `Mon-08:00,2M Fri-18:00,off`. Each rate holds until the next time.
//!
//! `off` and 0 are no limit. Sizes have this program's units: rclone's `512` is KiB, which has to be written `512k` here.

use super::units;
use crate::util::bandwidth::{BandwidthLimit, DAY, WEEK};

/// The rate for the times that no span has.
const ELSE: &str = "else";

const DAYS: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];

/// Bytes per second, or a timetable. `None` is no limit.
pub(in crate::config) fn limit(text: &str) -> Result<Limit, String> {
    let text = text.trim();
    if text.contains('=') {
        return spans(text).and_then(|rates| timetable(text, rates));
    }
    if text.contains([':', ',']) {
        return times(text).and_then(|rates| timetable(text, rates));
    }
    let rate = rate(text)?;
    Ok(Limit((rate > 0).then(|| BandwidthLimit::written(text, rate))))
}

/// The value of `--bwlimit`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::config) struct Limit(pub(in crate::config) Option<BandwidthLimit>);

fn timetable(text: &str, rates: Vec<(u16, u64)>) -> Result<Limit, String> {
    let limit = BandwidthLimit::timetable(text, rates);
    limit.map(|limit| Limit(Some(limit))).ok_or_else(not_a_timetable)
}

fn not_a_timetable() -> String {
    "not a timetable; write for example 08:00-18:00=2MB,else=off".to_owned()
}

fn rate(text: &str) -> Result<u64, String> {
    if text.eq_ignore_ascii_case("off") {
        return Ok(0);
    }
    units::rate(text)
}

/// Minutes since midnight, of `08:00` or `24:00`.
fn minute_of_day(text: &str) -> Result<u16, String> {
    let wrong = || format!("`{text}` is not a time of day; write for example 08:00");
    let (hour, minute) = text.split_once(':').ok_or_else(wrong)?;
    let number = |digits: &str| match digits.len() {
        1..=2 if digits.bytes().all(|byte| byte.is_ascii_digit()) => digits.parse::<u16>().ok(),
        _ => None,
    };
    match (number(hour), number(minute)) {
        (Some(hour @ 0..=23), Some(minute @ 0..=59)) => Ok(hour * 60 + minute),
        (Some(24), Some(0)) => Ok(DAY),
        _ => Err(wrong()),
    }
}

/// One span of each day, and its rate.
struct Span {
    start: u16,
    end: u16,
    rate: u64,
}

impl Span {
    fn contains(&self, minute: u16) -> bool {
        if self.start < self.end {
            (self.start..self.end).contains(&minute)
        } else {
            minute >= self.start || minute < self.end
        }
    }
}

/// The rates of `08:00-18:00=2MB,else=off`, by minutes of the week.
fn spans(text: &str) -> Result<Vec<(u16, u64)>, String> {
    let (mut spans, mut other) = (Vec::<Span>::new(), None);
    for part in parts(text, &[',', ' ']) {
        let (when, value) = part.split_once('=').ok_or_else(not_a_timetable)?;
        let rate = rate(value)?;
        if when.eq_ignore_ascii_case(ELSE) {
            if other.replace(rate).is_some() {
                return Err("`else` is there twice; delete one of them".to_owned());
            }
            continue;
        }
        let (start, end) = when.split_once('-').ok_or_else(not_a_timetable)?;
        let (start, end) = (minute_of_day(start)?, minute_of_day(end)?);
        if start == end || start == DAY {
            return Err(format!("{when} is no time at all; write the start before the end"));
        }
        spans.push(Span { start, end, rate });
    }
    if spans.is_empty() {
        return Err(not_a_timetable());
    }
    let other = other.unwrap_or(0);
    let edges = spans.iter().flat_map(|span| [span.start, span.end % DAY]);
    let of_day: Vec<(u16, u64)> = edges
        .map(|minute| {
            let span = spans.iter().find(|span| span.contains(minute));
            (minute, span.map_or(other, |span| span.rate))
        })
        .collect();
    let days = (0..7).map(|day| day * DAY);
    Ok(days
        .flat_map(|day| of_day.iter().map(move |(minute, rate)| (day + minute, *rate)))
        .collect())
}

/// The rates of rclone's `08:00,2M 18:00,off`, by minutes of the week.
fn times(text: &str) -> Result<Vec<(u16, u64)>, String> {
    let mut rates = Vec::new();
    for part in parts(text, &[' ', ';']) {
        let (when, value) = part.split_once(',').ok_or_else(not_a_timetable)?;
        let rate = rate(value)?;
        let (day, time) = match when.split_once('-') {
            Some((day, time)) => (Some(day), time),
            None => (None, when),
        };
        let minute = minute_of_day(time)?;
        let days = match day {
            None => 0..7,
            Some(day) => {
                let day = day.to_ascii_lowercase();
                let number = DAYS.iter().position(|name| day.starts_with(name));
                let number = number.ok_or_else(|| format!("`{day}` is not a day; write for example Mon-08:00,2MB"))?;
                number..number + 1
            }
        };
        rates.extend(days.map(|day| ((day as u16 * DAY + minute) % WEEK, rate)));
    }
    Ok(rates)
}

fn parts<'a>(text: &'a str, separators: &'a [char]) -> impl Iterator<Item = &'a str> {
    text.split(separators).filter(|part| !part.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn rates(text: &str, minutes: &[u16]) -> Vec<Option<u64>> {
        let Limit(limit) = limit(text).unwrap();
        let limit = limit.expect("a limit");
        minutes.iter().map(|minute| limit.rate_at(*minute)).collect()
    }

    #[test]
    fn one_rate_holds_always() {
        assert_eq!(rates("2MB", &[0, WEEK - 1]), [Some(2_000_000); 2]);
        for none in ["0", "off", "OFF"] {
            assert_eq!(limit(none), Ok(Limit(None)), "{none}");
        }
    }

    #[test]
    fn span_holds_on_each_day() {
        let (morning, evening) = (8 * 60, 18 * 60);
        let minutes = [0, morning - 1, morning, evening - 1, evening, 6 * DAY + morning];
        let expected = [None, None, Some(2_000_000), Some(2_000_000), None, Some(2_000_000)];
        assert_eq!(rates("08:00-18:00=2MB", &minutes), expected);
        assert_eq!(rates("08:00-18:00=2MB,else=off", &minutes), expected);
        let night = rates("22:00-6:00=off, else=1M", &[0, 6 * 60, 22 * 60 - 1, 22 * 60]);
        assert_eq!(night, [None, Some(1 << 20), Some(1 << 20), None]);
        assert_eq!(rates("00:00-24:00=7", &[0, 700, WEEK - 1]), [Some(7); 3]);
        // The first one counts.
        assert_eq!(
            rates("12:00-13:00=1 8:00-18:00=2", &[720, 780, 479]),
            [Some(1), Some(2), None]
        );
    }

    #[test]
    fn notation_of_rclone_is_understood() {
        let text = "08:00,512k 12:00,10M 13:00,512k 18:00,30M 23:00,off";
        let at = rates(text, &[0, 8 * 60, 12 * 60, 18 * 60, 23 * 60]);
        assert_eq!(at, [None, Some(512 << 10), Some(10 << 20), Some(30 << 20), None]);
        let text = "Mon-00:00,512k Fri-23:59,10M Sat-10:00,1M Sun-20:00,off";
        let at = rates(text, &[0, 4 * DAY + 1439, 5 * DAY + 600, 6 * DAY + 1200]);
        assert_eq!(at, [Some(512 << 10), Some(10 << 20), Some(1 << 20), None]);
    }

    #[test]
    fn mistake_is_one_sentence() {
        let wrong = |text: &str| limit(text).unwrap_err();
        insta::assert_snapshot!(wrong("8-18=2MB"), @"`8` is not a time of day; write for example 08:00");
        insta::assert_snapshot!(wrong("08:00-18:00=fast"), @"not a rate in bytes per second; write for example 256KiB, 20G or 1000000");
        insta::assert_snapshot!(wrong("08:00-08:00=2MB"), @"08:00-08:00 is no time at all; write the start before the end");
        insta::assert_snapshot!(wrong("08:00"), @"not a timetable; write for example 08:00-18:00=2MB,else=off");
        insta::assert_snapshot!(wrong("Foo-08:00,2MB"), @"`foo` is not a day; write for example Mon-08:00,2MB");
        insta::assert_snapshot!(wrong("else=2MB"), @"not a timetable; write for example 08:00-18:00=2MB,else=off");
        insta::assert_snapshot!(wrong("25:00-26:00=2MB"), @"`25:00` is not a time of day; write for example 08:00");
        insta::assert_snapshot!(wrong("10Mbit/s"), @"the unit is bytes per second; write 1250kB");
    }

    proptest! {
        #[test]
        fn nothing_that_can_be_typed_panics(text in "[0-9a-z:=, -]{0,30}") {
            let _ = limit(&text);
        }
    }
}
