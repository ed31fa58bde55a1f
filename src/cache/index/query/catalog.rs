//! The catalog: what origins have said of names, in the tables `listings` and `remote_files`, and
//! its queries. A [`CatalogUpdate`](crate::cache::index::write::catalog_update) changes it.
//!
//! `remote_files` has the current version of each file of which an origin ever gave one, by itself
//! or with its bytes. **A version in `cache_entries` is current only if this table says so.** What
//! an origin has called gone or replaced is not served from the cache again, though its bytes may
//! still be there. These bytes are evicted first: the `coldest` of such an entry is 0.

use std::collections::HashMap;

use rusqlite::OptionalExtension;

use crate::cache::index::chunk_index::ChunkIndex;
use crate::cache::index::dates::date;
use crate::cache::index::rows::{FileRow, ListingRow};
use crate::cache::index::write::catalog_update::CatalogUpdate;
use crate::cache::index::write::record::Record;
use crate::cache::key::UrlKey;
use crate::http::{Validator, Version};
use crate::util::events;

/// What a file was last shown as.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShownRow {
    /// The version that was current.
    pub file: FileRow,
    /// What the listing said of it, in the format of the directory tree.
    pub listed: String,
    /// Its inode number.
    pub ino: u64,
}

/// The columns of [`ShownRow`].
const SHOWN: &str = "SELECT size, validator, modified, listed, ino, url_key FROM remote_files";

impl ChunkIndex {
    /// The last shown state of all files, by the keys of their URLs; `None` if there are more than `most`. Does not wait for
    /// queued records.
    pub fn all_shown(&self, most: usize) -> Option<HashMap<String, ShownRow>> {
        let all = self.connections.read(|reader| {
            let mut found = HashMap::new();
            let mut query = reader.prepare_cached(&format!("{SHOWN} LIMIT ?1"))?;
            let mut rows = query.query([most as i64 + 1])?;
            let mut read = 0;
            while let Some(row) = rows.next()? {
                read += 1;
                found.extend(shown_row(row)?);
            }
            Ok((read <= most).then_some(found))
        });
        all.unwrap_or_else(|err| Some(none_shown(&err)))
    }

    /// The last shown state of those of these files that have one, by the keys of their URLs. Holds the reading connection, so
    /// callers pass few files at a time.
    pub fn shown(&self, files: &[UrlKey]) -> HashMap<String, ShownRow> {
        let found = self.connections.read(|reader| {
            let mut query = reader.prepare_cached(&format!("{SHOWN} WHERE url_key = ?1"))?;
            let row = |file: &UrlKey| query.query_row([file.as_str()], shown_row).optional();
            let rows = files.iter().map(row).collect::<rusqlite::Result<Vec<_>>>()?;
            Ok(rows.into_iter().flatten().flatten().collect())
        });
        found.unwrap_or_else(|err| none_shown(&err))
    }

    /// The last listing of a directory. Does not wait for queued records: a caller that has just
    /// listed the directory has the listing.
    pub fn listing(&self, url: &UrlKey) -> Option<ListingRow> {
        let row = |row: &rusqlite::Row<'_>| {
            Ok(ListingRow {
                names: row.get(0)?,
                modified: row.get::<_, Option<i64>>(1)?.map(date),
            })
        };
        let found = self.connections.read(|reader| {
            let mut query = reader.prepare_cached("SELECT names, modified FROM listings WHERE url_key = ?1")?;
            query.query_row([url.as_str()], row).optional()
        });
        found.unwrap_or_else(|err| {
            log::warn!(
                event = events::INDEX_READ_FAILED;
                "cache index: {err}; going on as if the directory had never been listed"
            );
            None
        })
    }

    /// The current version of a file, as an origin last gave it.
    pub fn file(&self, url: &UrlKey) -> Option<FileRow> {
        if !self.writer.sync_soon(url.as_str()) {
            return None;
        }
        let found = self.connections.read(|reader| {
            let sql = "SELECT size, validator, modified FROM remote_files WHERE url_key = ?1";
            reader
                .prepare_cached(sql)?
                .query_row([url.as_str()], file_row)
                .optional()
        });
        found
            .unwrap_or_else(|err| {
                log::warn!(
                    event = events::INDEX_READ_FAILED;
                    "cache index: {err}; going on as if nothing were known of the file"
                );
                None
            })
            .flatten()
    }

    /// Queues a catalog update for the writer thread. Returns at once.
    pub fn note(&self, saying: CatalogUpdate) {
        self.record(Record::CatalogUpdate(saying));
    }
}

fn none_shown(err: &rusqlite::Error) -> HashMap<String, ShownRow> {
    log::warn!(
        event = events::INDEX_READ_FAILED;
        "cache index: {err}; going on as if none of the directory's files had been shown before"
    );
    HashMap::new()
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

fn shown_row(row: &rusqlite::Row<'_>) -> rusqlite::Result<Option<(String, ShownRow)>> {
    let (listed, ino): (Option<String>, Option<i64>) = (row.get(3)?, row.get(4)?);
    let Some((listed, ino)) = listed.zip(ino.map(i64::cast_unsigned)) else {
        return Ok(None);
    };
    let url_key: String = row.get(5)?;
    Ok(file_row(row)?.map(|file| (url_key, ShownRow { file, listed, ino })))
}

#[cfg(test)]
mod tests;
