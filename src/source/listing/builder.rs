//! Builds the listing of a source that states its names plainly, as WebDAV, JSON and XML do: each name once, within the
//! limit.

use std::collections::HashSet;
use std::time::SystemTime;

use url::Url;

use super::name_index::NameIndex;
use super::{EntityTag, Entries, Entry, EntryKind, LeftOut, ListedSize, ListedTime, Listing, Name};
use crate::source::receiving::EarlyNames;

/// More names than the limit allows.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::source) struct TooManyNames;

/// A listing that is being built.
pub(in crate::source) struct ListingBuilder {
    entries: Entries,
    names: NameIndex,
    /// Without the field `both`.
    left_out: LeftOut,
    /// Directories whose name a file has as well, by their index.
    both: HashSet<usize>,
    /// Maximum number of names, refused ones included.
    most: usize,
    /// Takes the names as they are added.
    early: EarlyNames,
}

impl ListingBuilder {
    /// An empty listing of the directory at this URL.
    pub(in crate::source) fn new(directory: &Url, most: usize) -> ListingBuilder {
        ListingBuilder {
            entries: Entries::of(directory),
            names: NameIndex::new(),
            left_out: LeftOut::default(),
            both: HashSet::new(),
            most,
            early: EarlyNames::default(),
        }
    }

    /// [`Self::add_tagged`] without an entity tag.
    pub(in crate::source) fn add(
        &mut self,
        name: Vec<u8>,
        url: Url,
        kind: EntryKind,
        modified: Option<ListedTime>,
    ) -> Result<(), TooManyNames> {
        self.add_tagged(name, url, kind, modified, None)
    }

    /// Adds an entry; counts it as left out if `name` is no path component.
    ///
    /// If a name comes twice, a directory wins over a file. Two files of different sizes are two files that the server
    /// calls by one name; the size of the one that is shown is then unknown.
    ///
    /// # Errors
    /// If the limit of names is exceeded.
    pub(in crate::source) fn add_tagged(
        &mut self,
        name: Vec<u8>,
        url: Url,
        kind: EntryKind,
        modified: Option<ListedTime>,
        tag: Option<EntityTag>,
    ) -> Result<(), TooManyNames> {
        let Some(name) = Name::new(name) else {
            return self.refuse();
        };
        let entry = Entry {
            name,
            url,
            kind,
            modified,
            published: None,
        };
        if self.push(&entry)? {
            let last = self.entries.len() - 1;
            self.entries.set_tag(last, tag);
            self.early.add(&self.entries, last);
        }
        Ok(())
    }

    /// Adds an entry. Returns true if its name is new; the rules for one that is not are those of [`Self::add`].
    ///
    /// # Errors
    /// If the limit of names is exceeded.
    pub(in crate::source) fn add_entry(&mut self, entry: &Entry) -> Result<bool, TooManyNames> {
        let is_new = self.push(entry)?;
        if is_new {
            self.early.add(&self.entries, self.entries.len() - 1);
        }
        Ok(is_new)
    }

    fn push(&mut self, entry: &Entry) -> Result<bool, TooManyNames> {
        match self.names.find(&entry.name, &self.entries) {
            Ok(index) => {
                self.repeat(index, &entry.url, entry.kind, entry.modified);
                Ok(false)
            }
            Err(_) if self.is_full() => Err(TooManyNames),
            Err(key) => {
                let index = self.entries.len();
                if !self.entries.push(entry) {
                    return Err(TooManyNames);
                }
                self.names.insert(key, index);
                Ok(true)
            }
        }
    }

    /// The entries so far.
    pub(in crate::source) fn entries(&self) -> &Entries {
        &self.entries
    }

    /// From now on, names go to `early` as they are added.
    pub(in crate::source) fn pass_on(&mut self, early: EarlyNames) {
        self.early = early;
    }

    /// Counts a name that can't be shown.
    ///
    /// # Errors
    /// If the limit of names is exceeded.
    pub(in crate::source) fn refuse(&mut self) -> Result<(), TooManyNames> {
        self.leave_out(|left_out| &mut left_out.refused)
    }

