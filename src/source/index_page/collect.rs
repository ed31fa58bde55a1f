//! Collects the entries of a page, each name once.

use std::collections::{HashMap, HashSet};

use super::link::Child;
use super::row::Facts;
use crate::source::{Entry, EntryKind, ListedSize, Listing, Name};

/// A listing in the making.
#[derive(Debug)]
pub(super) struct Collection {
    listing: Listing,
    /// The index of each entry by its name.
    names: HashMap<Name, usize>,
    /// The paths of refused links, to count each once.
    refused: HashSet<String>,
}

/// An entry of a [`Collection`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Taken {
    /// The one with that index.
    Entry(usize),
    /// None: its name was refused, and counted.
    Refused,
}

impl Collection {
    pub(super) fn new() -> Collection {
        let listing = Listing {
            entries: Vec::new(),
            refused: 0,
            modified: None,
        };
        Collection {
            listing,
            names: HashMap::new(),
            refused: HashSet::new(),
        }
    }

    /// Takes up what a link leads to, unless it is there. Where a page has both `x` and `x/`, the first stays.
    pub(super) fn take_up(&mut self, child: Child) -> Taken {
        let Some(name) = Name::new(child.name) else {
            self.refused.insert(child.url.path().to_owned());
            return Taken::Refused;
        };
        if let Some(&index) = self.names.get(&name) {
            return Taken::Entry(index);
        }
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
        Taken::Entry(index)
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
    pub(super) fn finish(self) -> Listing {
        Listing {
            refused: self.refused.len(),
            ..self.listing
        }
    }
}
