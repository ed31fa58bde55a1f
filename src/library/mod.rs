//! What a Rust program uses: remote files that are read through the cache, and mounts made from a program.
//!
//! Thin callers: [`RemoteFile::read_at`] is the read path of the mount ([`crate::cache::Reader`]), [`Cache::open_url`] finds out the current
//! version as a mount does ([`crate::vfs::Tree::open_url`]), and [`Mount`] is made in the steps of `fetchfs mount` ([`crate::mount::served`]).

mod builder;
mod cache;
mod error;
mod mount;
mod remote_file;
mod s3;
mod servers;

pub use builder::CacheBuilder;
pub use cache::Cache;
pub use error::{Error, ErrorKind};
pub use mount::{Mount, MountBuilder};
pub use remote_file::{RemoteFile, Version};