    /// Counts a name that is left out for this reason.
    ///
    /// # Errors
    /// If the limit of names is exceeded.
    pub(in crate::source) fn leave_out(
        &mut self,
        reason: impl FnOnce(&mut LeftOut) -> &mut usize,
    ) -> Result<(), TooManyNames> {
        if self.is_full() {
            return Err(TooManyNames);
        }
        *reason(&mut self.left_out) += 1;
        Ok(())
    }

    fn is_full(&self) -> bool {
        let LeftOut {
            refused,
            queries,
            elsewhere,
            unsupported,
            private,
            special,
            both: _,
        } = self.left_out;
        self.entries.len() + refused + queries + elsewhere + unsupported + private + special >= self.most
    }

    fn repeat(&mut self, index: usize, url: &Url, kind: EntryKind, modified: Option<ListedTime>) {
        match (self.entries.kind(index), kind) {
            (EntryKind::Directory, EntryKind::Directory) => {}
            (EntryKind::Directory, EntryKind::File(_)) => drop(self.both.insert(index)),
            (EntryKind::File(_), EntryKind::Directory) => {
                self.both.insert(index);
                if self.entries.replace(index, kind, url) {
                    self.entries.set_modified(index, modified);
                    self.entries.set_tag(index, None);
                }
            }
            (before, now) if before != now => {
                self.entries.set_kind(index, EntryKind::File(ListedSize::Unknown));
                self.entries.set_tag(index, None);
            }
            _ => {}
        }
    }

    /// The finished listing. `modified` is the date of the directory.
    pub(in crate::source) fn finish(mut self, modified: Option<SystemTime>) -> Listing {
        self.entries.shrink_to_fit();
        Listing {
            left_out: LeftOut {
                both: self.both.len(),
                ..self.left_out
            },
            modified,
            ..Listing::of(self.entries)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: EntryKind = EntryKind::File(ListedSize::Exact(1));

    fn built(most: usize, names: &[(&str, EntryKind)]) -> Result<Listing, TooManyNames> {
        let directory = Url::parse("http://h/d/").unwrap();
        let mut builder = ListingBuilder::new(&directory, most);
        for &(name, kind) in names {
            let slash = if kind == EntryKind::Directory { "/" } else { "" };
            let url = directory.join(&format!("{name}{slash}")).unwrap();
            builder.add(name.into(), url, kind, None)?;
        }
        Ok(builder.finish(None))
    }

    #[test]
    fn a_directory_wins_over_a_file() {
        for names in [
            [("a", FILE), ("a", EntryKind::Directory)],
            [("a", EntryKind::Directory), ("a", FILE)],
        ] {
            let listing = built(9, &names).unwrap();
            let entry = listing.entries.get(0).unwrap();
            assert_eq!((listing.entries.len(), listing.left_out.both), (1, 1));
            assert_eq!((entry.kind, entry.url.path()), (EntryKind::Directory, "/d/a/"));
        }
    }

    #[test]
    fn two_sizes_of_a_name_are_unknown() {
        let same = built(9, &[("a", FILE), ("a", FILE)]).unwrap();
        assert_eq!(same.entries.kind(0), FILE);
        let two = built(9, &[("a", FILE), ("a", EntryKind::File(ListedSize::Exact(2)))]).unwrap();
        assert_eq!(two.entries.kind(0), EntryKind::File(ListedSize::Unknown));
    }

    #[test]
    fn refused_names_count_towards_the_limit() {
        assert_eq!(built(2, &[("a", FILE), ("..", FILE)]).unwrap().left_out.refused, 1);
        assert_eq!(built(1, &[("a", FILE), ("..", FILE)]), Err(TooManyNames));
        assert_eq!(built(1, &[("..", FILE), ("a", FILE)]), Err(TooManyNames));
        assert!(built(1, &[("a", FILE), ("a", FILE)]).is_ok());
    }
}
