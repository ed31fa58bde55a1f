//! The kind `local`: a directory of this machine, such as a slow disk or a network file system, by its path or `file:` URL.
//!
//! A directory is listed by `readdir` and one `stat` for each name. So sizes are exact, dates have nanoseconds, and the
//! version of each file is known before it is opened. Their bytes are requested like those of a server
//! ([`origin::local`](crate::origin) answers).
//!
//! Which names are shown:
//!
//! - Files and directories, by the bytes of their names. A file that can't be read is shown, and opening it fails.
//! - Symbolic links, as what they lead to. One that leads out of the directory is shown only with
//!   [`ListingConfig::external_links`]. One that leads to a directory that it is in is never shown: that tree would have
//!   no end.
//! - Devices, sockets, pipes and links that lead nowhere are counted as left out.

use std::ffi::OsStr;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;

use nix::dir::{Dir, Type};
use nix::fcntl::AtFlags;
use nix::sys::stat::{FileStat, SFlag, fstatat};
use url::Url;

use super::listing::builder::{ListingBuilder, TooManyNames};
use super::{Asked, BoxFuture, EntityTag, EntryKind, Found, ListedSize, ListedTime, Listing, ListingConfig};
use super::{Source, SourceError, time};
use crate::http::{HttpError, HttpErrorKind, redact};
use crate::origin::{Client, LocalDirectory, LocalError, Stamp};

/// The name of the kind.
pub(super) const LOCAL: &str = "local";

/// The source of directories of this machine.
pub(crate) struct LocalTrees {
    client: Client,
    listings: ListingConfig,
}

/// Why a directory has no listing.
enum Failure {
    Local(LocalError),
    TooManyNames,
}

impl From<LocalError> for Failure {
    fn from(error: LocalError) -> Failure {
        Failure::Local(error)
    }
}

impl From<TooManyNames> for Failure {
    fn from(_: TooManyNames) -> Failure {
        Failure::TooManyNames
    }
}

impl LocalTrees {
    /// A source whose files are read through this client.
    pub(crate) fn new(client: Client, listings: ListingConfig) -> LocalTrees {
        LocalTrees { client, listings }
    }

    async fn listing(&self, directory: &Url) -> Result<Listing, SourceError> {
        let fail = |kind| {
            let url = redact(directory);
            SourceError::from(HttpError { kind, url })
        };
        if self.client.is_offline() {
            return Err(fail(HttpErrorKind::Offline));
        }
        let root = self.client.local_directory(directory);
        let root = root.ok_or_else(|| fail(HttpErrorKind::NotFound(crate::http::NO_STATUS)))?;
        let (url, config, timeout) = (directory.clone(), self.listings, self.client.timeout());
        let listing = tokio::task::spawn_blocking(move || list(&root, &url, &config));
        match tokio::time::timeout(timeout, listing).await {
            Ok(Ok(Ok(listing))) => Ok(listing),
            Ok(Ok(Err(Failure::Local(error)))) => Err(fail(error.kind(timeout))),
            Ok(Ok(Err(Failure::TooManyNames))) => {
                let most = self.listings.max_entries;
                let why = format!("it has more than {most} names; raise --max-entries");
                Err(SourceError::not_a_listing(directory, why))
            }
            Ok(Err(panic)) => Err(fail(HttpErrorKind::Unreadable(panic.to_string()))),
            // Its file system may be on a network.
            Err(_) => Err(fail(HttpErrorKind::TimedOut(timeout))),
        }
    }
}

impl Source for LocalTrees {
    fn kind(&self) -> &'static str {
        LOCAL
    }

    fn address(&self, url: &Url) -> Result<Url, SourceError> {
        // A document on this machine is of another kind.
        if url.path().ends_with('/')
            && let Some(directory) = LocalDirectory::new(url, self.listings.external_links)
        {
            self.client.serve_local(directory);
        }
        Ok(url.clone())
    }

    fn open<'a>(&'a self, asked: &'a Asked<'a>) -> BoxFuture<'a, Result<Option<Found>, SourceError>> {
        Box::pin(async move {
            if !asked.url.path().ends_with('/') {
                return match asked.is_named {
                    true => Err(SourceError::not_a_listing(asked.url, "it is not a directory")),
                    false => Ok(None),
                };
            }
            let listing = self.listing(asked.url).await?;
            Ok(Some(Found::Directory(asked.url.clone(), listing)))
        })
    }

    fn list<'a>(&'a self, directory: &'a Url, _there: &'a Url) -> BoxFuture<'a, Result<Listing, SourceError>> {
        Box::pin(self.listing(directory))
    }
}

/// What is known of a name.
struct Facts {
    kind: EntryKind,
    modified: Option<ListedTime>,
    tag: Option<EntityTag>,
}

