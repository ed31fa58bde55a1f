//! What has no home in a layer: a clock, a panic guard, plurals.

pub mod clock;
pub mod panic_guard;
pub mod plural;
