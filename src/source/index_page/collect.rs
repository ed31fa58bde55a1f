//! Collects the entries of a page, each name once, and decides at its end which of them are the listing.
//!
//! A page has other links than those of its listing: a text that is shown with it, descriptions, a footer, tools. What tells
//! them apart is their [`Place`]: each table, list and `<pre>` is one, and all that is in none of these is one. A row of a
//! listing says something of its file, or its link is called by the file's name; so the place with most such rows is the
//! listing, and so is each other place that is like it. If no place has any, every link counts, as on a page of the author's own.

use std::collections::{HashMap, HashSet};

use url::Url;
use xxhash_rust::xxh3::{xxh3_64_with_seed, xxh3_128};

use super::date::{self, Order};
use super::link::{Child, Reason};
use super::row::Facts;
use crate::source::{Entries, Entry, EntryKind, LeftOut, ListedSize, Listing, Name};

/// A table, a list or a `<pre>`; or, as number 0, all that is in none of them.
pub(super) type Place = u32;

/// What is in none of the places that rows come from.
pub(super) const LOOSE: Place = 0;

/// How a link stands on its page.
#[derive(Debug, Clone, Copy)]
pub(super) struct Standing {
    pub(super) place: Place,
    /// Its text is its name.
    pub(super) is_named: bool,
    /// Its row gives a size or a date.
    pub(super) has_facts: bool,
    /// Neither its URL nor its text ends in `/`.
    pub(super) is_plain: bool,
}

impl Standing {
    /// How much it looks like a row of a listing.
    fn score(self) -> u8 {
        2 * u8::from(self.has_facts) + u8::from(self.is_named)
    }
}

/// A listing in the making.
#[derive(Debug)]
pub(super) struct Collection {
    entries: Entries,
    /// How each entry stands.
    standings: Vec<Standing>,
    /// Dates whose order is the page's to decide, with the index of their entries.
    dates: Vec<(usize, date::Shown)>,
    order: Order,
    /// The index of each entry by its name.
    names: Names,
    /// Hashes of the paths of refused links, to count each once.
    refused: HashSet<u128>,
    /// Links left out because no option asked for them, by a hash of their URL.
    left_out: HashMap<u128, (Standing, Reason, bool)>,
    places: HashMap<Place, Count>,
    has_external: bool,
    /// Files that have a directory's name, by the index of that.
    both: HashSet<usize>,
    /// See [`Skeleton`].
    skeleton: Option<Skeleton>,
    /// The most names that are taken, refused ones among them.
    most: usize,
}

/// What shows where the rows of a listing would be if there were any, so that a footer's link in an empty directory is no row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Skeleton {
    /// A row that leads up, in a table or a `<pre>`.
    WayUp,
    /// A heading over the columns of a table.
    Heading,
}

/// What is in a place.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Count {
    with_facts: usize,
    named: usize,
    rows: usize,
    with_date: usize,
}

/// More names than are taken.
#[derive(Debug)]
pub(super) struct TooMany;

/// Finds entries by the hashes of their names. The names themselves are in the entries.
#[derive(Debug)]
struct Names {
    /// Random, so that no server can choose names with one hash.
    seed: u64,
    /// The index of each entry, by the hash of its name, or by the next free number after a collision.
    by_hash: HashMap<u64, u32>,
}

impl Names {
    fn new() -> Names {
        Names {
            seed: fastrand::u64(..),
            by_hash: HashMap::new(),
        }
    }

    /// The index of the entry with this name, or else the free key for it.
    fn find(&self, name: &Name, entries: &Entries) -> Result<usize, u64> {
        let mut hash = xxh3_64_with_seed(name.as_bytes(), self.seed);
        loop {
            match self.by_hash.get(&hash) {
                None => return Err(hash),
                Some(&index) if entries.name(index as usize) == name.as_os_str() => return Ok(index as usize),
                Some(_) => hash = hash.wrapping_add(1),
            }
        }
    }
}

impl Collection {
    /// Of the directory at this URL.
    pub(super) fn new(directory: &Url, most: usize) -> Collection {
        Collection {
            entries: Entries::of(directory),
            standings: Vec::new(),
            dates: Vec::new(),
            order: Order::default(),
            names: Names::new(),
            refused: HashSet::new(),
            left_out: HashMap::new(),
            places: HashMap::new(),
            has_external: false,
            both: HashSet::new(),
            skeleton: None,
            most,
        }
    }

