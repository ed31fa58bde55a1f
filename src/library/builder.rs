//! How a cache is opened: its settings. Those about servers are in [`super::servers`].

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::cache::Cache;
use super::error::{Error, ErrorKind};
use crate::cache::ChunkSize;
use crate::cache::quota::Share;
use crate::config::{ATTR_TTL, EngineConfig, check_user_agent, default_cache_dir};
use crate::engine::Engine;
use crate::source::s3::S3Config;
use crate::source::{SourceConfig, Sources};
use crate::util::bandwidth::BandwidthLimit;
use crate::vfs::{Top, Tree, TreeConfig};

/// How a [`Cache`] is opened. Each setting has the default of the option of the same name of `fetchfs mount`.
#[derive(Debug, Clone)]
pub struct CacheBuilder {
    dir: Option<PathBuf>,
    /// Without its directory.
    pub(super) config: EngineConfig,
    /// Read when the cache is opened.
    pub(super) files: AccessFiles,
    pub(super) s3: S3Config,
    /// The first setting that can't be meant.
    pub(super) error: Option<Error>,
}

/// Files with credentials of several servers.
#[derive(Debug, Clone, Default)]
pub(super) struct AccessFiles {
    pub(super) netrc: Option<PathBuf>,
    pub(super) cookies: Option<PathBuf>,
}

impl Cache {
    /// A builder with the defaults.
    pub fn builder() -> CacheBuilder {
        CacheBuilder {
            dir: None,
            config: EngineConfig::in_dir(PathBuf::new()),
            files: AccessFiles::default(),
            s3: S3Config::default(),
            error: None,
        }
    }
}

impl CacheBuilder {
    /// The folder. It is made if it is missing.
    ///
    /// Default: `$XDG_CACHE_HOME/fetchfs` or `~/.cache/fetchfs`; `/var/cache/fetchfs` for root.
    pub fn dir(mut self, dir: impl Into<PathBuf>) -> CacheBuilder {
        self.dir = Some(dir.into());
        self
    }

    /// Bytes that the cache takes on the disk at most. At least two chunks for each connection.
    ///
    /// Default: half of what is free, or the cache's already.
    pub fn size(mut self, bytes: u64) -> CacheBuilder {
        self.config.cache_size = Some(Share::Bytes(bytes));
        self
    }

    /// Bytes that the cache leaves free on the disk.
    ///
    /// Default: a twentieth of the disk, 1 GiB at most.
    pub fn min_free(mut self, bytes: u64) -> CacheBuilder {
        self.config.min_free = Some(Share::Bytes(bytes));
        self
    }

    /// Deletes what was not used for so long.
    ///
    /// Default: it stays while there is room.
    pub fn max_age(mut self, age: Duration) -> CacheBuilder {
        self.config.max_age = Some(age);
        self
    }

    /// Bytes of the unit in which new files are fetched and kept: a power of two from 4 KiB to 64 MiB.
    ///
    /// Default: 256 KiB.
    pub fn chunk_size(mut self, bytes: u32) -> CacheBuilder {
        self.config.chunk_size = bytes;
        self
    }

    /// Connections to one server at a time, at least one.
    ///
    /// Default: 16.
    pub fn max_connections(mut self, connections: usize) -> CacheBuilder {
        self.config.http.max_connections = connections;
        self
    }

    /// Bytes to fetch each second at most; 0 is no limit.
    ///
    /// Default: no limit.
    pub fn bwlimit(mut self, bytes: u64) -> CacheBuilder {
        self.config.bwlimit = (bytes > 0).then(|| BandwidthLimit::constant(bytes));
        self
    }

    /// How often a failed request is tried again. A server that is down is waited for until [`Self::read_timeout`] whatever this says, unless
    /// it is 0.
    ///
    /// Default: 3.
    pub fn retries(mut self, retries: u32) -> CacheBuilder {
        self.config.retries = retries;
        self
    }

    /// The longest silence of a server before a try counts as failed; more than none.
    ///
    /// Default: 30 s.
    pub fn timeout(mut self, time: Duration) -> CacheBuilder {
        self.config.http.timeout = time;
        self
    }

    /// The longest that one read or one opening waits, all tries together; more than none.
    ///
    /// Default: 2 minutes.
    pub fn read_timeout(mut self, time: Duration) -> CacheBuilder {
        self.config.read_timeout = time;
        self
    }

    /// Asks no server: what is not in the cache fails with [`ErrorKind::Offline`].
    ///
    /// Default: off.
    pub fn offline(mut self, is_offline: bool) -> CacheBuilder {
        self.config.http.offline = is_offline;
        self
    }

    /// Allows a folder on a network file system, which no other host may use for a cache at the same time.
    ///
    /// Default: off, such a folder is refused.
    pub fn unshared_cache(mut self, is_unshared: bool) -> CacheBuilder {
        self.config.unshared_cache = is_unshared;
        self
    }

    /// The User-Agent that servers see.
    ///
    /// Default: `fetchfs/` and the version.
    pub fn user_agent(mut self, name: impl Into<String>) -> CacheBuilder {
        self.config.http.user_agent = name.into();
        self
    }

