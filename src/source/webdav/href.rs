//! Where a resource of a `multistatus` is: the directory itself, or a name in it.
//!
//! A `href` is a URL or an absolute path (RFC 4918, §8.3), percent-encoded. Servers send more than that:
//!
//! - the URL by which a proxy reaches them, with another host, port or scheme: only the path counts;
//! - the path behind a proxy that adds or removes a prefix: then no path is the requested one, and the directory is the
//!   place that all of them are in ([`Place::of`]);
//! - paths relative to the directory;
//! - any encoding: more than needed, in either case, `#` and `?` as they are (npm's webdav-server), or nothing at all
//!   (nginx's dav_ext before 3.0). So the path ends at no `#` or `?`, and segments are compared decoded.

use std::borrow::Cow;

use percent_encoding::{AsciiSet, percent_decode_str, utf8_percent_encode};
use url::Url;

use crate::source::listing::segment::{self, IN_PATHS};

/// What is escaped in a segment before it is part of a URL, so that it stays one: also `\`, which is a `/` to WHATWG's URL,
/// and `|`, which no URL has unescaped by RFC 3986.
const UNSAFE: &AsciiSet = &IN_PATHS.add(b'\\').add(b'|');

/// [`UNSAFE`] for text that is not escaped yet.
const RAW: &AsciiSet = &UNSAFE.add(b'%');

/// The path of a `href`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Path<'a> {
    text: &'a str,
    is_relative: bool,
}

impl<'a> Path<'a> {
    /// The path in a `href`; everything after the authority is path.
    pub(super) fn of(href: &'a str) -> Path<'a> {
        let after_scheme = href.split_once("://").filter(|(scheme, _)| {
            scheme.starts_with(|c: char| c.is_ascii_alphabetic())
                && scheme
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte))
        });
        let text = match after_scheme {
            Some((_, rest)) => rest.find('/').map_or("/", |slash| &rest[slash..]),
            None => href,
        };
        Path {
            text,
            is_relative: !text.starts_with('/'),
        }
    }

    /// Its parts. Servers write more slashes than needed.
    fn segments(self) -> impl DoubleEndedIterator<Item = &'a str> + Clone {
        let parts = self.text.split('/');
        parts.filter(|segment| !segment.is_empty() && *segment != ".")
    }

    /// Returns true if it ends in `/`.
    pub(super) fn ends_in_slash(self) -> bool {
        self.text.ends_with('/')
    }
}

/// How the server writes paths.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Notation {
    /// Percent-encoded.
    Encoded,
    /// As they are: `%41` is three characters.
    Raw,
}

impl Notation {
    /// The notation of a document with these `href`s. One that no encoder writes shows that none are encoded: a space, or
    /// a `%` without two hexadecimal digits.
    pub(super) fn of<'a>(hrefs: impl IntoIterator<Item = &'a str>) -> Notation {
        let is_raw = |href: &str| {
            let is_digit = |at: usize| href.as_bytes().get(at).is_some_and(u8::is_ascii_hexdigit);
            let mut bytes = href.bytes().enumerate();
            bytes.any(|(at, byte)| byte == b' ' || (byte == b'%' && !(is_digit(at + 1) && is_digit(at + 2))))
        };
        match hrefs.into_iter().any(is_raw) {
            true => Notation::Raw,
            false => Notation::Encoded,
        }
    }

    /// The bytes that a segment means.
    fn decode(self, segment: &str) -> Cow<'_, [u8]> {
        match self {
            Notation::Encoded => percent_decode_str(segment).into(),
            Notation::Raw => Cow::Borrowed(segment.as_bytes()),
        }
    }
}

/// What a resource is to the requested directory.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Relation<'a> {
    /// The directory itself.
    Own,
    /// In it, with this segment.
    Child(&'a str),
    /// Further below: a server that ignores `Depth: 1`.
    Below,
    /// Somewhere else.
    Elsewhere,
}

/// The place of the requested directory in a server's `href`s.
pub(super) struct Place {
    notation: Notation,
    /// The decoded parts of its path.
    segments: Vec<Vec<u8>>,
    /// True if relative paths begin at the directory; else they lack the first slash.
    has_relative: bool,
}

impl Place {
    /// The place that was requested at `asked`, if the server writes its path as it was requested.
    pub(super) fn asked(asked: &Url, notation: Notation) -> Place {
        let segments = Path::of(asked.path()).segments();
        Place {
            notation,
            segments: segments.map(|part| percent_decode_str(part).collect()).collect(),
            has_relative: true,
        }
    }

    /// The place that was requested at `asked`, in a document with these paths.
    ///
    /// If none of them is of the requested directory or in it, the server writes them with another prefix. Then the
    /// directory is what is above all of them, or the one of them that is above all others. A single path is the
    /// directory's own, unless its parent is called like the directory, and it is not.
    pub(super) fn of(asked: &Url, notation: Notation, paths: &[Path<'_>]) -> Place {
        let place = Place::asked(asked, notation);
        let is_found = |path: &Path<'_>| matches!(place.relation(*path), Relation::Own | Relation::Child(_));
        if paths.is_empty() || paths.iter().any(is_found) {
            return place;
        }
        let decoded = |path: &Path<'_>| -> Vec<Vec<u8>> {
            path.segments().map(|part| notation.decode(part).into_owned()).collect()
        };
        let mut segments = decoded(&paths[0]);
        if let [_] = paths {
            let name = place.segments.last();
            let is_child = segments.last() != name && segments.iter().rev().nth(1) == name && name.is_some();
            segments.truncate(segments.len() - usize::from(is_child));
        }
        for path in &paths[1..] {
            let same = path.segments().zip(&segments);
            let same = same.take_while(|(part, known)| notation.decode(part).as_ref() == known.as_slice());
            let common = same.count();
            segments.truncate(common);
        }
        Place {
            notation,
            segments,
            has_relative: false,
        }
    }

    /// What a path is to the directory.
    pub(super) fn relation<'a>(&self, path: Path<'a>) -> Relation<'a> {
        let mut parts = path.segments();
        let here = match path.is_relative && self.has_relative {
            true => &[],
            false => self.segments.as_slice(),
        };
        let is_here = |part: &str, known: &Vec<u8>| self.notation.decode(part).as_ref() == known.as_slice();
        if !here
            .iter()
            .all(|known| parts.next().is_some_and(|part| is_here(part, known)))
        {
            return Relation::Elsewhere;
        }
        match (parts.next(), parts.next()) {
            (None, _) => Relation::Own,
            (Some(child), None) => Relation::Child(child),
            (Some(_), Some(_)) => Relation::Below,
        }
    }

    /// The name of a child, and its URL below `directory`. `None` if the name is lost: the document's charset has no such
    /// bytes.
    pub(super) fn name(&self, child: &str, is_directory: bool, directory: &Url) -> Option<(Vec<u8>, Url)> {
        if child.contains(char::REPLACEMENT_CHARACTER) {
            return None;
        }
        let (name, escaped) = match self.notation {
            Notation::Encoded => (segment::decode(child), utf8_percent_encode(child, UNSAFE)),
            Notation::Raw => (child.as_bytes().to_vec(), utf8_percent_encode(child, RAW)),
        };
        let slash = if is_directory { "/" } else { "" };
        let mut url = directory.clone();
        url.set_path(&format!("{}{escaped}{slash}", directory.path()));
        Some((name, url))
    }
}
