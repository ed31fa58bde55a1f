//! The one thread that writes the index.
//!
//! Records come over a channel and are gathered into transactions: a transaction costs the same
//! for one chunk and for a thousand. The first record of a batch starts a clock of [`BATCH_TIME`];
//! what has come when it runs out is committed together. So a chunk is recorded within that time
//! of its completion, while it is being downloaded, not when the file is closed.
//!
//! When SQLite fails, the batch is lost and the thread goes on: what was not recorded is fetched
//! again by a later mount, which is dear but right. Nobody who reads a file is held up.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use crossbeam_channel::{Receiver, Sender, bounded, unbounded};
use rusqlite::{Connection, TransactionBehavior, params};

use super::{EntryRow, seconds};
use crate::cache::entry::{EntryKey, UrlKey};

/// How long a batch gathers records. Well within the second that a crash may cost, and at most
/// five transactions a second, whatever the download's speed.
const BATCH_TIME: Duration = Duration::from_millis(200);

/// A batch is committed early at this length, so that its memory is bounded.
const BATCH_LEN: usize = 4096;

/// Something to record.
#[derive(Debug, Clone)]
pub enum Record {
    /// A version of a remote file was opened and is the current one; the cache begins to hold it,
    /// or holds it already.
    Entry {
        /// Its row.
        row: EntryRow,
        /// Finds it by its URL.
        url_key: UrlKey,
        /// Its URL for people: without credentials and query values.
        url: String,
    },
    /// A chunk whose bytes are in the data file.
    Chunk {
        /// Its entry.
        key: EntryKey,
        /// Its index.
        index: u64,
        /// XXH3 of its bytes.
        checksum: u64,
    },
    /// The entry's data file is gone, or about to go.
    Forget {
        /// The entry.
        key: EntryKey,
    },
}

enum Message {
    Record(Record),
    Sync(Sender<()>),
}

/// The handle to the thread. Dropping it commits what is queued and ends the thread.
pub struct Writer {
    /// `None` only while being dropped.
    queue: Option<Sender<Message>>,
    thread: Option<JoinHandle<()>>,
    /// Records that were sent, and those that the thread is done with: as long as they are the same,
    /// opening a file is spared the round trip. **Counted before it is sent**, and so never behind.
    sent: AtomicU64,
    done: Arc<AtomicU64>,
}

impl Writer {
    /// Starts the thread.
    pub fn start(connection: Connection) -> Writer {
        let (queue, records) = unbounded();
        let done = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&done);
        let thread = std::thread::Builder::new()
            .name("index-writer".into())
            .spawn(move || run(connection, &records, &counted));
        // Without a thread there is nobody to record; the queue's end is gone and sends do nothing.
        let thread = thread
            .inspect_err(|err| log::error!("no thread for the cache index: {err}; nothing is recorded"))
            .ok();
        Writer {
            queue: Some(queue),
            thread,
            sent: AtomicU64::new(0),
            done,
        }
    }

    /// Queues a record.
    pub fn send(&self, record: Record) {
        self.sent.fetch_add(1, Ordering::AcqRel);
        self.post(Message::Record(record));
    }

    /// Waits until all that was queued before is committed.
    pub fn sync(&self) {
        if self.done.load(Ordering::Acquire) == self.sent.load(Ordering::Acquire) {
            return;
        }
        let (done, committed) = bounded(1);
        self.post(Message::Sync(done));
        // An error means that the thread is gone: then nothing will ever be committed.
        let _ = committed.recv();
    }

    fn post(&self, message: Message) {
        if let Some(queue) = &self.queue {
            // As above: without the thread there is nothing to be done here.
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

fn run(mut connection: Connection, messages: &Receiver<Message>, done: &AtomicU64) {
    let mut batch = Vec::new();
    while let Ok(first) = messages.recv() {
        let deadline = Instant::now() + BATCH_TIME;
        let mut next = Some(first);
        let mut synced = None;
        while let Some(message) = next {
            match message {
                Message::Record(record) => batch.push(record),
                Message::Sync(done) => {
                    synced = Some(done);
                    break;
                }
            }
            if batch.len() == BATCH_LEN {
                break;
            }
            next = messages.recv_deadline(deadline).ok();
        }
        if let Err(err) = commit(&mut connection, &batch) {
            log::warn!(
                "cache index: {err}; {} records are lost, their chunks will be fetched again",
                batch.len()
            );
        }
        done.fetch_add(batch.len() as u64, Ordering::AcqRel);
        batch.clear();
        // Dropping `synced` wakes who waits for it, here and when committing has failed.
        drop(synced);
    }
}

fn commit(connection: &mut Connection, batch: &[Record]) -> rusqlite::Result<()> {
    if batch.is_empty() {
        return Ok(());
    }
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    for record in batch {
        apply(&transaction, record)?;
    }
    transaction.commit()
}

fn apply(connection: &Connection, record: &Record) -> rusqlite::Result<()> {
    match record {
        Record::Entry { row, url_key, url } => {
            let now = seconds(SystemTime::now());
            connection
                .prepare_cached(
                    "INSERT INTO cache_entries (entry_key, url_key, url, size, validator, modified,
                                                chunk_size, chunk_count, confirmed, last_used)
                     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?9)
                     ON CONFLICT (entry_key) DO UPDATE SET confirmed = ?9, last_used = ?9",
                )?
                .execute(params![
                    row.key.as_str(),
                    url_key.as_str(),
                    url,
                    row.version.size as i64,
                    row.version.validator.to_key(),
                    row.modified.map(seconds),
                    row.chunk.bytes() as i64,
                    row.chunk.count(row.version.size) as i64,
                    now,
                ])?;
        }
        Record::Chunk { key, index, checksum } => {
            connection
                .prepare_cached(
                    "INSERT OR IGNORE INTO cache_chunks (entry_id, chunk_index, checksum)
                     SELECT entry_id, ?2, ?3 FROM cache_entries WHERE entry_key = ?1",
                )?
                .execute(params![key.as_str(), *index as i64, *checksum as i64])?;
        }
        Record::Forget { key } => {
            connection
                .prepare_cached("DELETE FROM cache_entries WHERE entry_key = ?1")?
                .execute([key.as_str()])?;
        }
    }
    Ok(())
}
