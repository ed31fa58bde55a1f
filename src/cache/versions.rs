//! From a version of a remote file to its data file and the chunks that are here of it.
//!
//! The one place where the index and the store are brought together: rows are believed only when
//! the data file that they speak of is found as they left it. What may not be so is verified ([`super::suspects`]).

use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::time::SystemTime;

use parking_lot::Mutex;
use url::Url;
use xxhash_rust::xxh3::xxh3_64;

use super::chunk::ChunkSize;
use super::entry::{CacheEntry, EntryKey, Settled, UrlKey};
use super::error::ReadError;
use super::index::{ChunkIndex, EntryRow, FileRow, Record, Recorded, Saying};
use super::presence::Presence;
use super::store::{ChunkStore, DataFile, Found};
use super::suspects::Suspects;
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
    /// Held by the one who makes a data file whole again that was cut off: rare, and some system calls.
    pub(super) restoring: Mutex<()>,
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
        let failed = |err: io::Error| ReadError::Store(err.to_string());
        let inode = data.inode().map_err(failed)?;
        let (presence, suspects) = match data.found {
            Found::Intact | Found::Shared => {
                let mut recorded = self.index.recorded(&key);
                recorded.is_certain &= recorded.inode == inode;
                sort_out(recorded, &data, chunk, version.size)
            }
            Found::Nothing | Found::InUse => (Presence::new(chunks), Suspects::default()),
        };
        let (data, presence, suspects) = match data.found {
            Found::Intact if presence.is_complete() => {
                data.share();
                (data, presence, suspects)
            }
            Found::Intact | Found::Nothing => (data, presence, suspects),
            Found::Shared if presence.is_complete() => (data, presence, suspects),
            // Completed a moment ago, so that not all of it is recorded yet; or still being filled.
            Found::Shared | Found::InUse => {
                log::info!(
                    "{}: another mount is filling its cache with this file; it is not kept twice",
                    redact(url)
                );
                let data = self.store.nameless_file(version.size).map_err(failed)?;
                (data, Presence::new(chunks), Suspects::default())
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
                inode,
                is_suspect: !suspects.is_empty(),
            });
        } else {
            self.index.note(Saying::File {
                url_key: UrlKey::new(url),
                row: FileRow {
                    version: version.clone(),
                    modified,
                },
            });
        }
        Ok(Settled {
            version: version.clone(),
            modified,
            key,
            presence,
            suspects,
            data,
            recorded,
        })
    }

    /// Verifies suspect chunks of a settled entry, from the one that begins at `bytes.start` on, until one is not suspect or
    /// not what was recorded. Good ones become present, and `verified` is told up to which byte; a bad one is
    /// forgotten, so that it is fetched. Gives the byte offset reached. Blocks for reading them.
    pub fn verify(&self, entry: &CacheEntry, settled: &Settled, bytes: &Range<u64>, verified: impl Fn(u64)) -> u64 {
        let mut buffer = Vec::new();
        let mut reached = bytes.start;
        while reached < bytes.end {
            let chunk = entry.chunk.index(reached);
            let Some(checksum) = settled.suspects.checksum(chunk) else {
                break;
            };
            let place = entry.chunk.bytes_of(&(chunk..chunk + 1), settled.size());
            // At most 64 MiB.
            buffer.resize((place.end - place.start) as usize, 0);
            let read = settled.data.read_exact_at(&mut buffer, place.start);
            if read.is_err() || xxh3_64(&buffer) != checksum {
                log::warn!(
                    "{}: chunk {chunk} in the cache is not what was fetched; it is fetched again",
                    redact(&entry.url)
                );
                self.forget_chunk(settled, chunk);
                self.clear_suspect(settled, chunk);
                break;
            }
            settled.presence.insert(chunk);
            self.clear_suspect(settled, chunk);
            if settled.presence.is_complete() {
                settled.data.share();
            }
            reached = place.end;
            verified(reached);
        }
        reached
    }

    /// A chunk is not suspect any more, and what it is instead was handed to the index.
    pub fn clear_suspect(&self, settled: &Settled, chunk: u64) {
        if settled.suspects.clear(chunk) && settled.recorded {
            let key = settled.key.clone();
            self.index.record(Record::Trust { key });
        }
    }

    /// If somebody else has cut the data file off, forgets what was in that part of it and gives it back its size. To be
    /// called before a write, which would turn what is missing before it into zeros.
    ///
    /// # Errors
    /// What the file system says.
    pub fn restore_if_cut(&self, entry: &CacheEntry, settled: &Settled) -> io::Result<()> {
        if settled.data.cut_to()?.is_none() {
            return Ok(());
        }
        let _one_at_a_time = self.restoring.lock();
        let Some(len) = settled.data.cut_to()? else {
            return Ok(());
        };
        log::warn!(
            "{}: its data file in the cache was cut to {len} bytes by somebody else; what is missing is fetched again",
            redact(&entry.url)
        );
        self.lose(settled, entry.chunk.index(len)..entry.chunk.count(settled.size()));
        settled.data.restore_size()
    }

    /// What to make of a failed read of `bytes`, which were present. True if they are forgotten now, and will be fetched
    /// again when they are asked for.
    pub fn recover(&self, entry: &CacheEntry, settled: &Settled, bytes: &Range<u64>, error: &io::Error) -> bool {
        if error.kind() == io::ErrorKind::UnexpectedEof {
            return self.restore_if_cut(entry, settled).is_ok();
        }
        if error.raw_os_error() != Some(libc::EIO) {
            return false;
        }
        let lost = self.lose(settled, entry.chunk.touched(bytes));
        if lost > 0 {
            log::warn!(
                "{}: {lost} chunks in the cache can't be read ({error}); they are fetched again",
                redact(&entry.url)
            );
        }
        lost > 0
    }

    /// Forgets those of the chunks that are present. Gives their number.
    fn lose(&self, settled: &Settled, chunks: Range<u64>) -> usize {
        let present = chunks.filter(|&chunk| settled.presence.contains(chunk));
        present.map(|chunk| self.forget_chunk(settled, chunk)).count()
    }

    /// The bytes of a chunk are lost: it is not present, and not recorded.
    pub fn forget_chunk(&self, settled: &Settled, chunk: u64) {
        settled.presence.remove(chunk);
        if settled.recorded {
            let key = settled.key.clone();
            self.index.record(Record::ForgetChunk { key, index: chunk });
        }
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

/// Which of the recorded chunks are present in a data file of `size` bytes, and which have to be verified first.
fn sort_out(recorded: Recorded, data: &DataFile, chunk: ChunkSize, size: u64) -> (Presence, Suspects) {
    let count = chunk.count(size);
    let presence = Presence::new(count);
    let known = recorded.chunks.into_iter().filter(|&(index, _)| index < count);
    if !recorded.is_certain {
        return (presence, Suspects::new(known));
    }
    let known: Vec<_> = known.collect();
    let mut suspects = Vec::new();
    // Mostly a run has no hole, and one question is enough.
    for run in known.chunk_by(|(one, _), (next, _)| one + 1 == *next) {
        let (first, last) = (run[0].0, run[run.len() - 1].0);
        let has_hole = data.has_hole(&chunk.bytes_of(&(first..last + 1), size));
        for &(index, checksum) in run {
            if has_hole && data.has_hole(&chunk.bytes_of(&(index..index + 1), size)) {
                suspects.push((index, checksum));
            } else {
                presence.insert(index);
            }
        }
    }
    (presence, Suspects::new(suspects))
}
