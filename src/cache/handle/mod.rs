//! Open handles: what a read of one finds, waits for and gets.
//!
//! [`reader`] is the one read path: a hit, a wait or a bypass. [`sequential`] reads files whose size is unknown.

pub(super) mod reader;
pub(super) mod sequential;
