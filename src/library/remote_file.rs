//! One version of a remote file, open for reading.

use std::fmt;
use std::io::{self, Read, Seek, SeekFrom};
use std::ops::Range;
use std::sync::Arc;
use std::time::SystemTime;

use super::error::{Error, ErrorKind};
use crate::cache::{CacheEntry, Reader, Settled};
use crate::engine::Engine;
use crate::http::{self, Validator};

/// One version of a remote file, open for reading: made by [`Cache::open_url`](crate::Cache::open_url).
///
/// All that is read is of the version that was opened; once the server has another one, what is not in the cache fails with
/// [`ErrorKind::Changed`]. Reads in sequence are fetched ahead of, by several connections.
///
/// [`read_at`](Self::read_at) takes `&self`, so threads may share a file. A clone has a position of its own, and read-ahead of its own;
/// it costs no request.
pub struct RemoteFile {
    engine: Arc<Engine>,
    reader: Arc<Reader>,
    /// Without secrets.
    url: String,
    version: Version,
    modified: Option<SystemTime>,
    /// Of the next [`Read::read`], in bytes. It may be past the end.
    position: u64,
}

/// What tells one version of a remote file from the next.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Version(http::Version);

impl Version {
    /// Bytes of the whole file.
    pub fn size(&self) -> u64 {
        self.0.size
    }

    /// What the server calls this version, as it wrote it: its ETag with the quotes, or its Last-Modified. `None` if it gives neither; then
    /// versions are told apart by size alone.
    pub fn validator(&self) -> Option<&str> {
        match &self.0.validator {
            Validator::Strong(text) | Validator::Dated(text) | Validator::Weak(text) => Some(text),
            Validator::None => None,
        }
    }

    /// Whether the server promises that the validator changes with every byte: a strong ETag (RFC 9110 §8.8.1).
    pub fn is_strong(&self) -> bool {
        matches!(self.0.validator, Validator::Strong(_))
    }
}

impl RemoteFile {
    pub(super) fn new(engine: &Arc<Engine>, url: String, entry: Arc<CacheEntry>) -> Result<RemoteFile, Error> {
        let Some(Settled { version, modified, .. }) = entry.settled() else {
            return Err(Error::new(
                ErrorKind::SizeUnknown,
                format!("{url}: its size is not known"),
            ));
        };
        Ok(RemoteFile {
            engine: Arc::clone(engine),
            version: Version(version.clone()),
            modified: *modified,
            reader: engine.cache().reader(entry),
            url,
            position: 0,
        })
    }

    /// Bytes of the file.
    pub fn len(&self) -> u64 {
        self.version.size()
    }

    /// Whether the file has no bytes.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The URL, without credentials and without the values of its query.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The version that was opened.
    pub fn version(&self) -> &Version {
        &self.version
    }

    /// When the file was last modified, if the server says so.
    pub fn modified(&self) -> Option<SystemTime> {
        self.modified
    }

    /// Whether all of these bytes are in the cache, so that a read of them asks no server. Bytes past the end of the file count as there.
    pub fn is_cached(&self, bytes: Range<u64>) -> bool {
        self.reader.entry().has_byte_range(&bytes)
    }

    /// Fills `buf` with the bytes from `offset` on, whatever the position, and blocks until they are there. Returns how many there are: fewer
    /// than `buf` holds only at the end of the file, or if an error follows them, which the next call tells; 0 past the end.
    ///
    /// # Errors
    /// When the first of the bytes can't be had. [`Error::of_io`] gives the kind.
    pub fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        if buf.is_empty() || offset >= self.len() {
            return Ok(0);
        }
        let read = self.reader.read_at(buf, offset);
        read.map_err(|error| Error::of_read(&self.url, &error).into())
    }
}

impl Clone for RemoteFile {
    fn clone(&self) -> RemoteFile {
        RemoteFile {
            engine: Arc::clone(&self.engine),
            reader: self.engine.cache().reader(Arc::clone(self.reader.entry())),
            url: self.url.clone(),
            version: self.version.clone(),
            modified: self.modified,
            position: self.position,
        }
    }
}

impl fmt::Debug for RemoteFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RemoteFile")
            .field("url", &self.url)
            .field("version", &self.version)
            .field("position", &self.position)
            .finish_non_exhaustive()
    }
}

impl Read for RemoteFile {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let read = self.read_at(buf, self.position)?;
        self.position += read as u64;
        Ok(read)
    }
}

/// As for a file of `std`: a position past the end is allowed, one before the start is [`io::ErrorKind::InvalidInput`].
impl Seek for RemoteFile {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let position = match to {
            SeekFrom::Start(position) => Some(position),
            SeekFrom::End(distance) => self.len().checked_add_signed(distance),
            SeekFrom::Current(distance) => self.position.checked_add_signed(distance),
        };
        self.position = position.ok_or_else(|| {
            io::Error::new(
                io::ErrorKind::InvalidInput,
                "a seek to a position that is negative or too large",
            )
        })?;
        Ok(self.position)
    }
}
