//! [`LocalDirectory`]: opens what is below a directory on this machine, and follows no symbolic link out of it.
//!
//! The kernel resolves paths below the directory's descriptor (`openat2` with `RESOLVE_BENEATH`, Linux 5.6), so no link
//! that is changed at the same moment can lead elsewhere. It refuses absolute links, even those that lead back into the
//! directory. Such a path is resolved here first, and opened by what it leads to.

use std::fs::{self, File, Metadata};
use std::io::{self, ErrorKind};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, open, openat2};
use nix::sys::stat::Mode;
use url::Url;

use crate::http::{HttpErrorKind, NO_STATUS};
use crate::origin::as_directory;

/// How often a path is resolved again if a directory in it was renamed meanwhile.
const MOST_RENAMES: usize = 8;

/// A directory that the user has named.
#[derive(Debug)]
pub(crate) struct LocalDirectory {
    /// Its URL, which ends in `/`.
    url: Url,
    path: PathBuf,
    /// True if symbolic links may lead out of the directory.
    follows_all_links: bool,
}

/// Why there is no file at a path.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LocalError {
    /// A symbolic link leads out of the directory.
    #[error("a symbolic link leads out of the directory")]
    Outside,
    /// It is neither a file nor a directory, or a directory in place of a file.
    #[error("it is not a file")]
    NoFile,
    /// The system's error.
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl LocalError {
    /// The failure of a request that this error means. `timeout` is the configured one.
    pub(crate) fn kind(&self, timeout: Duration) -> HttpErrorKind {
        let error = match self {
            LocalError::Io(error) => error,
            LocalError::Outside | LocalError::NoFile => return HttpErrorKind::Unreadable(self.to_string()),
        };
        match (error.kind(), error.raw_os_error()) {
            (ErrorKind::NotFound | ErrorKind::NotADirectory, _) => HttpErrorKind::NotFound(NO_STATUS),
            (ErrorKind::PermissionDenied, _) => HttpErrorKind::Denied(NO_STATUS),
            (ErrorKind::TimedOut, _) => HttpErrorKind::TimedOut(timeout),
            // The server of a network file system is down.
            (ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable | ErrorKind::NotConnected, _)
            | (_, Some(libc::EHOSTDOWN)) => HttpErrorKind::Unreachable(error.to_string()),
            // It was replaced while it was opened.
            (ErrorKind::StaleNetworkFileHandle, _) => HttpErrorKind::Interrupted,
            (_, Some(libc::EMFILE | libc::ENFILE)) => HttpErrorKind::NoDescriptors,
            _ => HttpErrorKind::Unreadable(error.to_string()),
        }
    }
}

impl LocalDirectory {
    /// The directory at this `file:` URL; `None` if that has no path on this machine.
    pub(crate) fn new(url: &Url, follows_all_links: bool) -> Option<LocalDirectory> {
        let path = url.to_file_path().ok()?;
        Some(LocalDirectory {
            url: as_directory(url),
            path,
            follows_all_links,
        })
    }

    pub(crate) fn url(&self) -> &Url {
        &self.url
    }

    /// Returns true if a URL is in this directory, or is its own.
    pub(super) fn contains(&self, url: &Url) -> bool {
        url.scheme() == self.url.scheme() && url.path().starts_with(self.url.path())
    }

    /// The path of a URL in this directory, relative to it; empty for its own.
    pub(crate) fn relative(&self, url: &Url) -> Option<PathBuf> {
        let path = url.to_file_path().ok()?;
        path.strip_prefix(&self.path).ok().map(Path::to_owned)
    }

    /// The size and dates of a file or directory, by its relative path.
    ///
    /// # Errors
    /// If there is none, or a link leads out of the directory.
    pub(crate) fn metadata(&self, relative: &Path) -> Result<Metadata, LocalError> {
        Ok(File::from(self.open(relative, OFlag::O_PATH)?).metadata()?)
    }

    /// Opens a file for reading, by its relative path.
    ///
    /// # Errors
    /// [`LocalError::NoFile`] for anything but a regular file.
    pub(crate) fn file(&self, relative: &Path) -> Result<(File, Metadata), LocalError> {
        // To open a device may change its state, so it is looked at first.
        if !self.metadata(relative)?.is_file() {
            return Err(LocalError::NoFile);
        }
        let file = File::from(self.open(relative, OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_NOCTTY)?);
        let metadata = file.metadata()?;
        match metadata.is_file() {
            true => Ok((file, metadata)),
            false => Err(LocalError::NoFile),
        }
    }

    /// Opens a directory for listing, by its relative path.
    ///
    /// # Errors
    /// If it can't be opened, or is no directory.
    pub(crate) fn directory(&self, relative: &Path) -> Result<OwnedFd, LocalError> {
        self.open(relative, OFlag::O_RDONLY | OFlag::O_DIRECTORY)
    }

    fn open(&self, relative: &Path, flags: OFlag) -> Result<OwnedFd, LocalError> {
        let flags = flags | OFlag::O_CLOEXEC;
        if self.follows_all_links {
            let opened = open(&self.path.join(relative), flags, Mode::empty());
            return Ok(opened.map_err(io::Error::from)?);
        }
        match self.open_below(relative, flags) {
            Err(Errno::EXDEV) => {
                let (root, target) = (self.path.canonicalize()?, fs::canonicalize(self.path.join(relative))?);
                let inside = target.strip_prefix(&root).map_err(|_| LocalError::Outside)?;
                let opened = self.open_below(inside, flags);
                opened.map_err(|error| match error {
                    Errno::EXDEV => LocalError::Outside,
                    error => LocalError::Io(error.into()),
                })
            }
            opened => Ok(opened.map_err(io::Error::from)?),
        }
    }

    fn open_below(&self, relative: &Path, flags: OFlag) -> nix::Result<OwnedFd> {
        // Opened each time: a file system may be mounted there anew.
        let root = open(
            &self.path,
            OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC,
            Mode::empty(),
        )?;
        let relative = if relative.as_os_str().is_empty() {
            Path::new(".")
        } else {
            relative
        };
        let how = OpenHow::new().flags(flags).resolve(ResolveFlag::RESOLVE_BENEATH);
        let mut renames = 0;
        loop {
            match openat2(&root, relative, how) {
                Err(Errno::EAGAIN) if renames < MOST_RENAMES => renames += 1,
                opened => return opened,
            }
        }
    }
}
