//! A date as an index page writes it.
//!
//! | written | by |
//! |---|---|
//! | `22-Nov-2026 12:00` | nginx, Apache with `UseOldDateFormat` |
//! | `2026-11-22 12:00` | Apache |
//! | `2026-Nov-22 12:00` | nginx's fancyindex |
//! | `2026-Nov-22 12:00:00` | lighttpd |
//! | `2026-11-22T12:00:00Z` | Caddy, in `<time datetime>` |
//!
//! Nothing else is read, numbers with the day first least of all: `02-03-2026` is two dates.
//! Months are English; no server here translates them.

use std::time::{Duration, SystemTime};

use crate::source::ListedTime;

const MONTHS: [&str; 12] = [
    "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
];

/// Reads a date with a time of day at the start of `text`; returns it with the text after it.
pub(super) fn read(text: &str) -> Option<(ListedTime, &str)> {
    let (days, rest) = calendar_date(text)?;
    let rest = rest
        .strip_prefix(['T', 't'])
        .or_else(|| rest.starts_with(char::is_whitespace).then(|| rest.trim_start()))?;
    let (seconds, exact, rest) = time_of_day(rest)?;
    let (offset, rest) = zone(rest)?;
    let unix = days * 86_400 + seconds - offset;
    let distance = Duration::from_secs(unix.unsigned_abs());
    let time = if unix < 0 {
        SystemTime::UNIX_EPOCH.checked_sub(distance)
    } else {
        SystemTime::UNIX_EPOCH.checked_add(distance)
    };
    Some((ListedTime { time: time?, exact }, rest))
}

/// Reads `text` as a date and nothing else, but for white space around it.
pub(super) fn read_whole(text: &str) -> Option<ListedTime> {
    read(text.trim())
        .filter(|(_, rest)| rest.is_empty())
        .map(|(time, _)| time)
}

/// `2026-11-22`, `2026-Nov-22` or `22-Nov-2026`, as days since 1970-01-01.
fn calendar_date(text: &str) -> Option<(i64, &str)> {
    let year_first = number(text, 4).is_some();
    let (first, rest) = number(text, if year_first { 4 } else { 2 })?;
    let rest = rest.strip_prefix('-')?;
    let (month, rest) = match month_name(rest) {
        Some(found) => found,
        None if year_first => number(rest, 2)?,
        None => return None,
    };
    let (last, rest) = number(rest.strip_prefix('-')?, if year_first { 2 } else { 4 })?;
    let (year, day) = if year_first { (first, last) } else { (last, first) };
    Some((days_since_1970(year, month, day)?, rest))
}

/// `12:00` or `12:00:00`, perhaps with decimals, as seconds since midnight; and whether it had seconds.
fn time_of_day(text: &str) -> Option<(i64, bool, &str)> {
    let (hour, rest) = number(text, 2)?;
    let (minute, rest) = number(rest.strip_prefix(':')?, 2)?;
    let (second, exact, rest) = match rest.strip_prefix(':') {
        Some(rest) => {
            let (second, rest) = number(rest, 2)?;
            (second, true, decimals(rest))
        }
        None => (0, false, rest),
    };
    // 60 is a leap second.
    (hour < 24 && minute < 60 && second <= 60).then_some((hour * 3600 + minute * 60 + second, exact, rest))
}

/// The zone at the start of `text`, as seconds east of UTC, 0 when it names none; and what follows,
/// which is nothing or begins with white space. A zone known by a word is read only if it is UTC;
/// with AM or PM the hour meant something else.
fn zone(text: &str) -> Option<(i64, &str)> {
    let word = text.trim_start();
    for utc in ["UTC", "GMT", "Z", "z"] {
        if let Some(rest) = word.strip_prefix(utc).filter(|rest| ends_a_word(rest)) {
            return Some((0, rest));
        }
    }
    if let Some(sign) = text.chars().next().filter(|&c| c == '+' || c == '-') {
        let (hours, rest) = two_digits(&text[1..])?;
        let (minutes, rest) = two_digits(rest.strip_prefix(':').unwrap_or(rest))?;
        let east = hours * 3600 + minutes * 60;
        return ends_a_word(rest).then_some((if sign == '-' { -east } else { east }, rest));
    }
    let twelve_hours = ["AM", "PM"]
        .iter()
        .any(|half| word.get(..2).is_some_and(|w| w.eq_ignore_ascii_case(half)));
    (ends_a_word(text) && !twelve_hours).then_some((0, text))
}

/// Whether a word that came before `rest` is over.
fn ends_a_word(rest: &str) -> bool {
    rest.is_empty() || rest.starts_with(char::is_whitespace)
}

/// A fraction of a second is passed over: a listing that has it is exact to the second all the same.
fn decimals(text: &str) -> &str {
    match text.strip_prefix('.') {
        Some(fraction) => fraction.trim_start_matches(|c: char| c.is_ascii_digit()),
        None => text,
    }
}

