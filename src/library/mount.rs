//! A mount that a program makes.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{Receiver, bounded};
use parking_lot::Mutex;

use super::cache::Cache;
use super::error::{Error, ErrorKind};
use crate::config::{ATTR_TTL, MountConfig, load_sources, parse_source};
use crate::mount::mountpoint;
use crate::mount::served::{Prepared, Served, ServedBy, claim};
use crate::source::registry::kinds;
use crate::util::events;

/// How long dropping a mount waits for its session to end. It ends at once unless files in it are open.
const ENDING: Duration = Duration::from_secs(1);

/// A mount that this process serves, as `fetchfs mount` does. Dropped, it is unmounted, unless it was unmounted from outside.
///
/// Files that other programs have open in it by then stay readable until they are closed, as after `umount --lazy`. A process that ends
/// without dropping it (`std::process::exit`, a signal) leaves a dead mount behind, which `fetchfs unmount` or the next mount there removes.
///
/// As an ordinary user it needs `fusermount3`, of the package fuse3. **A program must not wait for its own mount in a way that keeps the mount from
/// answering**; reading from it by any thread is fine, since the mount has threads of its own.
pub struct Mount {
    served: Arc<Mutex<Serving>>,
    mountpoint: PathBuf,
    /// Disconnected when the session with the kernel is over.
    ended: Receiver<()>,
}

/// What there is of a mount while it lasts. **Nothing is kept of a mount that has ended, whoever ended it**: the mountpoint
/// and the mount's device number may be another mount's then. A clone of the [`Arc`] is the session's, which empties it.
enum Serving {
    /// It is not mounted yet.
    Nothing,
    /// It is served.
    Mount(Served),
    /// It has ended.
    Over,
}

/// How a [`Mount`] is made. Each setting has the default of the option of the same name of `fetchfs mount`.
#[derive(Debug, Clone)]
pub struct MountBuilder {
    sources: Vec<String>,
    mountpoint: Option<PathBuf>,
    kind: Option<String>,
    cache: Option<Cache>,
    attr_ttl: Duration,
    allow_other: bool,
    umask: u16,
}

impl Mount {
    /// A builder with the defaults. A source and a mountpoint are needed.
    pub fn builder() -> MountBuilder {
        MountBuilder {
            sources: Vec::new(),
            mountpoint: None,
            kind: None,
            cache: None,
            attr_ttl: ATTR_TTL,
            allow_other: false,
            umask: 0o022,
        }
    }

    /// Where it is mounted: absolute, without symbolic links.
    pub fn mountpoint(&self) -> &Path {
        &self.mountpoint
    }

    /// Blocks until it is unmounted, by `fetchfs unmount` or umount(8) for example.
    pub fn wait(&self) {
        // It is disconnected; nothing is ever sent.
        let _ = self.ended.recv();
    }

    /// Unmounts it, as dropping it does. [`Self::wait`] returns then, in whichever thread. More calls do nothing.
    pub fn unmount(&self) {
        if let Serving::Mount(served) = &*self.served.lock() {
            served.unmount();
        }
        let _ = self.ended.recv_timeout(ENDING);
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        self.unmount();
        // It may still be detached and in use.
        end(&self.served);
    }
}

/// Lets go of what belongs to a mount: its run file and its control socket.
fn end(serving: &Mutex<Serving>) {
    let ended = std::mem::replace(&mut *serving.lock(), Serving::Over);
    // Not under the lock.
    drop(ended);
}

impl fmt::Debug for Mount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mount")
            .field("mountpoint", &self.mountpoint)
            .finish_non_exhaustive()
    }
}

impl MountBuilder {
    /// What is mounted: the URL of an index page, which ends in `/`, of a single file, or of a document that names files, such as a list of
    /// URLs, a playlist or a Metalink. Such a document may also be a file on this machine, by its path; `-` is standard input. Called several
    /// times, each becomes a name at the top of the mount. A user name and a password may be in a URL.
    pub fn source(mut self, url: impl Into<String>) -> MountBuilder {
        self.sources.push(url.into());
        self
    }

    /// The kind of all sources, by its name for `--type` of `fetchfs mount`: `index`, `webdav` or `file` for example. An
    /// unknown one is refused by [`Self::spawn`].
    ///
    /// Default: the scheme of the URL says it, or the server's first answer.
    #[doc(alias = "type")]
    pub fn kind(mut self, name: impl Into<String>) -> MountBuilder {
        self.kind = Some(name.into());
        self
    }

