//! Arrays with one object for each name: what nginx, static-web-server, lighttpd and Caddy send, and what a person writes
//! by hand.
//!
//! The first object decides the [`Form`], and all others must have it.

use std::fmt;

use percent_encoding::percent_decode_str;
use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::directory::Row;
use super::field::{Field, RawText};
use super::reading::{Document, other};
use crate::source::EntryKind;

/// The shape of the objects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    /// `name`, `type` and `mtime`, and `size` for files: nginx, static-web-server, lighttpd.
    Server,
    /// `name`, `url`, `is_dir` and `mod_time`: Caddy.
    Caddy,
    /// `name`, at least one of the other keys of [`Form::Server`], and no other key: written by hand.
    Plain,
}

/// The elements of the array, while they are read.
#[derive(Debug, Default)]
pub(super) struct Elements {
    form: Option<Form>,
    /// Number of elements so far.
    count: usize,
}

/// One object. The values that its form has not are missing.
#[derive(Debug, Default)]
struct Element {
    name: Option<RawText>,
    kind: Field,
    size: Field,
    mtime: Field,
    url: Field,
    mod_time: Field,
    is_dir: Field,
    is_symlink: Field,
    /// A key that is none of these.
    other_key: Option<String>,
}

impl Elements {
    /// Reads the array, and adds its names to the listing.
    pub(super) fn read<'de, A: SeqAccess<'de>>(
        mut self,
        document: &mut Document<'_>,
        mut seq: A,
    ) -> Result<(), A::Error> {
        while let Some(element) = seq.next_element::<Element>()? {
            self.count += 1;
            match self.row(element) {
                // The first element has shown the form, so the names are certain.
                Ok(row) => document.add(row)?,
                Err(why) => return document.fail(other(format_args!("element {} {why}", self.count))),
            }
        }
        Ok(())
    }

    fn row(&mut self, element: Element) -> Result<Row, String> {
        let form = element.form()?;
        match *self.form.get_or_insert(form) {
            first if first != form => Err("is of another form than the first".to_owned()),
            Form::Caddy => element.caddy(),
            Form::Server | Form::Plain => element.plain(),
        }
    }
}

impl Element {
    fn form(&self) -> Result<Form, String> {
        if self.name.is_none() {
            return Err("has no `name`".to_owned());
        }
        if self.is_dir.is_there() && self.mod_time.is_there() && self.url.is_there() {
            return Ok(Form::Caddy);
        }
        if self.kind.is_there() && self.mtime.is_there() {
            return Ok(Form::Server);
        }
        let keys = [
            ("url", &self.url),
            ("mod_time", &self.mod_time),
            ("is_dir", &self.is_dir),
            ("is_symlink", &self.is_symlink),
        ];
        let unknown = keys.iter().find(|(_, field)| field.is_there()).map(|(key, _)| *key);
        match unknown.or(self.other_key.as_deref()) {
            Some(key) => Err(format!("has the key `{key}`, which no listing has")),
            None if self.kind.is_there() || self.mtime.is_there() || self.size.is_there() => Ok(Form::Plain),
            None => Err("has a `name` and neither `type` nor `size` nor `mtime`".to_owned()),
        }
    }

    /// nginx, static-web-server, lighttpd, and hand-written: names are as on the server's disk.
    fn plain(self) -> Result<Row, String> {
        let mut name = self.name.unwrap_or_default().0;
        let ends_in_slash = name.ends_with(b"/");
        let is_directory = match &self.kind {
            Field::Missing => ends_in_slash,
            Field::Text(kind) => match kind.as_str() {
                "directory" | "dir" => true,
                // nginx calls sockets and devices `other`; it serves none.
                "file" | "other" => false,
                kind => {
                    return Err(format!(
                        "has the `type` {kind:?}; only \"file\" and \"directory\" are known"
                    ));
                }
            },
            _ => return Err("has a `type` that is no text".to_owned()),
        };
        if is_directory && ends_in_slash {
            name.pop();
        }
        if !self.size.is_number_if_any() {
            return Err("has a `size` that is no number".to_owned());
        }
        let modified = match &self.mtime {
            Field::Bool(_) | Field::Other => return Err("has an `mtime` that is no date".to_owned()),
            mtime => mtime.date(),
        };
        Ok(Row {
            name,
            query: None,
            kind: EntryKind::of(is_directory, self.size.size()),
            modified,
        })
    }

    /// Caddy: a `/` ends a directory's name. The name has U+FFFD for what is not UTF-8; only the URL has the bytes.
    fn caddy(self) -> Result<Row, String> {
        let (Field::Bool(is_directory), Some(url), Some(date)) = (self.is_dir, self.url.text(), self.mod_time.text())
        else {
            return Err("is nearly what Caddy sends, but its `is_dir`, `url` or `mod_time` is not".to_owned());
        };
        let mut name = self.name.unwrap_or_default().0;
        if String::from_utf8_lossy(&name).contains(char::REPLACEMENT_CHARACTER) {
            name = percent_decode_str(url.strip_prefix("./").unwrap_or(url)).collect();
        }
        if is_directory && name.ends_with(b"/") {
            name.pop();
        }
        // Up to version 2.6 these are the symbolic link's own, in later ones its date is.
        let is_own = self.is_symlink != Field::Bool(true);
        let size = if is_own { self.size } else { Field::Missing };
        Ok(Row {
            name,
            query: None,
            kind: EntryKind::of(is_directory, size.size()),
            modified: Field::Text(date.to_owned()).date().filter(|_| is_own),
        })
    }
}

/// The keys of an object.
#[derive(Deserialize)]
#[serde(field_identifier, rename_all = "snake_case")]
enum Key {
    Name,
    Type,
    Size,
    Mtime,
    Url,
    ModTime,
    IsDir,
    IsSymlink,
    Other(String),
}

impl<'de> Deserialize<'de> for Element {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Element, D::Error> {
        deserializer.deserialize_map(ElementVisitor)
    }
}

struct ElementVisitor;

impl<'de> Visitor<'de> for ElementVisitor {
    type Value = Element;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object for each name")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Element, A::Error> {
        let mut element = Element::default();
        while let Some(key) = map.next_key::<Key>()? {
            match key {
                Key::Name => element.name = Some(map.next_value()?),
                Key::Type => element.kind = map.next_value()?,
                Key::Size => element.size = map.next_value()?,
                Key::Mtime => element.mtime = map.next_value()?,
                Key::Url => element.url = map.next_value()?,
                Key::ModTime => element.mod_time = map.next_value()?,
                Key::IsDir => element.is_dir = map.next_value()?,
                Key::IsSymlink => element.is_symlink = map.next_value()?,
                Key::Other(key) => {
                    map.next_value::<IgnoredAny>()?;
                    let _ = element.other_key.get_or_insert(key);
                }
            }
        }
        Ok(element)
    }
}
