//! Collects the entries of a page, each name once, and decides at the end which of them are the listing.
//!
//! A page has other links than those of its listing: in a text that is shown with it, in descriptions, a footer, tools.
//! Their [`Place`] distinguishes them: each table, list and `<pre>` is one place, and everything outside of these is
//! one. A row of a listing has facts of its file, or its link has the file's name as its text. So the listing is the
//! place with most such rows, and each other place that resembles it. If no place has such rows, every link counts, as
//! on a hand-written page.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use url::Url;
use xxhash_rust::xxh3::xxh3_128;

use super::link::{Child, Reason};
use super::row::Facts;
use crate::http::Validator;
use crate::source::listing::date::{self, Order};
use crate::source::listing::name_index::NameIndex;
use crate::source::receiving::EarlyNames;
use crate::source::{Entries, Entry, EntryKind, LeftOut, ListedSize, Listing, Name, Published};

/// Number of links with their names as texts in one place, from which it is taken for the listing before the end of the page.
const MANY_NAMES: usize = 100;

/// A table, a list or a `<pre>`; number 0 is everything outside of these.
pub(super) type Place = u32;

/// The place of everything outside of tables, lists and `<pre>`.
pub(super) const LOOSE: Place = 0;

/// The features of a link on its page.
#[derive(Debug, Clone, Copy)]
pub(super) struct Standing {
    pub(super) place: Place,
    /// True if its text is its name.
    pub(super) is_named: bool,
    /// True if its row has a size or a date.
    pub(super) has_facts: bool,
    /// True if neither its URL nor its text ends in `/`.
    pub(super) is_plain: bool,
}

impl Standing {
    /// How much it resembles a row of a listing.
    fn score(self) -> u8 {
        2 * u8::from(self.has_facts) + u8::from(self.is_named)
    }
}

/// A listing that is being collected.
#[derive(Debug)]
pub(super) struct Collection {
    entries: Entries,
    /// The features of each entry's link.
    standings: Vec<Standing>,
    /// Dates in an order that the whole page decides, with the index of their entries.
    dates: Vec<(usize, date::Shown)>,
    order: Order,
    /// The index of each entry by its name.
    names: NameIndex,
    /// Hashes of the paths of refused links, so that each counts once.
    refused: HashSet<u128>,
    /// Links that need an option to be shown, by a hash of their URL.
    left_out: HashMap<u128, (Standing, Reason, bool)>,
    places: HashMap<Place, Count>,
    has_external: bool,
    /// Files that share a directory's name, by the index of the directory.
    both: HashSet<usize>,
    /// Signs of an empty listing's place, if any.
    skeleton: Option<Skeleton>,
    /// Maximum number of names, refused ones included.
    most: usize,
    /// Takes the names that are certain.
    early: EarlyNames,
}

/// Signs of where the rows of a listing would be, so that a footer's link in an empty directory does not count as a
/// row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Skeleton {
    /// A row with a link to the parent directory, in a table or a `<pre>`.
    WayUp,
    /// A heading over the columns of a table.
    Heading,
}

/// The contents of a place.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Count {
    with_facts: usize,
    named: usize,
    rows: usize,
    with_date: usize,
}

/// More names than the limit allows.
#[derive(Debug)]
pub(super) struct TooMany;

impl Collection {
    /// A collection for the directory at this URL.
    pub(super) fn new(directory: &Url, most: usize, early: EarlyNames) -> Collection {
        Collection {
            entries: Entries::of(directory),
            standings: Vec::new(),
            dates: Vec::new(),
            order: Order::default(),
            names: NameIndex::new(),
            refused: HashSet::new(),
            left_out: HashMap::new(),
            places: HashMap::new(),
            has_external: false,
            both: HashSet::new(),
            skeleton: None,
            most,
            early,
        }
    }

