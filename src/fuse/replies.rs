//! Read replies: at once for cached bytes, later for missing ones.
//!
//! A read whose bytes are missing parks its reply with the cache and occupies no thread. Once its bytes are in the
//! data file, a thread of this pool reads them and replies. The threads that write downloads only queue the reply, so
//! they are not delayed.
//!
//! If the cache can't store or return the bytes, a task here bypasses it and replies.

use std::cell::RefCell;
use std::sync::Arc;

use crossbeam_channel::{Receiver, Sender, unbounded};
use fuser::ReplyData;
use tokio::runtime::Handle;

use super::connection::Connection;
use super::errno;
use super::interrupts::Requester;
use crate::cache::{Filled, Read, ReadError, Reader, Span};
use crate::http::redact;
use crate::util::panic_guard;

/// Threads for parked reads. A reply is one copy from the page cache and one to the kernel, so one thread answers
/// gigabytes a second. The second one is there for slow disks.
const THREADS: usize = 2;

/// Most attempts of a read whose bytes disappear from the cache. A disk that loses them each time is no cache.
const TRIES: u32 = 3;

/// Answers reads.
pub struct Reads {
    /// Queue of the pool.
    late: Sender<LateReply>,
    connection: Arc<Connection>,
    /// Runs the reads that bypass the cache.
    runtime: Handle,
}

/// A read request of the kernel.
#[derive(Clone)]
pub struct Request {
    /// The thread that waits for it.
    pub requester: Requester,
    /// The open file.
    pub reader: Arc<Reader>,
    /// Byte offset in the file.
    pub offset: u64,
    /// Length in bytes; may reach past the end of the file.
    pub len: u32,
    /// Number of attempts, including this one. A read starts again if the cache has lost its bytes.
    pub tries: u32,
}

/// How to continue a read whose bytes have disappeared.
enum Instead {
    /// Start again, with this as [`Request::tries`].
    Again(u32),
    /// Bypass the cache.
    Bypass,
}

/// A parked read whose wait has ended.
struct LateReply {
    reply: ReplyData,
    reads: Arc<Reads>,
    request: Request,
    span: Span,
    result: Result<(), ReadError>,
}

impl Reads {
    /// Starts the pool. Dropping it ends the pool.
    ///
    /// # Errors
    /// If no thread can be started.
    pub fn start(connection: Arc<Connection>, runtime: Handle) -> std::io::Result<Arc<Reads>> {
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
            runtime,
        }))
    }

    /// Answers a read, at once or later.
    pub fn read(self: &Arc<Self>, request: Request, reply: ReplyData) {
        let mut parked = Some(reply);
        let mut wait = None;
        let read = request.reader.read(request.offset, u64::from(request.len), |span| {
            let reply = parked.take();
            let begun = wait
                .insert(self.connection.interrupts().begin_wait(request.requester))
                .clone();
            let (reads, request) = (Arc::clone(self), request.clone());
            Box::new(move |result| {
                drop(begun);
                let Some(reply) = reply else { return };
                let late = reads.late.clone();
                // The pool outlives the session.
                let _ = late.send(LateReply {
                    reply,
                    reads,
                    request,
                    span,
                    result,
                });
            })
        });
        match read {
            Read::Ready(span) => parked.into_iter().for_each(|reply| self.answer(&request, reply, &span)),
            Read::Bypass => parked
                .into_iter()
                .for_each(|reply| self.read_around(request.clone(), reply)),
            Read::Waiting(waiter) => wait.iter().for_each(|wait| {
                let reader = Arc::clone(&request.reader);
                wait.on_end(move || reader.cancel(waiter));
            }),
        }
    }

    /// Replies with bytes that were found. If they are evicted by now, the read starts again and waits. If the file
    /// system fails, the read bypasses the cache.
    fn answer(self: &Arc<Self>, request: &Request, reply: ReplyData, span: &Span) {
        let reader = &request.reader;
        if reader.is_past_the_end(request.offset) {
            return reply.error(errno::of_read(&ReadError::Changed));
        }
        let len = reader.len_of(span);
        let unanswered = BUFFER.with_borrow_mut(|buffer| {
            if buffer.len() < len {
                buffer.resize(len, 0);
            }
            match reader.fill(&mut buffer[..len], span) {
                Ok(Filled::Yes) => self.connection.answer_read(request.requester, reply, &buffer[..len]),
                Ok(Filled::Gone) => return Some((reply, Instead::Again(request.tries))),
                Err(ReadError::Lost) if request.tries < TRIES => {
                    return Some((reply, Instead::Again(request.tries + 1)));
                }
                Err(error) => {
                    log::warn!("reading {} from the cache: {error}", redact(&reader.entry().url));
                    return Some((reply, Instead::Bypass));
                }
            }
            None
        });
        match unanswered {
            Some((reply, Instead::Again(tries))) => self.read(
                Request {
                    tries,
                    ..request.clone()
                },
                reply,
            ),
            Some((reply, Instead::Bypass)) => self.read_around(request.clone(), reply),
            None => {}
        }
    }

    /// Replies with bytes that bypass the cache.
    fn read_around(self: &Arc<Self>, request: Request, reply: ReplyData) {
        let reads = Arc::clone(self);
        self.runtime.spawn(async move {
            let Request { requester, reader, .. } = &request;
            let reading = reader.read_around(request.offset, u64::from(request.len));
            let read = reads.connection.interrupts().unless_ended(*requester, reading).await;
            match read.unwrap_or(Err(ReadError::Cancelled)) {
                Ok(_) if reader.is_past_the_end(request.offset) => reply.error(errno::of_read(&ReadError::Changed)),
                Ok(bytes) => reads.connection.answer_read(*requester, reply, &bytes),
                Err(error) => fail(reply, reader, &error),
            }
        });
    }
}

fn answer_late(late: LateReply) {
    let LateReply {
        reply,
        reads,
        request,
        span,
        result,
    } = late;
    match result {
        Ok(()) => reads.answer(&request, reply, &span),
        Err(error) if error.is_of_the_cache() && request.reader.entry().settled().is_some() => {
            reads.read_around(request, reply);
        }
        Err(error) => fail(reply, &request.reader, &error),
    }
}

thread_local! {
    /// Grows to the largest read that the kernel sends (1 MiB by default) and stays.
    static BUFFER: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

fn fail(reply: ReplyData, reader: &Reader, error: &ReadError) {
    match error {
        // It is no failure, and the process that made the read is gone.
        ReadError::Cancelled => {}
        // The error names the URL.
        ReadError::Http(error) => log::warn!("reading {error}"),
        error => log::warn!("reading {}: {error}", redact(&reader.entry().url)),
    }
    reply.error(errno::of_read(error));
}
