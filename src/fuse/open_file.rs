//! Open files and their readers.
//!
//! FLUSH follows each close of a descriptor. Mostly the reader closes it, and the FLUSH means that the reader is
//! gone. But a program that the reader starts inherits the descriptor and closes it a moment later: that is a FLUSH
//! too, while the reader reads on. The process id of the request tells the two apart.

use std::sync::{Arc, OnceLock};

use parking_lot::Mutex;
use url::Url;

use super::scan::{Scans, process_of};
use super::shared::Shared;
use crate::cache::{ReadBy, Reader, Sequential};
use crate::vfs::DateHold;

/// An open file handle.
pub(super) struct OpenFile {
    reader: Arc<Reader>,
    /// Keeps the file's date unchanged until the reader has closed the file.
    date: Mutex<Option<DateHold>>,
}

impl OpenFile {
    /// A handle without a read yet.
    pub(super) fn new(reader: Arc<Reader>, date: Option<DateHold>) -> OpenFile {
        OpenFile {
            reader,
            date: Mutex::new(date),
        }
    }

    /// The reader, for a read by this thread. `identify` names its program, for the first read.
    pub(super) fn read_by(&self, thread: u32, identify: impl FnOnce() -> Option<ReadBy>) -> Arc<Reader> {
        if self.reader.read_by().is_none()
            && let Some(by) = identify()
        {
            self.reader.set_read_by(by);
        }
        self.reader
            .open_file()
            .iter()
            .for_each(|open| open.counts.set_thread(thread));
        Arc::clone(&self.reader)
    }

    /// Handles a close by this thread. If it belongs to the reading process, or that is unknown, read-ahead stops and
    /// the file's date may change.
    pub(super) fn closed_by(&self, thread: u32) {
        let read_by = self.reader.open_file().map_or(0, |open| open.counts.thread());
        if may_be_one_process(read_by, thread) {
            self.reader.end_read_ahead();
            drop(self.date.lock().take());
        }
    }
}

fn may_be_one_process(one: u32, other: u32) -> bool {
    one == other
        || match (process_of(one), process_of(other)) {
            (Some(one), Some(other)) => one == other,
            _ => true,
        }
}

/// An open file that can only be read in sequence.
pub(super) struct OpenSequential {
    /// The file.
    pub file: Sequential,
    ino: u64,
    url: Url,
    read_by: OnceLock<ReadBy>,
}

impl OpenSequential {
    /// A handle without a read yet, on the inode with this number.
    pub(super) fn new(file: Sequential, ino: u64, url: Url) -> OpenSequential {
        OpenSequential {
            file,
            ino,
            url,
            read_by: OnceLock::new(),
        }
    }

    /// Returns true if a read up to this byte is refused to the program that this thread belongs to, and counts that.
    pub(super) fn refuses(&self, thread: u32, end: u64, shared: &Shared) -> bool {
        if self.read_by.get().is_none()
            && let Some(by) = shared.scans.read_by(thread, self.ino, &shared.stats.processes)
        {
            let _ = self.read_by.set(by);
        }
        let Some(by) = self.read_by.get() else { return false };
        let allowance = by.scan.as_ref().and_then(|scan| scan.allowance.as_ref());
        let is_refused = allowance.is_some_and(|allowance| end > allowance.limit());
        if is_refused {
            by.traffic.refused_reads.add(1);
            Scans::log_refusal(by, &self.url);
        }
        is_refused
    }

    /// So many bytes were read.
    pub(super) fn note_read(&self, bytes: u64) {
        if let Some(by) = self.read_by.get() {
            by.traffic.closed_bytes.add(bytes);
            by.traffic.fetched_bytes.add(bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_of_one_process_are_one_user() {
        let me = std::process::id();
        let init = 1;
        assert!(may_be_one_process(me, me));
        assert!(!may_be_one_process(me, init) && !may_be_one_process(init, me));
        let (tell, told) = std::sync::mpsc::channel::<()>();
        let (ask, asked) = std::sync::mpsc::channel();
        let thread = std::thread::spawn(move || {
            ask.send(nix::unistd::gettid().as_raw().cast_unsigned()).unwrap();
            let _ = told.recv();
        });
        let running = asked.recv().unwrap();
        assert!(running != me && may_be_one_process(me, running));
        drop(tell);
        thread.join().unwrap();
        assert!(may_be_one_process(init, 0) && may_be_one_process(0, me));
    }
}
