//! Resolves the arguments: [`MountArgs`] → [`MountConfig`].
//!
//! This module adds what a single option can't know: the caller, the default cache directory, and the base of relative
//! paths. It runs before the process goes to the background, where the working directory is `/`.

use std::path::{Path, PathBuf};

use clap::{ArgMatches, Command};
use nix::unistd::{getegid, geteuid};

use super::args::{DESCRIPTORS, FIRST_FD, MountArgs, mount_command};
use super::error::ConfigError;
use super::file::{ConfigFile, FileError};
use super::library::{LibraryFile, is_library};
use super::mount_config::{EngineConfig, LibraryMount, MountConfig};
use super::paths::{absolute, cache_dir};
use super::s3::refuse_mirrors;
use super::source;
use super::source_settings::{listing_config, metalink_locations};
use crate::http::HttpConfig;

/// Checks the values and fills in the defaults.
///
/// # Errors
/// If a source is not an http(s) URL, or there is no cache directory.
pub(crate) fn resolve(args: MountArgs, library: Option<LibraryFile>) -> Result<MountConfig, ConfigError> {
    if args.sources.is_empty() {
        return Err(ConfigError::OneOfTwo(args.mountpoint.to_string_lossy().into_owned()));
    }
    let last = args.mountpoint.to_string_lossy();
    if last.contains("://") && !args.mountpoint.exists() {
        return Err(ConfigError::UrlLast(source::shown(&last)));
    }
    if library.is_none() && args.sources.iter().any(|source| is_library(source)) {
        return Err(ConfigError::LibraryAmongOthers);
    }
    let mut sources = match library {
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
    let web = args.web.resolve()?;
    let password_file = args.network.password_file.clone().map(absolute).transpose()?;
    let mut http = HttpConfig {
        timeout: args.timeout,
        max_connections: args.max_connections.into(),
        offline: args.offline,
        max_page: args.network.max_listing_size,
        max_redirects: args.network.max_redirects.into(),
        ..args.network.resolve(&sources)?
    };
    let library = library.map(|file| -> Result<_, ConfigError> {
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
    let of_path = || args.mountpoint.strip_prefix(DESCRIPTORS).ok()?.to_str()?.parse().ok();
    let fd = args.fd.or_else(of_path).filter(|fd| FIRST_FD <= *fd);
    Ok(MountConfig {
        fd,
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
            bwlimit: args.bwlimit.and_then(|limit| limit.0),
            read_ahead: args.read_ahead,
            retries: args.retries,
            read_timeout: args.read_timeout,
        },
        listings,
        metalink_locations,
        s3,
        attr_ttl: args.attr_ttl,
        scan: args.scan.resolve(),
        web,
        content_disposition: args.content_disposition,
        allow_other: args.allow_other,
        uid: args.uid.unwrap_or_else(|| geteuid().as_raw()),
        gid: args.gid.unwrap_or_else(|| getegid().as_raw()),
        umask: args.umask,
        noexec: args.noexec,
        exec: args.exec,
        passthrough: !args.no_passthrough,
        foreground: args.foreground && !args.background,
        log_file: args.log_file.map(absolute).transpose()?,
        log_format: args.log_format,
        verbosity: args.verbose,
        password_file,
        options: None,
    })
}

impl MountArgs {
    /// The library's file, if one is mounted. `given` has the matches that these arguments were made of, before the values
    /// of files were added.
    ///
    /// # Errors
    /// If the config file can't be used, or the working directory is gone.
    pub(crate) fn library_file(
        &self,
        command: &Command,
        given: &ArgMatches,
    ) -> Result<Option<LibraryFile>, ConfigError> {
        match self.sources.as_slice() {
            [source] if is_library(source) => {
                let config_file = ConfigFile::read(self.config.as_deref(), command)?;
                LibraryFile::new(source, given.clone(), config_file).map(Some)
            }
            _ => Ok(None),
        }
    }
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
        resolve(MountArgs::from_arg_matches(&matches).unwrap(), None)
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
