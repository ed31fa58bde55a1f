//! The entries of a listing, packed: a directory may have a million of them.
//!
//! An entry is a [`Packed`] of 24 bytes, and its name in one buffer with all other names. Its URL follows from the
//! directory's URL and its name, if the server escapes names as browsers do. Only other URLs are stored. An entry takes
//! some 40 bytes, an [`Entry`] 300; [`Entries::get`] builds an [`Entry`] from it.

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fmt::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use percent_encoding::{AsciiSet, percent_encode};
use url::Url;

use super::segment::IN_PATHS;
use super::{EntityTag, Entry, EntryKind, ListedSize, ListedTime, NAME_MAX, Name, Published};

/// Bytes that are escaped in the name of a derived URL.
const ESCAPED: &AsciiSet = &IN_PATHS.add(b'%');

/// The entries of a listing, in its order.
#[derive(Clone)]
pub struct Entries {
    /// The directory's URL, with which most of their URLs begin.
    base: Arc<str>,
    /// Names, each followed by its link if the link can't be derived from the name.
    texts: Vec<u8>,
    packed: Vec<Packed>,
    /// The nanoseconds of those dates that have some, by their entries' positions.
    nanoseconds: HashMap<u32, u32>,
    /// What the source publishes of those files of which it publishes something, by their positions.
    published: HashMap<u32, Arc<Published>>,
    /// The entity tags that the listing gives, by position; empty if it gives none, and shorter than `packed` if the last
    /// entries have none.
    tags: Vec<Option<EntityTag>>,
}

/// An entry without its texts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Packed {
    /// Bytes, or 0.
    size: u64,
    /// Whole seconds since 1970, rounded down, or 0.
    seconds: i64,
    /// Where its texts begin.
    at: u32,
    /// Length of its name in bytes, in the lower [`NAME_BITS`]; its [`Link`] above them.
    name_len_and_link: u16,
    kind: PackedKind,
    time: PackedTime,
}

/// Number of bits of a name's length.
const NAME_BITS: u32 = 10;
const _: () = assert!(NAME_MAX < 1 << NAME_BITS);

impl Packed {
    fn name_len(&self) -> usize {
        usize::from(self.name_len_and_link) & ((1 << NAME_BITS) - 1)
    }

    fn link(&self) -> Link {
        match self.name_len_and_link >> NAME_BITS {
            0 => Link::Derived,
            1 => Link::Relative,
            _ => Link::Elsewhere,
        }
    }

