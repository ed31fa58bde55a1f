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
use super::interrupts::Interrupts;
use crate::cache::{OnReady, Read, ReadError, Reader};
use crate::http::redact;

/// Threads that answer parked reads. An answer is one copy from the page cache and one to the
/// kernel: one thread answers gigabytes a second, the second is there for when a disk is slow.
const THREADS: usize = 2;

/// How often a read begins again because the cache has lost its bytes. A disk that loses them each time is no cache.
const TRIES: u32 = 3;

/// A read of the kernel's.
#[derive(Clone)]
pub struct Question {
    /// The open file.
    pub reader: Arc<Reader>,
    /// What is asked for; may reach past the end of the file.
    pub bytes: Range<u64>,
    /// The thread that waits for it.
    pub thread: u32,
    /// How often it began already.
    pub tries: u32,
}

/// A read whose waiting has ended.
pub struct LateReply {
    question: Question,
    /// Where the answer goes.
    reply: ReplyData,
    /// How it ended.
    result: Result<(), ReadError>,
    /// Where it goes if it has to wait once more.
    pool: Sender<LateReply>,
    interrupts: Arc<Interrupts>,
}

impl Question {
    /// Answers it, at once if the bytes are present, and by the pool if they have to come.
    pub fn ask(mut self, reply: ReplyData, pool: &Sender<LateReply>, interrupts: &Arc<Interrupts>) {
        self.tries += 1;
        let mut parked = Some(reply);
        let mut wait = None;
        let later = || -> OnReady {
            let begun = wait.insert(interrupts.wait(self.thread)).clone();
            let (reply, question) = (parked.take(), self.clone());
            let (pool, interrupts) = (pool.clone(), Arc::clone(interrupts));
            Box::new(move |result| {
                drop(begun);
                let Some(reply) = reply else { return };
                let late = LateReply {
                    question,
                    reply,
                    result,
                    pool: pool.clone(),
                    interrupts,
                };
                // The pool ends only after the session has.
                let _ = pool.send(late);
            })
        };
        let read = self
            .reader
            .read(self.bytes.start, self.bytes.end - self.bytes.start, later);
        match (read, parked) {
            (Read::Ready(bytes), Some(reply)) => self.answer(bytes, reply, pool, interrupts),
            (Read::Waiting(waiter), _) => wait.iter().for_each(|wait| {
                wait.on_end({
                    let reader = Arc::clone(&self.reader);
                    move || reader.cancel(waiter)
                })
            }),
            (Read::Ready(_), None) => {}
        }
    }

    /// Answers with bytes that are present.
    fn answer(self, bytes: Range<u64>, reply: ReplyData, pool: &Sender<LateReply>, interrupts: &Arc<Interrupts>) {
        // The kernel asks for a few MiB at most.
        let len = usize::try_from(bytes.end - bytes.start).unwrap_or(0);
        let failed = BUFFER.with_borrow_mut(|buffer| {
            if buffer.len() < len {
                buffer.resize(len, 0);
            }
            match self.reader.fill(&mut buffer[..len], bytes.start) {
                Ok(()) => {
                    reply.data(&buffer[..len]);
                    None
                }
                Err(error) => Some((reply, error)),
            }
        });
        match failed {
            None => {}
            Some((reply, ReadError::Lost)) if self.tries < TRIES => self.ask(reply, pool, interrupts),
            Some((reply, error)) => fail(reply, &self.reader, &error),
        }
    }
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
        question,
        reply,
        result,
        pool,
        interrupts,
    } = late;
    match result {
        Ok(()) => {
            let bytes = question.reader.clip(question.bytes.clone());
            question.answer(bytes, reply, &pool, &interrupts);
        }
        Err(error) => fail(reply, &question.reader, &error),
    }
}

thread_local! {
    /// Grows to the largest read that the kernel sends, 1 MiB by default, and stays.
    static BUFFER: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
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
