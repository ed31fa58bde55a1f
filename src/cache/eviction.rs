//! Keeping the cache near its size limit.
//!
//! When the recorded chunks take more than the limit, whole entries are deleted, the least recently
//! opened first, until they take a tenth less. An entry that somebody uses is left alone, so what is
//! open at once may take the cache past its limit for as long as it is open.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::Notify;

use super::index::Record;
use super::versions::Versions;

/// Entries looked at in one query.
const BATCH: usize = 256;

/// Counts what is added, and says when it is time to look at the whole.
pub struct Room {
    /// Bytes.
    limit: u64,
    added: AtomicU64,
    check: Notify,
}

impl Room {
    /// Room for `limit` bytes of chunks.
    pub fn new(limit: u64) -> Room {
        let room = Room {
            limit,
            added: AtomicU64::new(0),
            check: Notify::new(),
        };
        // Whatever earlier mounts have left may be too much already.
        room.check.notify_one();
        room
    }

    /// Notes that a chunk was added. Cheap: looking at the whole is left to [`keep`].
    pub fn added(&self, bytes: u64) {
        let added = self.added.fetch_add(bytes, Ordering::Relaxed) + bytes;
        if added >= self.limit / 20 {
            self.added.store(0, Ordering::Relaxed);
            self.check.notify_one();
        }
    }
}

/// Evicts whenever enough was added. Runs for as long as the mount does.
pub async fn keep(room: Arc<Room>, versions: Arc<Versions>, let_go: impl Fn() + Send + Sync + 'static) {
    let let_go = Arc::new(let_go);
    loop {
        room.check.notified().await;
        let (limit, versions, let_go) = (room.limit, Arc::clone(&versions), Arc::clone(&let_go));
        let evicting = tokio::task::spawn_blocking(move || {
            if versions.index.cached_bytes() > limit {
                let_go();
                evict(&versions, limit);
            }
        });
        if let Err(err) = evicting.await {
            log::warn!("making room in the cache: {err}");
        }
    }
}

fn evict(versions: &Versions, limit: u64) {
    let target = limit - limit / 10;
    let mut cached = versions.index.cached_bytes();
    let (mut entries, mut bytes, mut in_use) = (0, 0, 0_usize);
    // As many queries as it takes: of small files it takes many to make room for what was added.
    while cached > target {
        let batch = versions.index.least_recently_used(in_use, BATCH);
        if batch.is_empty() {
            break;
        }
        for (key, size) in batch {
            if cached <= target {
                break;
            }
            let forget = || {
                versions.index.record(Record::Forget { key: key.clone() });
                // The rows go before the bytes: a crash in between leaves a file that nobody trusts.
                versions.index.sync();
            };
            if versions.store.remove_unused(&key, forget) {
                cached = cached.saturating_sub(size);
                entries += 1;
                bytes += size;
            } else {
                in_use += 1;
            }
        }
    }
    log::info!("made room in the cache: {entries} files with {bytes} bytes went, {in_use} are in use and stay");
}

#[cfg(test)]
mod tests {
    use url::Url;

    use super::*;
    use crate::cache::chunk::ChunkSize;
    use crate::cache::index::ChunkIndex;
    use crate::cache::store::ChunkStore;
    use crate::http::{Validator, Version};

    #[test]
    fn small_files_are_evicted_until_there_is_room_and_those_in_use_stay() {
        const SIZE: u64 = 4096;
        let dir = tempfile::tempdir().unwrap();
        let versions = Versions {
            store: ChunkStore::open(dir.path()).unwrap(),
            index: Arc::new(ChunkIndex::open(dir.path()).unwrap()),
            restoring: parking_lot::Mutex::default(),
        };
        let files = 2 * BATCH as u64;
        let open = |number: u64| {
            let url = Url::parse(&format!("http://h/{number}")).unwrap();
            let version = Version {
                size: SIZE,
                validator: Validator::None,
            };
            let settled = versions
                .open(&url, ChunkSize::new(SIZE).unwrap(), &version, None)
                .unwrap();
            let key = settled.key.clone();
            versions.index.record(Record::Chunk {
                key,
                index: 0,
                checksum: 0,
            });
            settled
        };
        let in_use: Vec<_> = (0..10).map(open).collect();
        (10..files).map(open).for_each(drop);
        assert_eq!(versions.index.cached_bytes(), files * SIZE);
        evict(&versions, 100 * SIZE);
        assert_eq!(versions.index.cached_bytes(), 90 * SIZE);
        for settled in in_use {
            assert_eq!(versions.index.recorded(&settled.key).chunks, [(0, 0)]);
        }
    }
}
