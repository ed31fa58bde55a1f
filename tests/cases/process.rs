//! Signals, limits and the mount's process.
