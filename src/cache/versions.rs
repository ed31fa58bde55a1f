//! From a version of a remote file to its data file and the chunks that are here of it.
//!
//! The one place where the index and the store are brought together: rows are believed only when
//! the data file that they speak of is found as they left it.

use std::sync::Arc;
use std::time::SystemTime;

use url::Url;

use super::chunk::ChunkSize;
use super::entry::{CacheEntry, EntryKey, Settled, UrlKey};
use super::error::ReadError;
use super::index::{ChunkIndex, EntryRow, Record};
use super::presence::Presence;
use super::store::{ChunkStore, Found};
use crate::http::{Version, redact};

/// Chunks of one file, at most. A bit for each is kept in memory: 128 MiB of them are enough for
/// 256 TiB in chunks of the default size. Who announces more has made a mistake, or means harm.
const MOST_CHUNKS: u64 = 1 << 30;

/// Opens versions.
pub struct Versions {
    /// Where the data files are.
    pub store: ChunkStore,
    /// What is recorded of them.
    pub index: Arc<ChunkIndex>,
}

impl Versions {
    /// Opens the data file of a version and loads which of its chunks are present. Notes in the
    /// index that this is the current version of the URL. Blocks for some system calls and queries.
    ///
    /// # Errors
    /// [`ReadError::Store`] when the data file can't be opened or made.
    pub fn open(
        &self,
        url: &Url,
        chunk: ChunkSize,
        version: &Version,
        modified: Option<SystemTime>,
    ) -> Result<Settled, ReadError> {
        let chunks = chunk.count(version.size);
        if chunks > MOST_CHUNKS {
            return Err(ReadError::Store(format!(
                "a file of {} bytes is too large for chunks of {}",
                version.size,
                chunk.bytes()
            )));
        }
        let key = EntryKey::new(url, version, chunk);
        let forget = || {
            self.index.record(Record::Forget { key: key.clone() });
            // Mostly there is nothing to forget, and nothing to wait for.
            if self.index.has_committed(&key) {
                self.index.sync();
            }
        };
        let data = self
            .store
            .open_file(&key, version.size, forget)
            .map_err(|err| ReadError::Store(err.to_string()))?;
        let presence = Presence::new(chunks);
        if matches!(data.found, Found::Intact | Found::Shared) {
            self.index.chunks(&key).into_iter().for_each(|index| {
                presence.insert(index);
            });
        }
        let (data, presence) = match data.found {
            Found::Intact if presence.is_complete() => {
                data.share();
                (data, presence)
            }
            Found::Intact | Found::Nothing => (data, presence),
            Found::Shared if presence.is_complete() => (data, presence),
            // Completed a moment ago, so that not all of it is recorded yet; or still being filled.
            Found::Shared | Found::InUse => {
                log::info!(
                    "{}: another mount is filling its cache with this file; it is not kept twice",
                    redact(url)
                );
                let data = self
                    .store
                    .nameless_file(version.size)
                    .map_err(|err| ReadError::Store(err.to_string()))?;
                (data, Presence::new(chunks))
            }
        };
        let recorded = data.found != Found::InUse;
        if recorded {
            let row = EntryRow {
                key: key.clone(),
                version: version.clone(),
                modified,
                chunk,
            };
            self.index.record(Record::Entry {
                row,
                url_key: UrlKey::new(url),
                url: redact(url),
            });
        }
        Ok(Settled {
            version: version.clone(),
            modified,
            key,
            presence,
            data,
            recorded,
        })
    }

    /// Settles an entry with the version that an answer was of, unless somebody has meanwhile.
    ///
    /// # Errors
    /// As for [`Self::open`].
    pub async fn settle(
        self: &Arc<Self>,
        entry: &Arc<CacheEntry>,
        version: &Version,
        modified: Option<SystemTime>,
    ) -> Result<(), ReadError> {
        let _one_at_a_time = entry.settling.lock().await;
        if entry.settled().is_some() {
            return Ok(());
        }
        let (this, shared, version) = (Arc::clone(self), Arc::clone(entry), version.clone());
        let opened =
            tokio::task::spawn_blocking(move || this.open(&shared.url, shared.chunk, &version, modified)).await;
        // The task fails only if it panics, or if the runtime is going down.
        let settled = opened.map_err(|err| ReadError::Store(err.to_string()))??;
        entry.settle(settled);
        Ok(())
    }
}
