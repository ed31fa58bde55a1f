//! Commands that fill and clear the cache, and ask the servers anew.

pub(super) mod cache;
pub(super) mod evict;
pub(super) mod pin;
pub(super) mod prefetch;
pub(super) mod refresh;