    /// The empty directory on which to mount.
    pub fn mountpoint(mut self, dir: impl Into<PathBuf>) -> MountBuilder {
        self.mountpoint = Some(dir.into());
        self
    }

    /// The cache that the mount reads through.
    ///
    /// Default: one of its own in the default folder.
    pub fn cache(mut self, cache: &Cache) -> MountBuilder {
        self.cache = Some(cache.clone());
        self
    }

    /// How long listings and attributes are believed without asking again.
    ///
    /// Default: 10 s.
    pub fn attr_ttl(mut self, time: Duration) -> MountBuilder {
        self.attr_ttl = time;
        self
    }

    /// Lets other users see the files. For an ordinary user this needs the line `user_allow_other` in /etc/fuse.conf.
    ///
    /// Default: off.
    pub fn allow_other(mut self, is_allowed: bool) -> MountBuilder {
        self.allow_other = is_allowed;
        self
    }

    /// The permissions to take from 0444 for files and 0555 for directories.
    ///
    /// Default: 0022.
    pub fn umask(mut self, mask: u16) -> MountBuilder {
        self.umask = mask & 0o777;
        self
    }

    /// Mounts, and returns when the mount answers. The mount is served by threads of its own.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] when a setting can't be meant or the directory is not empty; [`ErrorKind::Mount`] when the system does not
    /// let this process mount there; else why a source can't be had.
    pub fn spawn(self) -> Result<Mount, Error> {
        let invalid = |what: String| Error::new(ErrorKind::InvalidInput, what);
        let sources = self
            .sources
            .iter()
            .map(|url| parse_source(url))
            .collect::<Result<Vec<_>, _>>();
        let mut sources = sources.map_err(|error| invalid(error.to_string()))?;
        if sources.is_empty() {
            return Err(invalid("a mount needs a source".into()));
        }
        if let Some(kind) = self.kind.as_ref().filter(|kind| !kinds().contains(&kind.as_str())) {
            return Err(invalid(format!("kind: `{kind}` is none of {}", kinds().join(", "))));
        }
        let Some(mountpoint) = self.mountpoint else {
            return Err(invalid("a mount needs a mountpoint".into()));
        };
        let mountpoint = mountpoint::resolve(&mountpoint).map_err(anyhow::Error::from)?;
        let cache = match self.cache {
            Some(cache) => cache,
            None => Cache::builder().open()?,
        };
        for source in &sources {
            cache.claim_server(&source.url)?;
        }
        let engine = Arc::clone(&cache.engine);
        let loaded = load_sources(&mut sources, engine.config().http.max_page);
        loaded.map_err(|error| invalid(error.to_string()))?;
        let config = MountConfig {
            attr_ttl: self.attr_ttl,
            allow_other: self.allow_other,
            umask: self.umask,
            kind: self.kind,
            s3: cache.s3.clone(),
            ..MountConfig::new(sources, mountpoint, engine.config().clone())
        };
        let run_file = claim(&config)?;
        let prepared = Prepared::new(&config, &engine)?;
        let (ends, ended) = bounded(0);
        let serving = Arc::new(Mutex::new(Serving::Nothing));
        let of_session = Arc::clone(&serving);
        let served = prepared.mount(&config, run_file, None, ServedBy::Program, move |outcome| {
            if let Err(error) = outcome {
                log::warn!(event = events::SESSION_FAILED; "the FUSE session failed: {error}");
            }
            end(&of_session);
            drop(ends);
        })?;
        let mut now = serving.lock();
        if matches!(*now, Serving::Nothing) {
            *now = Serving::Mount(served);
        }
        drop(now);
        Ok(Mount {
            served: serving,
            mountpoint: config.mountpoint,
            ended,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mount_without_source_or_mountpoint_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let builder = || Mount::builder().source("http://127.0.0.1:1/").mountpoint(dir.path());
        let without_source = Mount::builder().mountpoint(dir.path());
        let without_place = Mount::builder().source("http://127.0.0.1:1/");
        let no_url = builder().source("nothing");
        let no_place = builder().mountpoint(dir.path().join("none"));
        let no_kind = builder().kind("gopher");
        for refused in [without_source, without_place, no_url, no_place, no_kind] {
            assert_eq!(refused.spawn().unwrap_err().kind(), ErrorKind::InvalidInput);
        }
    }
}
