//! The kernel's side: getting a mount, and answering what the kernel asks.
//!
//! [`mountpoint`] has the mount table, [`FetchFs`] the requests. The file system itself is below,
//! in `tree` and `cache`; here it is put into FUSE's terms. Errors become errnos in [`errno`] alone.

mod attributes;
mod connection;
pub mod errno;
mod filesystem;
mod handles;
mod interrupts;
mod open_directory;
mod open_file;
mod passthrough;
mod relay;
mod replies;
mod shared;

pub use attributes::Ownership;
pub use connection::Connection;
pub use filesystem::FetchFs;
pub use passthrough::Passthrough;