/// What a name in a directory is.
enum Named {
    Shown(Facts),
    /// Neither a file nor a directory.
    Special,
    /// A symbolic link that leads out of the named directory.
    Outside,
    /// It was deleted since its directory was read.
    Gone,
}

/// Lists a directory below `root`.
fn list(root: &Arc<LocalDirectory>, url: &Url, config: &ListingConfig) -> Result<Listing, Failure> {
    let gone = || LocalError::Io(io::ErrorKind::NotFound.into());
    let (relative, path) = (
        root.relative(url).ok_or_else(gone)?,
        url.to_file_path().map_err(|()| gone())?,
    );
    let modified = root.metadata(&relative)?.modified().ok();
    let mut names = Dir::from_fd(root.directory(&relative)?).map_err(system)?;
    let handle = names.as_fd().try_clone_to_owned().map_err(LocalError::Io)?;
    let mut builder = ListingBuilder::new(url, config.max_entries);
    for entry in names.iter() {
        let entry = entry.map_err(system)?;
        let name = OsStr::from_bytes(entry.file_name().to_bytes());
        if name == "." || name == ".." {
            continue;
        }
        let named = match entry.file_type() {
            Some(Type::Fifo | Type::Socket | Type::CharacterDevice | Type::BlockDevice) => Named::Special,
            Some(Type::Symlink) => linked(root, &relative, name),
            kind => match fstatat(&handle, name, AtFlags::AT_SYMLINK_NOFOLLOW) {
                Ok(facts) if is_type(&facts, SFlag::S_IFLNK) => linked(root, &relative, name),
                Ok(facts) => facts_of(&facts),
                Err(nix::errno::Errno::ENOENT) => Named::Gone,
                // A directory of which only the names can be read.
                Err(_) => Named::Shown(Facts {
                    kind: EntryKind::of(kind == Some(Type::Directory), ListedSize::Unknown),
                    modified: None,
                    tag: None,
                }),
            },
        };
        match named {
            Named::Shown(Facts { kind, modified, tag }) => {
                let path = path.join(name);
                let url = match kind {
                    EntryKind::Directory => Url::from_directory_path(path),
                    EntryKind::File(_) => Url::from_file_path(path),
                };
                match url {
                    Ok(url) => builder.add_tagged(name.as_bytes().to_owned(), url, kind, modified, tag)?,
                    Err(()) => builder.refuse()?,
                }
            }
            Named::Special => builder.leave_out(|left_out| &mut left_out.special)?,
            Named::Outside => builder.leave_out(|left_out| &mut left_out.elsewhere)?,
            Named::Gone => {}
        }
    }
    Ok(builder.finish(modified))
}

fn system(error: nix::errno::Errno) -> LocalError {
    LocalError::Io(error.into())
}

fn is_type(facts: &FileStat, kind: SFlag) -> bool {
    SFlag::from_bits_truncate(facts.st_mode) & SFlag::S_IFMT == kind
}

fn facts_of(facts: &FileStat) -> Named {
    let kind = if is_type(facts, SFlag::S_IFDIR) {
        EntryKind::Directory
    } else if is_type(facts, SFlag::S_IFREG) {
        EntryKind::File(ListedSize::Exact(facts.st_size.unsigned_abs()))
    } else {
        return Named::Special;
    };
    // Nanoseconds are below 10⁹.
    let modified = time(facts.st_mtime, facts.st_mtime_nsec as u32).map(|time| ListedTime { time, exact: true });
    let tag = match kind {
        EntryKind::Directory => None,
        EntryKind::File(_) => EntityTag::of(&Stamp::of_stat(facts).tag()),
    };
    Named::Shown(Facts { kind, modified, tag })
}

/// What a symbolic link in the directory `relative` leads to.
fn linked(root: &LocalDirectory, relative: &Path, name: &OsStr) -> Named {
    let target = match root.metadata(&relative.join(name)) {
        Ok(target) => target,
        Err(LocalError::Outside) => return Named::Outside,
        // It leads nowhere, or in a circle.
        Err(_) => return Named::Special,
    };
    let modified = target.modified().ok().map(|time| ListedTime { time, exact: true });
    if target.is_file() {
        return Named::Shown(Facts {
            kind: EntryKind::File(ListedSize::Exact(target.len())),
            modified,
            tag: EntityTag::of(&Stamp::of(&target).tag()),
        });
    }
    let is_target = |above: &Path| {
        let above = root.metadata(above);
        above.is_ok_and(|above| (above.dev(), above.ino()) == (target.dev(), target.ino()))
    };
    if !target.is_dir() || relative.ancestors().any(is_target) {
        return Named::Special;
    }
    Named::Shown(Facts {
        kind: EntryKind::Directory,
        modified,
        tag: None,
    })
}