    /// Adds the target of a link, with the facts of its row.
    ///
    /// A link whose row has facts is certain, unless its date can't be read yet: [`Self::finish`] keeps all of these. So are those
    /// after many names without facts.
    ///
    /// Of two links with one name, the one that resembles a row of a listing more counts. If both do, and one is a
    /// directory's, the directory wins.
    ///
    /// # Errors
    /// If the limit of names is exceeded.
    pub(super) fn take_up(&mut self, child: Child, standing: Standing, facts: Option<&Facts>) -> Result<(), TooMany> {
        let is_full = self.entries.len() + self.refused.len() >= self.most;
        let Some(name) = Name::new(child.name) else {
            // A hash is enough: a page may be full of long paths.
            let is_new = self.refused.insert(xxh3_128(child.url.path().as_bytes()));
            return if is_new && is_full { Err(TooMany) } else { Ok(()) };
        };
        let size = facts.map_or(ListedSize::Unknown, |facts| facts.size);
        let kind = if child.directory {
            EntryKind::Directory
        } else {
            EntryKind::File(size)
        };
        let published = child.hash.filter(|_| !child.directory).map(|hash| {
            Arc::new(Published {
                hashes: vec![hash],
                ..Published::default()
            })
        });
        let mut is_certain = standing.has_facts || self.is_list_of_names(standing);
        let index = match self.names.find(&name, &self.entries) {
            Ok(index) => {
                // It may have been passed on already, with other facts.
                is_certain &= self.standings[index].score() == 0;
                if !self.replace(index, &child.url, kind, standing) {
                    self.contradict(index, &child.url, kind, standing);
                    return Ok(());
                }
                self.entries.set_published(index, published);
                index
            }
            Err(_) if is_full => return Err(TooMany),
            Err(hash) => {
                let index = self.entries.len();
                let entry = Entry {
                    name,
                    url: child.url,
                    kind,
                    modified: None,
                    published,
                };
                if !self.entries.push(&entry) {
                    return Err(TooMany);
                }
                self.names.insert(hash, index);
                self.standings.push(standing);
                index
            }
        };
        self.has_external |= child.external;
        self.count(standing, facts.is_some_and(|facts| facts.modified.is_some()));
        if let Some(shown) = facts.and_then(|facts| facts.modified) {
            self.order.observe(&shown);
            let decided = self.order.decide(&shown);
            // A date of unknown order, or of an order that a later one may contradict.
            if shown.is_either_order() {
                self.dates.push((index, shown));
                is_certain = false;
            } else {
                self.entries.set_modified(index, decided);
            }
        }
        if is_certain {
            self.early.add(&self.entries, index);
        }
        Ok(())
    }

    /// Returns true if a link is one of so many names without facts in one place that whatever follows leaves this place a listing.
    fn is_list_of_names(&self, standing: Standing) -> bool {
        let count = self.places.get(&standing.place).copied().unwrap_or_default();
        standing.place != LOOSE && standing.is_named && count.named >= MANY_NAMES && count.named >= count.rows / 10 * 9
    }

    /// Replaces an entry by another link with the same name, if that has more facts. Returns true if it did.
    fn replace(&mut self, index: usize, url: &Url, kind: EntryKind, standing: Standing) -> bool {
        let before = self.standings[index];
        let was_directory = self.entries.is_directory(index);
        let is_directory = kind == EntryKind::Directory;
        let are_both_rows = (standing.score() > 0) == (before.score() > 0);
        if was_directory != is_directory && are_both_rows {
            self.both.insert(index);
            if was_directory {
                return false;
            }
        } else if standing.score() <= before.score() {
            return false;
        }
        if !self.entries.replace(index, kind, url) {
            return false;
        }
        self.entries.set_modified(index, None);
        self.standings[index] = standing;
        true
    }

    /// Two rows with one name and two sizes: a server that does not escape names (`a&b`, `a&amp;b`) means two files.
    /// The size of the one that is shown is then unknown.
    fn contradict(&mut self, index: usize, url: &Url, kind: EntryKind, standing: Standing) {
        let are_named = standing.is_named && self.standings[index].is_named;
        if are_named
            && self.entries.url(index) == *url
            && matches!((self.entries.kind(index), kind), (EntryKind::File(one), EntryKind::File(other)) if one != other)
        {
            self.entries.set_kind(index, EntryKind::File(ListedSize::Unknown));
        }
    }

    /// Records a sign of where the rows would be.
    pub(super) fn has_skeleton(&mut self, skeleton: Skeleton) {
        self.skeleton = self.skeleton.max(Some(skeleton));
    }

