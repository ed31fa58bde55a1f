//! Files on this machine, answered as a web server would answer for them.
//!
//! The user names a directory, and a source registers it here ([`LocalDirectories::add`]). From then on
//! [`Transport`](super::request::transport::Transport) answers requests for `file:` URLs below it with the head and the
//! body that a server would send. So versions, ranges, deadlines, the scheduler and the cache treat such a file like
//! any other. There are no connections, no logins and no redirects.
//!
//! - **Only directories that the user has named.** No redirect and no link in a document leads to a `file:` URL.
//! - **Symbolic links are followed within the directory**, unless the user allows links to elsewhere ([`directory`]).
//! - **A version is the size, the modification time and the change time**, both with nanoseconds ([`Stamp`]).
//! - **No body mixes two versions**: the version is compared after each block was read, before it is passed on
//!   ([`body`]).
//! - Only a timeout counts against the health of the file system, which may be on a network. Any other error is the
//!   file's own.

mod answer;
mod body;
mod directory;
#[cfg(test)]
mod tests;

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;

use nix::sys::stat::FileStat;
use parking_lot::RwLock;
use url::Url;

pub(crate) use directory::{LocalDirectory, LocalError};

/// The directories of this machine that the user has named.
#[derive(Default)]
pub(crate) struct LocalDirectories {
    /// Locked for the moment of a look-up.
    all: RwLock<Vec<Arc<LocalDirectory>>>,
}

impl LocalDirectories {
    /// Answers requests for what is in this directory from now on.
    pub(crate) fn add(&self, directory: LocalDirectory) {
        let mut all = self.all.write();
        all.retain(|known| known.url() != directory.url());
        all.push(Arc::new(directory));
    }

    /// The directory that a URL is in, or is.
    pub(crate) fn of(&self, url: &Url) -> Option<Arc<LocalDirectory>> {
        let all = self.all.read();
        all.iter().find(|directory| directory.contains(url)).map(Arc::clone)
    }
}

/// What distinguishes two versions of a file.
///
/// Programs can set the modification time of a file, but not its change time. Whatever replaces a file by renaming has
/// another change time as well. So inode numbers are not needed, and they would do harm: some file systems (sshfs, CIFS)
/// number their files anew at each mount.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stamp {
    size: u64,
    /// Seconds since 1970, and nanoseconds.
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stamp {
    /// The version of a file with this metadata.
    pub(crate) fn of(metadata: &Metadata) -> Stamp {
        Stamp {
            size: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }

    /// [`Self::of`], for the system's own form of metadata.
    pub(crate) fn of_stat(facts: &FileStat) -> Stamp {
        Stamp {
            size: facts.st_size.unsigned_abs(),
            modified: (facts.st_mtime, facts.st_mtime_nsec),
            changed: (facts.st_ctime, facts.st_ctime_nsec),
        }
    }

    /// The version as a strong entity tag.
    pub(crate) fn tag(&self) -> String {
        let Stamp {
            size,
            modified,
            changed,
        } = self;
        format!(
            "\"{size:x}-{:x}.{:x}-{:x}.{:x}\"",
            modified.0, modified.1, changed.0, changed.1
        )
    }
}
