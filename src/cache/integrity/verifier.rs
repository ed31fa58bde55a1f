//! The verifier: the thread that reads complete files and compares their hashes.
//!
//! A file is queued when its last chunk comes, or when it is opened and all of it is in the cache ([`Checks::consider`](super::checks::Checks::consider)).
//! The thread yields to everything else, processor and disk, because no reader waits for it. The result is recorded, so
//! that a file is read once for each version, however often the mount begins anew. It is void when a chunk is dropped.

use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;

use tokio::runtime::Handle;
use url::Url;

use super::checks::{Check, hash_to_check};
use super::checksum_files::ChecksumFiles;
use crate::cache::entry::cache_entry::Settled;
use crate::cache::entry::cached_file::CachedFile;
use crate::cache::entry::version_store::VersionStore;
use crate::cache::index::Record;
use crate::http::redact;
use crate::origin::{Client, Content, Hash, Hasher};
use crate::util::events;
use crate::util::panic_guard::contained;

/// Bytes that are read at a time. As many stay in memory.
const BLOCK: u64 = 1 << 20;

/// The nice value of the thread: the lowest.
const NICE: i32 = 19;

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
        self.versions.checks.close();
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
        None if let Some(computed) = versions.index.verified(&file.key) => {
            if versions.index.published(&file.key).as_ref() == Some(&computed) {
                client.note_compared(check.content.url(), &check.version, computed);
            }
            return file.check.note_open(losses);
        }
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
            } else {
                client.note_compared(check.content.url(), &check.version, computed);
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
