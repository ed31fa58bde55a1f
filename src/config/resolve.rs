//! Resolves the arguments: [`MountArgs`] → [`MountConfig`].
//!
//! This module adds what a single option can't know: the caller, the default cache directory, and the base of relative
//! paths. It runs before the process goes to the background, where the working directory is `/`.

use std::path::{Path, PathBuf};

use nix::unistd::{getegid, geteuid};

use super::args::{MountArgs, mount_command};
use super::file::{ConfigFile, FileError};
use super::library::is_library;
use super::mount_config::{EngineConfig, LibraryMount, MountConfig};
use super::network::NetworkError;
use super::paths::{PathError, absolute, cache_dir};
use super::s3::{S3Error, refuse_mirrors};
use super::source::{self, InvalidSource};
use crate::http::HttpConfig;
use crate::source::{ListingConfig, SourceConfig, SourceSpec};

/// Why the arguments can't be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConfigError {
    /// A source is invalid.
    #[error(transparent)]
    Source(#[from] InvalidSource),
    /// There is a source or a mountpoint, but not both.
    #[error("{}", one_of_two(.0))]
    OneOfTwo(String),
    /// The mountpoint is a URL.
    #[error("the mountpoint comes last: fetchfs mount {0} DIRECTORY")]
    UrlLast(String),
    /// A library beside other sources.
    #[error("a library is mounted alone; write the other sources into its file, each below a [[source]]")]
    LibraryAmongOthers,
    /// The config file or a library's file can't be used.
    #[error(transparent)]
    File(#[from] FileError),
    /// The options about servers contradict each other, or a file that they name can't be used.
    #[error(transparent)]
    Network(#[from] NetworkError),
    /// The options about S3 can't be used.
    #[error(transparent)]
    S3(#[from] S3Error),
    /// A path can't be resolved.
    #[error(transparent)]
    Path(#[from] PathError),
}

impl ConfigError {
    /// Returns true if the command line is wrong, false if the machine is not ready for it.
    pub(crate) fn is_usage(&self) -> bool {
        match self {
            Self::Source(error) => error.is_usage(),
            Self::OneOfTwo(_) | Self::UrlLast(_) | Self::LibraryAmongOthers | Self::S3(_) => true,
            Self::Network(error) => error.is_usage(),
            Self::File(error) => error.is_usage(),
            Self::Path(_) => false,
        }
    }
}

/// The message for a single argument, by its form.
fn one_of_two(argument: &str) -> String {
    let is_stdin = argument == "-";
    let argument = match is_stdin {
        true => "-".to_owned(),
        false => source::name(argument),
    };
    if is_stdin || argument.contains("://") || argument.starts_with('@') {
        format!("where should {argument} be mounted? Name an empty directory: fetchfs mount {argument} DIRECTORY")
    } else {
        format!("what should be mounted on {argument}? Name a source first: fetchfs mount https://HOST/PATH {argument}")
    }
}

/// Checks the values and fills in the defaults.
///
/// # Errors
/// If a source is not an http(s) URL, or there is no cache directory.
pub(crate) fn resolve(args: MountArgs) -> Result<MountConfig, ConfigError> {
    if args.sources.is_empty() {
        return Err(ConfigError::OneOfTwo(args.mountpoint.to_string_lossy().into_owned()));
    }
    let last = args.mountpoint.to_string_lossy();
    if last.contains("://") && !args.mountpoint.exists() {
        return Err(ConfigError::UrlLast(source::shown(&last)));
    }
    if args.library.is_none() && args.sources.iter().any(|source| is_library(source)) {
        return Err(ConfigError::LibraryAmongOthers);
    }
    let mut sources = match args.library {
        Some(_) => Vec::new(),
        None => source::read_all(&args.sources)?,
    };
    source::load(&mut sources, args.network.max_listing_size)?;
    let source_name = args
        .sources
        .iter()
        .map(|text| source::name(text))
        .collect::<Vec<_>>()
        .join(" ");
    let (listings, metalink_locations) = (listing_config(&args), metalink_locations(&args));
    let cache_dir = cache_dir(args.cache_dir)?;
    refuse_mirrors(&sources, &args.network.mirror)?;
    let s3 = args.s3.resolve()?;
    let mut http = HttpConfig {
        timeout: args.timeout,
        max_connections: args.max_connections.into(),
        offline: args.offline,
        max_page: args.network.max_listing_size,
        max_redirects: args.network.max_redirects.into(),
        ..args.network.resolve(&sources)?
    };
    let library = args.library.map(|file| -> Result<_, ConfigError> {
        let sources = file.load()?;
        http.sites = sources.sites();
        Ok(LibraryMount { file, sources })
    });
    let library = library.transpose()?;
    if let Some(library) = &library {
        sources = library
            .sources
            .members
            .iter()
            .map(|member| member.spec.clone())
            .collect();
    }
    Ok(MountConfig {
        sources,
        library,
        source_name,
        kind: args.kind,
        mountpoint: absolute(args.mountpoint)?,
        engine: EngineConfig {
            cache_dir,
            unshared_cache: args.unshared_cache,
            cache_size: args.cache_size,
            min_free: args.min_free,
            max_age: args.max_age,
            chunk_size: args.chunk_size,
            http,
            bwlimit: args.bwlimit.filter(|&rate| rate > 0),
            retries: args.retries,
            read_timeout: args.read_timeout,
        },
        listings,
        metalink_locations,
        s3,
        attr_ttl: args.attr_ttl,
        content_disposition: args.content_disposition,
        allow_other: args.allow_other,
        uid: args.uid.unwrap_or_else(|| geteuid().as_raw()),
        gid: args.gid.unwrap_or_else(|| getegid().as_raw()),
        umask: args.umask,
        noexec: args.noexec,
        exec: args.exec,
        passthrough: !args.no_passthrough,
        foreground: args.foreground,
        log_file: args.log_file.map(absolute).transpose()?,
        verbosity: args.verbose,
    })
}

/// The settings of one source of a library.
pub(super) struct SourceSettings {
    pub(super) http: HttpConfig,
    pub(super) sources: SourceConfig,
    pub(super) kind: Option<String>,
    pub(super) content_disposition: bool,
}

/// The settings of a source with these options.
///
/// # Errors
/// If they contradict each other, or a file that they name can't be used.
pub(super) fn source_settings(args: MountArgs, source: &SourceSpec) -> Result<SourceSettings, ConfigError> {
    let sources = std::slice::from_ref(source);
    refuse_mirrors(sources, &args.network.mirror)?;
    let settings = SourceConfig {
        listings: listing_config(&args),
        ttl: args.attr_ttl,
        metalink_locations: metalink_locations(&args),
        s3: args.s3.resolve()?,
    };
    let http = HttpConfig {
        max_connections: args.max_connections.into(),
        bwlimit: args.bwlimit.filter(|&rate| rate > 0),
        ..args.network.resolve(sources)?
    };
    Ok(SourceSettings {
        http,
        sources: settings,
        kind: args.kind,
        content_disposition: args.content_disposition,
    })
}

fn listing_config(args: &MountArgs) -> ListingConfig {
    ListingConfig {
        max_entries: usize::try_from(args.network.max_entries).unwrap_or(usize::MAX),
        external_links: args.network.external_links,
        query_links: args.network.query_links,
    }
}

fn metalink_locations(args: &MountArgs) -> Vec<String> {
    let given = args.network.metalink_location.iter();
    given.flat_map(|all| all.split(',')).map(str::to_owned).collect()
}

/// The cache directory for commands that mount nothing: the named one, or the one of a mount without options.
///
/// # Errors
/// If there is none, or the config file can't be used.
pub(crate) fn cache_dir_beside_mounts(named: Option<PathBuf>) -> Result<PathBuf, ConfigError> {
    let by_file = || -> Result<_, FileError> {
        let file = std::env::var_os("FETCHFS_CONFIG").filter(|name| !name.is_empty());
        let file = ConfigFile::read(file.as_deref().map(Path::new), &mount_command())?;
        Ok(file.cache_dir())
    };
    match named {
        Some(dir) => Ok(cache_dir(Some(dir))?),
        None => Ok(cache_dir(by_file()?)?),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use clap::FromArgMatches;
    use std::time::Duration;

    pub(in super::super) fn config(arguments: &[&str]) -> Result<MountConfig, ConfigError> {
        let command = mount_command().no_binary_name(true);
        let matches = command.try_get_matches_from(arguments).unwrap();
        resolve(MountArgs::from_arg_matches(&matches).unwrap())
    }

    #[test]
    fn the_defaults_are_those_of_the_help_text() {
        let config = config(&["http://ann:pw@host/pub", "/"]).unwrap();
        assert_eq!(config.sources[0].url.as_str(), "http://ann:pw@host/pub");
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
    fn exec_and_noexec_set_the_mode() {
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
    fn paths_become_absolute() {
        let config = config(&["http://a/", ".", "--cache-dir", "c", "--log-file=l"]).unwrap();
        let here = std::env::current_dir().unwrap();
        assert_eq!(config.mountpoint, here);
        assert_eq!(config.engine.cache_dir, here.join("c"));
        assert_eq!(config.log_file, Some(here.join("l")));
    }

    #[test]
    fn errors_are_distinguished() {
        assert!(config(&["ftp://a/", "/tmp"]).unwrap_err().is_usage());
        let alone = |argument: &str| {
            let error = config(&[argument]).unwrap_err();
            assert!(error.is_usage());
            error.to_string()
        };
        insta::assert_snapshot!(alone("http://u:p@a/"), @"where should http://a/ be mounted? Name an empty directory: fetchfs mount http://a/ DIRECTORY");
        insta::assert_snapshot!(alone("/mnt"), @"what should be mounted on /mnt? Name a source first: fetchfs mount https://HOST/PATH /mnt");
    }
}
