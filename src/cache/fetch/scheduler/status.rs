//! Status: what is in flight and measured at each origin, for `fetchfs status` and logs.

use super::queues::EntryQueues;

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
                    latency_and_rate: at.fetch_size.measured(),
                }
            })
            .collect();
        all.sort_by(|a, b| a.origin.cmp(&b.origin));
        all
    }
}
