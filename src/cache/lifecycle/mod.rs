//! The cache folder from opening to close, and what a user does with it: [`builder`] opens it, [`cache_dir`] swaps it in once it can be
//! opened, [`fsck`] checks and clears it, [`pins`] keeps files in it.

pub(super) mod builder;
pub(super) mod folder;
pub mod fsck;
pub(super) mod pins;
