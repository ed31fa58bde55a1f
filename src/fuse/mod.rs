//! (being written)

pub mod mountpoint;
