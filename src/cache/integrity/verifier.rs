//! The verifier: the thread that reads complete files and compares their hashes.
//!
//! A file is queued when its last chunk comes, or when it is opened and all of it is in the cache ([`Checks::consider`]).
//! The thread yields to everything else, processor and disk, because no reader waits for it. The result is recorded, so
//! that a file is read once for each version, however often the mount begins anew. It is void when a chunk is dropped.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;

use parking_lot::{Condvar, Mutex};
use tokio::runtime::Handle;
use tokio::sync::Notify;
use url::Url;

use super::checksum_files::ChecksumFiles;
use super::file_check::Rejected;
use crate::cache::entry::cache_entry::{CacheEntry, Settled};
use crate::cache::entry::cached_file::CachedFile;
use crate::cache::entry::version_store::VersionStore;
use crate::cache::index::Record;
use crate::cache::integrity::pieces::pieces_of;
use crate::cache::key::EntryKey;
use crate::http::redact;
use crate::origin::{Client, Content, Hash, Hasher};
use crate::util::events;
use crate::util::panic_guard::contained;

/// Bytes that are read at a time. As many stay in memory.
const BLOCK: u64 = 1 << 20;

/// Maximum number of files that wait. A file that finds no place is checked when it is opened again.
const MOST: usize = 4096;

/// The nice value of the thread: the lowest.
const NICE: i32 = 19;

/// The files that wait for their check.
#[derive(Debug, Default)]
pub(crate) struct Checks {
    queue: Mutex<Queue>,
    /// Notified when a file is queued, and at the end. Waited for under `queue`, so no wake-up is lost.
    changed: Condvar,
    /// Notified at the end.
    end: Notify,
}

#[derive(Debug, Default)]
struct Queue {
    waiting: VecDeque<Check>,
    is_closed: bool,
}

/// A file to check. It holds neither the data file nor the entry open, because many may wait.
#[derive(Debug)]
struct Check {
    key: EntryKey,
    content: Content,
    /// The published hash; `None` if checksum files may have one.
    hash: Option<Hash>,
    /// The mark of the entry that queued it, which may have ended meanwhile.
    shown: Rejected,
}

impl Checks {
    /// Queues the check of a file, if its source publishes a hash, all of it is there, and the result is not known.
    pub(crate) fn consider(&self, entry: &CacheEntry, settled: &Settled) {
        let content = &entry.content;
        let hash = hash_to_check(content, &settled.cached_file);
        if hash.is_none() && (content.checksum_files().is_none() || pieces_of(content).is_some()) {
            return;
        }
        let file = &settled.cached_file;
        let is_complete = settled.memory.is_none() && !file.has_no_file() && file.presence.is_complete();
        if !is_complete || !file.check.begin(hash, file.presence.losses()) {
            return;
        }
        let check = Check {
            key: file.key.clone(),
            content: entry.content.clone(),
            hash: hash.cloned(),
            shown: settled.rejected.clone(),
        };
        self.add(check, file);
    }

    /// Queues a check that has begun.
    fn add(&self, check: Check, file: &CachedFile) {
        let mut queue = self.queue.lock();
        if queue.is_closed || queue.waiting.len() >= MOST {
            drop(queue);
            file.check.cancel();
            return;
        }
        queue.waiting.push_back(check);
        self.changed.notify_one();
    }

    fn next(&self) -> Option<Check> {
        let mut queue = self.queue.lock();
        loop {
            if queue.is_closed {
                return None;
            }
            match queue.waiting.pop_front() {
                Some(check) => return Some(check),
                None => self.changed.wait(&mut queue),
            }
        }
    }

    /// Returns when the checks end.
    pub(super) async fn ended(&self) {
        self.end.notified().await;
    }

    fn is_closed(&self) -> bool {
        self.queue.lock().is_closed
    }
}

