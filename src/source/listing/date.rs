//! A date as listings write it: index pages for people, and JSON and XML for programs.
//!
//! | written | by |
//! |---|---|
//! | `2026-11-22 12:00`, `2026-11-22T12:00:00Z`, `2026-11-22 12:00:00 +0000 UTC` | Apache, Caddy, rclone |
//! | `2026/11/22 12:00` | WEBrick |
//! | `22-Nov-2026 12:00`, `2026-Nov-22 12:00:00`, `22Nov2026 12:00` | nginx, lighttpd, mini_httpd |
//! | `Sun, 22 Nov 2026 12:00:00 GMT` (RFC 1123) | Tomcat, WsgiDAV |
//! | `Sun Nov 22 12:00:00 2026` (ctime) | C programs |
//! | `Nov 22, 2026, 12:00:00 PM` | Jetty |
//! | `Nov 22  2026` | webfs |
//! | `11/22/2026 12:00 PM`, `22.11.2026 12:00` | IIS, Node.js servers in the user's locale |
//!
//! One rule reads them all:
//!
//! - A weekday may come first.
//! - The month is a name or a number; the year has four digits.
//! - The time of day follows the date; in ctime it precedes the year.
//! - Brackets may enclose the date. Months and weekdays are English.
//!
//! So no list of formats has to grow with the servers.
//!
//! **Day or month first?** `11/12/2026` is two dates, and the page does not say which. Both numbers are kept
//! ([`Day::Either`]), and the whole page decides ([`Order`]): one date with a number above 12 determines the order of
//! all. Without such a date, these dates are not read: a wrong date is worse than none. Years of two digits are never
//! read.
//!
//! The calendar is `jiff`'s. The parsers of `jiff`, `chrono` and `time` need a known format; `dateparser` guesses, and
//! always takes `11/12/2026` for the American date.

use std::time::{Duration, SystemTime};

use jiff::civil;

use super::ListedTime;

const MONTHS: [&str; 12] = [
    "january",
    "february",
    "march",
    "april",
    "may",
    "june",
    "july",
    "august",
    "september",
    "october",
    "november",
    "december",
];

const WEEKDAYS: [&str; 7] = [
    "monday",
    "tuesday",
    "wednesday",
    "thursday",
    "friday",
    "saturday",
    "sunday",
];

/// A date, its day perhaps ambiguous.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::source) struct Shown {
    day: Day,
    /// Seconds since midnight in UTC. Negative, or more than a day, if the page names a zone.
    seconds: i64,
    /// True if the page shows seconds.
    exact: bool,
    /// True if the page shows a time of day.
    pub(in crate::source) has_time: bool,
}

impl Shown {
    /// Returns true if only the whole page can show which of two days is meant.
    pub(in crate::source) fn is_either_order(&self) -> bool {
        matches!(self.day, Day::Either { .. })
    }
}

/// The day of a date.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Day {
    /// A single day.
    Known(civil::Date),
    /// `first/second/year`, which is two days if neither number is above 12.
    Either { first: i8, second: i8, year: i16 },
}

/// The order of day and month in a page's dates, as far as they show it.
#[derive(Debug, Default, Clone, Copy)]
pub(in crate::source) struct Order {
    day_first: bool,
    month_first: bool,
}

impl Order {
    /// Takes a date of the page into account.
    pub(in crate::source) fn observe(&mut self, shown: &Shown) {
        if let Day::Either { first, second, .. } = shown.day {
            self.day_first |= first > 12;
            self.month_first |= second > 12;
        }
    }

    /// The date; `None` if it is ambiguous.
    pub(in crate::source) fn decide(self, shown: &Shown) -> Option<ListedTime> {
        let date = match (shown.day, self.day_first, self.month_first) {
            (Day::Known(date), ..) => date,
            (Day::Either { first, second, year }, true, false) => civil_date(year, second, first)?,
            (Day::Either { first, second, year }, false, true) => civil_date(year, first, second)?,
            // Two equal numbers are one day in either order.
            (Day::Either { first, second, year }, false, false) if first == second => civil_date(year, first, second)?,
            (Day::Either { .. }, ..) => return None,
        };
        let midnight = date.duration_since(civil::Date::constant(1970, 1, 1)).as_secs();
        let unix = midnight + shown.seconds;
        let distance = Duration::from_secs(unix.unsigned_abs());
        let time = if unix < 0 {
            SystemTime::UNIX_EPOCH.checked_sub(distance)
        } else {
            SystemTime::UNIX_EPOCH.checked_add(distance)
        };
        Some(ListedTime {
            time: time?,
            exact: shown.exact,
        })
    }
}

