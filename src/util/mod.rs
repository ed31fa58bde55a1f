//! Utilities without a layer of their own, for all layers: a clock, a panic guard, plurals.

pub mod clock;
pub mod panic_guard;
pub mod plural;
