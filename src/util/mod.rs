//! Utilities without a layer of their own, for all layers: a clock, the names of log events, a panic guard, plurals.

pub(crate) mod clock;
pub mod events;
pub(crate) mod panic_guard;
pub(crate) mod plural;
