//! The writer threads: they put received bytes at their place in the data files.
//!
//! `pwrite` to the page cache is a copy, until the kernel throttles a writer of dirty pages; then
//! it blocks for seconds. On the asynchronous workers it would delay every other download. So it is
//! done here, in whole buffers.
//!
//! The order within a write is the cache's second promise:
//!
//! 1. The bytes are in the file.
//! 2. Their whole chunks are marked present.
//! 3. These chunks are handed to the index writer.
//! 4. The manager receives the progress and wakes the waiters.
//!
//! **Only then may the written chunks be evicted** ([`WriteGuard`](crate::cache::entry::cached_file::write_guard::WriteGuard)). Until the scheduler receives a
//! write, it relies on earlier reports, for example that a chunk is written to its middle, and
//! wakes waiters that need no more than that.

use std::io;
use std::sync::{Arc, Weak};

use bytes::Bytes;
use crossbeam_channel::{Receiver, Sender};
use tokio::sync::oneshot;

use crate::cache::entry::cache_dir::CacheDir;
use crate::cache::entry::cache_entry::{CacheEntry, Settled};
use crate::cache::entry::memory_store::MemoryFile;
use crate::cache::entry::position::Position;
use crate::cache::entry::version_store::VersionStore;
use crate::cache::error::ReadError;
use crate::cache::fetch::manager::ChunkManager;
use crate::cache::fetch::scheduler::FetchId;
use crate::cache::index::Record;
use crate::cache::quota::SEGMENT;
use crate::util::panic_guard;

/// Number of threads. One keeps up with several gigabytes per second; the second is there for when
/// the first is blocked in a slow system call.
const THREADS: usize = 2;

/// Capacity of the channel in buffers, over all fetches. Each fetch has at most one in the channel,
/// so this only bounds the memory with very many connections.
const QUEUED: usize = 64;

/// Bytes to write at once, at their fetch's position.
pub(crate) struct WriteJob {
    /// The entry of the bytes.
    pub entry: Arc<CacheEntry>,
    /// The fetch that brought them.
    pub fetch: FetchId,
    /// Receives the progress.
    pub manager: Arc<ChunkManager>,
    /// The bytes, in order.
    pub pieces: Vec<Bytes>,
    /// Where to write them. Returned with the answer.
    pub position: Box<Position>,
    /// Receives the position reached, and the error.
    pub done: oneshot::Sender<(Box<Position>, Result<(), ReadError>)>,
}

/// Starts the threads. They end when the sender is dropped. Between two writes they hold nothing of the cache: so dropping
/// the cache closes its index, and the directory can be opened again at once.
///
/// # Errors
/// If the system refuses a thread.
pub(crate) fn start(cache_dir: &Arc<CacheDir>) -> io::Result<Sender<WriteJob>> {
    let (jobs, queue) = crossbeam_channel::bounded::<WriteJob>(QUEUED);
    for number in 0..THREADS {
        let (queue, cache_dir) = (queue.clone(), Arc::downgrade(cache_dir));
        std::thread::Builder::new()
            .name(format!("file-writer-{number}"))
            .spawn(move || run(&queue, &cache_dir))?;
    }
    Ok(jobs)
}

fn run(queue: &Receiver<WriteJob>, cache_dir: &Weak<CacheDir>) {
    panic_guard::each(queue, "writing a response body", |job| {
        let WriteJob {
            entry,
            fetch,
            manager,
            pieces,
            mut position,
            done,
        } = job;
        // Without the cache no fetch waits for the answer.
        let Some(cache_dir) = cache_dir.upgrade() else { return };
        let result = match entry.settled() {
            Some(Settled {
                memory: Some(memory), ..
            }) => append(&entry, memory, &pieces, &mut position, cache_dir.versions()),
            // The failure to create it was recorded at that time.
            Some(settled) if settled.cached_file.has_no_file() => Err(ReadError::Store("there is no data file".into())),
            Some(settled) => {
                let versions = cache_dir.versions();
                let written = write(&entry, settled, &pieces, &mut position, versions);
                // Failures were recorded where they happened.
                if written.is_ok() {
                    versions.disk_health.worked();
                }
                written
            }
            None => Err(ReadError::Store("the version of these bytes is not known yet".into())),
        };
        if matches!(result, Err(ReadError::Lost)) {
            manager.lost(entry.id);
        }
        manager.progress(entry.id, fetch, position.offset);
        if result.is_ok() {
            position.was_told(entry.chunk, entry.size());
        }
        // The fetch may have been stopped meanwhile; then the answer has no receiver.
        let _ = done.send((position, result));
    });
}

