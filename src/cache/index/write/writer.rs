//! The one thread that writes the index.
//!
//! Records come over a channel and are collected into transactions: a transaction costs the same
//! for one chunk and for a thousand. The first record of a batch starts a clock of [`BATCH_TIME`];
//! everything that has arrived when it expires is committed together. So a chunk is recorded within
//! that time of its completion, during the download, not when the file is closed.
//!
//! When SQLite fails, the batch is lost and the thread continues: a later mount fetches again what
//! was not recorded, which is expensive but correct. No reader is delayed. The log gets a line when
//! writing begins to fail, and one when it works again.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded, unbounded};

use super::doubts::Doubts;
use super::pending::Pending;
use super::record::Record;
use super::tables::Commit;
use crate::cache::error::is_corruption;
use crate::cache::storage::data_file::PendingCommit;
use crate::util::events::{self, Event};
use crate::util::panic_guard::contained;

/// Time in which a batch collects records. Well within the second that a crash may cost, and at
/// most five transactions per second, whatever the download's speed.
const BATCH_TIME: Duration = Duration::from_millis(200);

/// A batch is committed early at this length, so that its memory is bounded.
const BATCH_LEN: usize = 4096;

/// A batch is also committed early at this many bytes: a transaction is in SQLite's log before it
/// is in the database, and the log counts towards the cache's size.
const BATCH_BYTES: usize = 256 << 10;

/// Maximum time that opening a file waits for queued records: a transaction takes milliseconds, or
/// a second on a busy disk. Another program that keeps SQLite's lock could delay it much longer.
const SOON: Duration = Duration::from_secs(2);

enum Message {
    /// A record, and the data file that stays open until the record is committed or lost.
    Record(Record, Option<PendingCommit>),
    Sync(Sender<()>),
    /// Nothing is recorded after this.
    Last(Sender<()>),
}

/// The handle to the thread. Dropping it commits what is queued and ends the thread.
pub(crate) struct Writer {
    /// `None` while being dropped, and if there is nothing to write to.
    queue: Option<Sender<Message>>,
    thread: Option<JoinHandle<()>>,
    /// Records sent, and records that the thread is done with: while they are equal, opening a file
    /// is spared the round trip. **Counted before sending**, and so never behind.
    sent: AtomicU64,
    done: Arc<AtomicU64>,
    /// Number of lost batches.
    failures: Arc<AtomicU64>,
    pending: Arc<Pending>,
    /// The value of `done` when a wait last timed out: no caller waits again until it has grown.
    late_at: AtomicU64,
}

impl Writer {
    /// Starts the thread. It calls `on_damage` if SQLite finds the file itself to be damaged.
    pub(crate) fn start(tables: impl Commit, on_damage: impl Fn() + Send + 'static) -> Writer {
        let (queue, records) = unbounded();
        let done = Arc::new(AtomicU64::new(0));
        let failures = Arc::new(AtomicU64::new(0));
        let pending = Arc::<Pending>::default();
        let (counted, failed, queued) = (Arc::clone(&done), Arc::clone(&failures), Arc::clone(&pending));
        let thread = std::thread::Builder::new()
            .name("index-writer".into())
            .spawn(move || run(tables, &records, &counted, &failed, &queued, &on_damage));
        // Without a thread nothing is recorded: the queue's receiver is dropped, and sends do
        // nothing.
        let thread = thread
            .inspect_err(|err| {
                log::error!(
                    event = events::INDEX_WRITE_FAILED;
                    "can't start the index writer thread: {err}; fetched chunks are not \
                                            recorded"
                )
            })
            .ok();
        Writer {
            queue: Some(queue),
            thread,
            sent: AtomicU64::new(0),
            done,
            failures,
            pending,
            late_at: AtomicU64::new(u64::MAX),
        }
    }

