//! Makes room: which chunks go, and the thread that has them go ahead of need.
//!
//! [`evictor`] runs in rounds that [`super::quota`] asks for; [`victims`] picks the coldest segments of all files; [`audit`] sets the count of
//! used room right.

pub(super) mod audit;
pub mod evictor;
#[cfg(test)]
pub(super) mod tests;
pub(super) mod victims;
