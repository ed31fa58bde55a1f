//! Eviction of chunks in two steps, and the release of leftover bytes of a file.
//!
//! Between the steps the index forgets the chunks. A chunk that the index may not have forgotten
//! stays, and so does one that is wanted again meanwhile.

use std::ops::Range;

use super::{CachedFile, State};
use crate::cache::quota::SEGMENT;
use crate::cache::storage::chunk_store::ChunkStore;
use crate::cache::storage::data_file::{Exclusive, LAST_BLOCK};

impl CachedFile {
    /// The chunks of a segment that may be evicted, in the order of the file.
    pub fn evictable(&self, segment: u64) -> Vec<u64> {
        let state = self.state.lock();
        if state.holds > 0 {
            return Vec::new();
        }
        let may_go = |chunk: &u64| !state.is_used(*chunk) && !state.filling.contains_key(chunk);
        let unverified = self.unverified.within(segment * SEGMENT..(segment + 1) * SEGMENT);
        let mut chunks: Vec<u64> = self
            .presence
            .in_segment(segment)
            .chain(unverified)
            .filter(may_go)
            .collect();
        chunks.sort_unstable();
        chunks
    }

    /// Takes chunks out of the bitmap, if no other process has the file open. `None` if one has, or
    /// if none of the chunks may be evicted. A file without present chunks may be
    /// [unlinked](Evicting::unlink).
    pub fn begin_eviction(&self, chunks: &[u64]) -> Option<Evicting<'_>> {
        let exclusive = self.data.exclusively()?;
        let mut state = self.state.lock();
        if state.holds > 0 {
            return None;
        }
        let mut gone = Vec::new();
        for &chunk in chunks {
            if state.is_used(chunk) || state.filling.contains_key(&chunk) {
                continue;
            }
            // A chunk that was never verified is evicted like any other.
            let suspect = self.unverified.take(chunk);
            if self.presence.remove(chunk) || suspect.is_some() {
                state.leaving.insert(chunk, suspect);
                gone.push(chunk);
            }
        }
        drop(state);
        (!gone.is_empty() || self.presence.is_empty()).then_some(Evicting {
            cached_file: self,
            exclusive,
            chunks: gone,
            is_doomed: false,
        })
    }

    /// Frees the bytes of incomplete chunks, as far as permitted; with `all`, of everything in the
    /// file that is not recorded. `recorded` returns the recorded chunks of a range, `None` if they
    /// are unknown. It is called while no other process has the file open: another mount may have
    /// completed a chunk that was begun here, and closed the file.
    pub fn trim(&self, all: bool, recorded: impl FnOnce(&Range<u64>) -> Option<Vec<u64>>) -> Change {
        if !all && self.state.lock().abandoned.is_empty() {
            return Change::default();
        }
        let Some(exclusive) = self.data.exclusively() else {
            return Change::default();
        };
        let mut state = self.state.lock();
        if state.holds > 0 {
            return Change::default();
        }
        let candidates: Vec<u64> = if all {
            (0..self.chunk.count(self.size)).collect()
        } else {
            state.abandoned.keys().copied().collect()
        };
        let unwanted: Vec<u64> = candidates
            .into_iter()
            .filter(|chunk| {
                !self.presence.contains(*chunk)
                    // Recorded, and perhaps good: verified when it is wanted.
                    && !self.unverified.contains(*chunk)
                    && !state.is_used(*chunk)
                    && !state.filling.contains_key(chunk)
                    && !state.leaving.contains_key(chunk)
            })
            .collect();
        let known = match (unwanted.first(), unwanted.last()) {
            (Some(&first), Some(&last)) => recorded(&(first..last + 1)),
            _ => Some(Vec::new()),
        };
        let Some(known) = known else {
            return Change::default();
        };
        // A lost chunk is recorded until the index is updated.
        let is_here = |chunk: &u64| known.binary_search(chunk).is_ok() && !state.lost.contains(chunk);
        let (here, unwanted): (Vec<u64>, Vec<u64>) = unwanted.into_iter().partition(is_here);
        for chunk in here {
            self.presence.insert(chunk);
            state.abandoned.remove(&chunk);
        }
        for chunk in &unwanted {
            self.presence.count_gone(*chunk);
            state.abandoned.remove(chunk);
        }
        self.punch(&mut state, &exclusive, &unwanted)
    }

    /// Punches out chunks that are not present.
    fn punch(&self, state: &mut State, exclusive: &Exclusive<'_>, chunks: &[u64]) -> Change {
        // Counted first, so that what others have written since the last look does not hide what is
        // freed.
        let grown = self.count(state);
        let mut failed = None;
        for run in chunks.chunk_by(|one, next| one + 1 == *next) {
            let bytes = self.chunk.bytes_of(&(run[0]..run[run.len() - 1] + 1), self.size);
            // The kernel frees whole blocks, and the file's last block is whole only beyond its
            // end.
            let end = if bytes.end == self.size {
                bytes.end.next_multiple_of(LAST_BLOCK)
            } else {
                bytes.end
            };
            if let Err(error) = exclusive.punch(&(bytes.start..end)) {
                failed = error.raw_os_error();
                // They are not recorded any more. The next run would fail alike, and all are tried
                // again in a later round.
                let (left, losses) = (chunks.iter().filter(|&chunk| *chunk >= run[0]), state.losses);
                state.abandoned.extend(left.map(|&chunk| (chunk, losses)));
                break;
            }
        }
        let shrunk = self.count(state);
        Change {
            counted: grown + shrunk,
            freed: u64::try_from(-shrunk).unwrap_or(0),
            failed,
        }
    }
}

