//! The kind `m3u`: playlists of files, in M3U and M3U8.
//!
//! A playlist is a line for each file. Lines that begin with `#EXTINF` or `#EXTVLCOPT` say something of the next file.
//! A file is called by its title and the extension of its URL; without a title, by the last part of its URL's path.
//!
//! **An HLS playlist is no list of files**, although it has the same extension: its lines are the pieces or the
//! variants of one stream (RFC 8216). It is refused by a sentence that says so.
//!
//! A playlist in a playlist is a directory (`nested`).

mod parse;

#[cfg(any(test, fuzzing))]
pub(in crate::source) use parse::parse;

use url::Url;

use super::{Format, Recognition, has_extension, is_text};

/// Extensions of playlists.
const EXTENSIONS: &[&str] = &["m3u", "m3u8"];

/// Media types of playlists, in lower case.
const TYPES: [&str; 6] = [
    "audio/x-mpegurl",
    "audio/mpegurl",
    "application/x-mpegurl",
    "application/mpegurl",
    "application/vnd.apple.mpegurl",
    "application/vnd.apple.mpegurl.audio",
];

/// The kind.
pub(in crate::source) const FORMAT: Format = Format {
    kind: "m3u",
    document: Url::clone,
    recognition: Recognition::ByContent {
        may_be_one: |url, answer| {
            let is_typed_so = answer.content_type.as_deref().is_some_and(|kind| TYPES.contains(&kind));
            is_typed_so || has_extension(url, EXTENSIONS) && is_text(answer)
        },
        is_one: parse::is_playlist,
        is_local_one: |url, body| parse::has_header(body) || has_extension(url, EXTENSIONS) && parse::is_playlist(body),
    },
    parse: |document, body, _| parse::parse(document, body),
    may_be_nested: Some(|url| has_extension(url, EXTENSIONS)),
    is_described: false,
};
