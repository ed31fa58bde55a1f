//! How far a prefetch has come, for who asks while it runs.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;

use super::file::Part;
use crate::cache::ROWS_OF_FILE;
use crate::control::protocol::Progress;

/// Counts files and bytes. What is present of the files under way is looked at when somebody asks, so that progress is
/// seen chunk by chunk though nobody reports it.
#[derive(Default)]
pub(in crate::control) struct Tally {
    /// Taken for a moment; nothing is taken under it, and no I/O is done under it.
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Without the files under way.
    counted: Progress,
    under_way: HashMap<u64, UnderWay>,
    next: u64,
    /// Bytes that all files take on the disk when they are here.
    on_disk: u64,
}

/// What is wanted of a file.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(in crate::control) struct Planned {
    /// Bytes.
    pub(super) bytes: u64,
    /// Bytes that these take on the disk.
    pub(super) on_disk: u64,
}

struct UnderWay {
    part: Arc<Part>,
    /// Bytes of it that were present when it was opened.
    had: u64,
}

impl Tally {
    /// How far it has come.
    pub(in crate::control) fn progress(&self) -> Progress {
        let state = self.state.lock();
        let mut progress = state.counted;
        for file in state.under_way.values() {
            progress.bytes_had += file.had;
            progress.bytes_fetched += file.part.present().saturating_sub(file.had);
        }
        progress
    }

    /// Bytes that all that is wanted takes in the cache, as far as is known.
    pub(super) fn takes(&self) -> u64 {
        let state = self.state.lock();
        let Progress { files, files_done, .. } = state.counted;
        // Of those that are done the rows are counted with the index.
        state.on_disk + files.saturating_sub(files_done) * ROWS_OF_FILE
    }

    pub(super) fn set_searching(&self, is_searching: bool) {
        self.state.lock().counted.is_searching = is_searching;
    }

    /// A file of which so much is wanted.
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

    /// A directory that is not gone into.
    pub(super) fn left_out(&self) {
        self.state.lock().counted.left_out += 1;
    }

    /// A file is known better than it was: other bytes of it are wanted than planned.
    pub(super) fn replan(&self, planned: &mut Planned, now: Planned) {
        let mut state = self.state.lock();
        state.counted.bytes = state.counted.bytes - planned.bytes + now.bytes;
        state.on_disk = state.on_disk - planned.on_disk + now.on_disk;
        *planned = now;
    }

    /// Begins to look at a file. What was fetched of it stays counted when the guard is dropped.
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

/// The tally looks at a file for as long as this lives.
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
