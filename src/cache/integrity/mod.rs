//! Integrity: bytes that contradict a hash which the file's source publishes are not kept.
//!
//! - A file with a hash of the whole is checked when all of it is in the cache ([`file_check`], [`verifier`]): in the
//!   background, once for each version. If it contradicts the hash, its chunks are dropped, the server that sent them is
//!   left out for this file, and what is read later comes from another URL, or is an error.
//!
//! - A file without one may have a hash in a checksum file beside it ([`checksum_files`]). Such a file may be older than the
//!   other, so a difference is only reported.
//! - A file with hashes of its pieces is verified piece by piece, before a byte of a piece is written ([`pieces`]).
//!
//! The hashes come with a file's [`Content`](crate::origin::Content). Only checksum files are asked for.

pub(crate) mod checks;
mod checksum_files;
pub(crate) mod contributors;
pub(crate) mod file_check;
pub(crate) mod pieces;
pub(crate) mod verifier;
