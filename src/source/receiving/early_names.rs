//! Names that a parser has read before the document is complete.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use super::pace::Pace;
use crate::source::Entries;

/// Maximum number of names that are held for a caller that does not want them yet. Beyond that it waits for the whole listing.
const MOST_UNWANTED: usize = 100_000;

/// Where the names of a listing go while it is received.
pub(crate) trait NameSink: Send + Sync {
    /// A document of the listing begins: the first one, its next page, or the same once more after a failure. Returns a number
    /// for [`Self::add`]; names of earlier documents are not accepted any more.
    fn begin(&self) -> u64;

    /// Whether a program waits for names.
    fn are_wanted(&self) -> bool;

    /// Adds names of a document. Those that an earlier document had are skipped. May block for a query.
    fn add(&self, document: u64, entries: Entries);
}

/// Where the names of one document go.
pub(in crate::source) struct NamesTo {
    sink: Arc<dyn NameSink>,
    document: u64,
    /// Turns the parser's entries into those of the listing.
    prepare: Box<dyn Fn(&mut Entries) + Send>,
}

impl NamesTo {
    /// The names of the document that is read next go to `sink`, after `prepare`.
    pub(in crate::source) fn new(sink: &Arc<dyn NameSink>, prepare: impl Fn(&mut Entries) + Send + 'static) -> NamesTo {
        NamesTo {
            document: sink.begin(),
            sink: Arc::clone(sink),
            prepare: Box::new(prepare),
        }
    }
}

/// The names of one document that are certain, on their way to a [`NameSink`]. A clone is the same.
#[derive(Clone, Default)]
pub(in crate::source) struct EarlyNames(Option<Arc<Mutex<Batch>>>);

struct Batch {
    to: NamesTo,
    /// Names that were not passed on yet.
    entries: Option<Entries>,
    pace: Pace,
    /// True if the names are not passed on any more, because nobody wanted them for too long.
    is_given_up: bool,
}

impl std::fmt::Debug for EarlyNames {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EarlyNames").finish_non_exhaustive()
    }
}

impl EarlyNames {
    /// Names that go nowhere, unless there is a place for them.
    pub(in crate::source) fn new(to: Option<NamesTo>) -> EarlyNames {
        EarlyNames(to.map(|to| {
            Arc::new(Mutex::new(Batch {
                to,
                entries: None,
                pace: Pace::new(),
                is_given_up: false,
            }))
        }))
    }

    /// Returns true if there is a place for them.
    pub(in crate::source) fn go_anywhere(&self) -> bool {
        self.0.is_some()
    }

    /// Adds a copy of the entry at this position. It is certain.
    pub(in crate::source) fn add(&self, entries: &Entries, position: usize) {
        let Some(batch) = &self.0 else { return };
        let mut batch = batch.lock();
        if batch.is_given_up {
            return;
        }
        let held = batch.entries.get_or_insert_with(|| Entries::empty_like(entries));
        // Without room, the name comes with the whole listing.
        let _ = held.push_copy(entries, position);
        if held.len() > MOST_UNWANTED && !batch.to.sink.are_wanted() {
            (batch.is_given_up, batch.entries) = (true, None);
        }
    }

    /// How long the names may wait before they are passed on; `None` if there are none.
    pub(super) fn due_in(&self) -> Option<Duration> {
        let batch = self.0.as_ref()?.lock();
        batch.entries.as_ref()?;
        Some(batch.pace.due_in())
    }

    /// Passes the names on, if they are wanted.
    pub(super) fn pass_on(&self) {
        let Some(batch) = &self.0 else { return };
        let mut batch = batch.lock();
        batch.pace.note();
        if !batch.to.sink.are_wanted() {
            return;
        }
        let Some(mut entries) = batch.entries.take() else {
            return;
        };
        (batch.to.prepare)(&mut entries);
        batch.to.sink.add(batch.to.document, entries);
    }
}

/// Names that parsers pass on in tests.
#[cfg(test)]
#[derive(Default)]
pub(in crate::source) struct Collected(Mutex<Vec<crate::source::Entry>>);

#[cfg(test)]
impl NameSink for Collected {
    fn begin(&self) -> u64 {
        1
    }

    fn are_wanted(&self) -> bool {
        true
    }

    fn add(&self, _: u64, entries: Entries) {
        self.0.lock().extend(entries.iter());
    }
}

#[cfg(test)]
impl Collected {
    /// The names that a parser passes on while it reads, with the result of the parser.
    pub(in crate::source) fn of<T>(read: impl FnOnce(&EarlyNames) -> T) -> (Vec<crate::source::Entry>, T) {
        let collected = Arc::new(Collected::default());
        let sink: Arc<dyn NameSink> = Arc::<Collected>::clone(&collected);
        let early = EarlyNames::new(Some(NamesTo::new(&sink, |_| {})));
        let result = read(&early);
        early.pass_on();
        let entries = std::mem::take(&mut *collected.0.lock());
        (entries, result)
    }

    /// Asserts that what was passed on is in the listing, each name once. A name that the document has twice may have other facts
    /// there.
    pub(in crate::source) fn assert_is_part_of(early: &[crate::source::Entry], listing: &crate::source::Listing) {
        let listed: std::collections::HashSet<_> = listing.entries.iter().map(|entry| entry.name).collect();
        let mut names = std::collections::HashSet::new();
        for early in early {
            assert!(names.insert(&early.name), "{early:?} comes twice");
            assert!(listed.contains(&early.name), "{early:?} is not in the listing");
        }
    }
}

#[cfg(test)]
mod tests {
    use url::Url;

    use super::*;
    use crate::source::{Entry, EntryKind, ListedSize, Name};

    struct Unwanted;

    impl NameSink for Unwanted {
        fn begin(&self) -> u64 {
            1
        }

        fn are_wanted(&self) -> bool {
            false
        }

        fn add(&self, _: u64, _: Entries) {
            panic!("nobody wants them")
        }
    }

    #[test]
    fn names_that_nobody_wants_take_bounded_memory() {
        let directory = Url::parse("http://h/d/").unwrap();
        let mut entries = Entries::of(&directory);
        let entry = Entry {
            name: Name::new(b"name".to_vec()).unwrap(),
            url: directory.join("name").unwrap(),
            kind: EntryKind::File(ListedSize::Exact(1)),
            modified: None,
            published: None,
        };
        assert!(entries.push(&entry));
        let sink: Arc<dyn NameSink> = Arc::new(Unwanted);
        let early = EarlyNames::new(Some(NamesTo::new(&sink, |_| {})));
        early.add(&entries, 0);
        assert_eq!(early.due_in(), Some(Duration::ZERO));
        for _ in 0..MOST_UNWANTED {
            early.pass_on();
            early.add(&entries, 0);
        }
        assert_eq!(early.due_in(), None, "the names are given up");
    }
}