/// Reads a date at the start of `text`, which white space or the end follows; returns it with the text after it.
pub(in crate::source) fn read(text: &str) -> Option<(Shown, &str)> {
    let text = skip_spaces(text);
    let (inner, closing) = match text.as_bytes().first()? {
        b'[' => (&text[1..], Some(']')),
        b'(' => (&text[1..], Some(')')),
        _ => (text, None),
    };
    let (shown, rest) = date_and_time(skip_weekday(skip_spaces(inner)))?;
    let rest = match closing {
        Some(closing) => skip_spaces(rest).strip_prefix(closing)?,
        None => rest,
    };
    ends_a_word(rest).then_some((shown, rest))
}

/// Reads a date that stands for itself: no other date of the listing shows whether day or month comes first, so an
/// ambiguous one is `None`.
pub(in crate::source) fn read_alone(text: &str) -> Option<ListedTime> {
    Order::default().decide(&read_whole(text)?)
}

/// Reads `text` as a date and nothing else, except white space around it.
pub(in crate::source) fn read_whole(text: &str) -> Option<Shown> {
    read(text)
        .filter(|(_, rest)| skip_spaces(rest).is_empty())
        .map(|(shown, _)| shown)
}

fn date_and_time(text: &str) -> Option<(Shown, &str)> {
    let (day, rest) = match digits(text) {
        Some((_, 4, _)) => year_first(text)?,
        Some(_) => number_first(text)?,
        None => {
            let (month, rest) = month_name(text)?;
            return month_first(month, skip_spaces(rest));
        }
    };
    Some(with_time(day, rest))
}

/// A date, and a time of day if one follows.
fn with_time(day: Day, rest: &str) -> (Shown, &str) {
    let day_only = Shown {
        day,
        seconds: 0,
        exact: false,
        has_time: false,
    };
    let parse = || {
        let (seconds, exact, rest) = time_of_day(before_time(rest)?)?;
        let (east, rest) = zone(rest)?;
        Some((seconds - east, exact, rest))
    };
    match parse() {
        Some((seconds, exact, rest)) => (
            Shown {
                seconds,
                exact,
                has_time: true,
                ..day_only
            },
            rest,
        ),
        None => (day_only, rest),
    }
}

/// The separator between a date and its time: `T`, `:` (Common Log Format), or white space with a comma, `-` or `at`.
fn before_time(rest: &str) -> Option<&str> {
    let after = rest
        .strip_prefix(['T', 't', ':'])
        .filter(|after| after.starts_with(|c: char| c.is_ascii_digit()));
    if after.is_some() {
        return after;
    }
    let spaced = rest.strip_prefix(',').unwrap_or(rest);
    let trimmed = skip_spaces(spaced);
    if trimmed.len() == rest.len() {
        return None;
    }
    let word = ["at ", "- ", "@ "].iter().find_map(|word| trimmed.strip_prefix(word));
    Some(word.map_or(trimmed, skip_spaces))
}

/// `2026-11-22`, `2026/11/22`, `2026-Nov-22`.
fn year_first(text: &str) -> Option<(Day, &str)> {
    let (year, _, rest) = digits(text)?;
    let separator = rest.chars().next().filter(|c| "-/.".contains(*c))?;
    let rest = &rest[1..];
    let (month, rest) = match month_name(rest) {
        Some(named) => named,
        None => small(rest)?,
    };
    let (day, rest) = small(rest.strip_prefix(separator)?)?;
    known(year, month, day, rest)
}

