//! Directories as WebDAV collections (RFC 4918), one PROPFIND each.
//!
//! The answer to `Depth: 1` has the directory and every name in it, each with its kind, exact size and date. [`parse`] is
//! pure: it makes a listing of such an answer. It guarantees:
//!
//! - Each entry's name is one path component ([`Name::new`](super::Name::new)); the others are counted in
//!   [`Listing::left_out`].
//! - Each entry's URL is directly below the directory's own URL, whatever host, scheme or prefix the answer has.
//! - A size is always exact. A date is in UTC.
//! - An answer that is damaged or ends early is an error, because names would be missing.
//! - Time and memory are linear in the answer's length, and memory is bounded by the maximum number of names.
//!
//! The pipeline: `multistatus` reads the XML as a list of resources; `href` finds out which of them is the directory, and
//! the names of the others. `certain_names` passes names on before the end of a long answer;
//! `collection_tag` decides which tag of a directory shows that its names are unchanged.

mod certain_names;
mod collection;
mod collection_tag;
mod href;
mod multistatus;
#[cfg(test)]
mod tests;

use encoding_rs::{Encoding, UTF_8};
use url::Url;

use self::certain_names::CertainNames;
pub(crate) use self::collection::{Collections, WEBDAV};
use self::collection_tag::TagProperties;
use self::href::{Notation, Path, Place, Relation};
use self::multistatus::{Answer, Properties, Response};
use super::listing::builder::{ListingBuilder, TooManyNames};
use super::receiving::{EarlyNames, Pieces, PiecesReader};
use super::{EntryKind, ListedSize, Listing, ListingConfig, Quota};
use crate::origin::Document;

/// Why an answer is no listing of a WebDAV server.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotMultistatus {
    /// It is another document.
    #[error("it is no answer of a WebDAV server")]
    NoMultistatus,
    /// It is not well-formed XML.
    #[error("the XML can't be read: {0}")]
    Malformed(String),
    /// It ends before its end tag.
    #[error("the XML ends early")]
    Truncated,
    /// The server refuses the directory within the answer.
    #[error("the server answers with status {0} for it")]
    Refused(u16),
    /// The resource is a file.
    #[error("it is a file, not a directory")]
    NoDirectory,
    /// More names than the caller allows.
    #[error("it has more than {0} names; raise --max-entries")]
    TooManyNames(usize),
}

/// Reads the answer to a PROPFIND with `Depth: 1` that came from `asked`, after redirects. The entries are below
/// `directory`, whose path ends in `/`. `charset` is the one of the response's `Content-Type`, if any.
///
/// # Errors
/// If it is no complete answer for a directory.
pub fn parse(
    directory: &Url,
    asked: &Url,
    body: &[u8],
    charset: Option<&str>,
    config: &ListingConfig,
) -> Result<Listing, NotMultistatus> {
    Ok(parse_whole(directory, asked, body, charset, config)?.listing)
}

/// What an answer says of a directory.
struct Parsed {
    /// Its names; none if the answer is one to `Depth: 0`.
    listing: Listing,
    /// Its quota, if the answer has one.
    quota: Option<Quota>,
    /// What may show that it is unchanged.
    tags: TagProperties,
}

/// [`parse`], and what else the answer says of the directory itself.
fn parse_whole(
    directory: &Url,
    asked: &Url,
    body: &[u8],
    charset: Option<&str>,
    config: &ListingConfig,
) -> Result<Parsed, NotMultistatus> {
    let text = encoding(body, charset).decode(body).0;
    let answer = multistatus::read(text.as_bytes(), config.max_entries, |_| {})?;
    parsed(directory, asked, answer, config)
}

/// [`parse_whole`] for an answer that is being received and begins with `beginning`. Names that are certain go to `early`.
fn parse_incoming(
    directory: &Url,
    asked: &Url,
    beginning: &Document,
    pieces: Pieces,
    early: &EarlyNames,
    config: &ListingConfig,
) -> Result<Parsed, NotMultistatus> {
    let encoding = encoding(&beginning.body, beginning.charset.as_deref());
    let mut text = PiecesReader::of_text(pieces, encoding, early);
    let mut certain = CertainNames::new(directory, asked, early, config);
    let answer = multistatus::read(&mut text, config.max_entries, |responses| certain.add(responses))?;
    text.drain();
    parsed(directory, asked, answer, config)
}

