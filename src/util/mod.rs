//! Utilities without a layer of their own, for all layers: a clock, bandwidth limits, times that can change, the names of
//! log events, hexadecimal digits, freed memory, a panic guard, plurals.

pub(crate) mod bandwidth;
pub(crate) mod clock;
pub mod events;
pub(crate) mod hex;
pub(crate) mod memory;
pub(crate) mod panic_guard;
pub(crate) mod plural;
pub(crate) mod shared_duration;