/// `22-Nov-2026`, `22Nov2026`, `22 Nov 2026`, `22.11.2026`, `11/22/2026`.
fn number_first(text: &str) -> Option<(Day, &str)> {
    let (first, rest) = small(text)?;
    let separator = rest.chars().next().filter(|c| "-/. \u{a0}".contains(*c));
    let rest = separator.map_or(rest, |separator| &rest[separator.len_utf8()..]);
    if let Some((month, rest)) = month_name(rest) {
        let rest = match separator {
            Some(separator) => rest.strip_prefix(separator).or_else(|| rest.strip_prefix(". "))?,
            None => rest,
        };
        let (year, 4, rest) = digits(rest)? else { return None };
        return known(year, month, first, rest);
    }
    let separator = separator.filter(|separator| "-/.".contains(*separator))?;
    let (second, rest) = small(rest)?;
    let (year, 4, rest) = digits(rest.strip_prefix(separator)?)? else {
        return None;
    };
    if separator == '.' {
        return known(year, second, first, rest);
    }
    // One of the two is a month, and the day exists.
    let exists = |month, day| civil_date(year as i16, month, day).is_some();
    (exists(first, second) || exists(second, first)).then_some((
        Day::Either {
            first,
            second,
            year: year as i16,
        },
        rest,
    ))
}

/// `Nov 22, 2026, 12:00` and, after the weekday, ctime's `Nov 22 12:00:00 2026`.
fn month_first(month: i8, text: &str) -> Option<(Shown, &str)> {
    let (day, rest) = small(text)?;
    let rest = skip_spaces(rest.strip_prefix(',').unwrap_or(rest));
    if let Some((year, 4, rest)) = digits(rest) {
        let (day, rest) = known(year, month, day, rest)?;
        return Some(with_time(day, rest));
    }
    let (seconds, exact, rest) = time_of_day(rest)?;
    let (east, rest) = zone(rest)?;
    let (year, 4, rest) = digits(skip_spaces(rest))? else {
        return None;
    };
    let (day, rest) = known(year, month, day, rest)?;
    let shown = Shown {
        day,
        seconds: seconds - east,
        exact,
        has_time: true,
    };
    Some((shown, rest))
}

fn known(year: u32, month: i8, day: i8, rest: &str) -> Option<(Day, &str)> {
    Some((Day::Known(civil_date(year as i16, month, day)?), rest))
}

fn civil_date(year: i16, month: i8, day: i8) -> Option<civil::Date> {
    civil::Date::new(year, month, day).ok().filter(|_| year > 0)
}

/// `12:00` or `12:00:00`, optionally with decimals or AM and PM, as seconds since midnight; true if it had seconds.
fn time_of_day(text: &str) -> Option<(i64, bool, &str)> {
    let (hour, rest) = small(text)?;
    let (minute, 2, rest) = digits(rest.strip_prefix(':')?)? else {
        return None;
    };
    let (second, exact, rest) = match rest.strip_prefix(':') {
        Some(rest) => {
            let (second, 2, rest) = digits(rest)? else { return None };
            (i64::from(second), true, decimals(rest))
        }
        None => (0, false, rest),
    };
    let (hour, rest) = twelve_hours(i64::from(hour), rest)?;
    let minute = i64::from(minute);
    // 60 is a leap second.
    (hour < 24 && minute < 60 && second <= 60).then_some((hour * 3600 + minute * 60 + second, exact, rest))
}

/// The hour, corrected for a following AM or PM.
fn twelve_hours(hour: i64, rest: &str) -> Option<(i64, &str)> {
    let word = skip_spaces(rest);
    let half = |half: &str| {
        let is_it = word.get(..2).is_some_and(|start| start.eq_ignore_ascii_case(half));
        is_it.then(|| &word[2..]).filter(|rest| ends_a_word(rest))
    };
    match (half("am"), half("pm")) {
        (Some(rest), _) => (1..=12).contains(&hour).then_some((hour % 12, rest)),
        (_, Some(rest)) => (1..=12).contains(&hour).then_some((hour % 12 + 12, rest)),
        _ => Some((hour, rest)),
    }
}

/// The zone at the start of `text`, as seconds east of UTC, 0 without a zone; and the rest. A zone name is read only if
/// it is UTC, or if it repeats an offset (`+0100 CET`, as Go prints).
fn zone(text: &str) -> Option<(i64, &str)> {
    let word = skip_spaces(text);
    for utc in ["UTC", "GMT", "Z", "z"] {
        if let Some(rest) = word.strip_prefix(utc).filter(|rest| ends_a_word(rest)) {
            return Some((0, rest));
        }
    }
    // `-` alone, or before white space, stands for a missing size.
    let Some(sign) = word
        .chars()
        .next()
        .filter(|&c| c == '+' || c == '-')
        .filter(|_| word[1..].starts_with(|c: char| c.is_ascii_digit()))
    else {
        return Some((0, text));
    };
    let (hours, rest) = two_digits(&word[1..])?;
    let (minutes, rest) = two_digits(rest.strip_prefix(':').unwrap_or(rest))?;
    let east = hours * 3600 + minutes * 60;
    let spaced = skip_spaces(rest);
    let letters = spaced.bytes().take_while(u8::is_ascii_uppercase).count();
    let rest = match (2..=5).contains(&letters) && spaced.len() < rest.len() && ends_a_word(&spaced[letters..]) {
        true => &spaced[letters..],
        false => rest,
    };
    ends_a_word(rest).then_some((if sign == '-' { -east } else { east }, rest))
}

