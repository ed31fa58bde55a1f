//! The kernel's side: getting a mount, and answering what the kernel asks.
//!
//! [`mountpoint`] has the mount table, [`FetchFs`] the requests. The file system itself is below,
//! in `tree` and `cache`; here it is put into FUSE's terms. Errors become errnos in [`errno`] alone.

mod attributes;
pub mod errno;
mod filesystem;
mod handles;
mod interrupts;
mod invalidation;
mod open_directory;
mod open_file;
mod passthrough;
mod replies;
mod shared;

pub use attributes::Ownership;
pub use filesystem::FetchFs;
pub use invalidation::attributes_changed;
pub use passthrough::Passthrough;
