//! What is fetched, in which order, over how many connections, and how it reaches the data file.
//!
//! [`manager`] is the door and owns the lock; [`scheduler`] decides without I/O; [`downloader`] carries out; [`readahead`] guesses what a
//! handle wants next. [`connection_limit`], [`concurrency_probe`], [`request_rate`] and [`fetch_size`] measure each origin.

pub(super) mod concurrency_probe;
pub(super) mod connection_limit;
pub mod downloader;
pub(super) mod fetch_size;
pub(super) mod file_writer;
pub(super) mod manager;
pub(super) mod readahead;
pub(super) mod request_rate;
pub mod scheduler;
