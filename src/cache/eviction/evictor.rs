//! The evictor: the thread that frees space, ahead of need where it can.
//!
//! It sleeps until space is wanted by a writer, here or in another process that shares the
//! directory. Then it evicts what the [policy](crate::cache::quota::policy) ranks lowest, in
//! batches, until the low mark is reached. In each batch:
//!
//! 1. chunks are removed from the bitmaps, so that no new read uses them;
//! 2. the index forgets them, in one transaction;
//! 3. after the commit, their bytes are punched out of the files, and files without chunks are
//!    deleted.
//!
//! A crash in between leaves bytes that are not trusted, and that an audit frees.
//! If the index can't be written, nothing is punched.

use std::collections::HashSet;
use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::audit;
use super::victims::{Closed, PAGE, Victim, coldest, open_or_forget};
use crate::cache::entry::cached_file::CachedFile;
use crate::cache::entry::version_store::VersionStore;
use crate::cache::index::{CatalogUpdate, Order, Record};
use crate::cache::key::EntryKey;
use crate::cache::quota::room::Mark;
use crate::cache::quota::rounds::Outcome;
use crate::cache::quota::{Quota, seconds_now};
use crate::cache::sharing::Bell;
use crate::util::panic_guard::contained;

/// Maximum bytes of a batch: waiting writers continue after each.
const BATCH: u64 = 64 << 20;

/// Maximum sleep when no space is wanted. With a maximum age, chunks that are too old are searched
/// at this interval at least. It is also the minimum interval of a check of all data files because
/// nothing can be evicted.
const LOOK_FOR_OLD: Duration = Duration::from_secs(60);

/// Fraction of the maximum age by which old chunks may be late, and the minimum interval of the
/// search.
const LATE_BY: u32 = 8;
const LOOK_NO_SOONER: Duration = Duration::from_secs(1);

/// A newly opened cache is not audited before this time, unless space is wanted: the first reads
/// come first. It is also the interval at which a missing directory is checked.
const SETTLING: Duration = Duration::from_secs(3);

/// The thread. It ends when this is dropped.
pub(crate) struct Evictor {
    quota: Arc<Quota>,
    thread: Option<JoinHandle<()>>,
}

impl Evictor {
    /// Starts the thread. `let_go` closes idle files.
    ///
    /// # Errors
    /// If the system refuses a thread.
    pub(crate) fn start(versions: Arc<VersionStore>, let_go: impl Fn() + Send + 'static) -> io::Result<Evictor> {
        let quota = Arc::clone(&versions.quota);
        let thread = std::thread::Builder::new()
            .name("evictor".into())
            .spawn(move || run(&versions, &let_go))?;
        Ok(Evictor {
            quota,
            thread: Some(thread),
        })
    }
}

