//! `ChunkIndex`: what is recorded of the cache, in SQLite.
//!
//! `cache_entries` has a row for each version of a remote file, `cache_chunks` one for each completed
//! chunk ([`schema`]); `listings` and `remote_files` have what origins said of names ([`catalogue`]). **Data before index**: a chunk is recorded only after its
//! bytes are in the data file, so whatever a crash leaves behind, a recorded chunk is there.
//!
//! All writing is done by one thread ([`writer`]), fed over a channel; nobody who reads a file
//! waits for it. Reading is done through one more connection, when an entry is first used. Of the
//! tables nothing is read at start-up, so that takes the same time over any cache. Whether what is recorded
//! reached the disk is told by [`state`].

mod catalogue;
#[cfg(test)]
mod cost;
mod eviction;
mod pending;
mod schema;
mod state;
mod survey;
mod tables;
mod wishes;
mod writer;

use std::ops::Range;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;
use rusqlite::{Connection, OptionalExtension, params};

use super::chunk::ChunkSize;
use super::entry::{EntryKey, UrlKey};
use super::error::CacheError;
use super::store::ChunkStore;
use crate::http::{Validator, Version};
pub use catalogue::{FileRow, ListingRow, ROW, Saying};
pub use eviction::{Candidate, Order, coldest_unopened};
pub use survey::EntryInfo;
#[cfg(test)]
pub use tables::Failing;
pub use tables::{Commit, Tables};
pub use wishes::{Holding, JobRow, PinRow};
pub use writer::Record;
use writer::Writer;

/// The index: a handle to the writer thread, and a connection to read with.
pub struct ChunkIndex {
    writer: Writer,
    /// Guards a connection, for the milliseconds of one query. Nothing is taken under it, and
    /// nothing of a read that is present asks for it.
    reader: Mutex<Connection>,
    /// Whether it was used since the machine was started, before it was opened now.
    is_of_this_boot: bool,
    path: PathBuf,
    /// Device and number of the file that was opened.
    inode: Option<(u64, u64)>,
}

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

/// The index's file in a cache folder.
pub const FILE: &str = "index.db";

/// Stands beside an index that was found to be damaged while it was used: the next mount moves it aside.
const DAMAGE_MARK: &str = "index.is-damaged";

impl ChunkIndex {
    /// Opens the index in `cache_dir`, making or updating its tables.
    ///
    /// # Errors
    /// When the file can't be opened, is of a newer version, or is no index.
    pub fn open(cache_dir: &Path) -> Result<ChunkIndex, CacheError> {
        ChunkIndex::open_with(cache_dir, &state::boot_id(), |tables| tables)
    }

    /// Opens it in the boot of this name, with something between the writer thread and the tables.
    pub(super) fn open_with<C: Commit>(
        cache_dir: &Path,
        boot_id: &str,
        between: impl FnOnce(Tables) -> C,
    ) -> Result<ChunkIndex, CacheError> {
        let path = cache_dir.join(FILE);
        schema::inspect(&path)?;
        let (shown, mark) = (path.display().to_string(), cache_dir.join(DAMAGE_MARK));
        if mark.exists() {
            return Err(CacheError::Index {
                path: shown,
                reason: "SQLite has found it to be damaged".to_owned(),
                is_damaged: true,
            });
        }
        let failed = |error| CacheError::of_index(&shown, &error);
        let mut connection = schema::connect(&path).map_err(failed)?;
        schema::migrate(&mut connection, &shown)?;
        let (epoch, is_of_this_boot) = state::begin(&mut connection, boot_id).map_err(failed)?;
        let reader = schema::connect(&path).map_err(failed)?;
        // If it can't be marked, the next mount finds out by itself.
        let on_damage = move || drop(std::fs::write(&mark, ""));
        Ok(ChunkIndex {
            writer: Writer::start(between(Tables::new(connection, epoch)), on_damage),
            reader: Mutex::new(reader),
            is_of_this_boot,
            inode: inode_of(&path),
            path,
        })
    }

