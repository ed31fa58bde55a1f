//! Parses the directory listings that servers write for programs, in JSON and XML.
//!
//! | form | server | example |
//! |---|---|---|
//! | [`array`] | nginx (`autoindex_format json`), static-web-server, lighttpd (`?json`), hand-written | `[{"name": "a", "type": "file", "mtime": "…", "size": 7}]` |
//! | [`array`] | Caddy | `[{"name": "a", "is_dir": false, "mod_time": "…", "size": 7, "url": "./a", …}]` |
//! | [`object`] | dufs (`?json`) | `{"kind": "Index", "paths": [{"path_type": "File", "name": "a", "mtime": 1700000000000, "size": 7}], …}` |
//! | [`object`] | copyparty (`?ls`) | `{"dirs": [], "files": [{"href": "a", "sz": 7, "ts": 1700000000, …}], "perms": ["read"], …}` |
//! | [`object`] | fastify | `{"dirs": ["d"], "files": ["a"]}` |
//! | [`xml`] | nginx (`autoindex_format xml`) | `<list><file mtime="…" size="7">a</file></list>` |
//!
//! [`parse`] is pure: the source that fetched a document calls it with the whole document. It guarantees:
//!
//! - The form is recognised by its shape alone, and strictly: another answer of an API is an error, never an empty
//!   listing. An empty array is an empty directory, because that is what nginx and Caddy send for one.
//! - Names are taken as the bytes that the server has, also where they are no UTF-8 (nginx sends them raw), and the URLs
//!   are made from them. An entry is directly below the directory, whatever the document says.
//! - Sizes and dates are exact. A size that is no whole number of bytes is unknown. Fractions of a second are dropped, as
//!   the files' own dates (`Last-Modified`) have none.
//! - The document is read once, entry by entry; memory is bounded by the maximum number of names.

mod array;
mod directory;
mod field;
mod json;
mod object;
mod reading;
#[cfg(test)]
mod tests;
mod xml;

use url::Url;

use crate::source::listing::builder::TooManyNames;
use crate::source::receiving::{EarlyNames, Pieces, PiecesReader};
use crate::source::{Listing, ListingConfig};
use directory::Directory;

/// Why a document is not the listing of a directory.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotAListing {
    /// JSON of another shape.
    #[error("it is JSON, but no directory listing: {0}")]
    OtherJson(String),
    /// XML of another shape.
    #[error("it is XML, but no directory listing: {0}")]
    OtherXml(String),
    /// The syntax is wrong, or the document is cut off.
    #[error("its {language} can't be read: {error}")]
    Syntax {
        /// JSON or XML.
        language: &'static str,
        /// What is wrong, and where.
        error: String,
    },
    /// More names than the caller allows.
    #[error("it has more than {0} names; raise --max-entries")]
    TooManyNames(usize),
}

/// The language of a document.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Language {
    Json,
    Xml,
}

/// Parses the document that came from `page`, after redirects. `None` if it is neither JSON nor the XML of a listing:
/// perhaps it is HTML.
///
/// The URLs of the entries are relative to the last `/` of `page`. [`Listing::modified`] is left empty; it is in the
/// response's head.
///
/// # Errors
/// If it is JSON or XML, but no listing. That does not say whether the directory exists.
pub fn parse(page: &Url, body: &[u8], config: &ListingConfig) -> Option<Result<Listing, NotAListing>> {
    let body = without_mark(body);
    let language = language(body)?;
    let mut directory = Directory::new(page, config);
    let read = match language {
        Language::Json => json::read(body, &mut directory),
        Language::Xml => xml::read(body, &mut directory),
    };
    Some(finish(read, directory, config))
}

/// [`parse`] for a document that [`is_json`] and is being received. Names that are certain go to `early`.
///
/// # Errors
/// As for [`parse`].
pub(in crate::source) fn parse_incoming(
    page: &Url,
    pieces: Pieces,
    early: &EarlyNames,
    config: &ListingConfig,
) -> Result<Listing, NotAListing> {
    let mut directory = Directory::new(page, config);
    let reader = PiecesReader::of_bytes(pieces, early).without_mark();
    let read = json::read_incoming(reader, &mut directory, early.clone());
    finish(read, directory, config)
}

fn finish(read: Result<(), Failure>, directory: Directory, config: &ListingConfig) -> Result<Listing, NotAListing> {
    match read {
        Ok(()) => Ok(directory.finish()),
        Err(Failure::TooManyNames) => Err(NotAListing::TooManyNames(config.max_entries)),
        Err(Failure::Not(why)) => Err(why),
    }
}

/// Returns true if a document with this beginning is JSON or the XML of a listing.
pub(in crate::source) fn is_data(beginning: &[u8]) -> bool {
    language(without_mark(beginning)).is_some()
}

/// Returns true if a document with this beginning is JSON.
pub(in crate::source) fn is_json(beginning: &[u8]) -> bool {
    language(without_mark(beginning)) == Some(Language::Json)
}

/// The bytes after a byte order mark.
fn without_mark(body: &[u8]) -> &[u8] {
    body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body)
}

/// What a document is by its beginning.
fn language(body: &[u8]) -> Option<Language> {
    let start = body.trim_ascii_start();
    match start.first()? {
        b'[' | b'{' => Some(Language::Json),
        b'<' if xml::is_listing(start) => Some(Language::Xml),
        _ => None,
    }
}

/// Why reading stopped.
#[derive(Debug)]
enum Failure {
    TooManyNames,
    Not(NotAListing),
}

impl From<TooManyNames> for Failure {
    fn from(_: TooManyNames) -> Failure {
        Failure::TooManyNames
    }
}
