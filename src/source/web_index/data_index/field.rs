//! A value in a JSON document, as far as a listing has use for it: a scalar.

use std::fmt;
use std::ops::RangeInclusive;

use serde::Deserialize;
use serde::de::{Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

use crate::source::listing::date;
use crate::source::{ListedSize, ListedTime, time};

/// A value, or that there is none.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) enum Field {
    /// The object has no such key, or `null`.
    #[default]
    Missing,
    Bool(bool),
    /// A whole number.
    Whole(i64),
    /// A number with a fraction, or one that is beyond 64 bits.
    Fraction(f64),
    Text(String),
    /// An array or an object.
    Other,
}

/// Bytes of a string that need not be UTF-8: a name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct RawText(pub(super) Vec<u8>);

impl Field {
    /// True if the object has the key.
    pub(super) fn is_there(&self) -> bool {
        *self != Field::Missing
    }

    pub(super) fn text(&self) -> Option<&str> {
        match self {
            Field::Text(text) => Some(text),
            _ => None,
        }
    }

    /// True if it is a number, or missing.
    pub(super) fn is_number_if_any(&self) -> bool {
        matches!(self, Field::Missing | Field::Whole(_) | Field::Fraction(_))
    }

    /// The value as a number of bytes.
    pub(super) fn size(&self) -> ListedSize {
        match self {
            Field::Whole(bytes) if *bytes >= 0 => ListedSize::Exact(bytes.unsigned_abs()),
            _ => ListedSize::Unknown,
        }
    }

    /// The value as a date: text, or seconds since 1970.
    pub(super) fn date(&self) -> Option<ListedTime> {
        match self {
            Field::Text(text) => date::read_alone(text),
            Field::Whole(seconds) => exact(*seconds),
            // A number beyond 64 bits becomes the nearest, which is no date either.
            Field::Fraction(seconds) => exact(seconds.floor() as i64),
            _ => None,
        }
    }

    /// The value as a date in milliseconds since 1970.
    pub(super) fn date_of_milliseconds(&self) -> Option<ListedTime> {
        match self {
            Field::Whole(milliseconds) => exact(milliseconds.div_euclid(1000)),
            _ => None,
        }
    }
}

/// The years 1 to 9999, in seconds since 1970. No text has another date either.
const DATES: RangeInclusive<i64> = -62_135_596_800..=253_402_300_799;

fn exact(seconds: i64) -> Option<ListedTime> {
    DATES.contains(&seconds).then_some(())?;
    Some(ListedTime {
        time: time(seconds, 0)?,
        exact: true,
    })
}

impl<'de> Deserialize<'de> for Field {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Field, D::Error> {
        deserializer.deserialize_any(FieldVisitor)
    }
}

struct FieldVisitor;

impl<'de> Visitor<'de> for FieldVisitor {
    type Value = Field;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_unit<E: Error>(self) -> Result<Field, E> {
        Ok(Field::Missing)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Field, E> {
        Ok(Field::Bool(value))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Field, E> {
        Ok(Field::Whole(value))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Field, E> {
        // No file is longer than that, and no date later.
        Ok(i64::try_from(value).map_or(Field::Fraction(value as f64), Field::Whole))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Field, E> {
        Ok(Field::Fraction(value))
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Field, E> {
        Ok(Field::Text(value.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Field, A::Error> {
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Field::Other)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Field, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Field::Other)
    }
}

impl<'de> Deserialize<'de> for RawText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<RawText, D::Error> {
        deserializer.deserialize_bytes(RawVisitor)
    }
}

struct RawVisitor;

impl Visitor<'_> for RawVisitor {
    type Value = RawText;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string")
    }

    fn visit_bytes<E: Error>(self, value: &[u8]) -> Result<RawText, E> {
        Ok(RawText(unescaped_bytes(value).unwrap_or_else(|| value.to_vec())))
    }
}

/// The name that a server escaped byte by byte: lighttpd writes the bytes 80 to 9F within a character as `\u0080` to
/// `\u009F`, so the string is no UTF-8. `None` if it is UTF-8, or would not become it.
fn unescaped_bytes(text: &[u8]) -> Option<Vec<u8>> {
    std::str::from_utf8(text).is_err().then_some(())?;
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((&first, others)) = rest.split_first() {
        (rest, _) = match (first, others) {
            (0xc2, [byte @ 0x80..=0x9f, others @ ..]) => (others, bytes.push(*byte)),
            _ => (others, bytes.push(first)),
        };
    }
    String::from_utf8(bytes).ok().map(String::into_bytes)
}
