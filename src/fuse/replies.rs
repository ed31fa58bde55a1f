//! Read replies: at once for cached bytes, later for missing ones.
//!
//! A read whose bytes are missing parks its reply with the cache and occupies no thread. Once its bytes are in the
//! data file, a thread of this pool reads them and replies. The threads that write downloads only queue the reply, so
//! they are not delayed.

use std::cell::RefCell;
use std::sync::Arc;

use crossbeam_channel::{Receiver, Sender, unbounded};
use fuser::ReplyData;

use super::connection::Connection;
use super::errno;
use super::interrupts::Requester;
use super::scan::Scans;
use crate::cache::{ReadAt, ReadError, Reader, Step};
use crate::http::redact;
use crate::stats::{MountStats, Operation};
use crate::util::panic_guard;

/// Threads for parked reads. A reply is one copy from the page cache and one to the kernel, so one thread answers
/// gigabytes a second. The second one is there for slow disks.
const THREADS: usize = 2;

/// Answers reads.
pub(super) struct Reads {
    /// Queue of the pool.
    late: Sender<LateReply>,
    connection: Arc<Connection>,
    stats: Arc<MountStats>,
}

/// A parked read whose wait has ended.
struct LateReply {
    reply: ReplyData,
    reads: Arc<Reads>,
    requester: Requester,
    read: ReadAt,
    waited: Result<(), ReadError>,
}

impl Reads {
    /// Starts the pool. Dropping it ends the pool.
    ///
    /// # Errors
    /// If no thread can be started.
    pub(super) fn start(connection: Arc<Connection>, stats: Arc<MountStats>) -> std::io::Result<Arc<Reads>> {
        // Unbounded, but each parked read is in it at most once, and the kernel bounds those.
        let (late, queue) = unbounded();
        for number in 0..THREADS {
            let queue: Receiver<LateReply> = queue.clone();
            std::thread::Builder::new()
                .name(format!("reader-{number}"))
                .spawn(move || panic_guard::each(&queue, "answering a read", answer_late))?;
        }
        Ok(Arc::new(Reads {
            late,
            connection,
            stats,
        }))
    }

    /// Answers a read, at once or later.
    pub(super) fn read(self: &Arc<Self>, requester: Requester, read: ReadAt, reply: ReplyData) {
        self.advance(requester, read, Ok(()), reply);
    }

    /// Continues a read whose wait has ended with `waited`; `Ok` for a read that has not waited.
    fn advance(self: &Arc<Self>, requester: Requester, read: ReadAt, waited: Result<(), ReadError>, reply: ReplyData) {
        let (reader, len) = (Arc::clone(read.reader()), read.wanted());
        let interrupts = self.connection.interrupts();
        let (mut unanswered, mut wait) = (Some(reply), None);
        BUFFER.with_borrow_mut(|buffer| {
            if buffer.len() < len {
                buffer.resize(len, 0);
            }
            let step = read.advance(waited, &mut buffer[..len], |read| {
                let reply = unanswered.take();
                let begun = wait.insert(interrupts.begin_wait(requester)).clone();
                let reads = Arc::clone(self);
                Box::new(move |waited| {
                    drop(begun);
                    let Some(reply) = reply else { return };
                    let late = reads.late.clone();
                    // The pool outlives the session.
                    let _ = late.send(LateReply {
                        reply,
                        reads,
                        requester,
                        read,
                        waited,
                    });
                })
            });
            match (step, unanswered) {
                (Step::Waiting(waiter), _) => wait.iter().for_each(|wait| {
                    let reader = Arc::clone(&reader);
                    wait.on_end(move || reader.cancel(waiter));
                }),
                (Step::Done(len), Some(reply)) => self.connection.answer_read(requester, reply, &buffer[..len]),
                (Step::Failed(ReadError::Cancelled), Some(reply)) => self.fail(reply, &reader, &interrupts.reason()),
                (Step::Failed(error), Some(reply)) => self.fail(reply, &reader, &error),
                // Only a waiting read gives its reply away.
                (_, None) => {}
            }
        });
    }

    fn fail(&self, reply: ReplyData, reader: &Reader, error: &ReadError) {
        let errno = errno::of_read(error);
        match error {
            // It is no failure, and the process that made the read is gone.
            ReadError::Cancelled => {}
            ReadError::ScanLimit => {
                let by = reader.read_by();
                by.iter().for_each(|by| Scans::log_refusal(by, reader.entry().url()));
            }
            ReadError::Http(of_url) => {
                // The error names the URL.
                log::warn!(event = errno::event_of_read(error); "reading {of_url}");
                let (status, reason) = (of_url.kind.http_status(), of_url.kind.to_string());
                let failures = &self.stats.failures;
                failures.note(Operation::Read, &of_url.url, errno.code(), status, reason);
            }
            _ => {
                let url = redact(reader.entry().url());
                log::warn!(event = errno::event_of_read(error); "reading {url}: {error}");
                let failures = &self.stats.failures;
                failures.note(Operation::Read, &url, errno.code(), None, error.to_string());
            }
        }
        reply.error(errno);
    }
}

fn answer_late(late: LateReply) {
    let LateReply {
        reply,
        reads,
        requester,
        read,
        waited,
    } = late;
    reads.advance(requester, read, waited, reply);
}

thread_local! {
    /// Grows to the largest read that the kernel sends (1 MiB by default) and stays.
    static BUFFER: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}
