//! Eviction: which chunks are evicted, and the thread that does it ahead of need.
//!
//! [`evictor`] runs in rounds that [`super::quota`] requests; `victims` picks the coldest
//! segments of all files; `audit` corrects the count of used space. A chunk's bytes are punched
//! out only after the index has committed that they are gone.

pub(super) mod audit;
pub(crate) mod evictor;
#[cfg(test)]
pub(super) mod tests;
pub(super) mod victims;
