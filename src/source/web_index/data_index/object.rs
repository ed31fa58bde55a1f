//! Objects that contain the names of a directory in arrays: what dufs, copyparty and fastify send.
//!
//! The names stand among other members, so they are added to the listing as they come. Whether the object is a listing
//! at all is decided at its end.

use std::fmt;
use std::marker::PhantomData;

use percent_encoding::percent_decode_str;
use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::directory::Row;
use super::field::{Field, RawText};
use super::reading::{Document, other};
use crate::source::EntryKind;

/// What was found in the object so far.
#[derive(Debug, Default)]
pub(super) struct Members {
    has_paths: bool,
    has_dirs: bool,
    has_files: bool,
    has_perms: bool,
    has_others: bool,
    kind: Field,
    has_links: bool,
    has_names: bool,
}

/// The keys of the object.
#[derive(Deserialize)]
#[serde(field_identifier, rename_all = "lowercase")]
enum Member {
    Paths,
    Dirs,
    Files,
    Kind,
    Perms,
    Other(IgnoredAny),
}

impl Members {
    /// Reads the object, and adds its names to the listing.
    pub(super) fn read<'de, A: MapAccess<'de>>(
        mut self,
        document: &mut Document<'_>,
        mut map: A,
    ) -> Result<(), A::Error> {
        while let Some(member) = map.next_key::<Member>()? {
            match member {
                Member::Paths => {
                    self.has_paths = true;
                    map.next_value_seed(Rows::of(document, Path::row))?;
                }
                Member::Dirs => {
                    self.has_dirs = true;
                    map.next_value_seed(Rows::of(document, |item| self.row(item, true)))?;
                }
                Member::Files => {
                    self.has_files = true;
                    map.next_value_seed(Rows::of(document, |item| self.row(item, false)))?;
                }
                Member::Kind => self.kind = map.next_value()?,
                Member::Perms => self.has_perms = map.next_value::<IgnoredAny>().map(|_| true)?,
                Member::Other(_) => self.has_others = map.next_value::<IgnoredAny>().map(|_| true)?,
            }
        }
        if self.is_listing() {
            return Ok(());
        }
        document.fail(other("it has not the members of any known one"))
    }

    fn is_listing(&self) -> bool {
        let has_halves = self.has_dirs && self.has_files && !self.has_paths;
        let is_dufs = self.has_paths && !self.has_dirs && !self.has_files && self.kind.text() == Some("Index");
        let is_copyparty = has_halves && self.has_perms && !self.has_names;
        let is_fastify = has_halves && !self.has_perms && !self.has_others && !self.has_links;
        is_dufs || is_copyparty || (is_fastify && !self.kind.is_there())
    }

    /// An element of `dirs` or `files`.
    fn row(&mut self, item: Item, is_directory: bool) -> Row {
        match item {
            Item::Link { href, sz, ts } => {
                self.has_links = true;
                let (path, query) = match href.split_once('?') {
                    // With `fk` or `dk`, a link has a key to its file.
                    Some((path, query)) => (path, Some(query.to_owned())),
                    None => (href.as_str(), None),
                };
                let name = path.strip_suffix('/').filter(|_| is_directory).unwrap_or(path);
                Row {
                    name: percent_decode_str(name).collect(),
                    query,
                    kind: EntryKind::of(is_directory, sz.size()),
                    modified: ts.date(),
                }
            }
            Item::Name(name, stats) => {
                self.has_names = true;
                Row {
                    name: name.into_bytes(),
                    query: None,
                    kind: EntryKind::of(is_directory, stats.size.size()),
                    modified: stats.mtime.date(),
                }
            }
        }
    }
}

/// An element of dufs's `paths`. The size of a directory is the number of names in it.
#[derive(Deserialize)]
struct Path {
    path_type: PathType,
    /// Empty if it is not UTF-8.
    name: RawText,
    #[serde(default)]
    mtime: Field,
    #[serde(default)]
    size: Field,
}

#[derive(Deserialize)]
enum PathType {
    Dir,
    SymlinkDir,
    File,
    SymlinkFile,
}

impl Path {
    fn row(self) -> Row {
        let is_directory = matches!(self.path_type, PathType::Dir | PathType::SymlinkDir);
        Row {
            name: self.name.0,
            query: None,
            kind: EntryKind::of(is_directory, self.size.size()),
            modified: self.mtime.date_of_milliseconds(),
        }
    }
}

/// An element of `dirs` or `files`.
enum Item {
    /// copyparty: an escaped link, the size, and seconds since 1970.
    Link { href: String, sz: Field, ts: Field },
    /// fastify: a name, and with `jsonFormat: 'extended'` what `stat` says.
    Name(String, Stats),
}

#[derive(Default, Deserialize)]
struct Stats {
    #[serde(default)]
    size: Field,
    #[serde(default)]
    mtime: Field,
}

impl<'de> Deserialize<'de> for Item {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Item, D::Error> {
        deserializer.deserialize_any(ItemVisitor)
    }
}

struct ItemVisitor;

impl<'de> Visitor<'de> for ItemVisitor {
    type Value = Item;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name or an object")
    }

    fn visit_str<E: Error>(self, name: &str) -> Result<Item, E> {
        Ok(Item::Name(name.to_owned(), Stats::default()))
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Item, A::Error> {
        #[derive(Deserialize)]
        struct Object {
            href: Option<String>,
            #[serde(default)]
            sz: Field,
            #[serde(default)]
            ts: Field,
            name: Option<String>,
            stats: Option<Stats>,
        }
        let object = Object::deserialize(MapAccessDeserializer::new(map))?;
        match object {
            Object {
                href: Some(href),
                sz,
                ts,
                ..
            } => Ok(Item::Link { href, sz, ts }),
            Object {
                name: Some(name),
                stats: Some(stats),
                ..
            } => Ok(Item::Name(name, stats)),
            _ => Err(A::Error::custom("neither a link nor a name with its `stats`")),
        }
    }
}

/// An array whose elements are names of the directory.
struct Rows<'a, 'b, T, F> {
    document: &'a mut Document<'b>,
    row: F,
    element: PhantomData<T>,
}

impl<'a, 'b, T, F: FnMut(T) -> Row> Rows<'a, 'b, T, F> {
    fn of(document: &'a mut Document<'b>, row: F) -> Rows<'a, 'b, T, F> {
        Rows {
            document,
            row,
            element: PhantomData,
        }
    }
}

impl<'de, T: Deserialize<'de>, F: FnMut(T) -> Row> DeserializeSeed<'de> for Rows<'_, '_, T, F> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de, T: Deserialize<'de>, F: FnMut(T) -> Row> Visitor<'de> for Rows<'_, '_, T, F> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array of names")
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut seq: A) -> Result<(), A::Error> {
        while let Some(element) = seq.next_element()? {
            self.document.add((self.row)(element))?;
        }
        Ok(())
    }
}