/// Exactly `width` digits that no other digit follows.
fn number(text: &str, width: usize) -> Option<(i64, &str)> {
    let end = text.bytes().take(width + 1).take_while(u8::is_ascii_digit).count();
    let (digits, rest) = text.split_at(end);
    (end == width)
        .then(|| digits.parse().ok())
        .flatten()
        .map(|value| (value, rest))
}

/// Two digits, whatever follows: `05` of `0530`.
fn two_digits(text: &str) -> Option<(i64, &str)> {
    let (digits, rest) = text.split_at_checked(2)?;
    number(digits, 2).map(|(value, _)| (value, rest))
}

fn month_name(text: &str) -> Option<(i64, &str)> {
    let (word, rest) = text.split_at_checked(3)?;
    (1..)
        .zip(MONTHS)
        .find(|(_, month)| month.eq_ignore_ascii_case(word))
        .map(|(number, _)| (number, rest))
}

/// Days from 1970-01-01 to a day of the Gregorian calendar; `None` when there is no such day.
/// The year is taken to begin in March, so that the leap day comes last (Howard Hinnant,
/// "chrono-Compatible Low-Level Date Algorithms", `days_from_civil`).
fn days_since_1970(year: i64, month: i64, day: i64) -> Option<i64> {
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let length = match month {
        2 => 28 + i64::from(leap),
        4 | 6 | 9 | 11 => 30,
        1..=12 => 31,
        _ => return None,
    };
    if year == 0 || !(1..=length).contains(&day) {
        return None;
    }
    let year = if month <= 2 { year - 1 } else { year };
    let (era, year_of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    Some(era * 146_097 + day_of_era - 719_468)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Seconds since 1970 and whether the date had seconds.
    fn unix(text: &str) -> Option<(i64, bool)> {
        read_whole(text).map(|listed| {
            let seconds = match listed.time.duration_since(SystemTime::UNIX_EPOCH) {
                Ok(after) => after.as_secs() as i64,
                Err(before) => -(before.duration().as_secs() as i64),
            };
            (seconds, listed.exact)
        })
    }

    #[test]
    fn every_server_writes_the_same_noon() {
        const NOON: i64 = 1_795_348_800;
        for text in [
            "22-Nov-2026 12:00",
            "2026-11-22 12:00",
            "2026-Nov-22 12:00",
            " 2026-11-22 12:00  ",
        ] {
            assert_eq!(unix(text), Some((NOON, false)), "{text}");
        }
        for text in [
            "2026-Nov-22 12:00:00",
            "2026-11-22T12:00:00Z",
            "2026-11-22T12:00:00.999Z",
            "2026-11-22t13:30:00+01:30",
            "2026-11-22 07:00:00-0500",
            "2026-11-22 12:00:00 UTC",
            "2026-11-22 12:00:00 GMT",
        ] {
            assert_eq!(unix(text), Some((NOON, true)), "{text}");
        }
    }

    #[test]
    fn the_calendar_is_gregorian() {
        for (text, seconds) in [
            ("1970-01-01 00:00", 0),
            ("1969-12-31 23:59", -60),
            ("1999-12-31 23:59", 946_684_740),
            ("2000-02-29 00:00", 951_782_400),
            ("2000-03-01 00:00", 951_868_800),
            ("2100-03-01 00:00", 4_107_542_400),
            ("0001-01-01 00:00", -62_135_596_800),
            ("9999-12-31 23:59", 253_402_300_740),
        ] {
            assert_eq!(unix(text), Some((seconds, false)), "{text}");
        }
    }

    #[test]
    fn what_is_no_date_is_not_taken_for_one() {
        for text in [
            "",
            "-",
            "2026-11-22",
            "12:00",
            "02-03-2026 12:00",
            "22-Foo-2026 12:00",
            "2026-13-01 12:00",
            "2026-00-01 12:00",
            "2026-02-29 12:00",
            "2100-02-29 12:00",
            "0000-01-01 12:00",
            "2026-11-00 12:00",
            "2026-11-31 12:00",
            "2026-11-22 24:00",
            "2026-11-22 12:60",
            "2026-11-22 12:00:61",
            "2026-11-22 12",
            "2026-11-22 12:00 PM",
            "2026-11-22 12:00 CET",
            "2026-11-22 12:00x",
            "2026-11-22 12:00+1",
            "20261-1-22 12:00",
            "2026-11-221 12:00",
            "2026-É-22 12:00",
            "2026-11-22T 12:00",
        ] {
            assert_eq!(unix(text), None, "{text}");
        }
    }

    #[test]
    fn the_rest_is_left_for_the_size() {
        assert_eq!(
            read("22-Nov-2026 12:00     1234").map(|(_, rest)| rest),
            Some("     1234")
        );
        assert_eq!(read("2026-11-22 12:00 UTC 5K").map(|(_, rest)| rest), Some(" 5K"));
    }
}
