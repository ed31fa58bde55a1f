//! Parses a size on an index page.
//!
//! Digits alone are bytes, and exact, in every server examined. These servers write a unit only for larger sizes:
//!
//! - nginx above 9,999 bytes, with `autoindex_exact_size off` (`ngx_http_autoindex_module.c`).
//! - Apache from 973 bytes on; below it prints `"%3d "` (`apr_strfsize` in APR's `apr_strings.c`).
//! - fancyindex and Caddy print `B` below 1 KiB.
//!
//! Any other unit, or a decimal point, means that the page has rounded, or truncated (lighttpd). The two are
//! indistinguishable, as are `K` = 1000 and `K` = 1024, which all of these mean. Two forms are exact all the same: zero
//! decimals before `B` or `bytes` (`105.0B`), because bytes have no fractions; and groups of three digits (`5,242,880
//! bytes`).

use std::borrow::Cow;

use crate::source::ListedSize;

/// The longest possible file: file offsets are signed (`off_t`).
const LARGEST: u128 = i64::MAX as u128;

/// A size read from a page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Shown {
    /// The size: `Exact` or `Rounded`.
    pub(super) size: ListedSize,
    /// True for digits alone. Any number looks like that (a download count, a revision), so the caller needs further
    /// evidence that it is a size.
    pub(super) bare: bool,
}

/// Reads a size at the start of `text`; returns it with the text after it.
pub(super) fn read(text: &str) -> Option<(Shown, &str)> {
    let (whole, after_whole) = grouped_digits(text)?;
    let (fraction, after_number) = match after_whole.strip_prefix(['.', ',']) {
        Some(rest) => digits(rest)?,
        None => ("", after_whole),
    };
    let (unit, rest) = unit(after_number)?;
    // Three decimals of a byte are a group of digits, in a language that separates them by a point.
    let is_whole = fraction.len() < 3 && fraction.bytes().all(|digit| digit == b'0');
    let size = match unit {
        None if fraction.is_empty() => ListedSize::Exact(bytes(&whole, "", 1)?),
        None => return None,
        Some(1) if is_whole => ListedSize::Exact(bytes(&whole, "", 1)?),
        Some(1) => return None,
        Some(factor) => ListedSize::Rounded(bytes(&whole, fraction, factor)?),
    };
    Some((
        Shown {
            size,
            bare: unit.is_none(),
        },
        rest,
    ))
}

/// Reads `text` as a size and nothing else, except white space around it.
pub(super) fn read_whole(text: &str) -> Option<Shown> {
    read(text.trim())
        .filter(|(_, rest)| rest.is_empty())
        .map(|(shown, _)| shown)
}

/// Returns true if a page that shows `shown` can mean `exact` bytes. Generous, because each server rounds in its own
/// way (lighttpd writes `0.9G` for a byte less than 1 GiB): this distinguishes sizes from other numbers, not one size
/// from the next.
pub(super) fn agree(shown: ListedSize, exact: u64) -> bool {
    const SMALLEST_UNIT: u64 = 1024;
    match shown {
        ListedSize::Exact(size) => size == exact,
        ListedSize::Rounded(size) => {
            exact <= size.saturating_mul(2).saturating_add(SMALLEST_UNIT)
                && size <= exact.saturating_mul(2).saturating_add(SMALLEST_UNIT)
        }
        ListedSize::Unknown => false,
    }
}

/// The digits at the start of `text`, with groups of three joined, and the rest.
fn grouped_digits(text: &str) -> Option<(Cow<'_, str>, &str)> {
    let (first, mut rest) = digits(text)?;
    let mut whole = Cow::Borrowed(first);
    if first.len() > 3 {
        return Some((whole, rest));
    }
    // The same separator between all groups: a comma, a non-breaking space, or the Swiss apostrophe.
    let Some(mark) = rest.chars().next().filter(|c| ",\u{a0}\u{202f}'’".contains(*c)) else {
        return Some((whole, rest));
    };
    while let Some((group, after)) = rest.strip_prefix(mark).and_then(digits)
        && group.len() == 3
    {
        whole.to_mut().push_str(group);
        rest = after;
    }
    Some((whole, rest))
}

/// The digits at the start of `text`, at least one, and the rest.
fn digits(text: &str) -> Option<(&str, &str)> {
    let end = text.bytes().take_while(u8::is_ascii_digit).count();
    (end > 0).then(|| text.split_at(end))
}