    fn set_name(&mut self, len: usize, link: Link) {
        // `Name` has at most NAME_MAX bytes.
        self.name_len_and_link = len as u16 | (link as u16) << NAME_BITS;
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum PackedKind {
    Directory,
    Exact,
    Rounded,
    Unknown,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum PackedTime {
    None,
    Exact,
    WithoutSeconds,
}

/// Where an entry's URL is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Link {
    /// It is the base and the name, escaped.
    Derived,
    /// It is the base and the text after the name.
    Relative,
    /// It is the text after the name.
    Elsewhere,
}

/// The bytes before a link, which say how long it is.
const LINK_LEN: usize = size_of::<u32>();

impl Entries {
    /// An empty list for the directory at this URL.
    pub fn of(directory: &Url) -> Entries {
        let path = directory.path();
        let mut base = directory.clone();
        base.set_query(None);
        base.set_fragment(None);
        base.set_path(&path[..path.rfind('/').map_or(0, |slash| slash + 1)]);
        Entries {
            base: base.as_str().into(),
            texts: Vec::new(),
            packed: Vec::new(),
            nanoseconds: HashMap::new(),
            published: HashMap::new(),
            tags: Vec::new(),
        }
    }

    /// An empty list with the same base as another one.
    pub(crate) fn empty_like(other: &Entries) -> Entries {
        Entries {
            base: Arc::clone(&other.base),
            texts: Vec::new(),
            packed: Vec::new(),
            nanoseconds: HashMap::new(),
            published: HashMap::new(),
            tags: Vec::new(),
        }
    }

    /// Number of entries.
    pub fn len(&self) -> usize {
        self.packed.len()
    }

    /// Returns true if there are none.
    pub fn is_empty(&self) -> bool {
        self.packed.is_empty()
    }

    /// Appends an entry. Returns false if there is no room for it: names and links take 4 GiB at most.
    #[must_use]
    pub fn push(&mut self, entry: &Entry) -> bool {
        let Ok(position) = u32::try_from(self.packed.len()) else {
            return false;
        };
        let Some((at, link)) = self.write(&entry.name, entry.kind, entry.url.as_str()) else {
            return false;
        };
        let mut packed = Packed {
            size: 0,
            seconds: 0,
            at,
            name_len_and_link: 0,
            kind: PackedKind::Unknown,
            time: PackedTime::None,
        };
        packed.set_name(entry.name.as_bytes().len(), link);
        self.packed.push(packed);
        self.set_kind(position as usize, entry.kind);
        self.set_modified(position as usize, entry.modified);
        if let Some(published) = &entry.published {
            self.published.insert(position, Arc::clone(published));
        }
        true
    }

    /// Appends the entry at this position of other entries. Returns false if there is no room for it, or if the others are those of
    /// another directory.
    #[must_use]
    pub(in crate::source) fn push_copy(&mut self, other: &Entries, position: usize) -> bool {
        let (Ok(at), Ok(here)) = (u32::try_from(self.texts.len()), u32::try_from(self.packed.len())) else {
            return false;
        };
        if self.base != other.base {
            return false;
        }
        let packed = other.packed[position];
        let from = packed.at as usize;
        let mut to = from + packed.name_len();
        if packed.link() != Link::Derived {
            to += LINK_LEN + other.link(position).0.len();
        }
        self.texts.extend_from_slice(&other.texts[from..to]);
        self.packed.push(Packed { at, ..packed });
        // `push` admits no more entries than a u32 can count.
        let there = position as u32;
        if let Some(&nanoseconds) = other.nanoseconds.get(&there) {
            self.nanoseconds.insert(here, nanoseconds);
        }
        self.set_published(here as usize, other.published.get(&there).cloned());
        self.set_tag(here as usize, other.tag(position));
        true
    }

    /// Stores a name and, if it can't be derived, its link. `None` if there is no room.
    fn write(&mut self, name: &Name, kind: EntryKind, url: &str) -> Option<(u32, Link)> {
        let rest = url.strip_prefix(&*self.base);
        let slash = if kind == EntryKind::Directory { "/" } else { "" };
        let (link, text) = match rest {
            Some(rest) if follows(rest, name.as_bytes(), slash) => (Link::Derived, ""),
            Some(rest) => (Link::Relative, rest),
            None => (Link::Elsewhere, url),
        };
        let at = u32::try_from(self.texts.len()).ok()?;
        let len = u32::try_from(text.len()).ok()?;
        self.texts.extend_from_slice(name.as_bytes());
        if link != Link::Derived {
            self.texts.extend_from_slice(&len.to_ne_bytes());
            self.texts.extend_from_slice(text.as_bytes());
        }
        Some((at, link))
    }

    /// The name of the entry at this position.
    pub fn name(&self, position: usize) -> &OsStr {
        OsStr::from_bytes(self.name_bytes(&self.packed[position]))
    }

    fn name_bytes(&self, packed: &Packed) -> &[u8] {
        let at = packed.at as usize;
        &self.texts[at..at + packed.name_len()]
    }

    /// The kind of the entry at this position.
    pub fn kind(&self, position: usize) -> EntryKind {
        let packed = &self.packed[position];
        EntryKind::File(match packed.kind {
            PackedKind::Directory => return EntryKind::Directory,
            PackedKind::Exact => ListedSize::Exact(packed.size),
            PackedKind::Rounded => ListedSize::Rounded(packed.size),
            PackedKind::Unknown => ListedSize::Unknown,
        })
    }

    /// Returns true if the entry at this position is a directory.
    pub fn is_directory(&self, position: usize) -> bool {
        self.packed[position].kind == PackedKind::Directory
    }

    /// The date of the entry at this position.
    pub fn modified(&self, position: usize) -> Option<ListedTime> {
        let packed = &self.packed[position];
        let exact = match packed.time {
            PackedTime::None => return None,
            PackedTime::Exact => true,
            PackedTime::WithoutSeconds => false,
        };
        let nanoseconds = match self.nanoseconds.is_empty() {
            true => 0,
            false => self.nanoseconds.get(&(position as u32)).copied().unwrap_or(0),
        };
        let time = time(packed.seconds, nanoseconds)?;
        Some(ListedTime { time, exact })
    }

    /// The directory's URL, with which most URLs begin.
    pub(crate) fn base(&self) -> &Arc<str> {
        &self.base
    }

    /// The URL of the entry at this position; true if it is relative to [`Self::base`].
    pub(crate) fn link(&self, position: usize) -> (String, bool) {
        let packed = &self.packed[position];
        if packed.link() == Link::Derived {
            let slash = if packed.kind == PackedKind::Directory { "/" } else { "" };
            return (
                format!("{}{slash}", percent_encode(self.name_bytes(packed), ESCAPED)),
                true,
            );
        }
        let from = packed.at as usize + packed.name_len();
        let (len, rest) = self.texts[from..].split_at(LINK_LEN);
        let len = len.try_into().map_or(0, u32::from_ne_bytes) as usize;
        // It is a copy of a string.
        let text = String::from_utf8_lossy(&rest[..len]).into_owned();
        (text, packed.link() == Link::Relative)
    }

    /// Appends the URL of the entry at this position to `text`.
    pub(crate) fn write_url(&self, position: usize, text: &mut String) {
        let packed = &self.packed[position];
        if packed.link() != Link::Elsewhere {
            text.push_str(&self.base);
        }
        if packed.link() == Link::Derived {
            let slash = if packed.kind == PackedKind::Directory { "/" } else { "" };
            // Writing to a string can't fail.
            let _ = write!(text, "{}{slash}", percent_encode(self.name_bytes(packed), ESCAPED));
        } else {
            text.push_str(&self.link(position).0);
        }
    }

    /// The URL of the entry at this position.
    pub fn url(&self, position: usize) -> Url {
        let mut text = String::new();
        self.write_url(position, &mut text);
        // It is the text of a URL that was parsed.
        Url::parse(&text).unwrap_or_else(|_| unreachable!("a URL does not read as one: {text}"))
    }

    /// What the source publishes of the file at this position.
    pub(crate) fn published(&self, position: usize) -> Option<&Arc<Published>> {
        // `push` admits no more entries than a u32 can count.
        self.published.get(&(position as u32))
    }

    /// The positions of the files of which the source publishes something, and what.
    pub(crate) fn all_published(&self) -> impl Iterator<Item = (usize, &Arc<Published>)> {
        self.published
            .iter()
            .map(|(&position, published)| (position as usize, published))
    }

    /// The entity tag that the listing gives the file at this position.
    pub(crate) fn tag(&self, position: usize) -> Option<EntityTag> {
        self.tags.get(position).copied().flatten()
    }

    /// Changes the entity tag of the file at this position.
    pub(in crate::source) fn set_tag(&mut self, position: usize, tag: Option<EntityTag>) {
        if position >= self.tags.len() {
            if tag.is_none() {
                return;
            }
            self.tags.resize(position + 1, None);
        }
        self.tags[position] = tag;
    }

    /// The entry at this position; `None` behind the last.
    pub fn get(&self, position: usize) -> Option<Entry> {
        let packed = self.packed.get(position)?;
        Some(Entry {
            name: Name::new(self.name_bytes(packed).to_vec())?,
            url: self.url(position),
            kind: self.kind(position),
            modified: self.modified(position),
            published: self.published(position).cloned(),
        })
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = Entry> {
        (0..self.len()).filter_map(|position| self.get(position))
    }

    /// Changes the kind of the entry at this position. **A directory stays a directory and a file a file**; else its URL has to be
    /// [replaced](Self::replace).
    pub(in crate::source) fn set_kind(&mut self, position: usize, kind: EntryKind) {
        let packed = &mut self.packed[position];
        (packed.kind, packed.size) = match kind {
            EntryKind::Directory => (PackedKind::Directory, 0),
            EntryKind::File(ListedSize::Exact(size)) => (PackedKind::Exact, size),
            EntryKind::File(ListedSize::Rounded(size)) => (PackedKind::Rounded, size),
            EntryKind::File(ListedSize::Unknown) => (PackedKind::Unknown, 0),
        };
    }

    /// Changes the date of the entry at this position.
    pub(in crate::source) fn set_modified(&mut self, position: usize, modified: Option<ListedTime>) {
        let (seconds, nanoseconds) = modified.map_or((0, 0), |listed| seconds(listed.time));
        let packed = &mut self.packed[position];
        packed.seconds = seconds;
        packed.time = match modified {
            None => PackedTime::None,
            Some(ListedTime { exact: true, .. }) => PackedTime::Exact,
            Some(ListedTime { exact: false, .. }) => PackedTime::WithoutSeconds,
        };
        // `push` admits no more entries than a u32 can count.
        let position = position as u32;
        if nanoseconds > 0 {
            self.nanoseconds.insert(position, nanoseconds);
        } else if !self.nanoseconds.is_empty() {
            self.nanoseconds.remove(&position);
        }
    }

    /// Changes what the source publishes of the file at this position.
    pub(in crate::source) fn set_published(&mut self, position: usize, published: Option<Arc<Published>>) {
        // `push` admits no more entries than a u32 can count.
        let position = position as u32;
        match published {
            Some(published) => drop(self.published.insert(position, published)),
            None => drop(self.published.remove(&position)),
        }
    }

    /// Changes the kind and the URL of the entry at this position. Returns false if there is no room.
    #[must_use]
    pub(crate) fn replace(&mut self, position: usize, kind: EntryKind, url: &Url) -> bool {
        let Some(name) = Name::new(self.name(position).as_bytes().to_vec()) else {
            return false;
        };
        let Some((at, link)) = self.write(&name, kind, url.as_str()) else {
            return false;
        };
        let packed = &mut self.packed[position];
        packed.at = at;
        packed.set_name(packed.name_len(), link);
        self.set_kind(position, kind);
        true
    }

    /// Removes the entries for which `keeps` returns false.
    pub(crate) fn retain(&mut self, keeps: impl Fn(&Entries, usize) -> bool) {
        let kept: Vec<bool> = (0..self.len()).map(|position| keeps(self, position)).collect();
        if kept.iter().all(|&is_kept| is_kept) {
            return;
        }
        let mut position = 0;
        self.nanoseconds = moved(std::mem::take(&mut self.nanoseconds), &kept);
        self.published = moved(std::mem::take(&mut self.published), &kept);
        let tags = self.tags.iter().zip(&kept);
        self.tags = tags.filter(|(_, is_kept)| **is_kept).map(|(tag, _)| *tag).collect();
        self.packed.retain(|_| {
            position += 1;
            kept[position - 1]
        });
    }

    /// Returns true if these are the same entries, stored in the same way.
    pub(crate) fn is_same(&self, other: &Entries) -> bool {
        self.base == other.base
            && self.packed == other.packed
            && self.texts == other.texts
            && self.nanoseconds == other.nanoseconds
            && self.published == other.published
            && self.tags == other.tags
    }

    /// Returns true if the entry at this position equals the one at the other position of `other`.
    pub(crate) fn is_same_at(&self, position: usize, other: &Entries, at: usize) -> bool {
        let of = |entries: &Entries, at| (entries.kind(at), entries.modified(at), entries.link(at));
        self.name(position) == other.name(at)
            && self.published(position) == other.published(at)
            && of(self, position) == of(other, at)
            && (self.base == other.base || self.url(position) == other.url(at))
    }

    /// Frees unused capacity.
    pub fn shrink_to_fit(&mut self) {
        self.texts.shrink_to_fit();
        self.packed.shrink_to_fit();
        self.nanoseconds.shrink_to_fit();
        self.published.shrink_to_fit();
        self.tags.shrink_to_fit();
    }

    /// Allocated memory in bytes.
    #[cfg(test)]
    pub(crate) fn memory(&self) -> usize {
        self.texts.capacity() + self.packed.capacity() * size_of::<Packed>() + self.nanoseconds.capacity() * 16
    }
}

/// Facts by position, after the positions that are not kept are gone.
fn moved<T>(mut facts: HashMap<u32, T>, kept: &[bool]) -> HashMap<u32, T> {
    if facts.is_empty() {
        return facts;
    }
    let before = (0_u32..).zip(kept).filter(|(_, is_kept)| **is_kept);
    (0..)
        .zip(before)
        .filter_map(|(now, (before, _))| Some((now, facts.remove(&before)?)))
        .collect()
}

/// Returns true if a link is the name, escaped as browsers do, followed by `slash`.
fn follows(link: &str, name: &[u8], slash: &str) -> bool {
    let Some(link) = link.strip_suffix(slash) else {
        return false;
    };
    let mut rest = link.as_bytes();
    for part in percent_encode(name, ESCAPED) {
        match rest.strip_prefix(part.as_bytes()) {
            Some(after) => rest = after,
            None => return false,
        }
    }
    rest.is_empty()
}

/// Whole seconds since 1970, rounded down, and nanoseconds after that.
pub(crate) fn seconds(time: SystemTime) -> (i64, u32) {
    match time.duration_since(UNIX_EPOCH) {
        // Dates that a system clock can hold fit.
        Ok(after) => (after.as_secs() as i64, after.subsec_nanos()),
        Err(before) => {
            let before = before.duration();
            match (before.as_secs() as i64, before.subsec_nanos()) {
                (seconds, 0) => (-seconds, 0),
                (seconds, nanoseconds) => (-seconds - 1, 1_000_000_000 - nanoseconds),
            }
        }
    }
}

/// The time of [`seconds`].
pub(crate) fn time(seconds: i64, nanoseconds: u32) -> Option<SystemTime> {
    let whole = Duration::from_secs(seconds.unsigned_abs());
    let time = if seconds < 0 {
        UNIX_EPOCH.checked_sub(whole)
    } else {
        UNIX_EPOCH.checked_add(whole)
    };
    time?.checked_add(Duration::from_nanos(nanoseconds.into()))
}

impl PartialEq for Entries {
    fn eq(&self, other: &Entries) -> bool {
        self.len() == other.len() && self.iter().eq(other.iter())
    }
}

impl Eq for Entries {}

impl fmt::Debug for Entries {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}
