//! The options, once.
//!
//! Two stages, as in ripgrep. [`MountArgs`] is what was typed: a clap struct that is the one table of options, from
//! which `--help`, the `-o` names, the keys of the config file and the environment variables come. [`MountConfig`] is what it means: plain values,
//! all checked, every path absolute, every default filled in. The layers below see only the second, and each takes from
//! it only what is its own.

mod args;
mod file;
mod network;
mod options;
mod resolve;
mod source;
mod units;

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use nix::unistd::{getegid, geteuid};
use url::Url;

use crate::cache::quota::Share;
use crate::http::HttpConfig;
use crate::source::ListingConfig;

use args::OPTIONS_ID;
pub use args::{MountArgs, mount_command, variable_of};
pub use file::{FileError, SECRETS};
pub use network::NetworkError;
pub use options::{OptionError, expand as expand_options};
pub use resolve::{ConfigError, cache_dir_beside_mounts, default_cache_dir};
pub use source::{SourceError, parse as parse_source, shown};
pub use units::size as parse_size;

/// How long listings and attributes are believed, unless it is said otherwise.
pub const ATTR_TTL: Duration = Duration::from_secs(10);

/// How files are fetched and kept, for a mount or for a Rust program without one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EngineConfig {
    /// The directory of the cache: absolute. It may not exist yet.
    pub cache_dir: PathBuf,
    /// Whether no other host uses that directory, though it may be on a network file system.
    pub unshared_cache: bool,
    /// What the cache may take on disk; more than nothing. Default: half of what is free or its own.
    pub cache_size: Option<Share>,
    /// What it leaves free there. Default: 5 %, 1 GiB at most.
    pub min_free: Option<Share>,
    /// What was not used for so long goes; above zero. Default: nothing does.
    pub max_age: Option<Duration>,
    /// Bytes, a power of two from 4 KiB to 64 MiB. Default: 256 KiB.
    pub chunk_size: u32,
    /// How servers are spoken to: with [`max_connections`](HttpConfig::max_connections) to one origin at a time.
    pub http: HttpConfig,
    /// Bytes a second over everything that is fetched; `None` is no limit. At least 1.
    pub bwlimit: Option<u64>,
    /// Tries after the first. Default: 3.
    pub retries: u32,
    /// The longest that one read waits, all tries together; above zero. Default: 2 min.
    pub read_timeout: Duration,
}

impl EngineConfig {
    /// The defaults, over a cache in this directory.
    pub fn in_dir(cache_dir: PathBuf) -> EngineConfig {
        EngineConfig {
            cache_dir,
            unshared_cache: false,
            cache_size: None,
            min_free: None,
            max_age: None,
            chunk_size: 256 << 10,
            http: HttpConfig::default(),
            bwlimit: None,
            retries: 3,
            read_timeout: Duration::from_secs(120),
        }
    }
}

/// One mount, as it was asked for and found to be possible.
#[derive(Clone, PartialEq, Eq)]
pub struct MountConfig {
    /// What is mounted: at least one `http` or `https` URL. **May hold a user name and password**; show them by
    /// [`shown`].
    pub sources: Vec<Url>,
    /// What mount tables show as the source: the URLs as they were typed, without secrets, separated by a space.
    pub source_name: String,
    /// Where: absolute, without symbolic links.
    pub mountpoint: PathBuf,
    /// How its files are fetched and kept.
    pub engine: EngineConfig,
    /// What is taken from index pages.
    pub listings: ListingConfig,
    /// How long listings and attributes are believed without asking again; zero is not at all. Default: 10 s.
    pub attr_ttl: Duration,
    /// Whether single files get the names that their servers give them (Content-Disposition).
    pub content_disposition: bool,
    /// Whether other users than the one who mounts are let in.
    pub allow_other: bool,
    /// The owner of all files. Default: the caller.
    pub uid: u32,
    /// The group of all files. Default: the caller's.
    pub gid: u32,
    /// The permission bits that nothing in the mount has, at most 0777. Default: 0022.
    pub umask: u16,
    /// Whether the kernel refuses to execute from the mount.
    pub noexec: bool,
    /// Whether files are executable. Never together with `noexec`.
    pub exec: bool,
    /// Whether the kernel may read complete files by itself.
    pub passthrough: bool,
    /// Whether the process stays in the foreground.
    pub foreground: bool,
    /// Where the log goes instead of standard error or the system log: absolute.
    pub log_file: Option<PathBuf>,
    /// How often `-v` was given.
    pub verbosity: u8,
}

impl MountConfig {
    /// The defaults for a mount of these sources, at least one, on this directory, which is absolute and without symbolic links.
    pub fn new(sources: Vec<Url>, mountpoint: PathBuf, engine: EngineConfig) -> MountConfig {
        let names: Vec<String> = sources.iter().map(|url| shown(url.as_str())).collect();
        MountConfig {
            source_name: names.join(" "),
            sources,
            mountpoint,
            engine,
            listings: ListingConfig::default(),
            attr_ttl: ATTR_TTL,
            content_disposition: false,
            allow_other: false,
            uid: geteuid().as_raw(),
            gid: getegid().as_raw(),
            umask: 0o022,
            noexec: false,
            exec: false,
            passthrough: true,
            foreground: false,
            log_file: None,
            verbosity: 0,
        }
    }

    /// The permission bits of every file.
    pub fn file_mode(&self) -> u16 {
        let all = if self.exec { 0o555 } else { 0o444 };
        all & !self.umask
    }

    /// The permission bits of every directory.
    pub fn dir_mode(&self) -> u16 {
        0o555 & !self.umask
    }
}

/// Without [`sources`](MountConfig::sources), which may hold a password.
impl fmt::Debug for MountConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MountConfig")
            .field("source_name", &self.source_name)
            .field("mountpoint", &self.mountpoint)
            .field("engine", &self.engine)
            .field("attr_ttl", &self.attr_ttl)
            .field("allow_other", &self.allow_other)
            .finish_non_exhaustive()
    }
}
