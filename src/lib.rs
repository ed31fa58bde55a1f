//! fetchfs mounts remote files (HTTP) as a local directory, read lazily through a chunk cache that persists.
//!
//! # The story of one read
//!
//! 1. The kernel asks for bytes of an open file. [`fuse`] finds the open file by its handle.
//! 2. The file belongs to one [`cache::CacheEntry`]: one version of one remote file. The bytes map to chunk indices.
//! 3. All chunks present: `pread` from the sparse data file, reply from the same thread. No SQL, no task, no waiting.
//! 4. Something missing: the reply is parked as a waiter, and the [`cache::ChunkManager`] wants the missing chunks at
//!    `Critical` priority.
//! 5. The manager's [`cache::fetch::scheduler`] merges neighbouring chunks into a fetch, and gives it a connection: before
//!    anything else that is wanted of that origin.
//! 6. The downloader asks by HTTP Range. [`http`] judges the answer before a byte counts; the body is streamed to its
//!    place in the file, and a waiter wakes when its own bytes are there.
//! 7. A chunk that is whole is recorded in SQLite, many in one transaction, after its bytes were written.
//! 8. Meanwhile the handle's cursors have noticed whether the reader goes on in sequence, and fetch ahead of it.
//!
//! Names come to be files in [`vfs`], by listings from [`source`]; [`mount`] puts it all together. docs/architecture.md
//! has the words, the layers and the reasons; docs/semantics.md what users may rely on.

#![deny(missing_docs, clippy::undocumented_unsafe_blocks)]

pub mod cache;
pub mod cli;
pub mod config;
pub mod control;
mod engine;
pub mod fuse;
pub mod http;
mod library;
pub mod logging;
pub mod mount;
pub mod origin;
pub mod source;
pub mod util;
pub mod vfs;

pub use library::{Cache, CacheBuilder, Error, ErrorKind, Mount, MountBuilder, RemoteFile, Version};
