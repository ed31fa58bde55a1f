//! Write guards: chunks that a fetch is writing are not evicted. Those incomplete at its end are
//! freed.

use std::ops::Range;
use std::sync::Arc;

use super::CachedFile;
use crate::cache::quota::Quota;

impl CachedFile {
    /// Protects chunks that a fetch is going to write, until the guard is dropped. Chunks
    /// incomplete by then are freed.
    pub fn fill(self: &Arc<Self>, chunks: Range<u64>, quota: &Arc<Quota>) -> WriteGuard {
        let mut state = self.state.lock();
        for chunk in chunks.clone() {
            let losses = state.losses;
            let (fetches, noted) = state.filling.entry(chunk).or_default();
            (*fetches, *noted) = (*fetches + 1, losses);
            state.abandoned.remove(&chunk);
            // It is wanted again: its bytes stay, and are overwritten with the same ones. An
            // unverified chunk stays unverified.
            if let Some(Some(checksum)) = state.leaving.remove(&chunk) {
                self.unverified.put_back(chunk, checksum);
            }
        }
        drop(state);
        WriteGuard {
            cached_file: Arc::clone(self),
            chunks,
            quota: Arc::clone(quota),
        }
    }
}

/// Guard of [`CachedFile::fill`].
#[derive(Debug)]
pub struct WriteGuard {
    cached_file: Arc<CachedFile>,
    chunks: Range<u64>,
    quota: Arc<Quota>,
}

impl WriteGuard {
    /// Releases the chunks before this one, which are complete.
    pub fn keep_from(&mut self, chunk: u64) {
        let whole = self.chunks.start..chunk.clamp(self.chunks.start, self.chunks.end);
        self.chunks.start = whole.end;
        self.end(whole);
    }

    fn end(&self, chunks: Range<u64>) {
        let mut state = self.cached_file.state.lock();
        for chunk in chunks {
            let (fetches, losses) = state.filling.entry(chunk).or_default();
            *fetches = fetches.saturating_sub(1);
            let (fetches, losses) = (*fetches, *losses);
            if fetches == 0 {
                state.filling.remove(&chunk);
                if self.cached_file.presence.contains(chunk) {
                    state.lost.remove(&chunk);
                }
                // An unverified chunk is unchanged: its checksum decides.
                if !self.cached_file.presence.contains(chunk) && !self.cached_file.unverified.contains(chunk) {
                    state.abandoned.insert(chunk, losses);
                }
            }
        }
        let leaves_any = !state.abandoned.is_empty();
        drop(state);
        if leaves_any {
            self.quota.note_leftovers(Arc::<CachedFile>::clone(&self.cached_file));
        }
    }
}

impl Drop for WriteGuard {
    fn drop(&mut self) {
        self.end(self.chunks.clone());
    }
}
