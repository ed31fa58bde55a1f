//! The effect of a record on the tables.
//!
//! [`Commit`] separates the thread that collects records from SQLite, so that tests can make SQLite
//! fail.

use std::sync::Arc;

use rusqlite::{Connection, params};

use super::catalog_update::{self, CatalogUpdate};
use super::pins;
use super::record::Record;
use crate::cache::index::connections::Connections;
use crate::cache::index::dates::seconds;
use crate::cache::index::rows::FileRow;
use crate::cache::index::state;
use crate::origin::Hash;
use crate::util::clock;

/// Commits a batch of records durably, all or none.
pub(crate) trait Commit: Send + 'static {
    /// Commits the batch.
    ///
    /// # Errors
    /// Any error of SQLite; then none of the batch is recorded.
    fn commit(&mut self, batch: &[Record]) -> rusqlite::Result<()>;
}

/// The tables of an index, as this process writes them.
pub(crate) struct Tables {
    connections: Arc<Connections>,
    /// The current epoch ([`state`]).
    epoch: i64,
    /// True if the disk already has the note that this process records.
    has_unset_clean: bool,
}

impl Tables {
    /// Over the connections of an open index, in this epoch.
    pub(crate) fn new(connections: Arc<Connections>, epoch: i64) -> Tables {
        Tables {
            connections,
            epoch,
            has_unset_clean: false,
        }
    }
}

impl Commit for Tables {
    fn commit(&mut self, batch: &[Record]) -> rusqlite::Result<()> {
        if !self.has_unset_clean {
            self.connections.write_durably(state::unset_clean)?;
            self.has_unset_clean = true;
        }
        self.connections.write(|connection| {
            batch
                .iter()
                .try_for_each(|record| apply(connection, record, self.epoch))
        })
    }
}

fn apply(connection: &Connection, record: &Record, epoch: i64) -> rusqlite::Result<()> {
    match record {
        Record::Entry {
            row,
            url_key,
            url,
            inode,
            is_suspect,
            rank,
        } => {
            let now = seconds(clock::now());
            connection
                .prepare_cached(
                    "INSERT INTO cache_entries (entry_key, url_key, url, size, validator, modified, chunk_size,
                                                chunk_count, confirmed, last_used, stalest, inode, epoch, coldest)
                     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?9, ?9, ?10, ?11, ?12)
                     ON CONFLICT (entry_key) DO UPDATE
                     SET confirmed = ?9, last_used = ?9, inode = ?10, epoch = ?11, coldest = iif(coldest = 0, ?12, coldest)",
                )?
                .execute(params![
                    row.key.as_str(),
                    url_key.as_str(),
                    url,
                    row.version.size as i64,
                    row.version.validator.to_key(),
                    row.modified.map(seconds),
                    row.chunk.bytes() as i64,
                    row.chunk.count(row.version.size) as i64,
                    now,
                    *inode as i64,
                    if *is_suspect { SUSPECT } else { epoch },
                    *rank as i64,
                ])?;
            let current = CatalogUpdate::File {
                url_key: url_key.clone(),
                row: FileRow {
                    version: row.version.clone(),
                    modified: row.modified,
                },
            };
            catalog_update::apply(connection, &current)?;
        }
        Record::Chunk { key, index, checksum } => {
            connection
                .prepare_cached(
                    "INSERT INTO cache_chunks (entry_id, chunk_index, checksum)
                     SELECT entry_id, ?2, ?3 FROM cache_entries WHERE entry_key = ?1
                     ON CONFLICT (entry_id, chunk_index) DO UPDATE SET checksum = excluded.checksum",
                )?
                .execute(params![key.as_str(), *index as i64, *checksum as i64])?;
        }
        Record::ForgetChunks { key, chunks } => {
            let mut delete = connection.prepare_cached(
                "DELETE FROM cache_chunks WHERE chunk_index = ?2
                 AND entry_id = (SELECT entry_id FROM cache_entries WHERE entry_key = ?1)",
            )?;
            for chunk in chunks {
                delete.execute(params![key.as_str(), *chunk as i64])?;
            }
        }
        Record::Use {
            key,
            coldest,
            stalest,
            segments,
        } => {
            connection
                .prepare_cached(
                    // Whatever its use: a version that is not current is evicted first.
                    "UPDATE cache_entries SET stalest = ?3, segments = ?4, coldest = ?2 * EXISTS (
                         SELECT 1 FROM remote_files AS current WHERE current.url_key = cache_entries.url_key
                         AND current.size = cache_entries.size AND current.validator = cache_entries.validator)
                     WHERE entry_key = ?1",
                )?
                .execute(params![key.as_str(), *coldest as i64, stalest, segments])?;
        }
        Record::Recount { key } => {
            connection
                .prepare_cached(
                    "UPDATE cache_entries SET chunks_present =
                         (SELECT count(*) FROM cache_chunks WHERE cache_chunks.entry_id = cache_entries.entry_id)
                     WHERE entry_key = ?1",
                )?
                .execute([key.as_str()])?;
        }
        Record::Trust { key } => {
            connection
                .prepare_cached("UPDATE cache_entries SET epoch = ?2 WHERE entry_key = ?1")?
                .execute(params![key.as_str(), epoch])?;
        }
        Record::Doubt { key } => {
            connection
                .prepare_cached("UPDATE cache_entries SET epoch = ?2 WHERE entry_key = ?1")?
                .execute(params![key.as_str(), SUSPECT])?;
        }
        Record::Verified { key, hash } => {
            connection
                .prepare_cached("UPDATE cache_entries SET verified = ?2 WHERE entry_key = ?1 AND complete")?
                .execute(params![key.as_str(), hash.as_ref().map(Hash::labelled)])?;
        }
        Record::Published { key, hash } => {
            connection
                .prepare_cached("UPDATE cache_entries SET published = ?2 WHERE entry_key = ?1 AND published IS NOT ?2")?
                .execute(params![key.as_str(), hash.as_ref().map(Hash::labelled)])?;
        }
        Record::Forget { key } => {
            connection
                .prepare_cached("DELETE FROM cache_entries WHERE entry_key = ?1")?
                .execute([key.as_str()])?;
        }
        Record::CatalogUpdate(saying) => catalog_update::apply(connection, saying)?,
        Record::Job(_) | Record::JobDone { .. } | Record::Pin(_) | Record::Unpin { .. } => {
            pins::apply(connection, record)?;
        }
    }
    Ok(())
}

/// Earlier than every epoch.
const SUSPECT: i64 = 0;

/// Tables whose commits fail with this error for as long as the test wants.
#[cfg(test)]
pub(crate) struct Failing {
    /// The tables behind it.
    pub tables: Tables,
    /// The error code of SQLite.
    pub code: std::sync::Arc<parking_lot::Mutex<Option<i32>>>,
}

#[cfg(test)]
impl Commit for Failing {
    fn commit(&mut self, batch: &[Record]) -> rusqlite::Result<()> {
        match *self.code.lock() {
            Some(code) => Err(rusqlite::Error::SqliteFailure(rusqlite::ffi::Error::new(code), None)),
            None => self.tables.commit(batch),
        }
    }
}
