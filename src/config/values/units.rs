//! Parses sizes, times, modes and users in human notation.
//!
//! One function per kind of value: the `value_parser` of the options with such values. clap prints its error after
//! "invalid value '10Q' for '--chunk-size':". So the error says what is wrong with the value, and shows a valid one.
//!
//! A single letter counts in powers of two, as in mount(8), `dd` and rclone: `20G` is 20 GiB. `GB` is 10⁹ and `GiB` is
//! 2³⁰, as in bytesize.

use std::fmt::Display;
use std::ops::RangeInclusive;
use std::str::FromStr;
use std::time::Duration;

use bytesize::ByteSize;
use nix::unistd::{Group, User};

use crate::cache::quota::Share;

/// The smallest chunk: a page, the smallest unit that the kernel reads.
const CHUNK_MIN: u64 = 4 << 10;

/// The largest chunk. A chunk is held in memory while its checksum is computed, and a random read may have to wait for
/// a whole one. Larger ones have no benefit.
const CHUNK_MAX: u64 = 64 << 20;

/// The longest time of an option: ten years. Long enough to mean "for ever", and short enough that adding it to an
/// `Instant` can't overflow.
const LONGEST: Duration = Duration::from_secs(10 * 365 * 24 * 60 * 60);

/// Bytes: `10GiB`, `20G`, `256k`, `1000000`.
pub(crate) fn size(text: &str) -> Result<u64, String> {
    const NOT_A_SIZE: &str = "not a size; write for example 256KiB, 20G or 1000000";
    let text = text.trim();
    let lone_letter = text.ends_with(|c: char| c.is_ascii_alphabetic() && !c.eq_ignore_ascii_case(&'b'))
        && text.chars().filter(char::is_ascii_alphabetic).count() == 1;
    let full = if lone_letter {
        format!("{text}iB")
    } else {
        text.to_owned()
    };
    match full.parse::<ByteSize>() {
        // bytesize saturates instead of failing.
        Ok(ByteSize(u64::MAX)) => Err("too large".to_owned()),
        Ok(ByteSize(bytes)) => Ok(bytes),
        Err(_) => Err(NOT_A_SIZE.to_owned()),
    }
}

/// A [`size`] above 0.
pub(in crate::config) fn size_above_zero(text: &str) -> Result<u64, String> {
    match size(text)? {
        0 => Err("must be greater than 0".to_owned()),
        bytes => Ok(bytes),
    }
}

/// A fraction of a file system: a [`size`], or `20%` of it.
pub(in crate::config) fn share(text: &str) -> Result<Share, String> {
    let Some(percent) = text.trim().strip_suffix('%') else {
        return size(text)
            .map(Share::Bytes)
            .map_err(|error| error.replacen("write for example 256KiB, 20G", "write for example 20%, 20G", 1));
    };
    match percent.trim().parse() {
        Ok(percent) if percent <= 100 => Ok(Share::Percent(percent)),
        _ => Err("not a percentage; write 1% to 100%".to_owned()),
    }
}

/// A [`share`] above 0.
pub(in crate::config) fn share_above_zero(text: &str) -> Result<Share, String> {
    match share(text)? {
        Share::Bytes(0) | Share::Percent(0) => Err("must be greater than 0".to_owned()),
        share => Ok(share),
    }
}

/// Codes of countries (ISO 3166-1 alpha-2) with commas between them, in lower case.
pub(in crate::config) fn countries(text: &str) -> Result<String, String> {
    let is_code = |code: &str| code.len() == 2 && code.bytes().all(|byte| byte.is_ascii_alphabetic());
    let codes: Vec<String> = text.split(',').map(|code| code.trim().to_ascii_lowercase()).collect();
    match codes.iter().all(|code| is_code(code)) {
        true => Ok(codes.join(",")),
        false => Err("not codes of countries; write two letters each, for example de,fr".to_owned()),
    }
}

/// A whole number within these limits.
pub(in crate::config) fn count<T>(text: &str, limits: RangeInclusive<T>) -> Result<T, String>
where
    T: FromStr + PartialOrd + Display,
{
    let number = text.trim().parse().ok().filter(|number| limits.contains(number));
    number.ok_or_else(|| format!("write a number from {} to {}", limits.start(), limits.end()))
}

/// Bytes per second: a [`size`], with or without `/s`. `0` means no limit.
pub(in crate::config) fn rate(text: &str) -> Result<u64, String> {
    let text = text.trim();
    if let Some(bits) = bits_per_second(text) {
        return Err(format!("the unit is bytes per second; write {}", decimal(bits / 8)));
    }
    size(text.strip_suffix("/s").unwrap_or(text))
        .map_err(|error| error.replacen("not a size", "not a rate in bytes per second", 1))
}

