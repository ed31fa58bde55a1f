//! Status: what is in flight and measured at each origin, and within one entry, for the user's commands and logs.

use std::ops::Range;
use std::sync::Arc;

use super::action::WaitsFor;
use super::entry::entry_queue::{EntryQueue, Waiter};
use super::origins::queues::EntryQueues;
use crate::cache::entry::cache_entry::CacheEntry;

/// The state of one origin, and what was measured of it.
#[derive(Debug, Clone, PartialEq)]
pub struct OriginStatus {
    /// Scheme, host and port.
    pub origin: String,
    /// Fetches in flight.
    pub fetches: usize,
    /// Maximum number of concurrent fetches: lower than configured after the origin has refused
    /// some.
    pub connections: usize,
    /// Reads and prefetches that wait for bytes from it.
    pub waiters: usize,
    /// Bytes that are wanted and not in flight yet; whole chunks.
    pub wanted_bytes: u64,
    /// Seconds from a request to its answer, and bytes per second over one connection; `None`
    /// before the first measurement.
    pub latency_and_rate: Option<(f64, f64)>,
}

impl OriginStatus {
    /// The state of all origins that were ever requested, ordered by name.
    pub(super) fn of_all(queues: &EntryQueues) -> Vec<OriginStatus> {
        let mut all: Vec<_> = queues
            .named()
            .map(|(origin, number)| {
                let (at, here) = (queues.at(number), || queues.queues_to(number));
                OriginStatus {
                    origin: origin.to_string(),
                    fetches: at.running(),
                    connections: at.connections(),
                    waiters: here().map(|queue| queue.waiters.len()).sum(),
                    wanted_bytes: here().map(|queue| queue.pending() * queue.entry.chunk.bytes()).sum(),
                    latency_and_rate: at.fetch_size().measured(),
                }
            })
            .collect();
        all.sort_by(|a, b| a.origin.cmp(&b.origin));
        all
    }
}

/// What a waiter waits for.
#[derive(Debug, Clone)]
pub struct WaiterStatus {
    /// The entry.
    pub entry: Arc<CacheEntry>,
    /// The bytes that it still needs.
    pub bytes: Range<u64>,
    /// What it waits for.
    pub waits_for: WaitsFor,
}

impl WaiterStatus {
    pub(super) fn of(queue: &EntryQueue, waiter: &Waiter) -> WaiterStatus {
        WaiterStatus {
            entry: Arc::clone(&queue.entry),
            bytes: waiter.bytes.clone(),
            waits_for: queue.waits_for(waiter),
        }
    }
}

/// What goes on in one entry now.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EntryActivity {
    /// Byte ranges of the chunks that fetches in flight will complete, in no order.
    pub in_flight: Vec<Range<u64>>,
    /// Byte ranges of the chunks that are wanted, those in flight included, in no order.
    pub wanted: Vec<Range<u64>>,
    /// First missing byte of each read or prefetch that waits.
    pub waiting: Vec<u64>,
}

impl EntryActivity {
    pub(super) fn of(queue: &EntryQueue) -> EntryActivity {
        let entry = &queue.entry;
        let bytes = |chunks: &Range<u64>| entry.chunk.bytes_of(chunks, entry.size());
        EntryActivity {
            in_flight: queue.fetches.iter().map(|fetch| bytes(&fetch.left(entry))).collect(),
            wanted: queue.wants.runs().map(bytes).collect(),
            waiting: queue.waiters.iter().map(|waiter| waiter.bytes.start).collect(),
        }
    }
}
