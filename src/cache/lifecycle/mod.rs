//! The cache directory from opening to close, and the user's commands on it.
//!
//! `builder` opens it; `folder` opens it later if its disk was in trouble at start; [`fsck`]
//! checks and clears it; `pins` keeps files in it. Opening fails only for faults of the directory
//! itself; a failing disk delays it.

pub(super) mod builder;
pub(super) mod folder;
pub(crate) mod fsck;
pub(super) mod pins;
