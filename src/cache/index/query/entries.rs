//! Queries for opening a file: the recorded versions and chunks, in the tables `cache_entries` and
//! `cache_chunks`.
//!
//! Most queries first commit the queued records that concern them, and so see everything that this
//! process knows. Those named *committed* do not, and may be behind by a batch.

use std::ops::Range;

use rusqlite::{OptionalExtension, params};

use crate::cache::chunk::ChunkSize;
use crate::cache::error::is_damage;
use crate::cache::index::chunk_index::ChunkIndex;
use crate::cache::index::damage;
use crate::cache::index::dates::date;
use crate::cache::index::rows::EntryRow;
use crate::cache::key::{EntryKey, UrlKey};
use crate::http::{Validator, Version};
use crate::origin::Hash;
use crate::util::events;

/// The recorded state of an entry.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Recorded {
    /// Its chunks with the checksums of their bytes, in order.
    pub chunks: Vec<(u64, u64)>,
    /// The inode number of its data file.
    pub inode: u64,
    /// True if the chunks are in that file for certain: nothing has happened since that could have
    /// lost them.
    pub is_certain: bool,
}

impl ChunkIndex {
    /// The entry of a URL's current version, as the origin last gave it; in chunks of any size.
    pub fn newest(&self, url: &UrlKey) -> Option<EntryRow> {
        if !self.writer.sync_soon(url.as_str()) {
            return None;
        }
        let row = self.committed_newest(url)?;
        // A queued record may be about to remove it.
        match self.writer.is_pending(row.key.as_str()) {
            true if self.writer.sync_soon(row.key.as_str()) => self.committed_newest(url),
            true => None,
            false => Some(row),
        }
    }

    fn committed_newest(&self, url: &UrlKey) -> Option<EntryRow> {
        let found = self.connections.read(|reader| {
            let mut query = reader.prepare_cached(
                "SELECT entry_key, size, validator, cache_entries.modified, chunk_size
                 FROM cache_entries JOIN remote_files USING (url_key, size, validator)
                 WHERE url_key = ?1 ORDER BY cache_entries.confirmed DESC, entry_id DESC LIMIT 1",
            )?;
            query.query_row([url.as_str()], entry_row).optional()
        });
        found
            .unwrap_or_else(|err| {
                log::warn!(event = events::INDEX_READ_FAILED; "cache index: {err}; treating the file as not cached");
                None
            })
            .flatten()
    }

    /// Returns true if chunks of another version than this one are committed for a URL. Does not wait for queued records;
    /// false also if that can't be read.
    pub(crate) fn has_other_version(&self, url: &UrlKey, version: &Version) -> bool {
        let other = "SELECT 1 FROM cache_entries
             WHERE url_key = ?1 AND chunks_present > 0 AND NOT (size = ?2 AND validator = ?3)";
        let (size, validator) = (version.size as i64, version.validator.to_key());
        let found = self.connections.read(|reader| {
            reader
                .prepare_cached(other)?
                .exists(params![url.as_str(), size, validator])
        });
        found.unwrap_or(false)
    }

    /// The recorded state of an entry. `None` has two causes:
    ///
    /// - More of it is queued, and that takes long because another program keeps the database
    ///   locked. The queued records may take back what the tables say.
    /// - SQLite can't read it; the error is logged.
    ///
    /// **`None` is not the same as nothing recorded**: the records would count again later, with
    /// what happened to the file meanwhile.
    pub fn recorded_soon(&self, key: &EntryKey) -> Option<Recorded> {
        if !self.writer.sync_soon(key.as_str()) {
            return None;
        }
        match self.committed(key) {
            Ok(found) => Some(found),
            // Nothing in this index is trusted any more: the next mount begins with an empty one.
            Err(error) if is_damage(&error) => {
                log::warn!(event = events::INDEX_READ_FAILED; "cache index: {error}; treating the file as not cached");
                damage::mark(&self.mark);
                Some(Recorded::default())
            }
            Err(error) => {
                log::warn!(
                    event = events::INDEX_READ_FAILED;
                    "cache index: {error}; the cached chunks of a file can't be read"
                );
                None
            }
        }
    }

    /// The recorded state of an entry, after all queued records, however long that takes.
    ///
    /// # Errors
    /// Any error of SQLite.
    pub fn recorded(&self, key: &EntryKey) -> rusqlite::Result<Recorded> {
        self.sync();
        self.committed(key)
    }

