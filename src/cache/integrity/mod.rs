//! Integrity: bytes that contradict a hash which the file's source publishes are not kept.
//!
//! - A file with a hash of the whole is checked when all of it is in the cache ([`file_check`], [`verifier`]): in the
//!   background, once for each version. If it contradicts the hash, its chunks are dropped, the server that sent them is
//!   left out for this file, and what is read later comes from another URL, or is an error.
//!
//! - A file with hashes of its pieces is verified piece by piece, before a byte of a piece is written ([`pieces`]).
//!
//! The hashes come with a file's [`Content`](crate::origin::Content). Nothing here asks for one.

pub(crate) mod contributors;
pub(crate) mod file_check;
pub(crate) mod pieces;
pub(crate) mod verifier;
