//! What the rest of the cache asks of the processes that use its directory: two traits.
//!
//! [`Peers`] is asked by the quota, the evictor and the audit, [`FileLocks`] by the data files. Behind them are the
//! [`ledger`](super::ledger) and the kernel's [locks](super::locks); a process that no other can join answers both by
//! itself ([`Alone`](super::alone::Alone)).

use std::fmt;
use std::fs::File;
use std::io;
use std::time::Duration;

/// The processes that use one cache directory, this one included: the space that they use, and their calls to each other.
pub(crate) trait Peers: fmt::Debug + Send + Sync {
    /// Returns true if other processes, or other caches of this one, use the directory. Some system calls.
    fn has_others(&self) -> bool;

    /// The space that all of them use. Some system calls.
    fn space(&self) -> Space;

    /// The clock and the limit of [`Self::space`], at most a second old. `second` is the current one (since 1970). Usually
    /// needs no system call: each read of a file asks.
    fn recent(&self, second: u32) -> (u64, u64);

    /// Sets this process's configured size. The smallest of all processes applies.
    fn set_limit(&self, limit: u64);

    /// Counts bytes that are about to be written to data files, if that leaves the total at `most` or below.
    ///
    /// # Errors
    /// If they can't be counted: then nothing may be written.
    fn try_reserve(&self, bytes: u64, most: u64) -> io::Result<bool>;

    /// Ends a reservation of `reserved` bytes, after which data files take `grown` bytes more on the disk. With 0 reserved
    /// bytes it counts a change found there. It is never lost: a change that can't be written now is counted later.
    fn settle(&self, reserved: u64, grown: i64);

    /// Counts what the cache takes beside its data files.
    fn note_overhead(&self, overhead: Overhead);

    /// Claims the next audit: true if `every` bytes were added since the last one and no other process has claimed it.
    fn claim_audit(&self, every: u64) -> bool;

    /// Makes an audit due, because the count is wrong.
    fn demand_audit(&self);

    /// The space at the beginning of an audit, with the limit of those that use the directory now.
    fn begin_audit(&self) -> Space;

    /// Rings a bell, in all processes.
    fn ring(&self, bell: Bell);

    /// How often this bell has rung: the argument `seen` of [`Self::wait`].
    fn rung(&self, bell: Bell) -> u32;

    /// Sleeps until the bell rings, unless it has since `seen`; at most for `longest`.
    fn wait(&self, bell: Bell, seen: u32, longest: Duration);
}

/// The locks on data files, by which each process knows whether another one has a file open.
pub(crate) trait FileLocks: fmt::Debug + Send + Sync {
    /// Locks the file exclusively, if no other process has locked it. Returns false if one has; then this process's lock
    /// is unchanged.
    ///
    /// # Errors
    /// If the file system has no locks.
    fn try_exclusive(&self, file: &File) -> io::Result<bool>;

    /// Locks the file as in use, or weakens its exclusive lock to that. Waits while another process holds it exclusively,
    /// which takes milliseconds.
    ///
    /// # Errors
    /// If the file system has no locks.
    fn share(&self, file: &File) -> io::Result<()>;
}

/// The space that the processes of a cache directory use, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Space {
    /// The size limit: the smallest configured size.
    pub limit: u64,
    /// Data files, allocated or reserved.
    pub used: u64,
    /// Of it, what was reserved and not settled.
    pub reserved: u64,
    /// The index.
    pub index: u64,
    /// The directories of data files.
    pub directories: u64,
    /// Total ever added to data files: the logical clock.
    pub clock: u64,
    /// Total ever freed since the first process joined.
    pub freed: u64,
}

impl Space {
    /// Everything in the directory, allocated or reserved.
    pub(crate) fn total(&self) -> u64 {
        self.used.saturating_add(self.index).saturating_add(self.directories)
    }
}

/// What a cache takes on the disk beside its data files, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Overhead {
    /// The index takes this much.
    Index(u64),
    /// The directories of data files take this much.
    Directories(u64),
    /// A directory of this size is about to be created.
    NewDirectory(u64),
}

/// A call to all processes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Bell {
    /// Space is wanted.
    Wanted,
    /// Space may be available now.
    Relieved,
}
