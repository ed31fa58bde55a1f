//! The read path: one read of an open file, up to the bytes in the caller's buffer.
//!
//! [`ReadAt::advance`] says **hit or wait**, and begins anew when the bytes are evicted or lost before they are copied. It never blocks. What
//! happens while a read waits is the caller's choice: the FUSE adapter parks the kernel's reply, and the library blocks the calling thread
//! ([`Reader::read_at`]). Both are thin callers of this module, so a rule of reading holds for both.
//!
//! If the cache can't hold the bytes, or not give them back, the read is a **bypass**: the same, in the memory store.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use crossbeam_channel::bounded;

use super::miss::Miss;
use super::open_readers::OpenReader;
use super::reader::{Filled, Look, Missing, Reader, Span};
use crate::cache::error::ReadError;
use crate::cache::fetch::manager::OnReady;
use crate::cache::fetch::scheduler::WaiterId;
use crate::http::redact;
use crate::stats::{MissReason, Phase, PhaseTimes, Process, ReadLog, SlowRead};
use crate::util::events;

/// How often a read begins when the cache loses its bytes. A disk that loses them each time is no cache.
const TRIES: u32 = 3;

/// Bytes that [`Reader::read_at`] waits for at a time: what the kernel asks for at most.
const PIECE: usize = 1 << 20;

/// One read of an open file.
pub(crate) struct ReadAt {
    reader: Arc<Reader>,
    /// Byte offset in the file.
    offset: u64,
    /// Bytes; may reach past the end of the file.
    len: usize,
    /// How often it was begun, the first time included.
    tries: u32,
    /// The cache can't hold its bytes, or not give them back: they are read past it.
    is_bypass: bool,
    /// Of a scanner: it has waited at a low priority for long enough.
    is_urgent: bool,
    /// When it was begun.
    begun: Instant,
    /// What it has waited for, if it was no hit.
    miss: Option<Miss>,
    /// What it has waited for. **Keeps those chunks from eviction** until they are copied.
    found: Option<Span>,
}

/// How far a read has come.
pub(crate) enum Step {
    /// So many bytes are in the buffer: fewer than the read asked for at the end of the file.
    Done(usize),
    /// They can't be had.
    Failed(ReadError),
    /// The callback will be called, or has been. The number is for [`Reader::cancel`].
    Waiting(WaiterId),
}

impl ReadAt {
    /// A read of `len` bytes from `offset`, still to be begun.
    pub(crate) fn new(reader: Arc<Reader>, offset: u64, len: usize) -> ReadAt {
        ReadAt {
            reader,
            offset,
            len,
            tries: 1,
            is_bypass: false,
            is_urgent: false,
            begun: Instant::now(),
            miss: None,
            found: None,
        }
    }

    /// The open file.
    pub(crate) fn reader(&self) -> &Arc<Reader> {
        &self.reader
    }

    /// Bytes that the read asks for.
    pub(crate) fn wanted(&self) -> usize {
        self.len
    }

    /// Begins the read, or goes on with it after a wait, which ended as `waited` says: `Ok` for a read that has not waited. `buf` has room
    /// for [`Self::wanted`] bytes. If the read has to wait, `park` makes the callback that is called when the wait is over; that may be
    /// before this returns.
    pub(crate) fn advance(
        mut self,
        waited: Result<(), ReadError>,
        buf: &mut [u8],
        park: impl FnOnce(ReadAt) -> OnReady,
    ) -> Step {
        self.miss.iter_mut().for_each(Miss::wait_is_over);
        match waited {
            Ok(()) => {}
            Err(error) if error.is_of_the_cache() && !self.is_bypass && self.reader.entry().settled().is_some() => {
                (self.is_bypass, self.found) = (true, None);
            }
            Err(ReadError::DeadlinePassed(_)) if self.reader.scan().is_some() && !self.is_urgent => {
                (self.is_urgent, self.found) = (true, None);
            }
            Err(error) => return self.failed(error),
        }
        if self.reader.entry().is_rejected() {
            return self.failed(ReadError::Rejected);
        }
        loop {
            let span = match self.found.take() {
                Some(span) => span,
                None => match self.reader.look(self.offset, self.len as u64, self.is_bypass) {
                    Look::Here(span) => span,
                    Look::Missing(missing) => return self.wait(missing, park),
                    Look::Refused => {
                        let by = self.reader.read_by();
                        by.iter().for_each(|by| by.traffic.refused_reads.add(1));
                        self.reader.end_scan();
                        return Step::Failed(ReadError::ScanLimit);
                    }
                },
            };
            if self.reader.is_past_the_end(self.offset) {
                return self.failed(ReadError::Changed);
            }
            let len = self.reader.len_of(&span);
            match self.reader.fill(&mut buf[..len], &span) {
                Ok(Filled::Yes { fresh }) => return self.done(len, fresh),
                Ok(Filled::Gone) => {}
                Err(ReadError::Lost) if self.tries < TRIES => self.tries += 1,
                Err(error) => {
                    log::warn!(
                        event = events::CACHE_READ_FAILED;
                        "reading {} from the cache: {error}", redact(self.reader.entry().url())
                    );
                    self.is_bypass = true;
                }
            }
        }
    }

