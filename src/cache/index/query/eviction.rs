//! Queries for eviction: which entries are evicted first, and how they were used.

use std::collections::HashSet;
use std::path::Path;

use rusqlite::{Connection, OpenFlags, params};

use crate::cache::chunk::ChunkSize;
use crate::cache::index::chunk_index::ChunkIndex;
use crate::cache::index::write::record::Record;
use crate::cache::key::EntryKey;
use crate::util::events;

/// An entry whose chunks may be evicted.
#[derive(Debug, Clone)]
pub struct Candidate {
    /// Names the data file.
    pub key: EntryKey,
    /// The size of the remote file, in bytes.
    pub size: u64,
    /// The size of its chunks.
    pub chunk: ChunkSize,
    /// The lowest rank of its segments, as last recorded.
    pub coldest: u64,
    /// When it was last opened, in seconds since 1970.
    pub last_used: u32,
    /// The use of its segments; see [`Recency`](crate::cache::quota::Recency).
    pub segments: Vec<u8>,
    id: i64,
}

/// The order and the selection of candidates.
#[derive(Debug, Clone, Copy)]
pub enum Order {
    /// All entries that are not pinned, the coldest first.
    ColdestFirst,
    /// Entries with a part that was not used since this second (since 1970).
    NotUsedSince(u32),
}

/// Number of entries read at a time when all are read: less than a millisecond's work.
const PAGE: i64 = 1000;

/// The coldest entries of an index that can't be opened because there is no space for the files
/// that SQLite creates beside it. **No process may have the index open.**
pub(crate) fn coldest_unopened(path: &Path, limit: usize) -> Vec<EntryKey> {
    let read = || -> rusqlite::Result<Vec<Option<EntryKey>>> {
        let connection = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
        // In this mode SQLite keeps in memory what it otherwise shares in a file
        // (<https://www.sqlite.org/wal.html#noshm>). A log that was left behind is read as usual.
        connection.pragma_update(None, "locking_mode", "EXCLUSIVE")?;
        let mut query = connection
            .prepare("SELECT entry_key FROM cache_entries WHERE pinned = 0 ORDER BY coldest, entry_id LIMIT ?1")?;
        let key = |row: &rusqlite::Row<'_>| Ok(EntryKey::from_stored(row.get(0)?));
        query.query_map([limit as i64], key)?.collect()
    };
    let read = read().inspect_err(|error| log::debug!("{}: {error}; nothing is evicted", path.display()));
    read.unwrap_or_default().into_iter().flatten().collect()
}

impl ChunkIndex {
    /// Up to `limit` entries in this order, after the entry `after`.
    pub fn candidates(&self, order: Order, after: Option<&Candidate>, limit: usize) -> Vec<Candidate> {
        let (coldest, id) = after.map_or((i64::MIN, i64::MIN), |after| (after.coldest as i64, after.id));
        let before = match order {
            Order::ColdestFirst => i64::MAX,
            Order::NotUsedSince(seconds) => seconds.into(),
        };
        // After a time-out, the earlier recency is accurate enough.
        let _ = self.writer.sync_all_soon();
        let read = self.connections.read(|reader| {
            let mut query = reader.prepare_cached(
                "SELECT entry_id, entry_key, size, chunk_size, coldest, last_used, segments
                 FROM cache_entries
                 WHERE pinned = 0 AND (coldest, entry_id) > (?1, ?2) AND stalest < ?3
                 ORDER BY coldest, entry_id LIMIT ?4",
            )?;
            query
                .query_map(params![coldest, id, before, limit as i64], candidate)?
                .collect::<rusqlite::Result<Vec<_>>>()
        });
        match read {
            Ok(rows) => rows.into_iter().flatten().collect(),
            Err(error) => {
                log::warn!(
                    event = events::INDEX_READ_FAILED;
                    "cache index: {error}; files that are not open can't be evicted"
                );
                Vec::new()
            }
        }
    }

    /// The pinned entries.
    pub fn pinned(&self) -> HashSet<EntryKey> {
        let read = self.connections.read(|reader| {
            let mut query = reader.prepare_cached("SELECT entry_key FROM cache_entries WHERE pinned = 1")?;
            query
                .query_map([], |row| Ok(EntryKey::from_stored(row.get(0)?)))?
                .collect::<rusqlite::Result<Vec<_>>>()
        });
        read.unwrap_or_default().into_iter().flatten().collect()
    }

    /// All entries, with the maximum bytes of the recorded chunks of each.
    pub fn recorded_bytes(&self) -> Vec<(EntryKey, u64)> {
        // In pages, so that opening a file never waits long for the lock.
        let read = |after: i64| -> rusqlite::Result<Vec<(i64, Option<EntryKey>, i64)>> {
            self.connections.read(|reader| {
                let mut query = reader.prepare_cached(
                    "SELECT entry_id, entry_key, min(chunks_present * chunk_size, size) FROM cache_entries
                     WHERE entry_id > ?1 ORDER BY entry_id LIMIT ?2",
                )?;
                let row = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, EntryKey::from_stored(row.get(1)?), row.get(2)?));
                query.query_map([after, PAGE], row)?.collect()
            })
        };
        self.sync();
        let (mut all, mut after) = (Vec::new(), i64::MIN);
        loop {
            let rows = read(after).unwrap_or_default();
            let Some((last, ..)) = rows.last() else { return all };
            after = *last;
            let known = rows
                .into_iter()
                .filter_map(|(_, key, bytes)| Some((key?, bytes as u64)));
            all.extend(known);
        }
    }

    /// One entry, to free space in.
    pub fn candidate(&self, key: &EntryKey) -> Option<Candidate> {
        let row = self.connections.read(|reader| {
            let mut query = reader.prepare_cached(
                "SELECT entry_id, entry_key, size, chunk_size, coldest, last_used, segments
                 FROM cache_entries WHERE entry_key = ?1",
            )?;
            query.query_row([key.as_str()], candidate)
        });
        row.ok().flatten()
    }

    /// Marks an entry as pinned.
    #[cfg(test)]
    pub(crate) fn pin(&self, key: &EntryKey) {
        self.sync();
        let sql = "UPDATE cache_entries SET pinned = 1 WHERE entry_key = ?1";
        let changed = self.connections.write(|writer| writer.execute(sql, [key.as_str()]));
        assert_eq!(changed, Ok(1));
    }

    /// Removes an entry; returns true once that is committed.
    pub fn forget(&self, key: &EntryKey) -> bool {
        self.commit([Record::Forget { key: key.clone() }])
    }
}

fn candidate(row: &rusqlite::Row<'_>) -> rusqlite::Result<Option<Candidate>> {
    let (Some(key), Some(chunk)) = (
        EntryKey::from_stored(row.get(1)?),
        ChunkSize::new(row.get::<_, i64>(3)? as u64),
    ) else {
        return Ok(None);
    };
    Ok(Some(Candidate {
        id: row.get(0)?,
        key,
        size: row.get::<_, i64>(2)? as u64,
        chunk,
        coldest: row.get::<_, i64>(4)? as u64,
        last_used: u32::try_from(row.get::<_, i64>(5)?).unwrap_or(0),
        segments: row.get(6)?,
    }))
}
