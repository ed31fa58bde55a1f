//! Which names of an answer are certain before its end.
//!
//! An answer shows only as a whole where its directory is and whether it escapes names ([`href`](super::href)). But nearly all
//! servers begin with the directory itself, by the path that was requested. Then the names that follow are certain. The one
//! exception is an answer that seems to be percent-encoded, has a name with `%` in it, and turns out not to be encoded: such a
//! listing is not what its beginning was, which its readers are told.

use url::Url;

use super::href::{Notation, Path, Place, Relation};
use super::multistatus::Response;
use crate::source::listing::builder::ListingBuilder;
use crate::source::receiving::EarlyNames;
use crate::source::{EntryKind, ListingConfig};

/// The names of an answer that are certain, while it is read.
pub(super) struct CertainNames<'a> {
    directory: &'a Url,
    asked: &'a Url,
    /// Passes each name on, once.
    builder: ListingBuilder,
    place: Place,
    notation: Notation,
    /// Number of resources that were looked at.
    seen: usize,
    /// True if the names are not certain before the end.
    is_given_up: bool,
}

impl<'a> CertainNames<'a> {
    /// Names below `directory`, of an answer that came from `asked`, which go to `early`.
    pub(super) fn new(
        directory: &'a Url,
        asked: &'a Url,
        early: &EarlyNames,
        config: &ListingConfig,
    ) -> CertainNames<'a> {
        let mut builder = ListingBuilder::new(directory, config.max_entries);
        builder.pass_on(early.clone());
        CertainNames {
            directory,
            asked,
            builder,
            place: Place::asked(asked, Notation::Encoded),
            notation: Notation::Encoded,
            seen: 0,
            is_given_up: !early.go_anywhere(),
        }
    }

    /// These are the resources so far.
    pub(super) fn add(&mut self, responses: &[Response]) {
        while !self.is_given_up && self.seen < responses.len() {
            self.is_given_up = !self.add_one(&responses[self.seen], self.seen == 0);
            self.seen += 1;
        }
    }

    /// Returns false if no more names are certain.
    fn add_one(&mut self, response: &Response, is_first: bool) -> bool {
        if self.notation == Notation::Encoded && Notation::of([&*response.href]) == Notation::Raw {
            self.notation = Notation::Raw;
            self.place = Place::asked(self.asked, self.notation);
        }
        let relation = self.place.relation(Path::of(&response.href));
        if is_first {
            let is_refused = response.status.is_some_and(|status| status >= 300);
            return relation == Relation::Own && !is_refused && response.properties.is_collection() != Some(false);
        }
        let Relation::Child(child) = relation else {
            return true;
        };
        if matches!(response.status, Some(404 | 410)) {
            return true;
        }
        let (kind, properties) = (response.kind(), &response.properties);
        let Some((name, url)) = self.place.name(child, kind == EntryKind::Directory, self.directory) else {
            return true;
        };
        let added = self
            .builder
            .add_tagged(name, url, kind, properties.modified(), properties.tag);
        added.is_ok()
    }
}
