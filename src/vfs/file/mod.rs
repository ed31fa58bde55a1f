//! Files: which version a name stands for now, and its cache entry.

pub(super) mod open;
