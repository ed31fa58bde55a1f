//! Open files and their readers.
//!
//! FLUSH follows each close of a descriptor. Mostly the reader closes it, and the FLUSH means that the reader is
//! gone. But a program that the reader starts inherits the descriptor and closes it a moment later: that is a FLUSH
//! too, while the reader reads on. The process id of the request tells the two apart.

use std::sync::Arc;

use parking_lot::Mutex;

use crate::cache::Reader;
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

    /// The reader, for a read by this thread.
    pub(super) fn read_by(&self, thread: u32) -> Arc<Reader> {
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

/// The process that a thread belongs to (proc(5)). `None` if it is gone or invisible.
///
/// Parsed by hand, because `close` waits for it: `procfs` takes five times as long, since it reads every field.
fn process_of(thread: u32) -> Option<u32> {
    let status = std::fs::read_to_string(format!("/proc/{thread}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("Tgid:"))?;
    line.trim().parse().ok()
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