    fn committed(&self, key: &EntryKey) -> rusqlite::Result<Recorded> {
        self.connections.read(|reader| {
            let mut entry = reader.prepare_cached(
                "SELECT inode, cache_entries.epoch = cache_state.epoch FROM cache_entries, cache_state
                 WHERE entry_key = ?1",
            )?;
            let found = entry
                .query_row([key.as_str()], |row| Ok((row.get::<_, i64>(0)?, row.get(1)?)))
                .optional()?;
            let Some((inode, is_certain)) = found else {
                return Ok(Recorded::default());
            };
            let mut chunks = reader.prepare_cached(
                "SELECT chunk_index, checksum FROM cache_chunks JOIN cache_entries USING (entry_id)
                 WHERE entry_key = ?1 ORDER BY chunk_index",
            )?;
            let chunk = |row: &rusqlite::Row<'_>| Ok((row.get::<_, i64>(0)? as u64, row.get::<_, i64>(1)? as u64));
            Ok(Recorded {
                chunks: chunks.query_map([key.as_str()], chunk)?.collect::<Result<_, _>>()?,
                inode: inode as u64,
                is_certain,
            })
        })
    }

    /// The committed chunks within `range`, in order. Does not wait for queued records. `None` if
    /// SQLite fails; the error is logged.
    pub fn committed_chunks(&self, key: &EntryKey, range: &Range<u64>) -> Option<Vec<u64>> {
        let read = self.connections.read(|reader| {
            let mut query = reader.prepare_cached(
                "SELECT chunk_index FROM cache_chunks JOIN cache_entries USING (entry_id)
                 WHERE entry_key = ?1 AND chunk_index >= ?2 AND chunk_index < ?3 ORDER BY chunk_index",
            )?;
            query
                .query_map(params![key.as_str(), range.start as i64, range.end as i64], |row| {
                    row.get::<_, i64>(0).map(|index| index as u64)
                })?
                .collect()
        });
        read.inspect_err(
            |err| log::warn!(event = events::INDEX_READ_FAILED; "cache index: {err}; treating the file as not cached"),
        )
        .ok()
    }

    /// The published hash that a complete entry was found to have. `None` also if that can't be read.
    pub fn verified(&self, key: &EntryKey) -> Option<Hash> {
        self.hash(
            key,
            "SELECT verified FROM cache_entries WHERE entry_key = ?1 AND complete",
        )
    }

    /// The hash that was published of an entry when it was last compared; `None` if none is known.
    pub fn published(&self, key: &EntryKey) -> Option<Hash> {
        self.hash(key, "SELECT published FROM cache_entries WHERE entry_key = ?1")
    }

    fn hash(&self, key: &EntryKey, sql: &str) -> Option<Hash> {
        if !self.writer.sync_soon(key.as_str()) {
            return None;
        }
        let read = self.connections.read(|reader| {
            let mut query = reader.prepare_cached(sql)?;
            query
                .query_row([key.as_str()], |row| row.get::<_, Option<String>>(0))
                .optional()
        });
        Hash::from_labelled(&read.ok()???)
    }

    /// Bytes of the recorded chunks, at most (a file's short last chunk counts as whole).
    pub fn cached_bytes(&self) -> u64 {
        // After a time-out, the earlier state is accurate enough.
        let _ = self.writer.sync_all_soon();
        let sql = "SELECT coalesce(sum(min(chunks_present * chunk_size, size)), 0) FROM cache_entries";
        let sum = self
            .connections
            .read(|reader| reader.query_row(sql, [], |row| row.get::<_, i64>(0)));
        sum.map_or(0, |bytes| bytes as u64)
    }

    /// Returns true if anything of this entry is queued and not committed yet.
    pub fn is_pending(&self, key: &EntryKey) -> bool {
        self.writer.is_pending(key.as_str())
    }

    /// Returns true if a row of this key is committed. Does not wait for queued records.
    pub fn has_committed(&self, key: &EntryKey) -> bool {
        let sql = "SELECT 1 FROM cache_entries WHERE entry_key = ?1";
        let found = self
            .connections
            .read(|reader| reader.prepare_cached(sql)?.exists([key.as_str()]));
        // After an error, assume that there is one.
        found.unwrap_or(true)
    }
}

fn entry_row(row: &rusqlite::Row<'_>) -> rusqlite::Result<Option<EntryRow>> {
    let (size, chunk_size): (i64, i64) = (row.get(1)?, row.get(4)?);
    let modified: Option<i64> = row.get(3)?;
    let fields = (
        EntryKey::from_stored(row.get(0)?),
        Validator::parse(&row.get::<_, String>(2)?),
    );
    let (Some(key), Some(validator)) = fields else {
        return Ok(None);
    };
    Ok(ChunkSize::new(chunk_size as u64).map(|chunk| EntryRow {
        key,
        version: Version {
            size: size as u64,
            validator,
        },
        modified: modified.map(date),
        chunk,
    }))
}
