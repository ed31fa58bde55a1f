//! One cache folder, several processes: the lock on the folder, and the count of used room that they share.
//!
//! Rules: a process holds [`dir_lock`] shared while it uses the folder; room is reserved in the [`ledger`] before bytes are written; byte-range
//! [`locks`] guard one file's truncation and removal; an audit ([`super::quota`]) sets the count right.

pub(super) mod dir_lock;
pub mod ledger;
pub mod locks;
