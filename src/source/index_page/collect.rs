//! Collects the entries of a page, each name once.

use std::collections::{HashMap, HashSet};

use xxhash_rust::xxh3::xxh3_128;

use super::link::Child;
use super::row::Facts;
use crate::source::{Entry, EntryKind, ListedSize, Listing, Name};

/// A listing in the making.
#[derive(Debug)]
pub(super) struct Collection {
    listing: Listing,
    /// The index of each entry by its name.
    names: HashMap<Name, usize>,
    /// Hashes of the paths of refused links, to count each once.
    refused: HashSet<u128>,
    /// The most names that are taken, refused ones among them.
    most: usize,
}

/// More names than are taken.
#[derive(Debug)]
pub(super) struct TooMany;

/// An entry of a [`Collection`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Taken {
    /// The one with that index.
    Entry(usize),
    /// None: its name was refused, and counted.
    Refused,
}

impl Collection {
    pub(super) fn new(most: usize) -> Collection {
        let listing = Listing {
            entries: Vec::new(),
            refused: 0,
            modified: None,
            is_marked: false,
            has_external: false,
        };
        Collection {
            listing,
            names: HashMap::new(),
            refused: HashSet::new(),
            most,
        }
    }

    /// Takes up what a link leads to, unless it is there. Where a page has both `x` and `x/`, the first stays.
    ///
    /// # Errors
    /// When it is one name too many.
    pub(super) fn take_up(&mut self, child: Child) -> Result<Taken, TooMany> {
        let is_full = self.listing.entries.len() + self.refused.len() >= self.most;
        let Some(name) = Name::new(child.name) else {
            // Its hash will do: a page may be full of long ones.
            let is_new = self.refused.insert(xxh3_128(child.url.path().as_bytes()));
            return if is_new && is_full {
                Err(TooMany)
            } else {
                Ok(Taken::Refused)
            };
        };
        if let Some(&index) = self.names.get(&name) {
            return Ok(Taken::Entry(index));
        }
        if is_full {
            return Err(TooMany);
        }
        self.listing.has_external |= child.external;
        let index = self.listing.entries.len();
        self.names.insert(name.clone(), index);
        let kind = if child.directory {
            EntryKind::Directory
        } else {
            EntryKind::File(ListedSize::Unknown)
        };
        self.listing.entries.push(Entry {
            name,
            url: child.url,
            kind,
            modified: None,
        });
        Ok(Taken::Entry(index))
    }

    /// Gives the entry with that index what its row says, where nothing was known of it before.
    pub(super) fn complete(&mut self, index: usize, facts: &Facts) {
        let entry = &mut self.listing.entries[index];
        if entry.kind == EntryKind::File(ListedSize::Unknown) {
            entry.kind = EntryKind::File(facts.size);
        }
        entry.modified = entry.modified.or(facts.modified);
    }

    /// The listing as it stands.
    ///
    /// It is marked if the page is, or gives a size or a date anywhere.
    pub(super) fn finish(self, is_marked: bool) -> Listing {
        let says_something = |entry: &Entry| {
            let has_size = !matches!(entry.kind, EntryKind::Directory | EntryKind::File(ListedSize::Unknown));
            has_size || entry.modified.is_some()
        };
        Listing {
            is_marked: is_marked || self.listing.entries.iter().any(says_something),
            refused: self.refused.len(),
            ..self.listing
        }
    }
}
