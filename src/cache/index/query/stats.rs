//! Statistics over the whole index: for the `fetchfs cache` commands, never on the read path.

use std::time::SystemTime;

use rusqlite::{OptionalExtension, params};

use crate::cache::chunk::ChunkSize;
use crate::cache::error::is_damage;
use crate::cache::index::chunk_index::ChunkIndex;
use crate::cache::index::dates::date;
use crate::cache::key::EntryKey;
use crate::origin::Hash;
use crate::util::events;

/// The recorded state of one version of a remote file.
#[derive(Debug, Clone)]
pub struct EntryInfo {
    /// Names the data file.
    pub key: EntryKey,
    /// Its URL for display: without credentials and query values.
    pub url: String,
    /// Bytes of the remote file.
    pub size: u64,
    /// The size of its chunks.
    pub chunk: ChunkSize,
    /// Number of present chunks, by the entry's row.
    pub chunks_present: u64,
    /// When it was last opened.
    pub last_used: SystemTime,
    /// The hash of the whole file that its source publishes, as of its last opening.
    pub published: Option<Hash>,
}

impl EntryInfo {
    /// Maximum cached bytes (a short last chunk counts as whole unless the file is complete).
    pub fn cached(&self) -> u64 {
        self.chunks_present.saturating_mul(self.chunk.bytes()).min(self.size)
    }

    /// Returns true if all of the file is cached.
    pub fn is_complete(&self) -> bool {
        self.chunks_present == self.chunk.count(self.size)
    }
}

impl ChunkIndex {
    /// All entries, the most recently opened first.
    ///
    /// # Errors
    /// Any error of SQLite.
    pub fn entries(&self) -> rusqlite::Result<Vec<EntryInfo>> {
        self.sync();
        let number = |row: &rusqlite::Row<'_>, column| row.get::<_, i64>(column).map(|value| value.max(0) as u64);
        let info = |row: &rusqlite::Row<'_>| {
            let (key, chunk) = (EntryKey::from_stored(row.get(0)?), ChunkSize::new(number(row, 3)?));
            let (Some(key), Some(chunk)) = (key, chunk) else {
                return Ok(None);
            };
            Ok(Some(EntryInfo {
                key,
                url: row.get(1)?,
                size: number(row, 2)?,
                chunk,
                chunks_present: number(row, 4)?,
                last_used: date(row.get(5)?),
                published: row
                    .get::<_, Option<String>>(6)?
                    .and_then(|text| Hash::from_labelled(&text)),
            }))
        };
        self.connections.read(|reader| {
            let mut query = reader.prepare(
                "SELECT entry_key, url, size, chunk_size, chunks_present, last_used, published
                 FROM cache_entries
                 ORDER BY last_used DESC, entry_id DESC",
            )?;
            query.query_map([], info)?.filter_map(Result::transpose).collect()
        })
    }

    /// The number of chunks by an entry's row, and the number of its chunk rows, at one moment.
    ///
    /// # Errors
    /// Any error of SQLite.
    pub fn counts(&self, key: &EntryKey) -> rusqlite::Result<Option<(u64, u64)>> {
        self.sync();
        let sql = "SELECT chunks_present,
                          (SELECT count(*) FROM cache_chunks WHERE cache_chunks.entry_id = cache_entries.entry_id)
                   FROM cache_entries WHERE entry_key = ?1";
        let counts = |row: &rusqlite::Row<'_>| Ok((row.get::<_, i64>(0)? as u64, row.get::<_, i64>(1)? as u64));
        self.connections
            .read(|reader| reader.query_row(sql, [key.as_str()], counts).optional())
    }

    /// The committed checksum of a chunk, if it is recorded.
    pub fn checksum(&self, key: &EntryKey, chunk: u64) -> Option<u64> {
        let sql = "SELECT checksum FROM cache_chunks JOIN cache_entries USING (entry_id)
                   WHERE entry_key = ?1 AND chunk_index = ?2";
        let checksum = |row: &rusqlite::Row<'_>| Ok(row.get::<_, i64>(0)? as u64);
        let found = self.connections.read(|reader| {
            let mut query = reader.prepare_cached(sql)?;
            query
                .query_row(params![key.as_str(), chunk as i64], checksum)
                .optional()
        });
        found.unwrap_or_else(|error| {
            log::warn!(event = events::INDEX_READ_FAILED; "cache index: {error}; treating the chunk as not recorded");
            None
        })
    }

    /// The first error that SQLite finds in the file, if any.
    ///
    /// # Errors
    /// Any error of SQLite that says nothing about the file: that it is locked, for
    /// example.
    pub fn integrity(&self) -> rusqlite::Result<Option<String>> {
        let sql = "PRAGMA integrity_check(1)";
        let said = self
            .connections
            .read(|reader| reader.query_row(sql, [], |row| row.get::<_, String>(0)));
        match said {
            Err(error) if is_damage(&error) => Ok(Some(error.to_string())),
            said => Ok(Some(said?).filter(|said| said != "ok")),
        }
    }
}