    /// Records a link that needs an option to be shown.
    pub(super) fn leave_out(&mut self, child: &Child, reason: Reason, standing: Standing) {
        self.count(standing, false);
        let hash = xxh3_128(child.url.as_str().as_bytes());
        let is_shown = Name::new(child.name.clone()).is_some_and(|name| self.names.find(&name, &self.entries).is_ok());
        self.left_out.entry(hash).or_insert((standing, reason, is_shown));
    }

    fn count(&mut self, standing: Standing, has_date: bool) {
        let count = self.places.entry(standing.place).or_default();
        count.rows += 1;
        count.named += usize::from(standing.is_named);
        count.with_facts += usize::from(standing.has_facts);
        count.with_date += usize::from(has_date);
    }

    /// The finished listing.
    ///
    /// It is marked if the page is, or if any entry has a size, a date or a hash.
    pub(super) fn finish(mut self, is_marked: bool) -> Listing {
        for (index, shown) in std::mem::take(&mut self.dates) {
            self.entries.set_modified(index, self.order.decide(&shown));
        }
        let best = self.places.iter().max_by_key(|(place, count)| (**count, **place));
        let (best, most) = best.map_or((LOOSE, Count::default()), |(place, count)| (*place, *count));
        let counts = |place: Place| self.places.get(&place).copied().unwrap_or_default();
        // If a table has no rows, links outside of it are not rows either.
        let outside = match self.skeleton {
            _ if best != LOOSE || most.with_facts > 0 => None,
            skeleton => skeleton,
        };
        let is_listed = |standing: Standing| {
            let count = counts(standing.place);
            let is_outside = match outside {
                Some(Skeleton::Heading) => true,
                Some(Skeleton::WayUp) => !standing.is_named,
                None => false,
            };
            is_listing(standing.place, count, best, most) && !is_beside(standing, count) && !is_outside
        };
        let mut left_out = LeftOut {
            refused: self.refused.len(),
            ..LeftOut::default()
        };
        for &(standing, reason, is_shown) in self.left_out.values() {
            if !is_shown && standing.score() > 0 && is_listed(standing) {
                match reason {
                    Reason::Query => left_out.queries += 1,
                    Reason::Elsewhere => left_out.elsewhere += 1,
                }
            }
        }
        let kept: Vec<bool> = self.standings.iter().map(|&standing| is_listed(standing)).collect();
        left_out.both = self.both.iter().filter(|&&index| kept[index]).count();
        let mut entries = self.entries;
        entries.retain(|_, index| kept[index]);
        entries.shrink_to_fit();
        let says_something = |index| {
            let has_size = !matches!(
                entries.kind(index),
                EntryKind::Directory | EntryKind::File(ListedSize::Unknown)
            );
            has_size || entries.modified(index).is_some() || entries.published(index).is_some()
        };
        Listing {
            is_marked: is_marked || (0..entries.len()).any(says_something),
            entries,
            left_out,
            modified: None,
            has_external: self.has_external,
            validator: Validator::None,
        }
    }
}

/// Returns true if a place is the listing or a part of it. `best` is the place that resembles one most.
fn is_listing(place: Place, count: Count, best: Place, most: Count) -> bool {
    let is_mostly_named = 2 * count.named > count.rows;
    place == best
        || match (most.with_facts > 0, most.named > 0) {
            (true, _) => count.with_facts > 0 || (place != LOOSE && is_mostly_named),
            (false, true) => place != LOOSE && count.named > 0,
            (false, false) => true,
        }
}

/// Returns true if a link is no row of the listing, although it is in its place. Either most rows have facts or their
/// name as their text, and this one has neither; or it is a tool of the page (`all.zip`): a file without size and date
/// where every other row has a date.
fn is_beside(standing: Standing, count: Count) -> bool {
    match standing {
        Standing { has_facts: true, .. } => false,
        Standing { is_named: true, .. } => standing.is_plain && count.rows > 2 && count.with_date + 1 == count.rows,
        _ => 2 * count.with_facts > count.rows || (standing.place == LOOSE && 2 * count.named > count.rows),
    }
}