    /// Takes up what a link leads to, with what its row says of it.
    ///
    /// Of two links with one name the one counts that looks more like a row of a listing. If both do, and one is a directory's, the
    /// directory wins.
    ///
    /// # Errors
    /// When it is one name too many.
    pub(super) fn take_up(&mut self, child: Child, standing: Standing, facts: Option<&Facts>) -> Result<(), TooMany> {
        let is_full = self.entries.len() + self.refused.len() >= self.most;
        let Some(name) = Name::new(child.name) else {
            // Its hash will do: a page may be full of long ones.
            let is_new = self.refused.insert(xxh3_128(child.url.path().as_bytes()));
            return if is_new && is_full { Err(TooMany) } else { Ok(()) };
        };
        let size = facts.map_or(ListedSize::Unknown, |facts| facts.size);
        let kind = if child.directory {
            EntryKind::Directory
        } else {
            EntryKind::File(size)
        };
        let index = match self.names.find(&name, &self.entries) {
            Ok(index) => {
                if !self.replace(index, &child.url, kind, standing) {
                    self.contradict(index, &child.url, kind, standing);
                    return Ok(());
                }
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
                };
                if !self.entries.push(&entry) {
                    return Err(TooMany);
                }
                self.names.by_hash.insert(hash, index as u32);
                self.standings.push(standing);
                index
            }
        };
        self.has_external |= child.external;
        self.count(standing, facts.is_some_and(|facts| facts.modified.is_some()));
        if let Some(shown) = facts.and_then(|facts| facts.modified) {
            self.order.observe(&shown);
            let decided = self.order.decide(&shown);
            // A date that is in doubt, or in an order that a later one may contradict.
            if shown.is_either_order() {
                self.dates.push((index, shown));
            } else {
                self.entries.set_modified(index, decided);
            }
        }
        Ok(())
    }

    /// Puts another link with the same name in an entry's place, if it says more of it. Returns whether it did.
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

    /// Two rows with one name and two sizes: a server that does not escape names (`a&b`, `a&amp;b`) means two files, and
    /// neither size is known to be that of the one that is shown.
    fn contradict(&mut self, index: usize, url: &Url, kind: EntryKind, standing: Standing) {
        let are_named = standing.is_named && self.standings[index].is_named;
        if are_named
            && self.entries.url(index) == *url
            && matches!((self.entries.kind(index), kind), (EntryKind::File(one), EntryKind::File(other)) if one != other)
        {
            self.entries.set_kind(index, EntryKind::File(ListedSize::Unknown));
        }
    }

    /// Notes what shows where the rows would be.
    pub(super) fn has_skeleton(&mut self, skeleton: Skeleton) {
        self.skeleton = self.skeleton.max(Some(skeleton));
    }

    /// Notes a link that is left out because no option asked for it.
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

    /// The listing as it stands.
    ///
    /// It is marked if the page is, or gives a size or a date anywhere.
    pub(super) fn finish(mut self, is_marked: bool) -> Listing {
        for (index, shown) in std::mem::take(&mut self.dates) {
            self.entries.set_modified(index, self.order.decide(&shown));
        }
        let best = self.places.iter().max_by_key(|(place, count)| (**count, **place));
        let (best, most) = best.map_or((LOOSE, Count::default()), |(place, count)| (*place, *count));
        let counts = |place: Place| self.places.get(&place).copied().unwrap_or_default();
        // Where a table has no rows, what is outside of it is none.
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
            has_size || entries.modified(index).is_some()
        };
        Listing {
            is_marked: is_marked || (0..entries.len()).any(says_something),
            entries,
            left_out,
            modified: None,
            has_external: self.has_external,
        }
    }
}

/// Whether a place is the listing, or part of it, where `best` is the one that looks most like one.
fn is_listing(place: Place, count: Count, best: Place, most: Count) -> bool {
    let is_mostly_named = 2 * count.named > count.rows;
    place == best
        || match (most.with_facts > 0, most.named > 0) {
            (true, _) => count.with_facts > 0 || (place != LOOSE && is_mostly_named),
            (false, true) => place != LOOSE && count.named > 0,
            (false, false) => true,
        }
}

/// Whether a link stands beside the rows of its place: it is neither called by its name nor does its row say anything, where
/// most rows do; or it is a tool of the page (`all.zip`), a file without size and date where every other row has a date.
fn is_beside(standing: Standing, count: Count) -> bool {
    match standing {
        Standing { has_facts: true, .. } => false,
        Standing { is_named: true, .. } => standing.is_plain && count.rows > 2 && count.with_date + 1 == count.rows,
        _ => 2 * count.with_facts > count.rows || (standing.place == LOOSE && 2 * count.named > count.rows),
    }
}
