//! One cache directory, several processes: the lock on the directory, and the shared count of used
//! space.
//!
//! Rules:
//! - A process holds the shared `dir_lock` while it uses the directory.
//! - Space is reserved in the [`ledger`] before bytes are written.
//! - Byte-range [`locks`] guard the truncation and removal of a file.
//! - An audit ([`super::quota`]) corrects the count.

pub(super) mod dir_lock;
pub mod ledger;
pub mod locks;
