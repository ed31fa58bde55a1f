//! A cache that a program has opened: files by their URLs. [`super::builder`] opens it.

use std::fmt;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use url::Url;

use super::error::{Error, ErrorKind};
use super::remote_file::RemoteFile;
use crate::config::{parse_source, shown};
use crate::engine::Engine;
use crate::http::Origin;
use crate::source::Sources;
use crate::source::s3::S3Config;
use crate::vfs::Tree;

/// A cache folder that is open, and the threads and connections that fill it.
///
/// Cheap to clone: clones are the same cache. It ends with the last of its clones, files and mounts; what was fetched by then is
/// recorded. Any number of processes may use one folder at the same time, and so may several caches of one process; they share what is in
/// it. A cache that is used by several threads or mounts of a process is better opened once, because its connections and its memory are
/// shared then, too.
#[derive(Clone)]
pub struct Cache {
    pub(super) engine: Arc<Engine>,
    /// Finds out the current version of a file. It shows no directory.
    pub(super) tree: Arc<Tree>,
    /// The kinds of sources, which find out what URLs of their own stand for.
    pub(super) sources: Arc<Sources>,
    /// How S3 is reached.
    pub(super) s3: S3Config,
    /// The server that receives the builder's login, token and headers, once a URL of it was used. **No other receives
    /// them.**
    pub(super) server: Arc<OnceLock<Origin>>,
}

impl Cache {
    /// The folder.
    pub fn dir(&self) -> &Path {
        &self.engine.config().cache_dir
    }

    /// Opens the file at an http, https or s3 URL, and blocks until its version and size are known: mostly for one request.
    ///
    /// A user name and a password may be in the URL (`https://ann:secret@example.org/`); only its server gets to see them. While the server
    /// can't be reached, a file that the cache knows is opened in the version that it knows.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] when it is no such URL, or of a second server while the cache has a
    /// [login](crate::CacheBuilder::login), token or [header](crate::CacheBuilder::header) for one; else why the server does
    /// not give the file.
    pub fn open_url(&self, url: &str) -> Result<RemoteFile, Error> {
        let name = shown(url);
        let url = parse_source(url).map_err(|error| Error::new(ErrorKind::InvalidInput, error.to_string()))?;
        self.claim_server(&url.url)?;
        let spec = self.sources.resolve(url);
        let spec = spec.map_err(|error| Error::new(ErrorKind::InvalidInput, error.to_string()))?;
        let url = self.engine.client().adopt(spec.url);
        let tree = Arc::clone(&self.tree);
        let opened = self.engine.wait(async move { tree.open_url(&url).await });
        let entry = opened
            .ok_or_else(Error::closed)?
            .map_err(|error| Error::of_tree(&name, &error))?;
        RemoteFile::new(&self.engine, name, entry)
    }

    /// Makes the server of this URL the one that receives the builder's login, token and headers, if there are any.
    ///
    /// # Errors
    /// If another server is that already.
    pub(super) fn claim_server(&self, url: &Url) -> Result<(), Error> {
        let Some(origin) = Origin::of(url).filter(|_| self.engine.config().http.access.is_for_one_server()) else {
            return Ok(());
        };
        let first = self.server.get_or_init(|| origin.clone());
        if *first == origin {
            return Ok(());
        }
        let message = format!(
            "{origin}: the cache's login, token or headers are for {first}; open a cache of its own for this server, on the \
             same folder"
        );
        Err(Error::new(ErrorKind::InvalidInput, message))
    }
}

impl fmt::Debug for Cache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cache")
            .field("dir", &self.dir())
            .finish_non_exhaustive()
    }
}