/// The hash that a complete file is compared with, if its source publishes one, or its server gives one. A file with
/// verified pieces needs none.
fn hash_to_check<'a>(content: &'a Content, file: &'a CachedFile) -> Option<&'a Hash> {
    let hash = content.hash().or(file.check.digest());
    hash.filter(|_| pieces_of(content).is_none())
}

impl VersionStore {
    /// Takes over what is recorded of an earlier check of a file that is being opened, and queues the file otherwise.
    /// A query, if a hash is published and all of the file is there.
    pub(crate) fn recall_check(&self, content: &Content, settled: &Settled) {
        let file = &settled.cached_file;
        let Some(hash) = hash_to_check(content, file).filter(|_| file.presence.is_complete()) else {
            return;
        };
        let losses = file.presence.losses();
        if !file.check.is_good(hash, losses)
            && self.index.verified(&file.key).as_ref() == Some(hash)
            && file.check.begin(Some(hash), losses)
        {
            file.check.note_good(hash.clone(), losses);
        }
    }

    /// Returns true if a published hash has still to be compared with these bytes.
    pub(crate) fn awaits_check(&self, content: &Content, settled: &Settled) -> bool {
        let file = &settled.cached_file;
        hash_to_check(content, file).is_some_and(|hash| !file.check.is_good(hash, file.presence.losses()))
    }
}

/// The thread. It ends when this is dropped.
pub(crate) struct Verifier {
    versions: Arc<VersionStore>,
    thread: Option<JoinHandle<()>>,
}

impl Verifier {
    /// Starts the thread.
    ///
    /// # Errors
    /// If the system refuses a thread.
    pub(crate) fn start(versions: Arc<VersionStore>, client: Client, runtime: Handle) -> io::Result<Verifier> {
        let store = Arc::clone(&versions);
        let mut beside = ChecksumFiles::new(client.clone(), runtime);
        let thread = std::thread::Builder::new().name("verifier".into()).spawn(move || {
            yield_to_others();
            while let Some(check) = store.checks.next() {
                contained("verifying a file", || verify(&store, &client, &mut beside, check));
            }
        })?;
        Ok(Verifier {
            versions,
            thread: Some(thread),
        })
    }
}

