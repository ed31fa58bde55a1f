//! Remote files (HTTP) as local ones, read lazily through a chunk cache on disk that persists.
//!
//! The bytes of a file are fetched when they are read, by HTTP range requests, and kept. So a program that seeks reads a large remote
//! file as it would a local one, and reads it once: over restarts, and while the server is away. This crate is also the program `fetchfs`,
//! which mounts web servers as directories; both share their caches.
//!
//! # A file
//!
//! [`RemoteFile`] has [`Read`](std::io::Read) and [`Seek`](std::io::Seek), and [`read_at`](RemoteFile::read_at) for threads that share it.
//!
//! ```no_run
//! use std::io::{Read, Seek, SeekFrom};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let cache = fetchfs::Cache::builder().dir("/var/cache/x").size(10 << 30).open()?;
//! let mut file = cache.open_url("https://example.org/film.mkv")?;
//! file.seek(SeekFrom::End(-4096))?;
//! let mut end = Vec::new();
//! file.read_to_end(&mut end)?;
//! # Ok(())
//! # }
//! ```
//!
//! # A mount
//!
//! [`Mount`] shows a web server's directory to every program, until it is dropped. Over the same [`Cache`] it and the files of
//! the program fetch each byte once.
//!
//! ```no_run
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let cache = fetchfs::Cache::builder().open()?;
//! let mount = fetchfs::Mount::builder()
//!     .source("https://example.org/pub/")
//!     .mountpoint("/mnt/pub")
//!     .cache(&cache)
//!     .spawn()?;
//! let names = std::fs::read_dir(mount.mountpoint())?;
//! # drop(names);
//! # Ok(())
//! # }
//! ```
//!
//! # Errors
//!
//! [`Error`] has an [`ErrorKind`]. Reads give [`std::io::Error`], as the traits of `std` want it, with an [`Error`] inside. A handle reads
//! one version of its file: when the server has another one, what is not cached fails with [`ErrorKind::Changed`].
//!
//! ```no_run
//! use fetchfs::{Cache, Error, ErrorKind};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let cache = Cache::builder().open()?;
//! let mut file = cache.open_url("https://example.org/data.bin")?;
//! let mut header = [0; 64];
//! if let Err(error) = file.read_at(&mut header, 0) {
//!     match Error::of_io(&error).map(Error::kind) {
//!         Some(ErrorKind::Changed) => file = cache.open_url("https://example.org/data.bin")?,
//!         _ => return Err(error.into()),
//!     }
//! }
//! # drop(file);
//! # Ok(())
//! # }
//! ```
//!
//! A message is one sentence, without credentials. Where it names an option of the program, as `--cache-size`, the builder has a method of
//! that name.
//!
//! # Units
//!
//! Sizes, offsets and rates are in bytes, and bytes a second. Ranges are half-open. A position may be past the end of a file, where reads
//! give 0 bytes. Times are [`Duration`](std::time::Duration)s; all waits end, at the latest after
//! [`read_timeout`](CacheBuilder::read_timeout).
//!
//! # Threads
//!
//! Calls block the calling thread. Requests run on two threads of the cache's own, so everything here can be used inside another runtime
//! (where a blocking call still holds up its thread, so put it into `spawn_blocking` or the like). All types are `Send` and `Sync`. A
//! [`Cache`] ends when it, its clones, its files and its mounts are dropped; dropping it blocks until what is whole is recorded.
//!
//! The crate changes nothing of the process but this: SQLite's shared memory is guarded by a handler of SIGBUS, which leaves faults elsewhere to
//! the handler that was there before. It installs no logger; messages go to the `log` crate.
//!
//! # Inside
//!
//! docs/architecture.md in the repository follows one read through the code. The modules that are hidden here are the program's, and
//! may change in any version.

#![deny(missing_docs, clippy::undocumented_unsafe_blocks, unreachable_pub)]
#![allow(
    rustdoc::private_intra_doc_links,
    reason = "what `internals` re-exports is documented for readers of the code"
)]

mod cache;
#[doc(hidden)]
pub mod cli;
mod config;
mod control;
mod engine;
mod fuse;
mod http;
mod library;
mod logging;
mod mount;
mod origin;
mod source;
mod stats;
mod util;
mod vfs;
mod web;

pub use source::s3::AddressingStyle;

pub use library::{Cache, CacheBuilder, Error, ErrorKind, Mount, MountBuilder, RemoteFile, Version};

/// For the tests, benchmarks and fuzz targets of the repository. No part of the library: it may change in any version.
#[doc(hidden)]
pub mod internals {
    pub use crate::cache::fetch::scheduler;
    pub use crate::cache::index::{ChunkIndex, EntryRow, Record};
    pub use crate::cache::key::{EntryKey, UrlKey};
    pub use crate::cache::storage::chunk_store::ChunkStore;
    pub use crate::cache::{Cache, CacheConfig, CacheEntry, ChunkSize, Priority};
    pub use crate::config::{expand_options, mount_command};
    #[cfg(any(test, fuzzing))]
    pub use crate::http::fuzzing;
    pub use crate::http::{HttpConfig, Origin, Validator, Version};
    pub use crate::origin::{Client, Content, ListedSize};
    #[cfg(any(test, fuzzing))]
    pub use crate::source::fuzzing as documents;
    pub use crate::source::web_index::{data_index, index_page};
    pub use crate::source::{ListingConfig, s3, webdav};
    pub use crate::util::events;
}