/// Returns true if a word before `rest` is complete.
fn ends_a_word(rest: &str) -> bool {
    rest.is_empty() || rest.starts_with([']', ')']) || rest.starts_with(char::is_whitespace)
}

fn skip_spaces(text: &str) -> &str {
    text.trim_start()
}

fn skip_weekday(text: &str) -> &str {
    let end = text.bytes().take_while(u8::is_ascii_alphabetic).count();
    let word = &text[..end];
    let is_weekday = end >= 3 && WEEKDAYS.iter().any(|day| begins(day, word));
    let rest = text[end..].strip_prefix(',').unwrap_or(&text[end..]);
    match is_weekday && rest.starts_with(char::is_whitespace) {
        true => skip_spaces(rest),
        false => text,
    }
}

/// A month's name, or at least its first three letters, and the rest.
fn month_name(text: &str) -> Option<(i8, &str)> {
    let end = text.bytes().take_while(u8::is_ascii_alphabetic).count();
    if end < 3 {
        return None;
    }
    let (number, _) = (1..).zip(MONTHS).find(|(_, month)| begins(month, &text[..end]))?;
    Some((number, &text[end..]))
}

/// Returns true if `name` begins with `word`, ignoring case.
fn begins(name: &str, word: &str) -> bool {
    name.get(..word.len())
        .is_some_and(|start| start.eq_ignore_ascii_case(word))
}

/// Skips a fraction of a second: the date is exact to the second in any case.
fn decimals(text: &str) -> &str {
    match text.strip_prefix(['.', ',']) {
        Some(fraction) if fraction.starts_with(|c: char| c.is_ascii_digit()) => {
            fraction.trim_start_matches(|c: char| c.is_ascii_digit())
        }
        _ => text,
    }
}

/// The number at the start of `text`, of up to four digits: its value, its number of digits, and the rest.
fn digits(text: &str) -> Option<(u32, usize, &str)> {
    let end = text.bytes().take(5).take_while(u8::is_ascii_digit).count();
    (1..=4)
        .contains(&end)
        .then(|| (text[..end].parse().unwrap_or_default(), end, &text[end..]))
}

/// A number of one or two digits.
fn small(text: &str) -> Option<(i8, &str)> {
    match digits(text)? {
        (value, 1 | 2, rest) => Some((value as i8, rest)),
        _ => None,
    }
}

