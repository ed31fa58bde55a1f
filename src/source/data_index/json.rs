//! Reads a JSON document in one pass, and hands each entry to the listing as it comes: a directory may have a million.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};

use super::array::Elements;
use super::directory::{Directory, Row};
use super::object::Members;
use super::{Failure, NotAListing};

/// Reads a document whose first character is `[` or `{`.
pub(super) fn read(body: &[u8], directory: &mut Directory) -> Result<(), Failure> {
    let mut document = Document {
        directory,
        failure: None,
    };
    let mut deserializer = serde_json::Deserializer::from_slice(body);
    let read = (&mut document)
        .deserialize(&mut deserializer)
        .and_then(|()| deserializer.end());
    match (read, document.failure) {
        (_, Some(failure)) => Err(failure),
        (Ok(()), None) => Ok(()),
        (Err(error), None) if error.is_data() => Err(other(error)),
        (Err(error), None) => Err(Failure::Not(NotAListing::Syntax {
            language: "JSON",
            error: error.to_string(),
        })),
    }
}

/// The failure for JSON of another shape.
pub(super) fn other(why: impl fmt::Display) -> Failure {
    Failure::Not(NotAListing::OtherJson(why.to_string()))
}

/// A document that is being read.
///
/// serde's errors are texts, so the failure itself is kept here, and serde's error only ends the reading.
pub(super) struct Document<'a> {
    directory: &'a mut Directory,
    failure: Option<Failure>,
}

impl Document<'_> {
    /// Adds a name to the listing.
    pub(super) fn add<E: Error>(&mut self, row: Row) -> Result<(), E> {
        self.directory.add(row).or_else(|error| self.fail(error.into()))
    }

    /// Ends the reading with this failure.
    pub(super) fn fail<T, E: Error>(&mut self, failure: Failure) -> Result<T, E> {
        self.failure = Some(failure);
        Err(E::custom("the reading ends"))
    }
}

impl<'de> DeserializeSeed<'de> for &mut Document<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for &mut Document<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array or an object")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<(), A::Error> {
        Elements::default().read(self, seq)
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<(), A::Error> {
        Members::default().read(self, map)
    }
}
