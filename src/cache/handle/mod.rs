//! Open handles: the read path of a file that is open.
//!
//! [`read_at`] is the one read path: a hit or a wait; [`reader`] has its parts. [`sequential`] reads files whose size is unknown.

pub(super) mod read_at;
pub(super) mod reader;
pub(super) mod sequential;