impl State {
    /// Those of the chunks that were not wanted again since their eviction began; for unverified
    /// ones the checksum.
    fn take_leaving(&mut self, chunks: &[u64]) -> Vec<(u64, Option<u64>)> {
        let still = chunks.iter();
        still.filter_map(|chunk| self.leaving.remove_entry(chunk)).collect()
    }
}

/// The result of punching holes into a file, or of deleting it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Change {
    /// Change of the file's count, in bytes; includes what was written and not counted yet.
    pub counted: i64,
    /// Bytes that were freed.
    pub freed: u64,
    /// The errno, if not all could be freed.
    pub failed: Option<i32>,
}

/// Chunks being evicted from a file that no other process has open.
#[derive(Debug)]
pub struct Evicting<'a> {
    cached_file: &'a CachedFile,
    exclusive: Exclusive<'a>,
    /// In the order of the file.
    pub chunks: Vec<u64>,
    /// True if the whole file is to be deleted.
    pub is_doomed: bool,
}

impl Evicting<'_> {
    /// The index has forgotten the chunks: frees their bytes, but for those that were wanted again
    /// meanwhile.
    pub fn punch(self) -> Change {
        let mut state = self.cached_file.state.lock();
        let still: Vec<u64> = state
            .take_leaving(&self.chunks)
            .into_iter()
            .map(|(chunk, _)| chunk)
            .collect();
        self.cached_file.punch(&mut state, &self.exclusive, &still)
    }

    /// Cancels the eviction because the index may not have forgotten the chunks. Their bytes must
    /// stay while they may be recorded: this mount or another would take the holes for them.
    pub fn give_up(self) {
        let mut state = self.cached_file.state.lock();
        for (chunk, suspect) in state.take_leaving(&self.chunks) {
            match suspect {
                Some(checksum) => self.cached_file.unverified.put_back(chunk, checksum),
                None => drop(self.cached_file.presence.insert(chunk)),
            }
        }
    }

    /// The index has forgotten the entry, and no new user can find it: deletes its file.
    pub fn unlink(self, store: &ChunkStore) -> Change {
        match store.unlink(&self.cached_file.key) {
            Ok(()) => {
                let freed = self.cached_file.state.lock().counted;
                Change {
                    counted: -freed.cast_signed(),
                    freed,
                    failed: None,
                }
            }
            Err(error) => Change {
                failed: error.raw_os_error(),
                ..Change::default()
            },
        }
    }
}