/// Two digits, whatever follows: `05` of `0530`.
fn two_digits(text: &str) -> Option<(i64, &str)> {
    let (digits, rest) = text.split_at_checked(2)?;
    digits
        .bytes()
        .all(|byte| byte.is_ascii_digit())
        .then(|| digits.parse().ok())
        .flatten()
        .map(|value| (value, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Seconds since 1970 and whether the date had seconds, on a page with no other date.
    fn unix(text: &str) -> Option<(i64, bool)> {
        let shown = read_whole(text)?;
        let mut order = Order::default();
        order.observe(&shown);
        order.decide(&shown).map(|listed| {
            let seconds = match listed.time.duration_since(SystemTime::UNIX_EPOCH) {
                Ok(after) => after.as_secs() as i64,
                Err(before) => -(before.duration().as_secs() as i64),
            };
            (seconds, listed.exact)
        })
    }

    const NOON: i64 = 1_795_348_800;

    #[test]
    fn every_server_writes_the_same_noon() {
        for text in [
            "22-Nov-2026 12:00",
            "2026-11-22 12:00",
            "2026-Nov-22 12:00",
            " 2026-11-22 12:00  ",
            "2026-11-22\u{a0}\u{a0}12:00",
            "2026/11/22 12:00",
            "2026-11-22 12:00 PM",
            "22Nov2026 12:00",
            "22 November 2026 12:00",
            "Nov 22, 2026 12:00 pm",
            "November 22, 2026 at 12:00 PM",
            "11/22/2026 12:00 PM",
            "11/22/2026, 12:00 PM",
            "22/11/2026 12:00",
            "22.11.2026 12:00",
            "22.11.2026, 12:00",
            "Sunday, November 22, 2026 12:00 PM",
            "[2026-11-22 12:00]",
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
            "2026-11-22 12:00:00 +0000 UTC",
            "2026-11-22 13:00:00.123456789 +0100 CET",
            "Sun, 22 Nov 2026 12:00:00 GMT",
            "Sun, 22 Nov 2026 13:00:00 +0100",
            "Sunday, 22-Nov-2026 12:00:00 GMT",
            "Sun Nov 22 12:00:00 2026",
            "Sun Nov 22 12:00:00 UTC 2026",
            "Nov 22, 2026, 12:00:00 PM",
            "Nov 22, 2026, 12:00:00\u{202f}PM",
            "11/22/2026 12:00:00 PM",
            "22/Nov/2026:12:00:00 +0000",
            "[2026-11-22 12:00:00]",
        ] {
            assert_eq!(unix(text), Some((NOON, true)), "{text}");
        }
        for text in ["Nov 22  2026", "2026-11-22", "22 Nov 2026", "22.11.2026"] {
            assert_eq!(unix(text), Some((NOON - 12 * 3600, false)), "{text}");
        }
    }

    #[test]
    fn the_calendar_is_gregorian() {
        for (text, seconds) in [
            ("1970-01-01 00:00", 0),
            ("1/1/1970 12:00 AM", 0),
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
            "12:00",
            "02-03-2026 12:00",
            "02/03/2026 12:00 AM",
            "22-Foo-2026 12:00",
            "22-Nov-26 12:00",
            "22/11/26 12:00",
            "Nov 22 12:00",
            "2026-13-01 12:00",
            "13/13/2026",
            "31/02/2026",
            "2026-00-01 12:00",
            "2026-02-29 12:00",
            "2100-02-29 12:00",
            "0000-01-01 12:00",
            "2026-11-00 12:00",
            "2026-11-31 12:00",
            "2026-11-22 24:00",
            "2026-11-22 13:00 PM",
            "2026-11-22 0:00 AM",
            "2026-11-22 12:60",
            "2026-11-22 12:00:61",
            "2026-11-22 12",
            "2026-11-22 12:00 CET",
            "2026-11-22 12:00x",
            "2026-11-22 12:00+1",
            "20261-1-22 12:00",
            "2026-11-221 12:00",
            "2026-É-22 12:00",
            "2026-11-22T 12:00",
            "[2026-11-22 12:00",
        ] {
            assert_eq!(unix(text), None, "{text}");
        }
    }

    #[test]
    fn one_date_of_a_page_settles_the_order_of_all() {
        let decided = |texts: &[&str]| {
            let shown: Vec<_> = texts.iter().map(|text| read_whole(text).unwrap()).collect();
            let mut order = Order::default();
            shown.iter().for_each(|shown| order.observe(shown));
            shown
                .iter()
                .map(|shown| order.decide(shown).is_some())
                .collect::<Vec<_>>()
        };
        assert_eq!(decided(&["02/03/2026", "04/05/2026"]), [false, false]);
        assert_eq!(decided(&["02/03/2026", "31/12/2026"]), [true, true]);
        assert_eq!(decided(&["02/03/2026", "12/31/2026"]), [true, true]);
        assert_eq!(
            decided(&["02/03/2026", "31/12/2026", "12/31/2026"]),
            [false, false, false]
        );
    }

    #[test]
    fn the_rest_is_left_for_the_size() {
        for (text, rest) in [
            ("22-Nov-2026 12:00     1234", "     1234"),
            ("2026-11-22 12:00 UTC 5K", " 5K"),
            ("2026-11-22 12:00 - ", " - "),
            ("Nov 22  2026  5120 kB", "  5120 kB"),
            ("2026-11-22 12:00 -0500 1234", " 1234"),
        ] {
            assert_eq!(read(text).map(|(_, rest)| rest), Some(rest), "{text}");
        }
    }
}