    /// A writer without a thread, which records nothing.
    pub(crate) fn none() -> Writer {
        Writer {
            queue: None,
            thread: None,
            sent: AtomicU64::new(0),
            done: Arc::default(),
            failures: Arc::default(),
            pending: Arc::default(),
            late_at: AtomicU64::new(u64::MAX),
        }
    }

    /// Queues a record. The file stays open until the record is committed or lost.
    pub(crate) fn send(&self, record: Record, keeps: Option<PendingCommit>) {
        if self.queue.is_none() {
            return;
        }
        self.sent.fetch_add(1, Ordering::AcqRel);
        self.pending.add(&record);
        self.post(Message::Record(record, keeps));
    }

    /// Waits until everything queued before is committed.
    pub(crate) fn sync(&self) {
        if self.done.load(Ordering::Acquire) == self.sent.load(Ordering::Acquire) {
            return;
        }
        let (done, committed) = bounded(1);
        self.post(Message::Sync(done));
        // An error means that the thread is gone: then nothing will ever be committed.
        let _ = committed.recv();
    }

    /// Returns true if anything is queued of this entry or URL.
    pub(crate) fn is_pending(&self, subject: &str) -> bool {
        self.pending.has(subject)
    }

    /// Waits until what was queued before of this entry or URL is committed or lost, but no longer
    /// than [`SOON`]. Returns false after a time-out.
    pub(crate) fn sync_soon(&self, subject: &str) -> bool {
        !self.pending.has(subject) || self.sync_all_soon()
    }

    /// Waits as [`Self::sync_soon`] does, for everything queued before.
    pub(crate) fn sync_all_soon(&self) -> bool {
        let done = self.done.load(Ordering::Acquire);
        if done == self.sent.load(Ordering::Acquire) {
            return true;
        }
        if done == self.late_at.load(Ordering::Acquire) {
            return false;
        }
        let (synced, committed) = bounded(1);
        self.post(Message::Sync(synced));
        let is_late = committed.recv_timeout(SOON) == Err(RecvTimeoutError::Timeout);
        if is_late {
            self.late_at.store(done, Ordering::Release);
        }
        !is_late
    }

    /// Ends the thread after everything queued before is committed; later records are dropped.
    pub(crate) fn finish(&self) {
        let (done, finished) = bounded(1);
        self.post(Message::Last(done));
        // As in [`Self::sync`].
        let _ = finished.recv();
    }

    /// Waits as [`Self::sync`] does. Returns false if anything was lost meanwhile, perhaps what
    /// `queue` has queued.
    pub(crate) fn sync_unless_lost(&self, queue: impl FnOnce()) -> bool {
        let before = self.failures.load(Ordering::Acquire);
        queue();
        self.sync();
        let is_running = self.thread.as_ref().is_some_and(|thread| !thread.is_finished());
        is_running && self.failures.load(Ordering::Acquire) == before
    }

