//! Fetching: which missing bytes are requested, in which order, over how many connections, and how
//! they reach the data file.
//!
//! Callers use `manager` only. It owns the lock, wakes waiters and guarantees that every wait
//! ends. [`scheduler`] decides without I/O; [`downloader`] sends the requests and writes the
//! bodies; `readahead` predicts what a handle reads next. `concurrency_probe` and
//! `fetch_size` hold what was measured of each origin.

pub(super) mod concurrency_probe;
pub(crate) mod downloader;
pub(super) mod fetch_size;
pub(super) mod file_writer;
pub(super) mod manager;
pub(super) mod readahead;
pub mod scheduler;
