//! What goes on, for people to see.

use super::Scheduler;

/// What goes on at one origin, and what was measured of it.
#[derive(Debug, Clone, PartialEq)]
pub struct OriginStatus {
    /// Scheme, host and port.
    pub origin: String,
    /// Fetches under way.
    pub fetches: usize,
    /// How many there may be at a time: fewer than configured after the origin has complained.
    pub connections: usize,
    /// Reads and prefetches that wait for bytes from it.
    pub waiters: usize,
    /// Bytes that are wanted and not under way yet; whole chunks.
    pub wanted_bytes: u64,
    /// Seconds from a request to its answer, and bytes a second over one connection; `None` until it was measured.
    pub latency_and_rate: Option<(f64, f64)>,
}

impl Scheduler {
    /// What goes on at the origins that something was ever wanted of, in the order of their names.
    pub fn status(&self) -> Vec<OriginStatus> {
        let mut all: Vec<_> = self
            .queues
            .named()
            .map(|(origin, number)| {
                let queues = || self.queues.flights_to(number);
                OriginStatus {
                    origin: origin.to_string(),
                    fetches: self.queues.at(number).running(),
                    connections: self.connections(number),
                    waiters: queues().map(|flight| flight.waiters.len()).sum(),
                    wanted_bytes: queues().map(|f| f.wants.count() * f.entry.chunk.bytes()).sum(),
                    latency_and_rate: self.queues.at(number).pace.measured(),
                }
            })
            .collect();
        all.sort_by(|a, b| a.origin.cmp(&b.origin));
        all
    }

    /// Bytes that fetches have brought into data files so far.
    pub fn brought(&self) -> u64 {
        self.brought
    }
}