    /// In the place of one that can't be opened: it knows nothing, and what is recorded is lost.
    ///
    /// # Errors
    /// When there is no memory for it.
    pub fn standing_in() -> Result<ChunkIndex, CacheError> {
        const NAME: &str = "in memory";
        let failed = |error| CacheError::of_index(NAME, &error);
        let mut reader = Connection::open_in_memory().map_err(failed)?;
        schema::migrate(&mut reader, NAME)?;
        Ok(ChunkIndex {
            writer: Writer::none(),
            reader: Mutex::new(reader),
            is_of_this_boot: false,
            path: PathBuf::new(),
            inode: None,
        })
    }

    /// Makes sure that there is no index of a newer version. Writes nothing.
    ///
    /// # Errors
    /// [`CacheError::NewerIndex`].
    pub fn refuse_newer(cache_dir: &Path) -> Result<(), CacheError> {
        match schema::inspect(&cache_dir.join(FILE)) {
            Err(error @ CacheError::NewerIndex { .. }) => Err(error),
            _ => Ok(()),
        }
    }

    /// Moves an index file that is damaged, or none of ours, out of the way. What it recorded is lost; the cache fills anew.
    fn set_aside(cache_dir: &Path) -> std::io::Result<()> {
        let path = cache_dir.join(FILE);
        let aside = cache_dir.join("index.db.damaged");
        std::fs::rename(&path, &aside)?;
        for rest in ["index.db-wal", "index.db-shm", DAMAGE_MARK] {
            // They may not be there; and without their file they mean nothing.
            let _ = std::fs::remove_file(cache_dir.join(rest));
        }
        log::warn!(
            "{} is damaged, or no index of fetchfs; it is now {}, and the cache begins anew",
            path.display(),
            aside.display()
        );
        Ok(())
    }

    /// Moves an index that is damaged aside, deletes the data files that it knew, and opens an empty one.
    ///
    /// # Errors
    /// When the folder can't be changed.
    pub fn begin_anew(cache_dir: &Path, store: &ChunkStore) -> Result<ChunkIndex, CacheError> {
        ChunkIndex::set_aside(cache_dir).map_err(|error| CacheError::Folder {
            path: cache_dir.join(FILE).display().to_string(),
            reason: error.to_string(),
        })?;
        store.remove_all_unused();
        ChunkIndex::open(cache_dir)
    }

    /// Hands the writer thread something to record. Returns at once.
    pub fn record(&self, record: Record) {
        self.writer.send(record);
    }

    /// Returns when all that was handed over before is committed.
    pub fn sync(&self) {
        self.writer.sync();
    }

    /// Ends recording when all that was handed over before is committed; what comes later is not recorded.
    pub fn finish(&self) {
        self.writer.finish();
    }

    /// How many processes have begun to record so far, for [`Self::set_clean`].
    pub fn session(&self) -> Option<i64> {
        state::session(&self.reader.lock()).ok()
    }

    /// Notes that all that is recorded is on the disk, unless another process has begun to record since `session`.
    pub fn set_clean(&self, session: i64) {
        if let Err(error) = state::set_clean(&self.reader.lock(), session) {
            log::info!("cache index: {error}; after a reboot the cache will be verified as it is read");
        }
    }

    /// Whether all that is recorded is on the disk for certain.
    pub fn is_clean(&self) -> bool {
        state::is_clean(&self.reader.lock()).unwrap_or(false)
    }

    /// Whether it was used since the machine was started, before it was opened now.
    pub fn is_of_this_boot(&self) -> bool {
        self.is_of_this_boot
    }

    /// Whether its file is still in its place.
    pub fn is_in_place(&self) -> bool {
        inode_of(&self.path) == self.inode
    }

    /// Records something and returns when that is committed. False if it may be lost.
    pub fn commit(&self, records: impl IntoIterator<Item = Record>) -> bool {
        self.writer
            .sync_unless_lost(|| records.into_iter().for_each(|record| self.record(record)))
    }

