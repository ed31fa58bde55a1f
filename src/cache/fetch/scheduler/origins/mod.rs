//! The origins: whose slots the fetches have, and in which order entries get them.
//!
//! [`queues`] holds the queues of all entries, and the [`origin_state`] of each origin. [`redirects`] says which
//! origin's slot a fetch has, and [`refusals`] what a refused request is attributed to.

pub(super) mod origin_state;
pub(super) mod queues;
mod redirects;
pub(super) mod refusals;
