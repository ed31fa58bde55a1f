//! Leaving: how chunks go, in two steps, and what is left over of a file is given back.
//!
//! Between the steps the index forgets the chunks. What it may not have forgotten stays; what is wanted again meanwhile stays, too.

use std::ops::Range;

use super::{CachedFile, State};
use crate::cache::quota::SEGMENT;
use crate::cache::storage::chunk_store::ChunkStore;
use crate::cache::storage::data_file::{Exclusive, LAST_BLOCK};

impl CachedFile {
    /// The chunks of a segment that may go, in the order of the file.
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

    /// Takes chunks out of the present set, if nobody else has the file open. `None` if somebody has, or if nothing may go
    /// that is there. A file of which nothing is present may be [unlinked](Evicting::unlink).
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
            // One that was never verified goes like any other.
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

    /// Gives back the bytes of chunks that never became whole, as far as they may go; and if `all`, of whatever
    /// is in the file beside what is recorded. `recorded` says which chunks of a range are, `None` if that can't be told. It is asked when
    /// nobody else has the file open: another mount may have made whole what was begun here, and closed it.
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
                    // Recorded, and perhaps good: that is found out when somebody wants it.
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
        // What was lost is recorded until the index is told.
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
        // What others have written since the last look must not hide what goes.
        let grown = self.count(state);
        let mut failed = None;
        for run in chunks.chunk_by(|one, next| one + 1 == *next) {
            let bytes = self.chunk.bytes_of(&(run[0]..run[run.len() - 1] + 1), self.size);
            // The kernel gives back whole blocks, and the file's last one is whole only beyond its end.
            let end = if bytes.end == self.size {
                bytes.end.next_multiple_of(LAST_BLOCK)
            } else {
                bytes.end
            };
            if let Err(error) = exclusive.punch(&(bytes.start..end)) {
                failed = error.raw_os_error();
                // They are not recorded any more. The next run would fail alike, and all are tried again in a later round.
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
    /// Those of the chunks that were not wanted again since they began to leave; of those that were suspect, the checksum.
    fn take_leaving(&mut self, chunks: &[u64]) -> Vec<(u64, Option<u64>)> {
        let still = chunks.iter();
        still.filter_map(|chunk| self.leaving.remove_entry(chunk)).collect()
    }
}

/// What punching holes into a file, or deleting it, has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Change {
    /// By how much the count of the file has changed, in bytes: what was written and not counted yet is in it.
    pub counted: i64,
    /// Bytes that were given back.
    pub freed: u64,
    /// Why not all could be given back: an errno.
    pub failed: Option<i32>,
}

/// Chunks on their way out of a file that nobody else has open.
#[derive(Debug)]
pub struct Evicting<'a> {
    cached_file: &'a CachedFile,
    exclusive: Exclusive<'a>,
    /// In the order of the file.
    pub chunks: Vec<u64>,
    /// Whether the file goes as a whole.
    pub is_doomed: bool,
}

impl Evicting<'_> {
    /// The index has forgotten the chunks: gives their bytes back, but for those that were wanted again meanwhile.
    pub fn punch(self) -> Change {
        let mut state = self.cached_file.state.lock();
        let still: Vec<u64> = state
            .take_leaving(&self.chunks)
            .into_iter()
            .map(|(chunk, _)| chunk)
            .collect();
        self.cached_file.punch(&mut state, &self.exclusive, &still)
    }

    /// The index may not have forgotten the chunks: all is as before. Their bytes must not go while they may be
    /// recorded: another mount, or a later one, would take the holes for them.
    pub fn give_up(self) {
        let mut state = self.cached_file.state.lock();
        for (chunk, suspect) in state.take_leaving(&self.chunks) {
            match suspect {
                Some(checksum) => self.cached_file.unverified.put_back(chunk, checksum),
                None => drop(self.cached_file.presence.insert(chunk)),
            }
        }
    }

    /// The index has forgotten the entry, and nobody can come to it any more: deletes its file.
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
