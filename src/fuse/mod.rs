//! The kernel's side: getting a mount, and answering what the kernel asks.
//!
//! [`mountpoint`] has the mount table, [`FetchFs`] the requests. The file system itself is below,
//! in `tree` and `cache`; here it is put into FUSE's terms. Errors become errnos in [`errno`] alone.

pub mod errno;
mod filesystem;
mod handles;
mod interrupts;
pub mod mountpoint;
mod open_file;
mod passthrough;
mod replies;

pub use filesystem::{FetchFs, Ownership, attributes_changed, forget_pages};
pub use passthrough::Passthrough;
