//! The names of one listing, packed, with the inode numbers that follow from it and what its files share.
//!
//! A directory may have a million names, and most of them are never looked up. This holds the listing's [`Entries`] and
//! their inode numbers: 40 bytes a name, and the name.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fmt::Write;
use std::sync::Arc;
use std::time::SystemTime;

use url::Url;

use super::dates::Dates;
use super::file_text::FileText;
use super::ino::{Ino, number};
use crate::source::{Entries, EntryKind, Published, Source};

/// What the files of one listing have in common.
pub(in crate::vfs) struct ListingContext {
    /// The directory's URL, the prefix of most files' URLs.
    base: Arc<str>,
    /// The directory.
    pub(super) parent: Ino,
    /// The dates of these files.
    pub(in crate::vfs) dates: Arc<Dates>,
    /// Listed them.
    pub(in crate::vfs) source: Arc<dyn Source>,
    /// What the source publishes of some of them, by their links.
    published: HashMap<Box<str>, Arc<Published>>,
}

impl ListingContext {
    pub(super) fn new(
        entries: &Entries,
        parent: Ino,
        dates: Arc<Dates>,
        source: Arc<dyn Source>,
    ) -> Arc<ListingContext> {
        let published = entries.all_published();
        Arc::new(ListingContext {
            base: Arc::clone(entries.base()),
            parent,
            dates,
            source,
            published: published
                .map(|(at, of_file)| (entries.link(at).0.into(), Arc::clone(of_file)))
                .collect(),
        })
    }

    /// What files that no listing has share.
    pub(in crate::vfs) fn unlisted(parent: Ino, dates: Arc<Dates>, source: Arc<dyn Source>) -> Arc<ListingContext> {
        Arc::new(ListingContext {
            base: Arc::from(""),
            parent,
            dates,
            source,
            published: HashMap::new(),
        })
    }

    /// Whether these files are listed.
    pub(super) fn is_of_listing(&self) -> bool {
        !self.base.is_empty()
    }

    /// What the source publishes of the file with this link.
    pub(super) fn published(&self, rest: &str) -> Option<&Arc<Published>> {
        self.published.get(rest)
    }

    /// The URL of a file, of which `rest` follows the base if `is_below`, and is the whole otherwise.
    pub(super) fn url(&self, rest: &str, is_below: bool) -> Url {
        let text = if is_below {
            format!("{}{rest}", self.base)
        } else {
            rest.to_owned()
        };
        // The text comes from a parsed URL.
        Url::parse(&text).unwrap_or_else(|_| unreachable!("a URL does not read as one: {text}"))
    }

    /// Whether the entry at this position has the URL of [`Self::url`].
    pub(super) fn is_at(&self, rest: &str, is_below: bool, entries: &Entries, at: usize) -> bool {
        if *entries.base() == self.base {
            let (other, is_other_below) = entries.link(at);
            return *other == *rest && is_other_below == is_below;
        }
        self.url(rest, is_below) == entries.url(at)
    }
}

/// An order in which programs walk through a directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::vfs) enum Order {
    /// The listing's order: `find` and `ls -U`.
    Listed,
    /// By inode number: `cp`, `rm` and `du` sort by it, because on a disk that is the order of the inodes.
    Numbered,
}

/// The names of a listing. A position is a name's place in the listing.
pub(in crate::vfs) struct ListedNames {
    entries: Entries,
    /// The number that the listing gives each entry's node.
    inos: Box<[Ino]>,
    /// Positions in the order of names. A sorted array takes a fifth of the memory of a hash table.
    by_name: Box<[u32]>,
    /// Positions in the order of `inos`.
    by_ino: Box<[u32]>,
    /// Which entries come from an earlier mount's listing; `None` if none do.
    stored: Option<Box<[bool]>>,
    /// What its files share.
    pub(in crate::vfs) context: Arc<ListingContext>,
    /// The date of the listing itself.
    pub(in crate::vfs) modified: Option<SystemTime>,
}

impl ListedNames {
    /// The names of a listing, with the numbers that follow from it.
    pub(in crate::vfs) fn new(
        entries: Entries,
        context: Arc<ListingContext>,
        stored: Option<Box<[bool]>>,
        modified: Option<SystemTime>,
    ) -> ListedNames {
        let mut text = String::new();
        let inos = (0..entries.len())
            .map(|at| {
                text.clear();
                entries.write_url(at, &mut text);
                if let EntryKind::File(size) = entries.kind(at) {
                    text.push('\0');
                    // Writing to a string does not fail.
                    let _ = write!(text, "{}", FileText(size, entries.modified(at)));
                }
                number(&text)
            })
            .collect();
        ListedNames {
            stored,
            modified,
            ..ListedNames::numbered(entries, inos, context)
        }
    }

