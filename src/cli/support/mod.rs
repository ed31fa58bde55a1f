//! What the commands share: parsing, the terminal, and the look-up of the mounts that paths are in.

pub(super) mod background;
pub(super) mod failure;
pub(super) mod interrupt;
pub(super) mod output;
pub(super) mod parse;
pub(super) mod program;
pub(super) mod progress;
pub(super) mod scrub_argv;
pub(super) mod targets;
mod usage;
