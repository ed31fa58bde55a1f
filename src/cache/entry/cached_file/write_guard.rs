//! Filling: chunks that a fetch writes bytes of. They stay for as long; those that are not whole when it ends are given back.

use std::ops::Range;
use std::sync::Arc;

use super::Resident;
use crate::cache::eviction::Quota;

impl Resident {
    /// Says that a fetch is going to write bytes of these chunks. They stay until the guard is dropped; those that are not
    /// whole by then are given back.
    pub fn fill(self: &Arc<Self>, chunks: Range<u64>, quota: &Arc<Quota>) -> Filling {
        let mut state = self.state.lock();
        for chunk in chunks.clone() {
            let losses = state.losses;
            let (fetches, noted) = state.filling.entry(chunk).or_default();
            (*fetches, *noted) = (*fetches + 1, losses);
            state.abandoned.remove(&chunk);
            // It is wanted again: its bytes stay, and are written over with the same ones. What was not verified is not for that.
            if let Some(Some(checksum)) = state.leaving.remove(&chunk) {
                self.suspects.put_back(chunk, checksum);
            }
        }
        drop(state);
        Filling {
            resident: Arc::clone(self),
            chunks,
            quota: Arc::clone(quota),
        }
    }
}

/// See [`Resident::fill`].
#[derive(Debug)]
pub struct Filling {
    resident: Arc<Resident>,
    chunks: Range<u64>,
    quota: Arc<Quota>,
}

impl Filling {
    /// The chunks before this one are whole.
    pub fn keep_from(&mut self, chunk: u64) {
        let whole = self.chunks.start..chunk.clamp(self.chunks.start, self.chunks.end);
        self.chunks.start = whole.end;
        self.end(whole);
    }

    fn end(&self, chunks: Range<u64>) {
        let mut state = self.resident.state.lock();
        for chunk in chunks {
            let (fetches, losses) = state.filling.entry(chunk).or_default();
            *fetches = fetches.saturating_sub(1);
            let (fetches, losses) = (*fetches, *losses);
            if fetches == 0 {
                state.filling.remove(&chunk);
                if self.resident.presence.contains(chunk) {
                    state.lost.remove(&chunk);
                }
                // What is suspect is as good as it was, or as bad: its checksum tells.
                if !self.resident.presence.contains(chunk) && !self.resident.suspects.contains(chunk) {
                    state.abandoned.insert(chunk, losses);
                }
            }
        }
        let leaves_any = !state.abandoned.is_empty();
        drop(state);
        if leaves_any {
            self.quota.note_leftovers(&self.resident);
        }
    }
}

impl Drop for Filling {
    fn drop(&mut self) {
        self.end(self.chunks.clone());
    }
}