    /// Names whose nodes have these numbers.
    pub(super) fn numbered(entries: Entries, inos: Box<[Ino]>, context: Arc<ListingContext>) -> ListedNames {
        // `Entries` holds no more than that.
        let positions = 0..u32::try_from(entries.len()).unwrap_or(u32::MAX);
        let mut by_name: Box<[u32]> = positions.clone().collect();
        by_name.sort_unstable_by(|&a, &b| entries.name(a as usize).cmp(entries.name(b as usize)));
        let mut by_ino: Box<[u32]> = positions.collect();
        // Two entries may have the same number.
        by_ino.sort_unstable_by_key(|&at| (inos[at as usize], at));
        ListedNames {
            entries,
            inos,
            by_name,
            by_ino,
            stored: None,
            context,
            modified: None,
        }
    }

    /// The listing's entries.
    pub(in crate::vfs) fn entries(&self) -> &Entries {
        &self.entries
    }

    /// The position of a name.
    pub(in crate::vfs) fn find(&self, name: &OsStr) -> Option<usize> {
        let found = self
            .by_name
            .binary_search_by(|&at| self.entries.name(at as usize).cmp(name));
        Some(self.by_name[found.ok()?] as usize)
    }

    /// [`Self::find`], fast if the name is at `near`.
    pub(in crate::vfs) fn find_near(&self, name: &OsStr, near: usize) -> Option<usize> {
        if near < self.entries.len() && self.entries.name(near) == name {
            return Some(near);
        }
        self.find(name)
    }

    /// The number that the listing gives the entry at this position.
    pub(in crate::vfs) fn ino(&self, at: usize) -> Ino {
        self.inos[at]
    }

    /// The position of the entry to which the listing gives this number.
    pub(super) fn position(&self, ino: Ino) -> Option<usize> {
        let rank = self.by_ino.partition_point(|&at| self.inos[at as usize] < ino);
        let at = *self.by_ino.get(rank)? as usize;
        (self.inos[at] == ino).then_some(at)
    }

    /// The rank in this order of the entry at this position.
    pub(super) fn rank(&self, order: Order, at: usize) -> usize {
        match order {
            Order::Listed => at,
            Order::Numbered => {
                let key = |at: usize| (self.inos[at], at);
                self.by_ino.partition_point(|&other| key(other as usize) < key(at))
            }
        }
    }

    /// The positions in this order, from this rank on.
    pub(in crate::vfs) fn from(&self, order: Order, rank: usize) -> impl Iterator<Item = usize> {
        (rank..self.entries.len()).map(move |rank| match order {
            Order::Listed => rank,
            Order::Numbered => self.by_ino[rank] as usize,
        })
    }

    /// Whether the entry at this position comes from an earlier mount's listing.
    pub(in crate::vfs) fn is_stored(&self, at: usize) -> bool {
        self.stored.as_ref().is_some_and(|stored| stored[at])
    }

    /// Whether any entry comes from an earlier mount's listing.
    pub(in crate::vfs) fn has_stored(&self) -> bool {
        self.stored.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::{Entry, ListedSize, Name, SingleFile};

    fn names(count: usize) -> ListedNames {
        let directory = Url::parse("http://h/d/").unwrap();
        let mut entries = Entries::of(&directory);
        for number in 0..count {
            let name = format!("f{number:07}");
            let entry = Entry {
                url: directory.join(&name).unwrap(),
                name: Name::new(name.into()).unwrap(),
                kind: EntryKind::File(ListedSize::Exact(7)),
                modified: None,
                published: None,
            };
            assert!(entries.push(&entry));
        }
        entries.shrink_to_fit();
        let context = ListingContext::new(&entries, 1, Dates::by(Arc::default()), Arc::new(SingleFile));
        ListedNames::new(entries, context, None, None)
    }

    /// Bounds the memory of a listed directory of a million names.
    #[test]
    fn name_takes_forty_bytes_beside_its_text() {
        let (count, names) = (10_000, names(10_000));
        let memory = names.entries.memory() + count * (size_of::<Ino>() + 2 * size_of::<u32>());
        assert!(memory <= count * ("f0000000".len() + 40), "{memory}");
    }

    #[test]
    fn entry_is_found_by_its_number_in_either_order() {
        let names = names(1000);
        for at in [0, 17, 999] {
            assert_eq!(names.find(names.entries.name(at)), Some(at));
            assert_eq!(names.position(names.ino(at)), Some(at));
            for order in [Order::Listed, Order::Numbered] {
                assert_eq!(names.from(order, names.rank(order, at)).next(), Some(at));
            }
        }
        assert_eq!(names.find(OsStr::new("g")), None);
        assert_eq!(names.position(1), None);
    }
}
