//! The kernel's side: the adapter between `fuser` and the file system.
//!
//! [`FetchFs`] answers the kernel's requests; `mount` creates it and starts the session. Names come from
//! [`crate::vfs`], bytes from [`crate::cache`]; this module puts them into FUSE's terms. Errors become errnos in
//! [`errno`] alone. No request waits on a thread of the session, so `ls`, `stat` and `df` never wait behind a blocked
//! read.

mod attributes;
mod connection;
pub(crate) mod errno;
mod filesystem;
mod handles;
mod interrupts;
mod open_directory;
mod open_file;
mod passthrough;
mod relay;
mod replies;
mod scan;
mod shared;
mod xattrs;

pub(crate) use attributes::Ownership;
pub(crate) use connection::Connection;
pub(crate) use filesystem::FetchFs;
pub(crate) use passthrough::Passthrough;
pub(crate) use scan::{ScanConfig, ScanPolicy, ScanSettings, Scanner, Scans, Treatment};
pub(crate) use shared::Shared;
