//! Answering reads: at once for what is present, later for what has to come.
//!
//! A read whose bytes are missing parks its reply with the cache and occupies no thread. When its
//! bytes are in the data file, a thread of the pool here reads them and answers. The threads that
//! bring the news are those that write what is downloaded; they have better things to do.

use std::cell::RefCell;
use std::ops::Range;
use std::sync::{Arc, LazyLock};
use std::time::Instant;

use crossbeam_channel::{Receiver, Sender, unbounded};
use fuser::ReplyData;
use parking_lot::Mutex;

use super::complaints::Complaints;
use super::errno;
use crate::cache::{ReadError, Reader};
use crate::http::redact;

/// Threads that answer parked reads. An answer is one copy from the page cache and one to the
/// kernel: one thread answers gigabytes a second, the second is there for when a disk is slow.
const THREADS: usize = 2;

/// A read whose waiting has ended.
pub struct LateReply {
    /// Where the answer goes.
    pub reply: ReplyData,
    /// The open file.
    pub reader: Arc<Reader>,
    /// What was asked for; may reach past the end of the file.
    pub bytes: Range<u64>,
    /// How it ended.
    pub result: Result<(), ReadError>,
}

/// Starts the pool. It ends when the last sender is dropped.
///
/// # Errors
/// When the system gives no thread.
pub fn start_pool() -> std::io::Result<Sender<LateReply>> {
    // Unbounded, but each parked read is in it at most once, and the kernel bounds those.
    let (replies, queue) = unbounded();
    for number in 0..THREADS {
        let queue: Receiver<LateReply> = queue.clone();
        std::thread::Builder::new()
            .name(format!("reader-{number}"))
            .spawn(move || {
                queue.iter().for_each(answer_late);
            })?;
    }
    Ok(replies)
}

fn answer_late(late: LateReply) {
    let LateReply {
        reply,
        reader,
        bytes,
        result,
    } = late;
    match result {
        Ok(()) => {
            let bytes = reader.clip(bytes);
            answer(reply, &reader, bytes);
        }
        Err(error) => fail(reply, &reader, &error),
    }
}

thread_local! {
    /// Grows to the largest read that the kernel sends, 1 MiB by default, and stays.
    static BUFFER: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Answers with bytes that are present.
pub fn answer(reply: ReplyData, reader: &Reader, bytes: Range<u64>) {
    // The kernel asks for a few MiB at most.
    let len = usize::try_from(bytes.end - bytes.start).unwrap_or(0);
    BUFFER.with_borrow_mut(|buffer| {
        if buffer.len() < len {
            buffer.resize(len, 0);
        }
        match reader.fill(&mut buffer[..len], bytes.start) {
            Ok(()) => reply.data(&buffer[..len]),
            Err(error) => fail(reply, reader, &error),
        }
    });
}

fn fail(reply: ReplyData, reader: &Reader, error: &ReadError) {
    match error {
        // It is no failure, and whoever would ask about it is gone.
        ReadError::Cancelled => {}
        // It says of which URL.
        ReadError::Http(error) => complain(&format!("reading {error}")),
        error => complain(&format!("reading {}: {error}", redact(&reader.entry().url))),
    }
    reply.error(errno::of_read(error));
}

/// Says in the log that something failed, once for many times in a row.
pub fn complain(line: &str) {
    static COMPLAINTS: LazyLock<Mutex<Complaints>> = LazyLock::new(Mutex::default);
    // The lock is not held over writing the line.
    let news = COMPLAINTS.lock().say(line, Instant::now());
    if let Some(news) = news {
        log::warn!("{news}");
    }
}
