//! Commands that fill and clear the cache and ask the servers anew, and the one that sets up a cache for many machines.

pub(super) mod cache;
pub(super) mod evict;
pub(super) mod pin;
pub(super) mod prefetch;
pub(super) mod refresh;
pub(super) mod tier;
