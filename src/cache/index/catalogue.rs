//! What origins have said of names: the tables `listings` and `remote_files`, and how they are asked. What changes them is a
//! [`Saying`](super::saying).
//!
//! `remote_files` has the current version of each file of which an origin ever told one, by itself or with its bytes.
//! **A version in `cache_entries` is current only if this table says so**: what an origin has called gone or replaced is
//! not served from the cache again, though its bytes may still be there. They are the first to go: its `coldest` is 0.

use std::time::SystemTime;

use rusqlite::OptionalExtension;

use super::saying::Saying;
use super::{ChunkIndex, Record, date};
use crate::cache::entry::UrlKey;
use crate::http::{Validator, Version};

/// A row of `listings`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListingRow {
    /// The names and what was said of them, a line each: the tree's own text.
    pub names: Vec<u8>,
    /// When the listing was last modified, if the origin said so.
    pub modified: Option<SystemTime>,
}

/// A row of `remote_files`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileRow {
    /// The current version.
    pub version: Version,
    /// When the file was last modified, if the origin said so.
    pub modified: Option<SystemTime>,
}

impl ChunkIndex {
    /// The last listing of a directory. Does not wait for what is queued: who has just listed it knows it.
    pub fn listing(&self, url: &UrlKey) -> Option<ListingRow> {
        let reader = self.reader.lock();
        let found = reader
            .prepare_cached("SELECT names, modified FROM listings WHERE url_key = ?1")
            .and_then(|mut query| {
                let row = |row: &rusqlite::Row<'_>| {
                    Ok(ListingRow {
                        names: row.get(0)?,
                        modified: row.get::<_, Option<i64>>(1)?.map(date),
                    })
                };
                query.query_row([url.as_str()], row).optional()
            });
        found.unwrap_or_else(|err| {
            log::warn!("cache index: {err}; going on as if the directory had never been listed");
            None
        })
    }

    /// The current version of a file, as an origin last told it.
    pub fn file(&self, url: &UrlKey) -> Option<FileRow> {
        if !self.writer.sync_soon(url.as_str()) {
            return None;
        }
        let reader = self.reader.lock();
        let found = reader
            .prepare_cached("SELECT size, validator, modified FROM remote_files WHERE url_key = ?1")
            .and_then(|mut query| query.query_row([url.as_str()], file_row).optional());
        found
            .unwrap_or_else(|err| {
                log::warn!("cache index: {err}; going on as if nothing were known of the file");
                None
            })
            .flatten()
    }

    /// Hands the writer thread something that an origin has said. Returns at once.
    pub fn note(&self, saying: Saying) {
        self.record(Record::Saying(saying));
    }
}

fn file_row(row: &rusqlite::Row<'_>) -> rusqlite::Result<Option<FileRow>> {
    let (size, validator): (i64, String) = (row.get(0)?, row.get(1)?);
    let modified: Option<i64> = row.get(2)?;
    Ok(Validator::parse(&validator).map(|validator| FileRow {
        version: Version {
            size: size as u64,
            validator,
        },
        modified: modified.map(date),
    }))
}

#[cfg(test)]
mod tests;