/// What an answer that was read says.
fn parsed(directory: &Url, asked: &Url, answer: Answer, config: &ListingConfig) -> Result<Parsed, NotMultistatus> {
    let Answer { responses, quota } = answer;
    let notation = Notation::of(responses.iter().map(|response| &*response.href));
    let paths: Vec<Path<'_>> = responses.iter().map(|response| Path::of(&response.href)).collect();
    let place = Place::of(asked, notation, &paths);
    let mut own: Option<&Response> = None;
    let mut builder = ListingBuilder::new(directory, config.max_entries);
    let too_many = |TooManyNames| NotMultistatus::TooManyNames(config.max_entries);
    for (index, (response, path)) in responses.iter().zip(paths).enumerate() {
        let is_first = index == 0;
        let child = match place.relation(path) {
            Relation::Own => {
                own.get_or_insert(response);
                continue;
            }
            Relation::Child(child) => child,
            Relation::Below => continue,
            // Beside relative names, some servers write their own top for the directory.
            Relation::Elsewhere if is_first && response.properties.is_collection() == Some(true) => {
                own = Some(response);
                continue;
            }
            Relation::Elsewhere => {
                builder.refuse().map_err(too_many)?;
                continue;
            }
        };
        // It was deleted while the server made the answer.
        if matches!(response.status, Some(404 | 410)) {
            continue;
        }
        let (kind, properties) = (response.kind(), &response.properties);
        match place.name(child, kind == EntryKind::Directory, directory) {
            Some((name, url)) => builder.add_tagged(name, url, kind, properties.modified(), properties.tag),
            None => builder.refuse(),
        }
        .map_err(too_many)?;
    }
    let listing = builder.finish(own.and_then(|own| Some(own.properties.modified()?.time)));
    match own {
        Some(Response {
            status: Some(status), ..
        }) if *status >= 300 => Err(NotMultistatus::Refused(*status)),
        Some(own) if own.properties.is_collection() == Some(false) && listing.entries.is_empty() => {
            Err(NotMultistatus::NoDirectory)
        }
        None if listing.entries.is_empty() && listing.left_out.is_nothing() => Err(NotMultistatus::NoMultistatus),
        _ => Ok(Parsed {
            listing,
            quota,
            tags: own.map(|own| own.properties.tags()).unwrap_or_default(),
        }),
    }
}

impl Response {
    fn kind(&self) -> EntryKind {
        let properties = &self.properties;
        match properties
            .is_collection()
            .unwrap_or(Path::of(&self.href).ends_in_slash())
        {
            true => EntryKind::Directory,
            false => EntryKind::File(properties.size()),
        }
    }
}

impl Properties {
    fn size(&self) -> ListedSize {
        self.length.map_or(ListedSize::Unknown, ListedSize::Exact)
    }
}

/// The encoding of a document with this beginning. A byte order mark decides, then the charset of the response, then the XML
/// declaration (RFC 7303, §3); invalid bytes become U+FFFD.
fn encoding(body: &[u8], charset: Option<&str>) -> &'static Encoding {
    let named = |label: &[u8]| Encoding::for_label_no_replacement(label);
    let declared = || {
        let start = body.trim_ascii_start().strip_prefix(b"<?xml")?;
        let start = &start[..start.iter().position(|&byte| byte == b'>')?];
        let start = std::str::from_utf8(start).ok()?;
        let value = start
            .split_once("encoding")?
            .1
            .trim_start()
            .strip_prefix('=')?
            .trim_start();
        let label = value.split(['"', '\'']).nth(1)?;
        // Bytes that can be read so far are not in UTF-16.
        named(label.as_bytes()).filter(|encoding| encoding.is_ascii_compatible())
    };
    let encoding = charset.and_then(|label| named(label.as_bytes())).or_else(declared);
    encoding.unwrap_or(UTF_8)
}
