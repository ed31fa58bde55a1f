//! The fetches: how long one becomes, how far it has come, and when it is too slow.
//!
//! [`fetch_table`] holds all of them, and the waiters. A [`fetch_plan`] decides which chunks a fetch brings, in whole
//! [`slices`] of a tier; a [`running_fetch`] is in flight, and [`stalls`] decides whether it keeps its slot.

pub(super) mod fetch_plan;
pub(super) mod fetch_table;
pub(super) mod running_fetch;
pub(super) mod slices;
pub(super) mod stalls;
