//! Resolves the arguments: [`MountArgs`] → [`MountConfig`].
//!
//! This module adds what a single option can't know: the caller, the default cache directory, and the base of relative
//! paths. It runs before the process goes to the background, where the working directory is `/`.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use nix::unistd::{User, getegid, geteuid};

use super::file::{ConfigFile, FileError};
use super::network::NetworkError;
use super::source::{self, SourceError};
use super::{EngineConfig, MountArgs, MountConfig};
use crate::http::HttpConfig;
use crate::mount::mountpoint::{self, MountError};
use crate::source::ListingConfig;

/// The cache of a mount that root makes (Filesystem Hierarchy Standard, 5.5).
const SYSTEM_CACHE: &str = "/var/cache/fetchfs";

/// Why the arguments can't be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A source is invalid.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// There is a source or a mountpoint, but not both.
    #[error("{}", one_of_two(.0))]
    OneOfTwo(String),
    /// The config file can't be used.
    #[error(transparent)]
    File(#[from] FileError),
    /// The options about servers contradict each other, or a file that they name can't be used.
    #[error(transparent)]
    Network(#[from] NetworkError),
    /// The mountpoint does not exist, or can't be read.
    #[error(transparent)]
    Mountpoint(#[from] MountError),
    /// The caller has no home directory, and no option names the cache directory.
    #[error("there is no place for the cache: this user has no home (HOME is not set); name one with --cache-dir")]
    NoHome,
    /// The working directory no longer exists, so a relative path means nothing.
    #[error("can't make `{}` absolute: {error}", path.display())]
    Relative {
        /// The path as given.
        path: PathBuf,
        /// The system's error.
        error: std::io::Error,
    },
}

impl ConfigError {
    /// Returns true if the command line is wrong, false if the machine is not ready for it.
    pub fn is_usage(&self) -> bool {
        match self {
            Self::Source(error) => error.is_usage(),
            Self::OneOfTwo(_) => true,
            Self::Network(error) => error.is_usage(),
            Self::File(error) => error.is_usage(),
            Self::Mountpoint(_) | Self::NoHome | Self::Relative { .. } => false,
        }
    }
}

/// The message for a single argument, by its form.
fn one_of_two(argument: &str) -> String {
    let argument = source::name(argument);
    if argument.contains("://") || argument.starts_with('@') {
        format!("where should {argument} be mounted? Name an empty directory: fetchfs mount {argument} DIRECTORY")
    } else {
        format!("what should be mounted on {argument}? Name a source first: fetchfs mount https://HOST/PATH {argument}")
    }
}

impl MountArgs {
    /// Checks the values and fills in the defaults.
    ///
    /// # Errors
    /// If a source is not an http(s) URL, the mountpoint does not exist, or there is no cache directory.
    pub fn resolve(self) -> Result<MountConfig, ConfigError> {
        if self.sources.is_empty() {
            return Err(ConfigError::OneOfTwo(self.mountpoint.to_string_lossy().into_owned()));
        }
        let sources = source::read_all(&self.sources)?;
        let source_name = self
            .sources
            .iter()
            .map(|text| source::name(text))
            .collect::<Vec<_>>()
            .join(" ");
        let mountpoint = mountpoint::resolve(&self.mountpoint)?;
        let cache_dir = cache_dir(self.cache_dir)?;
        let listings = ListingConfig {
            max_entries: usize::try_from(self.network.max_entries).unwrap_or(usize::MAX),
            external_links: self.network.external_links,
            query_links: self.network.query_links,
        };
        let http = HttpConfig {
            timeout: self.timeout,
            max_connections: self.max_connections.into(),
            offline: self.offline,
            max_page: self.network.max_listing_size,
            max_redirects: self.network.max_redirects.into(),
            ..self.network.resolve(&sources)?
        };
        Ok(MountConfig {
            sources,
            source_name,
            kind: self.kind,
            mountpoint,
            engine: EngineConfig {
                cache_dir,
                unshared_cache: self.unshared_cache,
                cache_size: self.cache_size,
                min_free: self.min_free,
                max_age: self.max_age,
                chunk_size: self.chunk_size,
                http,
                bwlimit: self.bwlimit.filter(|&rate| rate > 0),
                retries: self.retries,
                read_timeout: self.read_timeout,
            },
            listings,
            attr_ttl: self.attr_ttl,
            content_disposition: self.content_disposition,
            allow_other: self.allow_other,
            uid: self.uid.unwrap_or_else(|| geteuid().as_raw()),
            gid: self.gid.unwrap_or_else(|| getegid().as_raw()),
            umask: self.umask,
            noexec: self.noexec,
            exec: self.exec,
            passthrough: !self.no_passthrough,
            foreground: self.foreground,
            log_file: self.log_file.map(absolute).transpose()?,
            verbosity: self.verbose,
        })
    }
}

/// The cache directory for commands that mount nothing: the named one, or the one of a mount without options.
///
/// # Errors
/// If there is none, or the config file can't be used.
pub fn cache_dir_beside_mounts(named: Option<PathBuf>) -> Result<PathBuf, ConfigError> {
    let by_file = || -> Result<_, FileError> {
        let file = std::env::var_os("FETCHFS_CONFIG").filter(|name| !name.is_empty());
        let file = ConfigFile::read(file.as_deref().map(Path::new), &super::mount_command())?;
        Ok(file.cache_dir())
    };
    match named {
        Some(dir) => cache_dir(Some(dir)),
        None => cache_dir(by_file()?),
    }
}

/// The cache directory: the named one, made absolute, or the default.
fn cache_dir(named: Option<PathBuf>) -> Result<PathBuf, ConfigError> {
    match named {
        Some(dir) => absolute(dir),
        None => default_cache_dir().ok_or(ConfigError::NoHome),
    }
}

pub(super) fn absolute(path: PathBuf) -> Result<PathBuf, ConfigError> {
    std::path::absolute(&path).map_err(|error| ConfigError::Relative { path, error })
}

/// The caller's home directory. For an ordinary user, mount(8) clears the environment and thereby HOME; the user
/// database has the directory then.
pub(super) fn home() -> Option<PathBuf> {
    let by_environment = std::env::var_os("HOME").map(PathBuf::from);
    by_environment.or_else(|| Some(User::from_uid(geteuid()).ok()??.dir))
}

/// The default cache directory; `None` for a user without a home directory.
pub fn default_cache_dir() -> Option<PathBuf> {
    let home = home().map(PathBuf::into_os_string);
    cache_dir_for(geteuid().is_root(), std::env::var_os("XDG_CACHE_HOME"), home)
}

/// The XDG Base Directory Specification says to ignore a relative path in its variables.
fn cache_dir_for(root: bool, xdg_cache_home: Option<OsString>, home: Option<OsString>) -> Option<PathBuf> {
    if root {
        return Some(SYSTEM_CACHE.into());
    }
    let given = |value: Option<OsString>| value.map(PathBuf::from).filter(|path| path.is_absolute());
    let cache = given(xdg_cache_home).or_else(|| given(home).map(|home| home.join(".cache")))?;
    Some(Path::join(&cache, "fetchfs"))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use clap::FromArgMatches;
    use std::time::Duration;

    pub(in super::super) fn config(arguments: &[&str]) -> Result<MountConfig, ConfigError> {
        let command = super::super::mount_command().no_binary_name(true);
        let matches = command.try_get_matches_from(arguments).unwrap();
        MountArgs::from_arg_matches(&matches).unwrap().resolve()
    }

    #[test]
    fn the_defaults_are_those_of_the_help_text() {
        let config = config(&["http://ann:pw@host/pub", "/"]).unwrap();
        assert_eq!(config.sources[0].as_str(), "http://ann:pw@host/pub");
        assert_eq!(config.source_name, "http://host/pub");
        assert_eq!(config.mountpoint, Path::new("/"));
        // What the help text says, as its table has it.
        assert_eq!(
            (
                config.engine.chunk_size,
                config.engine.http.max_connections,
                config.engine.retries
            ),
            (256 << 10, 16, 3)
        );
        assert_eq!(
            (config.engine.http.timeout, config.engine.read_timeout, config.attr_ttl),
            (
                Duration::from_secs(30),
                Duration::from_secs(120),
                Duration::from_secs(10)
            )
        );
        assert_eq!((config.file_mode(), config.dir_mode()), (0o444, 0o555));
        // A Rust program that says nothing gets the same.
        let engine = EngineConfig::in_dir(config.engine.cache_dir.clone());
        let plain = MountConfig::new(config.sources.clone(), config.mountpoint.clone(), engine);
        assert_eq!(config, plain);
        assert!(!config.foreground && !config.allow_other && config.verbosity == 0);
        assert!(!format!("{config:?}").contains("pw"), "no password in a debug log");
    }

    #[test]
    fn several_sources_then_the_mountpoint() {
        let config = config(&[
            "-vv",
            "http://a/",
            "http://b/f",
            "/tmp",
            "--umask",
            "077",
            "--bwlimit=0",
        ])
        .unwrap();
        assert_eq!(config.source_name, "http://a/ http://b/f");
        assert_eq!((config.file_mode(), config.dir_mode()), (0o400, 0o500));
        assert_eq!((config.verbosity, config.engine.bwlimit), (2, None));
    }

    #[test]
    fn files_are_executable_if_asked_for_and_not_where_the_mount_is_noexec() {
        let modes = |options: &[&str]| {
            let config = config(&[&["http://a/", "/tmp"], options].concat()).unwrap();
            (config.file_mode(), config.noexec)
        };
        assert_eq!(modes(&["--exec"]), (0o555, false));
        assert_eq!(modes(&["--exec", "--umask", "077"]), (0o500, false));
        assert_eq!(modes(&["--noexec"]), (0o444, true));
        // In fstab the last one counts, as with mount(8).
        assert_eq!(modes(&["--exec", "--noexec"]), (0o444, true));
        assert_eq!(modes(&["--noexec", "--exec"]), (0o555, false));
    }

    #[test]
    fn paths_become_absolute_before_the_working_directory_is_left() {
        let config = config(&["http://a/", ".", "--cache-dir", "c", "--log-file=l"]).unwrap();
        let here = std::env::current_dir().unwrap();
        assert_eq!(config.mountpoint, here.canonicalize().unwrap());
        assert_eq!(config.engine.cache_dir, here.join("c"));
        assert_eq!(config.log_file, Some(here.join("l")));
    }

    #[test]
    fn what_is_wrong_is_told_apart() {
        assert!(config(&["ftp://a/", "/tmp"]).unwrap_err().is_usage());
        assert!(!config(&["http://a/", "/no/such/directory"]).unwrap_err().is_usage());
        let alone = |argument: &str| {
            let error = config(&[argument]).unwrap_err();
            assert!(error.is_usage());
            error.to_string()
        };
        insta::assert_snapshot!(alone("http://u:p@a/"), @"where should http://a/ be mounted? Name an empty directory: fetchfs mount http://a/ DIRECTORY");
        insta::assert_snapshot!(alone("/mnt"), @"what should be mounted on /mnt? Name a source first: fetchfs mount https://HOST/PATH /mnt");
    }

    #[test]
    fn the_cache_goes_where_caches_go() {
        let some = |text: &str| Some(OsString::from(text));
        assert_eq!(
            cache_dir_for(true, some("/x"), some("/root")),
            Some("/var/cache/fetchfs".into())
        );
        assert_eq!(
            cache_dir_for(false, some("/x"), some("/home/a")),
            Some("/x/fetchfs".into())
        );
        assert_eq!(
            cache_dir_for(false, some("rel"), some("/home/a")),
            Some("/home/a/.cache/fetchfs".into())
        );
        assert_eq!(cache_dir_for(false, None, None), None);
    }
}