    /// Changes when anything was recorded, by this process or another. Costs microseconds.
    pub fn version(&self) -> i64 {
        // Of two equal answers the second says that nothing is new: the right thing to think when it can't be told.
        self.reader
            .lock()
            .pragma_query_value(None, "data_version", |row| row.get(0))
            .unwrap_or(0)
    }

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
        let found = self
            .reader
            .lock()
            .prepare_cached(
                "SELECT entry_key, size, validator, cache_entries.modified, chunk_size
                 FROM cache_entries JOIN remote_files USING (url_key, size, validator)
                 WHERE url_key = ?1 ORDER BY cache_entries.confirmed DESC, entry_id DESC LIMIT 1",
            )
            .and_then(|mut query| query.query_row([url.as_str()], entry_row).optional());
        found
            .unwrap_or_else(|err| {
                log::warn!("cache index: {err}; going on as if the file were not cached");
                None
            })
            .flatten()
    }

    /// What is recorded of an entry. `None` if that is not known yet: more of it is queued, and that takes long, because another program
    /// keeps the database locked. What the tables say may have been taken back by what is queued.
    pub fn recorded_soon(&self, key: &EntryKey) -> Option<Recorded> {
        self.writer.sync_soon(key.as_str()).then(|| self.committed(key))
    }

    /// The same, however long it takes.
    pub fn recorded(&self, key: &EntryKey) -> Recorded {
        self.sync();
        self.committed(key)
    }

    fn committed(&self, key: &EntryKey) -> Recorded {
        let read = || -> rusqlite::Result<Recorded> {
            let reader = self.reader.lock();
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
        };
        read().unwrap_or_else(|err| {
            log::warn!("cache index: {err}; going on as if the file were not cached");
            Recorded::default()
        })
    }

    /// Those within `range` that are recorded by now. Asks nobody to commit what is queued.
    pub fn committed_chunks(&self, key: &EntryKey, range: &Range<u64>) -> Vec<u64> {
        let read = || -> rusqlite::Result<Vec<u64>> {
            let reader = self.reader.lock();
            let mut query = reader.prepare_cached(
                "SELECT chunk_index FROM cache_chunks JOIN cache_entries USING (entry_id)
                 WHERE entry_key = ?1 AND chunk_index >= ?2 AND chunk_index < ?3 ORDER BY chunk_index",
            )?;
            query
                .query_map(params![key.as_str(), range.start as i64, range.end as i64], |row| {
                    row.get::<_, i64>(0).map(|index| index as u64)
                })?
                .collect()
        };
        read().unwrap_or_else(|err| {
            log::warn!("cache index: {err}; going on as if the file were not cached");
            Vec::new()
        })
    }

    /// Bytes that the recorded chunks take, at most (a file's short last chunk counts as whole).
    pub fn cached_bytes(&self) -> u64 {
        // If it takes long, what was there before is near enough.
        let _ = self.writer.sync_all_soon();
        let sum = self.reader.lock().query_row(
            "SELECT coalesce(sum(min(chunks_present * chunk_size, size)), 0) FROM cache_entries",
            [],
            |row| row.get::<_, i64>(0),
        );
        sum.map_or(0, |bytes| bytes as u64)
    }

    /// Whether anything of this entry is queued and not committed yet.
    pub fn is_pending(&self, key: &EntryKey) -> bool {
        self.writer.is_pending(key.as_str())
    }

    /// Whether any version's row of this key is committed. Asks nobody to commit what is queued.
    pub fn has_committed(&self, key: &EntryKey) -> bool {
        let found = self
            .reader
            .lock()
            .prepare_cached("SELECT 1 FROM cache_entries WHERE entry_key = ?1")
            .and_then(|mut query| query.exists([key.as_str()]));
        // If it can't be told, it is better to be careful.
        found.unwrap_or(true)
    }
}

/// Device and number of a file, if there is one.
fn inode_of(path: &Path) -> Option<(u64, u64)> {
    let metadata = std::fs::metadata(path).ok()?;
    Some((metadata.dev(), metadata.ino()))
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

/// Seconds since 1970, for a column.
fn seconds(time: SystemTime) -> i64 {
    time.duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs() as i64)
}

/// The other way round.
fn date(seconds: i64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(seconds.max(0) as u64)
}

#[cfg(test)]
mod tests;
