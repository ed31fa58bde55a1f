//! What is recorded of versions and their chunks, for who opens a file: the tables `cache_entries` and `cache_chunks`.
//!
//! Most questions first have committed what is queued of what they ask about, and so tell all that this process knows. Those that are called
//! *committed* ask for nothing, and may be behind by a batch.

use std::ops::Range;
use std::time::SystemTime;

use rusqlite::{OptionalExtension, params};

use crate::cache::chunk::ChunkSize;
use crate::cache::error::is_damage;
use crate::cache::index::{ChunkIndex, date, mark_as_damaged};
use crate::cache::key::{EntryKey, UrlKey};
use crate::http::{Validator, Version};

/// A row of `cache_entries`, as far as opening a file needs it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EntryRow {
    /// Names the data file.
    pub key: EntryKey,
    /// The version it holds.
    pub version: Version,
    /// When the remote file was last modified, if the origin said so.
    pub modified: Option<SystemTime>,
    /// The size of its chunks.
    pub chunk: ChunkSize,
}

/// What is recorded of an entry.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Recorded {
    /// Its chunks with the checksums of their bytes, in order.
    pub chunks: Vec<(u64, u64)>,
    /// The number that its data file had in its file system.
    pub inode: u64,
    /// Whether the chunks are in that file for certain: nothing has happened since that could have lost them.
    pub is_certain: bool,
}

impl ChunkIndex {
    /// The entry of a URL's current version, as far as its origin has told; in chunks of any size.
    pub fn newest(&self, url: &UrlKey) -> Option<EntryRow> {
        if !self.writer.sync_soon(url.as_str()) {
            return None;
        }
        let row = self.committed_newest(url)?;
        // It may be about to go.
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
                log::warn!("cache index: {err}; going on as if the file were not cached");
                None
            })
            .flatten()
    }

    /// What is recorded of an entry. `None` if that is not known: more of it is queued, and that takes long, because another program
    /// keeps the database locked (what the tables say may have been taken back by what is queued); or SQLite can't read it, which is
    /// told to the log. **It is not the same as nothing**: what is recorded would count again later, with what was done to the file meanwhile.
    pub fn recorded_soon(&self, key: &EntryKey) -> Option<Recorded> {
        if !self.writer.sync_soon(key.as_str()) {
            return None;
        }
        match self.committed(key) {
            Ok(found) => Some(found),
            // Nothing in it is believed again: the next mount begins anew.
            Err(error) if is_damage(&error) => {
                log::warn!("cache index: {error}; going on as if the file were not cached");
                mark_as_damaged(&self.mark);
                Some(Recorded::default())
            }
            Err(error) => {
                log::warn!("cache index: {error}; what is cached of a file is not known");
                None
            }
        }
    }

    /// The same, however long it takes.
    ///
    /// # Errors
    /// Whatever SQLite says.
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

    /// Those within `range` that are recorded by now, in order. Asks nobody to commit what is queued. `None` when SQLite fails, which is told
    /// to the log.
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
        read.inspect_err(|err| log::warn!("cache index: {err}; going on as if the file were not cached"))
            .ok()
    }

    /// Bytes that the recorded chunks take, at most (a file's short last chunk counts as whole).
    pub fn cached_bytes(&self) -> u64 {
        // If it takes long, what was there before is near enough.
        let _ = self.writer.sync_all_soon();
        let sql = "SELECT coalesce(sum(min(chunks_present * chunk_size, size)), 0) FROM cache_entries";
        let sum = self
            .connections
            .read(|reader| reader.query_row(sql, [], |row| row.get::<_, i64>(0)));
        sum.map_or(0, |bytes| bytes as u64)
    }

    /// Whether anything of this entry is queued and not committed yet.
    pub fn is_pending(&self, key: &EntryKey) -> bool {
        self.writer.is_pending(key.as_str())
    }

    /// Whether any version's row of this key is committed. Asks nobody to commit what is queued.
    pub fn has_committed(&self, key: &EntryKey) -> bool {
        let sql = "SELECT 1 FROM cache_entries WHERE entry_key = ?1";
        let found = self
            .connections
            .read(|reader| reader.prepare_cached(sql)?.exists([key.as_str()]));
        // If it can't be told, it is better to be careful.
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
