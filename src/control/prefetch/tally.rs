//! The progress of a prefetch, which a client or `status` reads while it runs.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;

use super::part::{Part, Planned};
use crate::cache::ROWS_OF_FILE;
use crate::control::protocol::Progress;

/// Counts files and bytes. The bytes present of files in flight are read on demand, so progress shows each chunk
/// without a report of its own.
#[derive(Default)]
pub(in crate::control) struct Tally {
    /// Locked briefly; no other lock is taken and no I/O is done under it.
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Without the files in flight.
    counted: Progress,
    under_way: HashMap<u64, UnderWay>,
    next: u64,
    /// Bytes on disk of all wanted files once they are cached.
    on_disk: u64,
}

struct UnderWay {
    part: Arc<Part>,
    /// Bytes that were present when the file was opened.
    had: u64,
}

impl Tally {
    /// The current progress.
    pub(in crate::control) fn progress(&self) -> Progress {
        let state = self.state.lock();
        let mut progress = state.counted;
        for file in state.under_way.values() {
            progress.bytes_had += file.had;
            progress.bytes_fetched += file.part.present().saturating_sub(file.had);
        }
        progress
    }

    /// Bytes that everything wanted takes in the cache, as far as known.
    pub(super) fn takes(&self) -> u64 {
        let state = self.state.lock();
        let Progress { files, files_done, .. } = state.counted;
        // The rows of finished files are already counted with the index.
        state.on_disk + files.saturating_sub(files_done) * ROWS_OF_FILE
    }

    pub(super) fn set_searching(&self, is_searching: bool) {
        self.state.lock().counted.is_searching = is_searching;
    }

    /// Counts a file.
    pub(super) fn file_found(&self, planned: Planned) {
        let mut state = self.state.lock();
        state.counted.files += 1;
        state.counted.bytes += planned.bytes;
        state.on_disk += planned.on_disk;
    }

    pub(super) fn file_done(&self) {
        self.state.lock().counted.files_done += 1;
    }

    pub(super) fn failed(&self) {
        self.state.lock().counted.failed += 1;
    }

    /// Counts a directory that is left out.
    pub(super) fn left_out(&self) {
        self.state.lock().counted.left_out += 1;
    }

    /// Corrects a file's planned bytes once its size is known better.
    pub(super) fn replan(&self, planned: &mut Planned, now: Planned) {
        let mut state = self.state.lock();
        state.counted.bytes = state.counted.bytes - planned.bytes + now.bytes;
        state.on_disk = state.on_disk - planned.on_disk + now.on_disk;
        *planned = now;
    }

    /// Counts the present bytes of a file in flight until the guard is dropped. What was fetched stays counted.
    pub(super) fn look_at(self: &Arc<Self>, part: Arc<Part>) -> Looking {
        let had = part.present();
        let mut state = self.state.lock();
        let number = state.next;
        state.next += 1;
        state.under_way.insert(number, UnderWay { part, had });
        Looking {
            tally: Arc::clone(self),
            number,
        }
    }
}

/// Guard: the tally reads the file's progress while it exists.
pub(super) struct Looking {
    tally: Arc<Tally>,
    number: u64,
}

impl Drop for Looking {
    fn drop(&mut self) {
        let mut state = self.tally.state.lock();
        if let Some(UnderWay { part, had }) = state.under_way.remove(&self.number) {
            state.counted.bytes_had += had;
            state.counted.bytes_fetched += part.present().saturating_sub(had);
        }
    }
}