    /// `fresh`: bytes that no read has returned since they were fetched.
    fn done(&self, len: usize, fresh: u64) -> Step {
        if let Some(open) = self.reader.open_file() {
            let (bytes, time) = (len as u64, self.begun.elapsed());
            let end = self.offset + bytes;
            match &self.miss {
                None => open.counts.note_hit(bytes, end, time),
                Some(miss) => {
                    open.counts.note_miss(bytes, end, time);
                    open.misses.note(time, &miss.times(time), miss.reason(fresh > 0));
                }
            }
            if ReadLog::is_slow(time) {
                let reason = self.miss.as_ref().map(|miss| miss.reason(fresh > 0));
                self.log(open, time, reason, None);
            }
        }
        Step::Done(len)
    }

    fn failed(&self, error: ReadError) -> Step {
        if let Some(open) = self.reader.open_file() {
            // An interrupted read is no failure.
            if !matches!(error, ReadError::Cancelled) {
                open.counts.note_failure();
            }
            let time = self.begun.elapsed();
            if ReadLog::is_slow(time) {
                self.log(open, time, None, Some(error.to_string()));
            }
        }
        Step::Failed(error)
    }

    /// Remembers that this read was slow. The process that made it is still blocked, so its name can be found.
    fn log(&self, open: &OpenReader, took: Duration, reason: Option<MissReason>, error: Option<String>) {
        let mut times = PhaseTimes::default();
        times.add(Phase::Disk, took);
        let miss = self.miss.as_ref();
        let thread = miss.map_or_else(|| open.counts.thread(), Miss::thread);
        let read = SlowRead {
            url: redact(self.reader.entry().url()).to_string(),
            offset: self.offset,
            len: self.len as u64,
            began: SystemTime::now() - took,
            took,
            times: miss.map_or(times, |miss| miss.times(took)),
            reason,
            server: miss.and_then(Miss::server),
            process: Process::of_thread(thread),
            error,
        };
        open.log.note(open.ino, read);
    }

    fn wait(mut self, missing: Missing, park: impl FnOnce(ReadAt) -> OnReady) -> Step {
        let Missing { entry, span, wish } = missing;
        let (reader, bytes) = (Arc::clone(&self.reader), span.bytes.clone());
        let report = match &self.miss {
            Some(miss) => miss.wait_again(),
            None => self.miss.insert(Miss::new(&reader, &entry, &bytes)).wait_again(),
        };
        let is_urgent = self.is_urgent;
        self.found = Some(span);
        Step::Waiting(reader.wait(&entry, bytes, &wish, is_urgent, report, park(self)))
    }
}

impl Reader {
    /// Fills `buf` with the bytes from `offset` on, and blocks the calling thread until they are there. Returns how many there are: fewer
    /// than `buf` holds at the end of the file or when an error follows them.
    ///
    /// # Errors
    /// Why the first of the bytes can't be had.
    pub fn read_at(self: &Arc<Self>, buf: &mut [u8], offset: u64) -> Result<usize, ReadError> {
        let mut done = 0;
        for piece in buf.chunks_mut(PIECE) {
            match self.read_piece(piece, offset.saturating_add(done as u64)) {
                Ok(len) => {
                    done += len;
                    if len < piece.len() {
                        break;
                    }
                }
                Err(_) if done > 0 => break,
                Err(error) => return Err(error),
            }
        }
        Ok(done)
    }

    fn read_piece(self: &Arc<Self>, buf: &mut [u8], offset: u64) -> Result<usize, ReadError> {
        let mut read = ReadAt::new(Arc::clone(self), offset, buf.len());
        let mut waited = Ok(());
        loop {
            let (wake, woken) = bounded(1);
            let step = read.advance(waited, buf, |read| {
                Box::new(move |result| {
                    // It is being waited for.
                    let _ = wake.send((read, result));
                })
            });
            (read, waited) = match step {
                Step::Done(len) => return Ok(len),
                Step::Failed(error) => return Err(error),
                // An error would mean that the callback was dropped.
                Step::Waiting(_) => woken.recv().map_err(|_| ReadError::ShuttingDown)?,
            };
        }
    }
}