/// A rate in bits per second, as internet connections are sold: `10Mbit/s`, `10Mbps`.
fn bits_per_second(text: &str) -> Option<u64> {
    let text = text.to_ascii_lowercase();
    let units = ["bits/s", "bit/s", "bits", "bit", "bps"];
    let number = units.iter().find_map(|unit| text.strip_suffix(unit))?.trim();
    let (number, factor) = match number.char_indices().last()? {
        (at, 'k') => (&number[..at], 1e3),
        (at, 'm') => (&number[..at], 1e6),
        (at, 'g') => (&number[..at], 1e9),
        _ => (number, 1.0),
    };
    let number: f64 = number.trim().parse().ok().filter(|number: &f64| number.is_finite())?;
    Some((number * factor) as u64)
}

/// A size in decimal units as [`size`] reads it, without rounding: `1250kB`.
fn decimal(bytes: u64) -> String {
    let units = [(1_000_000_000, "GB"), (1_000_000, "MB"), (1_000, "kB")];
    let whole = units
        .iter()
        .find(|(unit, _)| bytes >= *unit && bytes.is_multiple_of(*unit));
    whole.map_or(bytes.to_string(), |(unit, name)| format!("{}{name}", bytes / unit))
}

/// A size as [`size`] reads it, without rounding: `20GiB`, `1500kB`, `1234567`.
pub(in crate::config) fn exact(bytes: u64) -> String {
    let units = [(1 << 40, "TiB"), (1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
    let whole = units
        .iter()
        .find(|(unit, _)| bytes >= *unit && bytes.is_multiple_of(*unit));
    whole.map_or_else(|| decimal(bytes), |(unit, name)| format!("{}{name}", bytes / unit))
}

/// A chunk size: a power of two from 4 KiB to 64 MiB.
pub(in crate::config) fn chunk_size(text: &str) -> Result<u32, String> {
    let bytes = size(text).map_err(|_| "not a size; write for example 256KiB or 1MiB".to_owned())?;
    if !bytes.is_power_of_two() || !(CHUNK_MIN..=CHUNK_MAX).contains(&bytes) {
        return Err("must be a power of two from 4KiB to 64MiB".to_owned());
    }
    Ok(u32::try_from(bytes).expect("64 MiB fits"))
}

/// A time: `30s`, `2m`, `500ms`, `1h 30m`; a plain number is in seconds.
pub(in crate::config) fn time(text: &str) -> Result<Duration, String> {
    let text = text.trim();
    let plain = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    let full = if plain { format!("{text}s") } else { text.to_owned() };
    let time = humantime::parse_duration(&full)
        .map_err(|_| "not a time; write for example 500ms, 30s or 2m (a plain number is seconds)".to_owned())?;
    if time > LONGEST {
        return Err("longer than ten years".to_owned());
    }
    Ok(time)
}

/// A [`time`] above 0.
pub(in crate::config) fn time_above_zero(text: &str) -> Result<Duration, String> {
    match time(text)? {
        Duration::ZERO => Err("must be greater than 0".to_owned()),
        time => Ok(time),
    }
}

/// Permission bits to clear, in octal: `022`.
pub(in crate::config) fn umask(text: &str) -> Result<u16, String> {
    u16::from_str_radix(text, 8)
        .ok()
        .filter(|&mask| mask <= 0o777 && !text.starts_with('+'))
        .ok_or_else(|| "not a mask; write octal digits, for example 022".to_owned())
}

/// A user id, or a user name.
pub(in crate::config) fn user(text: &str) -> Result<u32, String> {
    match (text.parse(), User::from_name(text)) {
        (Ok(uid), _) => Ok(uid),
        (_, Ok(Some(user))) => Ok(user.uid.as_raw()),
        _ => Err("no such user; write a user's number or name".to_owned()),
    }
}

/// A group id, or a group name.
pub(in crate::config) fn group(text: &str) -> Result<u32, String> {
    match (text.parse(), Group::from_name(text)) {
        (Ok(gid), _) => Ok(gid),
        (_, Ok(Some(group))) => Ok(group.gid.as_raw()),
        _ => Err("no such group; write a group's number or name".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn countries_have_two_letters() {
        assert_eq!(countries("DE, fr").as_deref(), Ok("de,fr"));
        for wrong in ["", "deu", "de,", "d1", "de;fr"] {
            assert!(countries(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn rate_in_bits_is_refused_with_the_same_rate_in_bytes() {
        for (bits, bytes) in [
            ("10Mbit/s", "1250kB"),
            ("1 Gbps", "125MB"),
            ("8kbit", "1kB"),
            ("100 bit/s", "12"),
        ] {
            let error = rate(bits).unwrap_err();
            assert_eq!(error, format!("the unit is bytes per second; write {bytes}"), "{bits}");
            assert!(rate(bytes).is_ok());
        }
        assert!(rate("bit/s").unwrap_err().starts_with("not a rate"));
    }

    #[test]
    fn number_outside_the_limits_is_refused_with_them() {
        assert_eq!(count("7", 1..=65535u16), Ok(7));
        for wrong in ["0", "65536", "abc", "", "-1", "1.5"] {
            assert_eq!(
                count(wrong, 1..=65535u16).unwrap_err(),
                "write a number from 1 to 65535"
            );
        }
    }

    #[test]
    fn a_lone_letter_counts_in_powers_of_two() {
        assert_eq!(size("20G"), Ok(20 << 30));
        assert_eq!(size("256k"), Ok(256 << 10));
        assert_eq!(size("1.5 M"), Ok(3 << 19));
        assert_eq!(size("10GiB"), Ok(10 << 30));
        assert_eq!(size("10gi"), Ok(10 << 30));
        assert_eq!(size("10GB"), Ok(10_000_000_000));
        assert_eq!(size("7b"), Ok(7));
        assert_eq!(size("1000000"), Ok(1_000_000));
    }

    #[test]
    fn what_is_not_a_size_is_refused() {
        for text in [
            "",
            "G",
            "10Q",
            "-1",
            "1e3",
            "ten",
            "10 G iB",
            "0x10",
            ".",
            "99999999999G",
        ] {
            assert!(size(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_share_is_a_size_or_so_many_hundredths() {
        assert_eq!(share("20%"), Ok(Share::Percent(20)));
        assert_eq!(share(" 100 % "), Ok(Share::Percent(100)));
        assert_eq!(share("20G"), Ok(Share::Bytes(20 << 30)));
        assert_eq!(share("0"), Ok(Share::Bytes(0)));
        for text in ["101%", "%", "-1%", "1.5%", "300%", "ten"] {
            assert!(share(text).is_err(), "{text}");
        }
        assert!(size_above_zero("0").is_err() && size_above_zero("1") == Ok(1));
        assert!(share_above_zero("0").is_err() && share_above_zero("0%").is_err());
    }

    #[test]
    fn a_rate_may_say_per_second() {
        assert_eq!(rate("10MB/s"), Ok(10_000_000));
        assert_eq!(rate("1M"), Ok(1 << 20));
        assert_eq!(rate("0"), Ok(0));
        assert!(rate("10/s/s").is_err());
    }

    #[test]
    fn a_chunk_is_a_power_of_two_within_bounds() {
        assert_eq!(chunk_size("256KiB"), Ok(256 << 10));
        assert_eq!(chunk_size("4k"), Ok(4096));
        assert_eq!(chunk_size("64M"), Ok(64 << 20));
        for text in ["0", "2k", "128M", "100k", "256KB", "10Q"] {
            assert!(chunk_size(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_plain_number_is_seconds() {
        assert_eq!(time("30"), Ok(Duration::from_secs(30)));
        assert_eq!(time("0.5"), Ok(Duration::from_millis(500)));
        assert_eq!(time("30s"), Ok(Duration::from_secs(30)));
        assert_eq!(time("2m"), Ok(Duration::from_secs(120)));
        assert_eq!(time("500ms"), Ok(Duration::from_millis(500)));
        for text in ["", "s", "-1", "1 parsec", "11y", "99999999999999999999"] {
            assert!(time(text).is_err(), "{text}");
        }
        assert!(time_above_zero("0s").is_err());
    }

    #[test]
    fn masks_are_octal_and_users_may_be_named() {
        assert_eq!(umask("0022"), Ok(0o022));
        assert_eq!(umask("77"), Ok(0o077));
        assert!(umask("8").is_err() && umask("1777").is_err() && umask("+7").is_err());
        assert_eq!(user("1000"), Ok(1000));
        assert_eq!(user("root"), Ok(0));
        assert_eq!(group("root"), Ok(0));
        assert!(user("no such user").is_err());
    }

    proptest! {
        #[test]
        fn nothing_that_can_be_typed_panics(text in ".{0,12}") {
            let _ = (share(&text), rate(&text), chunk_size(&text), time(&text), umask(&text));
        }
    }
}
