//! What is wanted of one entry.
//!
//! [`entry_queue`] holds what is wanted, in flight and waited for; [`wanted_chunks`] are its wanted chunks by priority,
//! and [`windows`] what each stream wants ahead.

pub(super) mod entry_queue;
mod wanted_chunks;
pub(super) mod windows;
