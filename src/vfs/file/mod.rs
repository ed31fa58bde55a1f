//! Files: which version a name stands for now, its size and date, and its cache entry.

pub(super) mod files;
pub(super) mod resolver;
pub(super) mod revalidator;
