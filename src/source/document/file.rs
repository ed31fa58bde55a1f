//! What a parser makes of a document: its files, or why it can't be used.

use std::fmt;
use std::time::SystemTime;

use url::Url;

use crate::source::{LeftOut, Name, Published};

/// Maximum size of a file in bytes: what `off_t` holds.
pub(crate) const LARGEST: u64 = i64::MAX as u64;

/// A file that a document names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DocumentFile {
    /// Its folders and its name; **not empty**.
    pub path: Vec<Name>,
    /// Where its bytes are. **Of http or https, without a fragment**, and so are the alternates.
    pub url: Url,
    /// Bytes, at most [`LARGEST`].
    pub size: Option<u64>,
    /// The last change of the file.
    pub modified: Option<SystemTime>,
    /// What else the document says of it.
    pub published: Published,
}

impl DocumentFile {
    /// A file of which only the URL is known.
    pub(crate) fn at(path: Vec<Name>, url: Url) -> DocumentFile {
        DocumentFile {
            path,
            url,
            size: None,
            modified: None,
            published: Published::default(),
        }
    }
}

/// What a parser finds in a document.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Parsed {
    /// The files, in the document's order.
    pub files: Vec<DocumentFile>,
    /// What is not shown.
    pub left_out: LeftOut,
}

/// Why a document can't be used: one sentence, which names the line where that helps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DocumentError {
    /// Counted from 1.
    line: Option<usize>,
    why: String,
}

impl DocumentError {
    /// The document as a whole can't be used.
    pub(crate) fn new(why: impl Into<String>) -> DocumentError {
        DocumentError {
            line: None,
            why: why.into(),
        }
    }

    /// This line can't be used. Lines are counted from 1.
    pub(crate) fn in_line(line: usize, why: impl Into<String>) -> DocumentError {
        DocumentError {
            line: Some(line),
            why: why.into(),
        }
    }
}

impl fmt::Display for DocumentError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(line) = self.line {
            write!(f, "line {line}: ")?;
        }
        f.write_str(&self.why)
    }
}

impl std::error::Error for DocumentError {}
