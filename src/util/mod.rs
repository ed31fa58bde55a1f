//! Utilities without a layer of their own, for all layers: a clock, a panic guard, plurals.

pub(crate) mod clock;
pub(crate) mod panic_guard;
pub(crate) mod plural;
