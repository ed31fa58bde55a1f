//! The user's requests to a running mount: prefetch, pin, evict, refresh, status.
//!
//! [`serve`] listens on a Unix socket and calls the tree and the cache, as [`crate::fuse`] does for the kernel. The
//! command line uses the other end, [`Client`]. [`protocol`] defines the messages.
//!
//! - Only the user that made the mount and root may connect.
//! - Connections, line lengths and times are bounded, so no client can harm the mount.
//! - What a request starts ends with its connection, except background jobs.

mod cells;
mod client;
mod context;
pub(crate) mod explain;
mod jobs;
mod maps;
mod options;
mod pins;
mod prefetch;
pub(crate) mod protocol;
mod refresh;
mod report;
mod server;
pub(crate) mod status;

pub(crate) use cells::{Cell, cells};
pub(crate) use client::Client;
pub(crate) use context::{About, Control, LibraryControl, Observed, Reload};
pub(crate) use options::Options;
pub(crate) use server::{serve, serve_at};
pub(crate) use status::Health;
