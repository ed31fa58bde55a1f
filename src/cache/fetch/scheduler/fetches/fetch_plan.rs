//! The plan of a fetch: which chunks it brings.
//!
//! Short fetches keep many connections busy for one reader, and long ones waste less time on round
//! trips. [`FetchSize`](crate::cache::fetch::fetch_size::FetchSize) knows what an origin's round
//! trips cost; the plan adds what is wanted, how many files share the origin, and how many
//! connections are free.

use std::ops::Range;

use super::running_fetch::RunningFetch;
use super::slices::Slices;
use crate::cache::chunk::common;
use crate::cache::fetch::scheduler::entry::entry_queue::EntryQueue;
use crate::cache::fetch::scheduler::origins::origin_state::OriginState;

/// Number of connections from which on a long fetch on one of them does not hold up the others.
const MANY: usize = 8;

/// Number of connections per file from which on they bring what is beyond a gap faster than one fetch
/// that reads over all gaps. Simulated over sixteen connections, one reader of a file of which every
/// fourth chunk is present gets 107 MB/s instead of 34, two get 128 instead of 66.
const OWN_CONNECTIONS: usize = 5;

/// What the next fetch of an entry depends on.
pub(in crate::cache::fetch::scheduler) struct FetchPlan<'a> {
    pub(in crate::cache::fetch::scheduler) queue: &'a EntryQueue,
    pub(in crate::cache::fetch::scheduler) at: &'a OriginState,
    /// Maximum bytes of a fetch in usual circumstances.
    pub(in crate::cache::fetch::scheduler) fetch_len: u64,
    /// Of a tier that is asked first.
    pub(in crate::cache::fetch::scheduler) slices: Option<Slices>,
}

impl FetchPlan<'_> {
    /// The chunks of a fetch that begins at `first`: consecutive wanted chunks, and wanted chunks
    /// beyond gaps that are cheaper to fetch than a new request. Present chunks in a gap are
    /// overwritten with the same bytes.
    pub(in crate::cache::fetch::scheduler) fn chunks(&self, first: u64) -> Range<u64> {
        let (queue, at, connections) = (self.queue, self.at, self.at.connections());
        let mut chunks = first..first + self.run_len(first);
        let Some(settled) = queue.entry.settled() else {
            return chunks;
        };
        let missing_end = |run: Range<u64>| settled.presence.next_present(&run).unwrap_or(run.end);
        chunks.end = missing_end(chunks.clone());
        // A free connection could bring what lies beyond a gap meanwhile, and nothing would be sent twice.
        // The fetch itself takes one.
        let has_free = connections > at.running() + 1;
        if has_free || connections >= OWN_CONNECTIONS * at.queues {
            return chunks;
        }
        let chunk = queue.entry.chunk.bytes();
        let most = first + at.fetch_size().fetch_len(u64::MAX, 1).min(self.longest()) / chunk;
        while let Some(next) = queue.next_wanted(chunks.end..most) {
            let gap = chunks.end..next;
            let is_in_flight = |fetch: &RunningFetch| !common(&fetch.chunks, &gap).is_empty();
            if gap.is_empty()
                || (gap.end - gap.start) * chunk > at.fetch_size().round_trip()
                || queue.fetches.iter().any(is_in_flight)
            {
                break;
            }
            chunks.end = missing_end(next..(next + queue.pending_in_a_row(next)).min(most));
        }
        chunks
    }

    /// Number of consecutive wanted chunks from `first` on that one fetch brings.
    fn run_len(&self, first: u64) -> u64 {
        let (chunk, in_a_row) = (self.queue.entry.chunk.bytes(), self.queue.pending_in_a_row(first));
        let helpers = self.helpers(first + in_a_row);
        let len = self.at.fetch_size().fetch_len(in_a_row * chunk, helpers);
        let len = in_a_row.min((len.min(self.longest()) / chunk).max(1));
        // A rest that comes in less time than another request takes is taken along.
        if helpers <= 1 && (in_a_row - len) * chunk <= self.at.fetch_size().round_trip() {
            return in_a_row;
        }
        let end = |slices: Slices| {
            let chunks = first..first + len;
            slices.end_of_fetch(&chunks, first + in_a_row, self.queue.entry.chunk)
        };
        self.slices.map_or(len, |slices| end(slices) - first)
    }

    /// Number of connections that share a run of wanted chunks: the free ones, or, if the run
    /// reaches the end of the file, the entry's share of all. After any other run more work
    /// follows. At the end, a few long fetches would bring the rest while the other connections run
    /// out of work.
    fn helpers(&self, run_end: u64) -> usize {
        let all = self.at.background_connections();
        let free = all.saturating_sub(self.at.running());
        if run_end >= self.queue.entry.chunk_count() {
            free.max(all / self.at.queues.max(1))
        } else {
            free
        }
    }

    /// Maximum bytes of a fetch. Twice the usual length where there are about as many files as
    /// connections: each reader then has its own connection, and no reader waits for a far position
    /// on another. Not with a few connections, where a long fetch delays the others. With more
    /// files than connections, only what pays for the round trip, for the same reason.
    fn longest(&self) -> u64 {
        let (files, connections) = (self.at.queues, self.at.connections());
        if files > connections {
            self.fetch_len.min(self.at.fetch_size().crowded_turn_len())
        } else if connections >= MANY && files * 2 >= connections {
            self.fetch_len * 2
        } else {
            self.fetch_len
        }
    }
}
