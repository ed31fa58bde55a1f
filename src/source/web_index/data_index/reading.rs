//! The state of a JSON document that is being read, for the visitors of its parts.

use std::fmt;

use serde::de::Error;

use super::directory::{Directory, Row};
use super::{Failure, NotAListing};
use crate::source::receiving::EarlyNames;

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
    /// Takes the names of a document whose names are certain as they come.
    early: EarlyNames,
}

impl Document<'_> {
    /// A document whose names are added to this directory.
    pub(super) fn new(directory: &mut Directory, early: EarlyNames) -> Document<'_> {
        Document {
            directory,
            failure: None,
            early,
        }
    }

    /// The names are certain from now on.
    pub(super) fn pass_on_early(&mut self) {
        self.directory.pass_on(self.early.clone());
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
