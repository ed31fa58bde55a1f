//! Documents: sources whose whole tree one document names, such as a list of URLs, a playlist or a Metalink.
//!
//! A kind of document has a parser in a folder of its own here: [`archive`], [`list`], [`m3u`], [`metalink`]. It takes the document's bytes and URL, and
//! gives [`DocumentFile`]s or a [`DocumentError`]. From these files a [`DocumentTree`](tree::DocumentTree) answers the listing of each
//! directory. All of that is pure.
//!
//! What is the same for all kinds:
//!
//! - A name's folders are separated by `/`. Each part has passed [`Name::new`]. Empty parts and `.` are skipped; a name
//!   with a `..` is not shown, and counted.
//! - Relative URLs are relative to the document's URL. Only URLs of http and https are shown; the others are counted.
//! - Two files of one name are both shown, the later one as `name (2).ext`. One URL twice under one name is shown
//!   once. A file with the name of a folder is not shown, and counted.
//! - A document that can't be read to its end has no tree: half of it could mean that the rest is gone.

pub(crate) mod address;
mod answer;
pub(in crate::source) mod archive;
mod file;
mod format;
pub(in crate::source) mod list;
pub(in crate::source) mod m3u;
pub(in crate::source) mod metalink;
mod nested;
mod source;
mod text;
pub(in crate::source) mod tree;

pub(crate) use file::{DocumentError, DocumentFile, LARGEST, Parsed};
pub(crate) use format::{Format, Recognition};
pub(crate) use source::DocumentSource;
pub(crate) use text::{FileUrl, extension_of, has_extension, is_text, path_of, quote};
