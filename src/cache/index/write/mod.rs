//! The write path of the index: callers queue records, and one thread commits many in one
//! transaction.
//!
//! [`writer`] owns the queue and the thread; [`record`] lists what can be recorded;
//! [`tables`] applies it. A failed batch is lost as a whole, and never delays a reader.

pub(super) mod catalog_update;
pub(super) mod doubts;
pub(super) mod pending;
pub(super) mod pins;
pub(super) mod record;
pub(super) mod tables;
pub(super) mod writer;
