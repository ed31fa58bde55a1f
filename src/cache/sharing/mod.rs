//! One cache directory, several processes.
//!
//! Mounts of one user share a cache directory without a server between them. The kernel's locks are all that they have in
//! common. It releases them however a process ends, so a killed process leaves nothing to clean up but a count that is too
//! high. The rules:
//!
//! **The directory** ([`dir_lock`]).
//! - A process holds the shared lock of the file `lock` for as long as it uses the directory.
//! - The last process to leave makes all data durable and marks the index clean. It knows that it is the last one when it
//!   gets the lock exclusively.
//!
//! **A data file** ([`locks`]).
//! - Each process holds a shared lock on each data file that it has open. Several processes fill a file together.
//! - Setting the size of a file, punching a hole and deleting it take the lock exclusively. A process that does not get it
//!   leaves the file as it is.
//! - The lock belongs to the open file. So one thread of a process at a time may make it exclusive.
//! - The exclusive holder goes by what is recorded in the index at that moment. While other processes exist, a file stays
//!   open until what was written to it is recorded.
//!
//! **The space in use** ([`ledger`]).
//! - It is counted in one page of the file `usage`. A change of the page is made under a lock; reading takes none.
//! - Bytes are added before they are written, and subtracted after a hole was punched. So the count is never too low.
//! - Each process holds a slot of the page by a lock on one byte. A slot without its lock belongs to a dead process.
//! - The smallest configured size applies to all processes.
//! - A process that needs room rings a bell in the page, and so does a process that has made room. There is no event for
//!   the bells of other processes: waiters look for them at intervals.
//! - An audit by one process corrects the count for all ([`crate::cache::eviction`]).
//!
//! A mount that is alone follows the same rules. Without contention, each of them costs one system call.

pub(super) mod dir_lock;
pub(crate) mod ledger;
pub(crate) mod locks;