fn write(
    entry: &CacheEntry,
    settled: &Settled,
    pieces: &[Bytes],
    position: &mut Position,
    versions: &VersionStore,
) -> Result<(), ReadError> {
    let cached_file = &settled.cached_file;
    let restore = || {
        versions
            .restore_if_cut(entry, settled)
            .map_err(|error| store_error(versions, &error))
    };
    restore()?;
    if position.is_lost(entry.chunk, cached_file) {
        return Err(ReadError::Lost);
    }
    let losses = cached_file.losses();
    position.losses = losses;
    let len: u64 = pieces.iter().map(|piece| piece.len() as u64).sum();
    let is_scan = entry.is_only_scanned();
    let room = if is_scan {
        // No failure of the disk: the scanner's read goes on as a bypass.
        versions.quota.reserve_free(len)?
    } else {
        // This thread holds nothing that freeing space could wait for.
        let reserved = versions.quota.reserve(len);
        reserved.inspect_err(|error| versions.disk_health.failed(error))?
    };
    let start = position.offset;
    // The previous guard ends after the new one has begun. The guard is kept after a failed write
    // too: the fetch has yet to report its end.
    position.filling = Some(cached_file.fill(entry.chunk.touched(&(start..start + len)), &versions.quota));
    cached_file
        .write(room, |data| data.write_all_at(pieces, start))
        .map_err(|error| store_error(versions, &error))?;
    // If the file was truncated in between, the bytes before these are zeros now.
    restore()?;
    if cached_file.losses() != losses {
        return Err(ReadError::Lost);
    }
    cached_file.unread.note_fetched(&(start..start + len));
    for piece in pieces {
        position.advance(entry.chunk, settled.size(), piece, |chunk, checksum| {
            record(versions, settled, chunk, checksum, is_scan);
        });
    }
    versions.checks.consider(entry, settled);
    Ok(())
}

/// A chunk is complete. `is_scan`: only a scanner wants it.
fn record(versions: &VersionStore, settled: &Settled, chunk: u64, checksum: u64, is_scan: bool) {
    let cached_file = &settled.cached_file;
    let moment = versions.quota.moment(0);
    if !is_scan {
        cached_file.recency.came(chunk, &moment);
    } else if settled.presence.in_segment(chunk / SEGMENT).next().is_none() {
        cached_file.recency.scanned(chunk, &moment);
    }
    if settled.presence.insert(chunk) {
        let record = Record::Chunk {
            key: cached_file.key.clone(),
            index: chunk,
            checksum,
        };
        versions.record_contents(cached_file, record);
    }
    versions.clear_suspect(settled, chunk);
}

/// Writes for a bypass entry.
fn append(
    entry: &CacheEntry,
    memory: &Arc<MemoryFile>,
    pieces: &[Bytes],
    position: &mut Position,
    versions: &VersionStore,
) -> Result<(), ReadError> {
    let len: u64 = pieces.iter().map(|piece| piece.len() as u64).sum();
    let held = memory.hold(&(position.offset..position.offset + len));
    for piece in pieces {
        if !held.append(position.offset, piece) {
            return Err(ReadError::Lost);
        }
        position.advance(entry.chunk, entry.size(), piece, |_, _| {});
    }
    // Only what a reader waits for bypasses the cache.
    versions.counters.used_bytes.add(len);
    position.held = Some(held);
    Ok(())
}

fn store_error(versions: &VersionStore, error: &io::Error) -> ReadError {
    let failed = ReadError::Store(error.to_string());
    // A file that can't be written because other processes hold its truncated part open says
    // nothing about the disk.
    if error.kind() != io::ErrorKind::ResourceBusy {
        versions.disk_health.note_disk(error);
        versions.disk_health.failed(&failed);
    }
    failed
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::chunk::ChunkSize;
    use proptest::prelude::*;
    use xxhash_rust::xxh3::xxh3_64;

    proptest! {
        #[test]
        fn checksum_is_independent_of_piece_sizes(size in 1usize..20_000, cuts in prop::collection::vec(1usize..5000, 1..20)) {
            let chunk = ChunkSize::new(4096).unwrap();
            let data: Vec<u8> = (0..size).map(|i| (i * 31 % 251) as u8).collect();
            let (mut position, mut found, mut rest) = (Position::at_chunk_edge(0), Vec::new(), &data[..]);
            for cut in cuts.iter().cycle() {
                let (now, later) = rest.split_at((*cut).min(rest.len()));
                position.advance(chunk, size as u64, now, |index, sum| found.push((index, sum)));
                rest = later;
                if rest.is_empty() { break; }
            }
            let expected: Vec<_> = data.chunks(4096).enumerate().map(|(i, c)| (i as u64, xxh3_64(c))).collect();
            prop_assert_eq!(found, expected);
        }
    }
}
