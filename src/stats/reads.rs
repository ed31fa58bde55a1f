//! Reads of open files: hits, misses and failures.
//!
//! A read that was answered without a wait is a **hit**, with all its bytes; one that had to wait for the network is a
//! **miss**, with all its bytes. So bytes that read-ahead has brought in time are hits.

use std::ops::AddAssign;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use super::counter::Counter;
use super::latency::{Histogram, HistogramTotals};

/// The reads through one open handle. Written by its own reads alone.
#[derive(Debug, Default)]
pub(crate) struct ReadCounts {
    hit_reads: Counter,
    hit_bytes: Counter,
    hit_latency: Histogram,
    miss_reads: Counter,
    miss_bytes: Counter,
    miss_nanoseconds: Counter,
    failed_reads: Counter,
    /// Nanoseconds that the longest read took.
    longest: AtomicU64,
    /// Byte offset at which the last read ended.
    position: AtomicU64,
    /// The thread that read last; 0 before the first read, or if it is unknown.
    thread: AtomicU32,
}

/// The sum of the reads through some handles.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct ReadTotals {
    /// Reads that were answered without a wait.
    pub hit_reads: u64,
    /// Their bytes.
    pub hit_bytes: u64,
    /// How long they took, from the kernel's request to the bytes in its answer.
    pub hit_latency: HistogramTotals,
    /// Reads that waited for the network and got their bytes.
    pub miss_reads: u64,
    /// Their bytes.
    pub miss_bytes: u64,
    /// How long they took, in nanoseconds.
    pub miss_nanoseconds: u64,
    /// How long the longest read took that got its bytes, in nanoseconds. Of several sums, the largest.
    pub longest_nanoseconds: u64,
    /// Reads that ended with an error, other than an interrupt.
    pub failed_reads: u64,
}

impl ReadCounts {
    /// A read of `bytes` bytes that did not wait has ended at byte `end` of the file, after `time`.
    pub(crate) fn note_hit(&self, bytes: u64, end: u64, time: Duration) {
        self.hit_reads.add(1);
        self.hit_bytes.add(bytes);
        self.hit_latency.note(time);
        self.note_end(end, time);
    }

    /// A read of `bytes` bytes that has waited has ended at byte `end` of the file, after `time`.
    pub(crate) fn note_miss(&self, bytes: u64, end: u64, time: Duration) {
        self.miss_reads.add(1);
        self.miss_bytes.add(bytes);
        self.miss_nanoseconds.add(nanoseconds(time));
        self.note_end(end, time);
    }

    fn note_end(&self, end: u64, time: Duration) {
        let time = nanoseconds(time);
        // Most reads are not the longest, and write nothing.
        if time > self.longest.load(Ordering::Relaxed) {
            self.longest.fetch_max(time, Ordering::Relaxed);
        }
        self.position.store(end, Ordering::Relaxed);
    }

    /// A read has failed.
    pub(crate) fn note_failure(&self) {
        self.failed_reads.add(1);
    }

    /// A thread begins to read.
    pub(crate) fn set_thread(&self, thread: u32) {
        self.thread.store(thread, Ordering::Relaxed);
    }

    /// The thread that read last; 0 before the first read, or if it is unknown.
    pub(crate) fn thread(&self) -> u32 {
        self.thread.load(Ordering::Relaxed)
    }

    /// Byte offset at which the last read ended.
    pub(crate) fn position(&self) -> u64 {
        self.position.load(Ordering::Relaxed)
    }

    /// The reads so far.
    pub(crate) fn totals(&self) -> ReadTotals {
        ReadTotals {
            hit_reads: self.hit_reads.get(),
            hit_bytes: self.hit_bytes.get(),
            hit_latency: self.hit_latency.totals(),
            miss_reads: self.miss_reads.get(),
            miss_bytes: self.miss_bytes.get(),
            miss_nanoseconds: self.miss_nanoseconds.get(),
            longest_nanoseconds: self.longest.load(Ordering::Relaxed),
            failed_reads: self.failed_reads.get(),
        }
    }
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

impl ReadTotals {
    /// Bytes of all reads.
    pub(crate) fn bytes(&self) -> u64 {
        self.hit_bytes + self.miss_bytes
    }
}

impl AddAssign for ReadTotals {
    fn add_assign(&mut self, more: ReadTotals) {
        self.hit_reads += more.hit_reads;
        self.hit_bytes += more.hit_bytes;
        self.hit_latency += more.hit_latency;
        self.miss_reads += more.miss_reads;
        self.miss_bytes += more.miss_bytes;
        self.miss_nanoseconds += more.miss_nanoseconds;
        self.longest_nanoseconds = self.longest_nanoseconds.max(more.longest_nanoseconds);
        self.failed_reads += more.failed_reads;
    }
}
