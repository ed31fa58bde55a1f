//! The state of a JSON document that is being read, for the visitors of its parts.

use std::fmt;

use serde::de::Error;

use super::directory::{Directory, Row};
use super::{Failure, NotAListing};

/// The failure for JSON of another shape.
pub(super) fn other(why: impl fmt::Display) -> Failure {
    Failure::Not(NotAListing::OtherJson(why.to_string()))
}

/// A document that is being read.
///
/// serde's errors are texts, so the failure itself is kept here, and serde's error only ends the reading.
pub(super) struct Document<'a> {
    directory: &'a mut Directory,
    /// Why the reading has ended early.
    pub(super) failure: Option<Failure>,
}

impl Document<'_> {
    /// A document whose names are added to this directory.
    pub(super) fn new(directory: &mut Directory) -> Document<'_> {
        Document {
            directory,
            failure: None,
        }
    }

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
