//! What a mount has done and is doing: the counters and states that `fetchfs status`, `fetchfs top` and metrics show.
//!
//! It is low in the layers, because origin, cache and fuse count here; [`crate::control`] puts it together in one
//! structure. What holds:
//!
//! - **A [`Counter`] only grows** for as long as its process lives, and its name has its unit. The difference of two
//!   readings is what happened in between.
//! - **Counting costs a read no lock, no allocation and no memory that other handles write to.** An open file counts
//!   its own reads ([`ReadCounts`]); they are summed for each report.
//! - A read of 20 ms and more is remembered, under a lock, in bounded memory ([`ReadLog`]).
//! - Reads that the kernel carries out by itself (FUSE passthrough) are not seen here, so they are not counted.

mod counter;
mod failures;
mod latency;
mod misses;
mod phase;
mod process;
mod programs;
mod read_log;
mod reads;
mod requests;
mod tier;
mod traffic;
mod unread;

pub(crate) use counter::Gauge;
pub(crate) use failures::{FailureLog, FailureRecord, Operation};
pub(crate) use latency::{BOUNDS_US, HistogramTotals};
pub(crate) use misses::{MissReason, MissStats};
pub(crate) use phase::{Phase, PhaseCell, PhaseTimes};
pub(crate) use process::Process;
pub(crate) use programs::{ProcessTable, ProcessTraffic, ScanClass};
pub(crate) use read_log::{ReadLog, SlowRead};
pub(crate) use reads::{ReadCounts, ReadTotals};
pub(crate) use requests::{RequestCounters, RequestTotals};
pub(crate) use tier::{TierCounters, TierCounts, TierNameTotals, TierNodeTotals, TierTotals};
pub(crate) use traffic::CacheCounters;
pub(crate) use unread::UnreadBlocks;

/// What a mount does for programs, apart from reads.
#[derive(Debug, Default)]
pub(crate) struct MountStats {
    /// The failures that programs saw.
    pub failures: FailureLog,
    /// Look-ups, listings and opens that wait for a server now.
    pub waiting_names: Gauge,
    /// The programs that have read.
    pub processes: ProcessTable,
}