    fn post(&self, message: Message) {
        if let Some(queue) = &self.queue {
            // As in [`Self::send`]: without the thread there is nothing to do.
            let _ = queue.send(message);
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.queue = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn run(
    mut tables: impl Commit,
    messages: &Receiver<Message>,
    done: &AtomicU64,
    failures: &AtomicU64,
    pending: &Pending,
    on_damage: &impl Fn(),
) {
    let mut batch = Vec::new();
    let mut kept = Vec::new();
    let mut health = Health::default();
    let mut doubts = Doubts::default();
    let mut is_last = false;
    while !is_last && let Ok(first) = messages.recv() {
        let deadline = Instant::now() + BATCH_TIME;
        let mut next = Some(first);
        let mut synced = None;
        let mut bytes = 0;
        while let Some(message) = next {
            match message {
                Message::Record(record, keeps) => {
                    bytes += record.len();
                    batch.push(record);
                    kept.extend(keeps);
                }
                Message::Sync(done) => {
                    synced = Some(done);
                    break;
                }
                Message::Last(done) => {
                    synced = Some(done);
                    is_last = true;
                    break;
                }
            }
            if batch.len() == BATCH_LEN || bytes >= BATCH_BYTES {
                break;
            }
            next = messages.recv_deadline(deadline).ok();
        }
        if !batch.is_empty() {
            // A panic is handled like an error of SQLite: the batch is lost, and its waiters learn
            // that.
            let to_commit = doubts.apply(&batch);
            let committed = contained("writing the cache index", || tables.commit(&to_commit));
            let outcome = committed.unwrap_or_else(|| Err(a_bug()));
            doubts.note(&batch, outcome.is_ok());
            if outcome.is_err() {
                failures.fetch_add(1, Ordering::AcqRel);
            }
            if let Some((event, line)) = health.note(outcome.as_ref().err(), batch.len() as u64) {
                log::warn!(event = event; "{line}");
            }
            if outcome.is_err_and(|error| is_corruption(&error)) {
                on_damage();
            }
        }
        // Before waiters are woken: they may need the files exclusively.
        kept.clear();
        pending.remove(&batch);
        done.fetch_add(batch.len() as u64, Ordering::AcqRel);
        batch.clear();
        // Dropping `synced` wakes its waiters, also when the commit has failed.
        drop(synced);
    }
}

/// The error that stands for a panic during a commit.
fn a_bug() -> rusqlite::Error {
    let internal = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_INTERNAL);
    rusqlite::Error::SqliteFailure(internal, Some("a bug in fetchfs".to_owned()))
}

/// Whether recording works, for the log: only changes are logged.
#[derive(Debug, Default)]
struct Health {
    /// The last error of SQLite, and the records lost since it began to fail.
    failing: Option<(String, u64)>,
}

impl Health {
    /// Notes the result of committing `records` records. Returns the event and the line to log if the
    /// state has changed.
    fn note(&mut self, error: Option<&rusqlite::Error>, records: u64) -> Option<(Event, String)> {
        let lost = self.failing.as_ref().map_or(0, |(_, lost)| *lost);
        match error.map(ToString::to_string) {
            None => self.failing.take().map(|_| {
                let line = format!(
                    "cache index: writing works again; {lost} records were lost, and their chunks will be \
                         fetched again"
                );
                (events::INDEX_WRITE_BACK, line)
            }),
            Some(reason) => {
                let is_news = self.failing.as_ref().is_none_or(|(said, _)| *said != reason);
                let line = format!(
                    "cache index: {reason}; fetched chunks are not recorded until it can be written \
                                    again"
                );
                self.failing = Some((reason, lost + records));
                is_news.then_some((events::INDEX_WRITE_FAILED, line))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Panics(u32);

    impl Commit for Panics {
        fn commit(&mut self, _: &[Record]) -> rusqlite::Result<()> {
            self.0 += 1;
            assert!(self.0 > 1, "a bug");
            Ok(())
        }
    }

    #[test]
    fn a_batch_that_panics_is_lost_and_the_next_is_recorded() {
        let writer = Writer::start(Panics(0), || {});
        let record = || {
            writer.send(Record::JobDone { key: "k".into() }, None);
        };
        assert!(!writer.sync_unless_lost(record));
        assert!(writer.sync_unless_lost(record));
    }

    #[test]
    fn lasting_failure_is_logged_at_start_and_end() {
        let full = rusqlite::Error::SqliteFailure(rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_FULL), None);
        let busy = rusqlite::Error::SqliteFailure(rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_BUSY), None);
        let mut health = Health::default();
        assert_eq!(health.note(None, 1), None);
        assert!(
            health
                .note(Some(&full), 2)
                .is_some_and(|(_, line)| line.contains("full"))
        );
        assert_eq!(health.note(Some(&full), 3), None);
        assert!(
            health
                .note(Some(&busy), 4)
                .is_some_and(|(_, line)| line.contains("locked"))
        );
        assert!(
            health
                .note(None, 5)
                .is_some_and(|(event, line)| event == events::INDEX_WRITE_BACK && line.contains("9 records"))
        );
        assert_eq!(health.note(None, 6), None);
    }
}
