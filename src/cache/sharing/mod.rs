//! One cache directory, several processes: the rules.
//!
//! Mounts of one user share a cache directory without a server between them. The kernel's locks are all that they have in
//! common. It releases them however a process ends, so a killed process leaves nothing to clean up but a count that is too
//! high. A mount that is alone follows the same rules. Without contention, each of them costs one system call.
//!
//! **The directory** ([`DirLock`]).
//! - A process holds the shared lock of the file `lock` for as long as it uses the directory.
//! - The last process to leave makes all data durable and marks the index clean. It knows that it is the last one when it
//!   gets the lock exclusively.
//!
//! **A data file** ([`FileLocks`]).
//! - Each process holds a shared lock on each data file that it has open. Several processes fill a file together.
//! - Setting the size of a file, punching a hole and deleting it take the lock exclusively. A process that does not get it
//!   leaves the file as it is.
//! - The lock belongs to the open file. So one thread of a process at a time may make it exclusive.
//! - The exclusive holder goes by what is recorded in the index at that moment. While other processes exist, a file stays
//!   open until what was written to it is recorded.
//!
//! **What others have fetched** ([`Learnt`]).
//! - Each process records in the index what it has completed, and keeps its own bitmap in memory.
//! - Before missing chunks are fetched, a process that is not alone reads the rows of these chunks, once for each version
//!   of the index. So a chunk may be fetched twice at worst, by two processes at the same time, with the same bytes.
//!
//! **The space in use** ([`Peers`], kept in the [`ledger`]).
//! - It is counted in one page of the file `usage`. A change of the page is made under a lock; reading takes none.
//! - Bytes are added before they are written, and subtracted after a hole was punched. So the count is never too low.
//! - Each process holds a slot of the page by a lock on one byte. A slot without its lock belongs to a dead process.
//! - The smallest configured size applies to all processes.
//! - A process that needs room rings a bell in the page, and so does a process that has made room. There is no event for
//!   the bells of other processes: waiters look for them at intervals.
//! - An audit by one process corrects the count for all ([`crate::cache::eviction`]).
//!
//! **A job** ([`JobLease`]). Of all processes one at a time runs a prefetch job.
//!
//! The rest of the cache knows of this the traits [`Peers`] and [`FileLocks`] and the guards named above. While the
//! directory can't be opened, [`Alone`] answers the traits by itself.

mod alone;
mod dir_lock;
mod job_lease;
mod learnt;
mod ledger;
mod locks;
mod page;
mod peers;

use std::path::Path;

use super::error::CacheError;
pub(crate) use alone::Alone;
pub(crate) use dir_lock::DirLock;
pub(crate) use job_lease::JobLease;
pub(crate) use learnt::Learnt;
pub(crate) use ledger::{counted, demand_audit};
pub(crate) use locks::KernelLocks;
pub(crate) use peers::{Bell, FileLocks, Overhead, Peers, Space};

/// Joins the processes that use a cache directory, with this process's configured size of it. `recorded` are the bytes by
/// the index's count: the first process uses the larger of the two counts.
///
/// # Errors
/// If the count can't be created or written, or too many processes use the directory.
pub(crate) fn join(cache_dir: &Path, limit: u64, recorded: u64) -> Result<Box<dyn Peers>, CacheError> {
    Ok(Box::new(ledger::Ledger::join(cache_dir, limit, recorded)?))
}