impl Drop for Verifier {
    fn drop(&mut self) {
        self.versions.checks.queue.lock().is_closed = true;
        self.versions.checks.changed.notify_all();
        self.versions.checks.end.notify_one();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Lowers the priority of the calling thread. A refusal costs nothing but speed.
fn yield_to_others() {
    // `IOPRIO_WHO_PROCESS`, and `IOPRIO_CLASS_IDLE` in the upper bits (ioprio_set(2)).
    const OF_THREAD: libc::c_int = 1;
    const IDLE: libc::c_int = 3 << 13;
    // SAFETY: both calls take numbers only. 0 means the calling thread.
    unsafe {
        libc::setpriority(libc::PRIO_PROCESS, 0, NICE);
        libc::syscall(libc::SYS_ioprio_set, OF_THREAD, 0, IDLE);
    }
}

fn verify(versions: &VersionStore, client: &Client, beside: &mut ChecksumFiles, check: Check) {
    let open = versions.cached_files.get(&check.key);
    let open = open.or_else(|| versions.open_recorded(&versions.index.candidate(&check.key)?));
    // It is in use by another process, or gone. Opened again, it is considered again.
    let Some(file) = open else { return };
    let losses = file.presence.losses();
    let (expected, at) = match &check.hash {
        Some(hash) if versions.index.verified(&file.key).as_ref() == Some(hash) => {
            return file.check.note_good(hash.clone(), losses);
        }
        Some(hash) => (hash.clone(), None),
        // Compared before, whatever the result was.
        None if versions.index.verified(&file.key).is_some() => return file.check.note_open(losses),
        None => match beside.hash_of(&check.content, &versions.checks) {
            Some((hash, url)) => (hash, Some(url)),
            None => return file.check.note_open(losses),
        },
    };
    let computed = match hash_of(versions, &file, &expected) {
        Ok(computed) => computed.filter(|_| file.presence.losses() == losses),
        Err(error) => {
            // A reader that finds the same has the chunk fetched again.
            log::debug!("{}: {error}; not verified", redact(check.content.url()));
            return file.check.cancel();
        }
    };
    match computed {
        // Parts of it were evicted.
        None => file.check.cancel(),
        Some(computed) if computed == expected || at.is_some() => {
            let verified = |hash| Record::Verified {
                key: check.key.clone(),
                hash,
            };
            versions.record_contents(&file, verified(Some(computed.clone())));
            if file.presence.losses() != losses {
                // An eviction may have been recorded before that.
                versions.record_contents(&file, verified(None));
            }
            let published = Record::Published {
                key: check.key.clone(),
                hash: Some(expected.clone()),
            };
            versions.record_contents(&file, published);
            let Some(at) = at else {
                return file.check.note_good(computed, losses);
            };
            if computed != expected {
                log::warn!(
                    event = events::CHECKSUM_DIFFERS;
                    "{}: its {} hash is {computed}, but {} says {expected}; one of them may be older, so the file is \
                     served all the same",
                    redact(check.content.url()),
                    computed.algorithm,
                    redact(&at)
                );
            }
            return file.check.note_open(losses);
        }
        Some(computed) => reject(versions, client, &file, &check, &expected, &computed),
    }
    // It may have become complete again while this check was under way, and was not queued for that reason.
    let losses = file.presence.losses();
    if file.presence.is_complete() && file.check.begin(check.hash.as_ref(), losses) {
        versions.checks.add(check, &file);
    }
}

/// The hash of a file by the algorithm of `like`. `None` if a part of it is missing, or the mount ends.
///
/// # Errors
/// If the data file can't be read.
fn hash_of(versions: &VersionStore, file: &Arc<CachedFile>, like: &Hash) -> io::Result<Option<Hash>> {
    let (mut hasher, mut buffer, mut at) = (Hasher::new(like.algorithm), Vec::new(), 0);
    while at < file.size {
        let bytes = at..(at + BLOCK).min(file.size);
        let chunks = file.chunk.touched(&bytes);
        // Not evicted while they are read.
        let _stays = file.use_chunks(chunks.clone());
        if versions.checks.is_closed() || !file.presence.contains_all(&chunks) {
            return Ok(None);
        }
        buffer.resize((bytes.end - bytes.start) as usize, 0);
        file.read_exact_at(&mut buffer, bytes.start)?;
        hasher.update(&buffer);
        at = bytes.end;
    }
    Ok(Some(hasher.finish()))
}

/// Drops a file whose bytes contradict the published hash.
fn reject(
    versions: &VersionStore,
    client: &Client,
    file: &Arc<CachedFile>,
    check: &Check,
    expected: &Hash,
    computed: &Hash,
) {
    let content = &check.content;
    let mut all: Vec<&Url> = std::iter::once(content.url()).chain(content.alternates()).collect();
    all.dedup();
    let contributors = file.check.reject();
    check.shown.set();
    let left_out = contributors.to_leave_out(&all);
    let senders = match contributors.known() {
        Some(urls) => urls
            .iter()
            .map(|url| redact(url).to_string())
            .collect::<Vec<_>>()
            .join(" and "),
        None => "a server".to_owned(),
    };
    log::warn!(
        event = events::HASH_MISMATCH;
        "{}: what {senders} sent has the {} hash {computed}, but {expected} is published; dropped from the cache{}",
        redact(content.url()),
        computed.algorithm,
        match (left_out.len(), all.len()) {
            (0, _) => "",
            (left_out, all) if left_out >= all => ", and the file can't be read for ten minutes",
            _ => ", and read again from another server",
        }
    );
    left_out.iter().for_each(|url| client.leave_out(url));
    let chunks: Vec<u64> = (0..file.chunk.count(file.size)).collect();
    chunks.iter().for_each(|&chunk| file.lose(chunk));
    let key = file.key.clone();
    if versions.index.commit([Record::ForgetChunks { key, chunks }]) {
        versions.trim(file, true);
    }
}
