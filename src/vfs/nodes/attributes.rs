//! What `stat` shows of a node.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::ino::{Ino, NOWHERE};

/// The date of a file that neither the server nor the listing dates: 1980-01-01, the same at each mount. It is the
/// earliest date that zip archives can hold. Some versions of make take 1970 for "no such file".
pub(super) fn undated() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(315_532_800)
}

/// The attributes that `stat` shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Attributes {
    /// Inode number.
    pub ino: Ino,
    /// Directory or file.
    pub is_directory: bool,
    /// Bytes.
    pub size: u64,
    /// Whether the kernel may cache these attributes: the size is the remote file's, and the date needs no further
    /// request. False while only a rounded size is known.
    pub is_exact: bool,
    /// Last change of the content.
    pub modified: SystemTime,
    /// Link count: 1 for a file; for a directory 2 and one for each sub-directory. A directory without a listing yet
    /// has 1, which tools take for "not counted".
    pub links: u32,
}

impl Attributes {
    /// Those of a name that is absent.
    pub(crate) const ABSENT: Attributes = Attributes {
        ino: NOWHERE,
        is_directory: false,
        size: 0,
        is_exact: true,
        modified: UNIX_EPOCH,
        links: 0,
    };
}
