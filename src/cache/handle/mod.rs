//! Open handles: the read path of a file that is open.
//!
//! [`reader`] is the one read path: a hit, a wait or a bypass. [`sequential`] reads files whose
//! size is unknown. `fuse` reads through both.

pub(super) mod reader;
pub(super) mod sequential;
