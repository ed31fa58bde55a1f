//! The handle of the index: opening, recording, and its end.

#[cfg(test)]
mod cost;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rusqlite::Connection;

use super::connections::Connections;
use super::write::record::Record;
use super::write::tables::{Commit, Tables};
use super::write::writer::Writer;
use super::{damage, schema, state};
use crate::cache::error::CacheError;
use crate::cache::storage::chunk_store::ChunkStore;
use crate::cache::storage::data_file::PendingCommit;
use crate::util::events;

/// The index: a handle to the writer thread, and the connections.
pub struct ChunkIndex {
    pub(super) writer: Writer,
    pub(super) connections: Arc<Connections>,
    /// The path of [`damage::MARK`].
    pub(super) mark: PathBuf,
    /// True if it had already been used since boot when it was opened.
    is_of_this_boot: bool,
}

/// File name of the index in a cache directory.
pub(crate) const FILE: &str = "index.db";

impl ChunkIndex {
    /// Opens the index in `cache_dir`, and creates or migrates its tables.
    ///
    /// # Errors
    /// If the file can't be opened, has a newer version, or is no index.
    pub fn open(cache_dir: &Path) -> Result<ChunkIndex, CacheError> {
        ChunkIndex::open_with(cache_dir, &state::boot_id(), |tables| tables)
    }

    /// Opens the index for the boot with this id, with a wrapper between the writer thread and the
    /// tables.
    pub(in crate::cache) fn open_with<C: Commit>(
        cache_dir: &Path,
        boot_id: &str,
        between: impl FnOnce(Tables) -> C,
    ) -> Result<ChunkIndex, CacheError> {
        let path = cache_dir.join(FILE);
        schema::inspect(&path)?;
        let (shown, mark) = (path.display().to_string(), cache_dir.join(damage::MARK));
        if mark.exists() {
            return Err(CacheError::Index {
                path: shown,
                reason: "SQLite reports that it is damaged".to_owned(),
                is_damaged: true,
            });
        }
        let failed = |error| CacheError::of_index(&shown, &error);
        let mut connection = schema::connect(&path).map_err(failed)?;
        schema::migrate(&mut connection, &shown)?;
        let (epoch, is_of_this_boot) = state::begin(&mut connection, boot_id).map_err(failed)?;
        let reader = schema::connect(&path).map_err(failed)?;
        let connections = Connections::new(connection, reader, &path);
        let marked = mark.clone();
        let on_damage = move || damage::mark(&marked);
        Ok(ChunkIndex {
            writer: Writer::start(between(Tables::new(Arc::clone(&connections), epoch)), on_damage),
            connections,
            mark,
            is_of_this_boot,
        })
    }

    /// An index in memory, in place of one that can't be opened: it is empty, and what is recorded
    /// is lost.
    ///
    /// # Errors
    /// If there is no memory for it.
    pub fn fallback() -> Result<ChunkIndex, CacheError> {
        const NAME: &str = "in memory";
        let failed = |error| CacheError::of_index(NAME, &error);
        let mut reader = Connection::open_in_memory().map_err(failed)?;
        schema::migrate(&mut reader, NAME)?;
        Ok(ChunkIndex {
            writer: Writer::none(),
            connections: Connections::in_memory(reader),
            mark: PathBuf::new(),
            is_of_this_boot: false,
        })
    }

    /// Fails if there is an index of a newer version. Writes nothing.
    ///
    /// # Errors
    /// [`CacheError::NewerIndex`].
    pub fn refuse_newer(cache_dir: &Path) -> Result<(), CacheError> {
        match schema::inspect(&cache_dir.join(FILE)) {
            Err(error @ CacheError::NewerIndex { .. }) => Err(error),
            _ => Ok(()),
        }
    }

    /// Moves an index file that is damaged or foreign aside. Its records are lost; the cache fills
    /// anew.
    fn set_aside(cache_dir: &Path) -> std::io::Result<()> {
        let path = cache_dir.join(FILE);
        let aside = cache_dir.join("index.db.damaged");
        std::fs::rename(&path, &aside)?;
        for rest in ["index.db-wal", "index.db-shm", damage::MARK] {
            // These files may be missing, and are useless without the index.
            let _ = std::fs::remove_file(cache_dir.join(rest));
        }
        log::warn!(
            event = events::INDEX_DAMAGED;
            "{} is damaged, or not an index of fetchfs; it was renamed to {}, and the cache starts empty",
            path.display(),
            aside.display()
        );
        Ok(())
    }

    /// Moves a damaged index aside, deletes the data files that it knew, and opens an empty one.
    ///
    /// # Errors
    /// If the directory can't be changed.
    pub fn begin_anew(cache_dir: &Path, store: &ChunkStore) -> Result<ChunkIndex, CacheError> {
        ChunkIndex::set_aside(cache_dir).map_err(|error| CacheError::Folder {
            path: cache_dir.join(FILE).display().to_string(),
            reason: error.to_string(),
        })?;
        store.remove_all_unused();
        ChunkIndex::open(cache_dir)
    }

    /// Queues a record for the writer thread. Returns at once.
    pub fn record(&self, record: Record) {
        self.writer.send(record, None);
    }

    /// Queues a record about a data file, which stays open until the record is committed or lost.
    pub fn record_keeping(&self, record: Record, file: PendingCommit) {
        self.writer.send(record, Some(file));
    }

    /// Returns when everything queued before is committed.
    pub fn sync(&self) {
        self.writer.sync();
    }

    /// Ends recording after everything queued before is committed; later records are dropped.
    pub fn finish(&self) {
        self.writer.finish();
    }

    /// Number of processes that have begun to record so far, for [`Self::set_clean`].
    pub fn session(&self) -> Option<i64> {
        self.connections.read(state::session).ok()
    }

    /// Notes that all records are on the disk, unless another process has begun to record since
    /// `session`.
    pub fn set_clean(&self, session: i64) {
        let set = self
            .connections
            .write_durably(|connection| state::set_clean(connection, session));
        if let Err(error) = set {
            log::info!(
                event = events::CACHE_NOT_FLUSHED;
                "cache index: {error}; after a reboot, cached chunks will be verified when they are read"
            );
        }
    }

    /// Returns true if the index had already been used since boot when it was opened.
    pub fn is_of_this_boot(&self) -> bool {
        self.is_of_this_boot
    }

    /// Returns true if its file is still in its place.
    pub fn is_in_place(&self) -> bool {
        self.connections.is_in_place()
    }

    /// Returns true if the file, its log or their shared memory failed to be read or written since
    /// it was opened, other than for lack of space.
    pub fn has_failed(&self) -> bool {
        self.connections.has_failed()
    }

    /// Closes the reading connection, or permits opening it again.
    #[cfg(test)]
    pub(crate) fn fail_reads(&self, do_fail: bool) {
        self.connections.fail_reads(do_fail);
    }

    /// Records something and returns when it is committed. Returns false if it may be lost.
    pub fn commit(&self, records: impl IntoIterator<Item = Record>) -> bool {
        self.writer
            .sync_unless_lost(|| records.into_iter().for_each(|record| self.record(record)))
    }

    /// A number that changes when anything is recorded, by this process or another. Costs
    /// microseconds.
    pub fn version(&self) -> i64 {
        // Two equal numbers mean that nothing is new, which is the right assumption after an error.
        self.connections.version().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests;
