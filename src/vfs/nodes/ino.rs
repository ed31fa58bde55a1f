//! Inode numbers.
//!
//! **A number follows from what a node is**: its URL and the file's version. So a backup program that identifies files
//! by inode finds the same numbers after a remount. If two nodes would have one number, the later one gets another
//! ([`NodeTable::add`](super::table::NodeTable::add)). That happens if a listing has one URL twice, or by a hash
//! collision.

use url::Url;
use xxhash_rust::xxh3::xxh3_64;

use crate::http::Version;

/// An inode number.
pub(crate) type Ino = u64;

/// The inode number of the root (`FUSE_ROOT_ID` in `linux/fuse.h`).
pub(crate) const ROOT: Ino = 1;

/// The number of a node that no directory shows. The kernel knows none by it.
pub(in crate::vfs) const NOWHERE: Ino = 0;

/// The number for the text that identifies a node. From 2 to 2^63 - 1, as some programs keep numbers in signed
/// columns.
pub(super) fn number(text: &str) -> Ino {
    (xxh3_64(text.as_bytes()) >> 1).max(ROOT + 1)
}

/// The number of a directory.
pub(in crate::vfs) fn of_directory(url: &Url) -> Ino {
    number(url.as_str())
}

/// The number of a file of this version, or of unknown version.
pub(in crate::vfs) fn of_file(url: &Url, version: Option<&Version>) -> Ino {
    let version = version.map(|version| format!("{} {}", version.size, version.validator.to_key()));
    number(&format!("{url}\0{}", version.unwrap_or_default()))
}

/// The number of the unknown version that follows the node `before`.
pub(in crate::vfs) fn of_successor(url: &Url, before: Ino) -> Ino {
    number(&format!("{url}\0{before}"))
}
