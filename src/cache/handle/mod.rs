//! Open handles: the read path of a file that is open.
//!
//! [`read_at`] is the one read path: a hit or a wait; [`reader`] has its parts. [`open_readers`] lists what a mount has open. [`scan`] has the
//! rules of scanners. [`sequential`] reads files whose size is unknown.

mod miss;
pub(super) mod open_readers;
pub(super) mod read_at;
pub(super) mod reader;
pub(super) mod scan;
pub(super) mod sequential;
