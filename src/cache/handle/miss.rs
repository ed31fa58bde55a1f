//! A read that had to wait: what for, and why its bytes were not here.

use std::mem;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use super::reader::Reader;
use crate::cache::entry::cache_entry::{CacheEntry, Settled};
use crate::cache::fetch::manager::{WaitReport, Waited};
use crate::http::Origin;
use crate::stats::{MissReason, Phase, PhaseTimes};

/// What a read has waited for. Most wait once; one whose bytes are lost or evicted meanwhile waits again.
pub(super) struct Miss {
    /// Why its bytes were not here, but for [`MissReason::InFlight`].
    reason: MissReason,
    entry: Arc<CacheEntry>,
    /// The thread that made it; 0 if it is unknown.
    thread: u32,
    /// Of the waits that are over.
    waited: Option<Waited>,
    /// Of the wait that goes on, or is just over.
    report: WaitReport,
}

impl Miss {
    /// A read of `bytes` through `reader` is about to wait for this entry, which is the reader's own or its bypass.
    pub(super) fn new(reader: &Reader, entry: &Arc<CacheEntry>, bytes: &Range<u64>) -> Miss {
        Miss {
            reason: reason(reader.entry(), entry, bytes),
            entry: Arc::clone(entry),
            thread: reader.open_file().map_or(0, |open| open.counts.thread()),
            waited: None,
            report: WaitReport::default(),
        }
    }

    /// The thread that made it; 0 if it is unknown.
    pub(super) fn thread(&self) -> u32 {
        self.thread
    }

    /// The last server that answered for it.
    pub(super) fn server(&self) -> Option<String> {
        let server = self.waited.as_ref()?.server.as_ref();
        server.map(Origin::to_string)
    }

    /// The report of its next wait.
    pub(super) fn wait_again(&self) -> WaitReport {
        Arc::clone(&self.report)
    }

    /// A wait is over.
    pub(super) fn wait_is_over(&mut self) {
        let more = mem::take(&mut *self.report.lock());
        match &mut self.waited {
            None => self.waited = Some(more),
            Some(waited) => {
                waited.times += more.times;
                waited.server = more.server.or(waited.server.take());
            }
        }
    }

    /// What it has waited for. The rest of `time`, which the whole read took, went into reading from the cache's disk.
    pub(super) fn times(&self, time: Duration) -> PhaseTimes {
        let mut times = self.waited.as_ref().map(|waited| waited.times).unwrap_or_default();
        times.add(Phase::Disk, time.saturating_sub(times.total()));
        times
    }

    /// Why its bytes were not here. `is_fresh`: some of them had to be fetched.
    pub(super) fn reason(&self, is_fresh: bool) -> MissReason {
        let was_in_flight = self.waited.as_ref().is_some_and(|waited| waited.was_in_flight);
        match self.reason {
            MissReason::Bypass => MissReason::Bypass,
            _ if was_in_flight => MissReason::InFlight,
            // Without a version, nothing was known of its bytes.
            MissReason::Unconfirmed if is_fresh => self.entry.settled().map_or(MissReason::NotCached, not_cached),
            reason => reason,
        }
    }
}

fn reason(own: &Arc<CacheEntry>, entry: &Arc<CacheEntry>, bytes: &Range<u64>) -> MissReason {
    if !Arc::ptr_eq(own, entry) {
        return MissReason::Bypass;
    }
    let Some(settled) = entry.settled() else {
        return MissReason::Unconfirmed;
    };
    let Some(first) = entry.next_missing(&entry.chunks_of(bytes)) else {
        // It has come just now.
        return MissReason::InFlight;
    };
    let file = &settled.cached_file;
    match () {
        () if file.has_lost(first) => MissReason::Lost,
        () if file.unverified.contains(first) => MissReason::Unverified,
        () if file.presence.was_removed(first) => MissReason::Evicted,
        () => not_cached(settled),
    }
}

fn not_cached(settled: &Settled) -> MissReason {
    match settled.cached_file.replaces_version() {
        true => MissReason::VersionChanged,
        false => MissReason::NotCached,
    }
}