impl Drop for Evictor {
    fn drop(&mut self) {
        self.quota.close();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn run(versions: &VersionStore, let_go: &dyn Fn()) {
    let quota = &versions.quota;
    let (mut looked, mut names_looked, begun) = (None, None, Instant::now());
    while !quota.rounds.is_closed() {
        let wanted = quota.peers.rung(Bell::Wanted);
        let asked = quota.rounds.asked();
        let is_in_place = versions.is_in_place();
        // Writers waiting for space receive the outcome even after a panic.
        let outcome = contained("evicting", || make_room(versions, let_go, &mut looked)).unwrap_or(Outcome::Busy);
        quota.rounds.have_ended(asked, outcome);
        quota.peers.ring(Bell::Relieved);
        // Writers come first; the work that can wait follows.
        let is_settled = asked > 0 || begun.elapsed() >= SETTLING;
        contained("maintaining the cache directory", || {
            if is_settled {
                audit::run_if_due(versions);
            }
            if let Some(age) = quota.max_age {
                let age_in_seconds = u32::try_from(age.as_secs()).unwrap_or(u32::MAX);
                let since = seconds_now().saturating_sub(age_in_seconds);
                evict_older(versions, since);
                // This search visits all names.
                if names_looked.is_none_or(|looked: Instant| looked.elapsed() >= (age / LATE_BY).max(LOOK_NO_SOONER)) {
                    names_looked = Some(Instant::now());
                    versions.index.note(CatalogUpdate::NotUsedSince(since.into()));
                }
            }
        });
        if !quota.rounds.is_closed() {
            let longest = if is_settled && is_in_place {
                look_for_old_every(quota.max_age)
            } else {
                SETTLING
            };
            quota.peers.wait(Bell::Wanted, wanted, longest);
        }
    }
}

fn look_for_old_every(max_age: Option<Duration>) -> Duration {
    max_age.map_or(LOOK_FOR_OLD, |age| (age / LATE_BY).clamp(LOOK_NO_SOONER, LOOK_FOR_OLD))
}

/// One round. Before it reports that nothing can be evicted, it checks the disk: another program
/// may have deleted data files. `looked` is the time of the last check.
pub(in crate::cache) fn make_room(versions: &VersionStore, let_go: &dyn Fn(), looked: &mut Option<Instant>) -> Outcome {
    let outcome = round(versions, let_go);
    let is_due = looked.is_none_or(|looked| looked.elapsed() >= LOOK_FOR_OLD);
    if outcome != Outcome::Exhausted || !is_due || versions.quota.rounds.is_closed() {
        return outcome;
    }
    *looked = Some(Instant::now());
    audit::run(versions);
    round(versions, let_go)
}

/// Frees space until the low mark is reached, or nothing more can be evicted.
pub(in crate::cache) fn round(versions: &VersionStore, let_go: &dyn Fn()) -> Outcome {
    let quota = &versions.quota;
    if !versions.is_in_place() {
        return Outcome::Exhausted;
    }
    trim_leftovers(versions);
    if quota.shortfall(Mark::Low) > 0 && quota.has_others() {
        // Other processes can't evict from files that are open here.
        let_go();
    }
    let mut is_relieved = false;
    let mut refused = HashSet::new();
    let is_busy = loop {
        let need = quota.shortfall(Mark::Low);
        if need == 0 || quota.rounds.is_closed() {
            return Outcome::Relieved;
        }
        let victims = coldest(versions, need.min(BATCH), &refused);
        // Other processes had them open, or began to use them.
        let is_busy = victims.iter().any(|victim| !victim.chunks.is_empty());
        let evicted = evict(versions, victims);
        quota.measure_index();
        if evicted.freed == 0 && evicted.refused.is_empty() {
            break is_busy || !refused.is_empty();
        }
        // They are not tried again: otherwise warmer segments would never be reached.
        refused.extend(evicted.refused);
        if evicted.freed > 0 {
            is_relieved = true;
            quota.peers.ring(Bell::Relieved);
        }
    };
    match is_relieved {
        true => Outcome::Relieved,
        false
            if is_busy
                || versions
                    .cached_files
                    .all()
                    .iter()
                    .any(|cached_file| cached_file.is_busy()) =>
        {
            Outcome::Busy
        }
        false => Outcome::Exhausted,
    }
}

/// Frees the bytes of fetches that ended within a chunk.
fn trim_leftovers(versions: &VersionStore) {
    let quota = &versions.quota;
    // Held for the duration of this; what is in use now is tried in a later round if it is still
    // open.
    let leftovers = std::mem::take(&mut *quota.leftovers.lock());
    for cached_file in versions.cached_files.all() {
        versions.trim(&cached_file, false);
    }
    drop(leftovers);
}

/// Evicts what was not used since this second (since 1970).
pub(crate) fn evict_older(versions: &VersionStore, since: u32) -> u64 {
    if !versions.is_in_place() {
        return 0;
    }
    let pinned = versions.index.pinned();
    let mut cached_files = versions.cached_files.all();
    let known: HashSet<EntryKey> = cached_files.iter().map(|cached_file| cached_file.key.clone()).collect();
    cached_files.retain(|cached_file| !pinned.contains(&cached_file.key));
    let mut freed = 0;
    let mut evict_old = |cached_files: Vec<Arc<CachedFile>>| {
        let victims = cached_files.into_iter().map(|cached_file| {
            let old =
                (0..cached_file.presence.segments()).filter(|&segment| cached_file.recency.of(segment).seconds < since);
            let chunks = old.flat_map(|segment| cached_file.evictable(segment)).collect();
            Victim { cached_file, chunks }
        });
        freed += evict(versions, victims.collect()).freed;
    };
    evict_old(cached_files);
    let mut closed = Closed::new(versions, Order::NotUsedSince(since));
    loop {
        let page: Vec<_> = closed.by_ref().take(PAGE).collect();
        if page.is_empty() {
            return freed;
        }
        let rows = page.iter().filter(|row| !known.contains(&row.key));
        evict_old(rows.filter_map(|row| open_or_forget(versions, row)).collect());
    }
}

/// Evicts all chunks of an open version that are not in use. Returns false if any are left.
pub(crate) fn evict_all(versions: &VersionStore, cached_file: Arc<CachedFile>) -> bool {
    let segments = 0..cached_file.presence.segments();
    let chunks = segments.flat_map(|segment| cached_file.evictable(segment)).collect();
    let (presence, kept) = (Arc::clone(&cached_file.presence), Arc::downgrade(&cached_file));
    evict(versions, vec![Victim { cached_file, chunks }]);
    presence.is_empty()
        && kept
            .upgrade()
            .is_none_or(|cached_file| cached_file.unverified.is_empty())
}

/// The result of an eviction.
#[derive(Default)]
struct Evicted {
    /// Bytes freed.
    freed: u64,
    /// Entries that other processes have open, of which nothing was evicted.
    refused: Vec<EntryKey>,
}

/// Evicts the victims.
fn evict(versions: &VersionStore, victims: Vec<Victim>) -> Evicted {
    // What is in the directory's place now, under the same names, belongs to another cache.
    if !versions.is_in_place() {
        return Evicted::default();
    }
    let mut leaving = Vec::new();
    let mut doomed = HashSet::new();
    let mut refused = Vec::new();
    let mut emptied = 0;
    let is_committed = {
        // Each record is queued right after its chunks are removed: if one is wanted again, that is
        // recorded later.
        let records = victims.iter().filter_map(|Victim { cached_file, chunks }| {
            let key = cached_file.key.clone();
            let Some(mut begun) = cached_file.begin_eviction(chunks) else {
                refused.extend((!chunks.is_empty()).then_some(key));
                return None;
            };
            let chunks = begun.chunks.clone();
            let is_empty = cached_file.presence.is_empty() && cached_file.unverified.is_empty();
            emptied += u64::from(is_empty && !chunks.is_empty());
            begun.is_doomed = is_empty && versions.cached_files.take_unused(cached_file);
            let is_doomed = begun.is_doomed;
            if is_doomed {
                doomed.insert(key.clone());
            }
            if !is_doomed && chunks.is_empty() {
                return None;
            }
            leaving.push(begun);
            Some(if is_doomed {
                Record::Forget { key }
            } else {
                Record::ForgetChunks { key, chunks }
            })
        });
        versions.index.commit(records)
    };
    let mut freed = 0;
    for leaving in leaving {
        if !is_committed {
            leaving.give_up();
            continue;
        }
        let change = if leaving.is_doomed {
            leaving.unlink(&versions.store)
        } else {
            leaving.punch()
        };
        versions.quota.adjust(change.counted);
        freed += change.freed;
        if let Some(errno) = change.failed {
            // After a failure none is tried for the next ten seconds: each try would forget chunks
            // that stay.
            versions.disk_health.failed(&io::Error::from_raw_os_error(errno));
        }
    }
    for Victim { cached_file, chunks } in victims {
        // For files that were opened for this, the index records what is left.
        if !chunks.is_empty() && !doomed.contains(&cached_file.key) && Arc::strong_count(&cached_file) == 1 {
            versions.note_use(&cached_file);
        }
    }
    if is_committed {
        versions.counters.evicted_files.add(emptied);
    }
    versions.counters.evicted_bytes.add(freed);
    if freed > 0 {
        log::debug!("evicted {freed} bytes from the cache");
    }
    Evicted { freed, refused }
}