/// The unit at the start of `text`, in bytes, and the rest; `None` inside without a unit.
///
/// A unit follows the number directly or after one space. Not farther: Apache puts three spaces or more between a bare
/// number and the description, which may begin with any word.
fn unit(text: &str) -> Option<(Option<u64>, &str)> {
    if let Some(found) = unit_word(text) {
        return Some((Some(found.0), found.1));
    }
    match text.chars().next() {
        None => Some((None, text)),
        Some(space) if space.is_whitespace() => Some(match unit_word(&text[space.len_utf8()..]) {
            Some((factor, rest)) => (Some(factor), rest),
            None => (None, text),
        }),
        Some(_) => None,
    }
}

/// A unit at the start of `text`, complete or before white space.
fn unit_word(text: &str) -> Option<(u64, &str)> {
    let end = text.bytes().take_while(u8::is_ascii_alphabetic).count();
    let (word, rest) = text.split_at(end);
    (rest.is_empty() || rest.starts_with(char::is_whitespace)).then_some(())?;
    let is = |other: &str| word.eq_ignore_ascii_case(other);
    if is("b") || is("byte") || is("bytes") {
        return Some((1, rest));
    }
    let letter = word.bytes().next()?.to_ascii_lowercase();
    let power = b"kmgtpe".iter().position(|&known| known == letter)?;
    let tail = &word[1..];
    let known = tail.is_empty() || tail.eq_ignore_ascii_case("b") || tail.eq_ignore_ascii_case("ib");
    known.then(|| (1024 << (10 * power), rest))
}

/// `whole.fraction` times `factor`, rounded down. `None` if larger than any file.
fn bytes(whole: &str, fraction: &str, factor: u64) -> Option<u64> {
    // Nine decimals are more than any page has, and keep the product far below 128 bits.
    let fraction = &fraction[..fraction.len().min(9)];
    let whole: u64 = whole.parse().ok()?;
    let decimals: u64 = if fraction.is_empty() { 0 } else { fraction.parse().ok()? };
    let scale = 10u128.pow(u32::try_from(fraction.len()).ok()?);
    let factor = u128::from(factor);
    let total = u128::from(whole) * factor + u128::from(decimals) * factor / scale;
    (total <= LARGEST).then(|| u64::try_from(total).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn size(text: &str) -> Option<ListedSize> {
        read_whole(text).map(|shown| shown.size)
    }

    #[test]
    fn digits_are_exact() {
        for (text, bytes) in [("0", 0), (" 512 ", 512), ("5368709120", 5_368_709_120), ("007", 7)] {
            assert_eq!(size(text), Some(ListedSize::Exact(bytes)), "{text}");
            assert!(read_whole(text).is_some_and(|shown| shown.bare), "{text}");
        }
        for (text, bytes) in [
            ("999 B", 999),
            ("12 bytes", 12),
            ("1 byte", 1),
            ("7B", 7),
            ("8\u{a0}B", 8),
        ] {
            assert_eq!(size(text), Some(ListedSize::Exact(bytes)), "{text}");
            assert!(read_whole(text).is_some_and(|shown| !shown.bare), "{text}");
        }
    }

    #[test]
    fn a_unit_or_a_decimal_point_means_rounded() {
        for (text, bytes) in [
            ("12K", 12 << 10),
            ("1.5K", 1536),
            ("1.2 MiB", 1_258_291),
            ("3 kB", 3072),
            ("5.0G", 5 << 30),
            ("2T", 2 << 40),
            ("0.5 PB", 1 << 49),
            ("1E", 1 << 60),
            ("0.0K", 0),
            ("1.123456789123456789k", 1150),
        ] {
            assert_eq!(size(text), Some(ListedSize::Rounded(bytes)), "{text}");
        }
    }

    #[test]
    fn what_is_no_size_is_not_taken_for_one() {
        for text in [
            "",
            "-",
            " - ",
            "&mdash;",
            "1.2",
            "1.",
            ".5K",
            "-5",
            "12x",
            "12KK",
            "K",
            "1,23",
            "1,234,56 B",
            "1.234 B",
            "1.5 B",
            "0x10",
            "1e3",
            "12:00",
            "99999999999999999999",
            "9223372036854775808",
            "8E",
            "١٢",
        ] {
            assert_eq!(size(text), None, "{text}");
        }
    }

    #[test]
    fn a_unit_is_at_most_one_space_away() {
        assert_eq!(read("512 B rest").map(|(_, rest)| rest), Some(" rest"));
        let (shown, rest) = read("512   B-sides").unwrap();
        assert_eq!(
            (shown.size, shown.bare, rest),
            (ListedSize::Exact(512), true, "   B-sides")
        );
        assert!(read("512   B").is_some_and(|(shown, _)| shown.bare));
    }
}
