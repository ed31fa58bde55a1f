//! Reads a JSON document in one pass, and hands each entry to the listing as it comes: a directory may have a million.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::de::{IoRead, Read, SliceRead};

use super::array::Elements;
use super::directory::Directory;
use super::object::Members;
use super::reading::{Document, other};
use super::{Failure, NotAListing};
use crate::source::receiving::{EarlyNames, PiecesReader};

/// Reads a document whose first character is `[` or `{`.
pub(super) fn read(body: &[u8], directory: &mut Directory) -> Result<(), Failure> {
    read_from(SliceRead::new(body), directory, EarlyNames::default())
}

/// [`read`] for a document that is being received. The names of an array go to `early`. Those of an object do not: whether it is a
/// listing is decided at its end.
pub(super) fn read_incoming(reader: PiecesReader, directory: &mut Directory, early: EarlyNames) -> Result<(), Failure> {
    read_from(IoRead::new(reader), directory, early)
}

/// [`read`] for text from anywhere.
pub(super) fn read_from<'de>(
    text: impl Read<'de>,
    directory: &mut Directory,
    early: EarlyNames,
) -> Result<(), Failure> {
    let mut document = Document::new(directory, early);
    let mut deserializer = serde_json::Deserializer::new(text);
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
        self.pass_on_early();
        Elements::default().read(self, seq)
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<(), A::Error> {
        Members::default().read(self, map)
    }
}