    /// Opens the cache and starts its threads.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] when a setting can't be meant; [`ErrorKind::Cache`] when the folder can't be used;
    /// [`ErrorKind::System`] when the system gives no threads.
    pub fn open(self) -> Result<Cache, Error> {
        let s3 = self.s3.clone();
        let engine = Engine::open(self.config()?)?;
        let client = engine.client().clone();
        let config = engine.config();
        let tree_config = TreeConfig {
            ttl: ATTR_TTL.into(),
            retries: config.retries,
            patience: config.read_timeout,
            most_names: 0,
        };
        let of_sources = SourceConfig {
            s3: s3.clone(),
            ..SourceConfig::default()
        };
        let sources = Sources::new(&client, &of_sources, None);
        let tree = Tree::new(
            Arc::clone(engine.cache()),
            client.clone(),
            Arc::clone(&sources),
            tree_config,
            Top::Names(Vec::new()),
            engine.runtime().clone(),
            // Nothing is read by a listing's word.
            Arc::new(|_| {}),
        );
        Ok(Cache {
            engine,
            tree,
            sources,
            s3,
            server: Arc::default(),
        })
    }

    /// The settings, if they can be meant.
    fn config(mut self) -> Result<EngineConfig, Error> {
        if let Some(error) = self.error.take() {
            return Err(error);
        }
        self.read_files()?;
        let invalid = |what: &str| Err(Error::new(ErrorKind::InvalidInput, what));
        let dir = match self.dir.take().or_else(default_cache_dir) {
            Some(dir) => std::path::absolute(&dir),
            None => return invalid("no cache directory: HOME is not set; name one with `dir`"),
        };
        let dir = dir.map_err(|error| Error::new(ErrorKind::InvalidInput, format!("the cache directory: {error}")))?;
        let config = self.config;
        if ChunkSize::new(config.chunk_size.into()).is_none() {
            return invalid("chunk_size: must be a power of two from 4 KiB to 64 MiB");
        }
        if config.http.max_connections == 0 {
            return invalid("max_connections: must be at least one");
        }
        let times = [config.read_timeout, config.http.timeout, config.http.connect_timeout];
        if times.iter().any(Duration::is_zero) {
            return invalid("timeout, connect_timeout, read_timeout: must be greater than 0");
        }
        if config.http.tls.client_key.is_some() && config.http.tls.client_cert.is_none() {
            return invalid("client_key: the certificate is missing; name its file with client_cert");
        }
        if let Err(error) = check_user_agent(&config.http.user_agent) {
            return invalid(&error.to_string());
        }
        if config.max_age.is_some_and(|age| age.is_zero()) {
            return invalid("max_age: must be greater than 0");
        }
        Ok(EngineConfig {
            cache_dir: dir,
            ..config
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(set: impl Fn(CacheBuilder) -> CacheBuilder) -> Error {
        let dir = tempfile::tempdir().unwrap();
        let error = set(Cache::builder().dir(dir.path())).open().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
        error
    }

    #[test]
    fn settings_that_cannot_be_meant_are_refused() {
        refused(|builder| builder.chunk_size(1000));
        refused(|builder| builder.max_connections(0));
        refused(|builder| builder.read_timeout(Duration::ZERO));
        refused(|builder| builder.timeout(Duration::ZERO));
        refused(|builder| builder.max_age(Duration::ZERO));
        refused(|builder| builder.connect_timeout(Duration::ZERO));
        refused(|builder| builder.user_agent("two\nlines"));
        refused(|builder| builder.header("Range", "bytes=0-"));
        refused(|builder| builder.header("X", "two\nlines").header("Y", "good"));
        refused(|builder| builder.client_key("/key.pem"));
        refused(|builder| builder.endpoint_url("ftp://h/"));
        refused(|builder| builder.region("eu west"));
        refused(|builder| builder.ca_cert("/no/such/file"));
        refused(|builder| builder.netrc_file("/no/such/file"));
        refused(|builder| builder.cookie_file("/no/such/file"));
        let of_proxy = refused(|builder| builder.proxy("socks://ann:secret@127.0.0.1:9"));
        assert!(!of_proxy.to_string().contains("secret"), "{of_proxy}");
        let too_small = refused(|builder| builder.size(1 << 20));
        assert!(too_small.to_string().contains("8.0 MiB"), "{too_small}");
    }

    #[test]
    fn builder_shows_no_secret() {
        let builder = Cache::builder()
            .login("ann", "secret")
            .bearer_token("secret")
            .bearer_token_command("secret")
            .header("X-Key", "secret")
            .proxy("http://ann:secret@127.0.0.1:9");
        assert!(!format!("{builder:?}").contains("secret"), "{builder:?}");
    }

    #[test]
    fn a_folder_that_is_a_file_is_refused() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let error = Cache::builder().dir(file.path()).open().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Cache, "{error}");
    }

    #[test]
    fn what_is_no_url_is_refused_without_asking() {
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache::builder().dir(dir.path()).open().unwrap();
        for url in ["example.org/f", "ftp://h/f", "http://", "http://h/f#part"] {
            assert_eq!(
                cache.open_url(url).unwrap_err().kind(),
                ErrorKind::InvalidInput,
                "{url}"
            );
        }
        let error = cache.open_url("gopher://ann:secret@h/f").unwrap_err();
        assert!(!error.to_string().contains("secret"), "{error}");
    }
}
