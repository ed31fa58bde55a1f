//! Prefetching ahead of programs that walk through the tree.
//!
//! `find`, `ls -R`, `cp -r` and scanners walk a tree in the order of its listings: into the first sub-directory, then
//! the next; from one file to the next. Without prefetch, each step costs a round trip.
//!
//! - Directories opened in that order make the listings of the next ones prefetched. Small files opened in that order
//!   make the next files prefetched.
//! - The number doubles with each step in order, up to a bound, and drops to none at the first step out of order.
//! - Several walks are tracked at a time, each with its own pace.
//! - `ls -R` sorts names, so a directory close to the expected one counts as in order.
//! - `cp -r` walks by inode number, so a walk may be in either order; its second step decides which.
//!
//! [`walks`] decides what comes next, as plain values. The tasks of [`readdir_prefetch`] send the requests.

mod pace;
pub(super) mod readdir_prefetch;
mod walk_order;
mod walks;
