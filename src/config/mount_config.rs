//! The resolved configuration: plain values, all checked, every default filled in.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use nix::unistd::{getegid, geteuid};

use super::library::LibraryFile;
use super::option_sources::{OptionSources, OptionValue};
use super::remount::InForce;
use super::source::shown;
use crate::cache::quota::Share;
use crate::fuse::ScanConfig;
use crate::http::HttpConfig;
use crate::source::library::LibraryConfig;
use crate::source::s3::S3Config;
use crate::source::{ListingConfig, SourceSpec};
use crate::util::bandwidth::BandwidthLimit;
use crate::web::WebConfig;

/// Default of [`MountConfig::attr_ttl`].
pub(crate) const ATTR_TTL: Duration = Duration::from_secs(10);

/// How files are fetched and kept, for a mount or for a Rust program without one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct EngineConfig {
    /// The cache directory: absolute. It may not exist yet.
    pub cache_dir: PathBuf,
    /// True if no other host uses that directory, although it may be on a network file system.
    pub unshared_cache: bool,
    /// Maximum size of the cache on disk; above zero. Default: half of the space that is free or that it already
    /// occupies.
    pub cache_size: Option<Share>,
    /// Space to leave free on the file system. Default: 5 %, 1 GiB at most.
    pub min_free: Option<Share>,
    /// Cached data that was not used for so long is deleted; above zero. Default: never.
    pub max_age: Option<Duration>,
    /// Bytes, a power of two from 4 KiB to 64 MiB. Default: 256 KiB.
    pub chunk_size: u32,
    /// The client's configuration; its [`max_connections`](HttpConfig::max_connections) is the limit per origin.
    pub http: HttpConfig,
    /// Maximum bytes per second over everything that is fetched; `None` means no limit.
    pub bwlimit: Option<BandwidthLimit>,
    /// Maximum bytes that are fetched ahead of a reader. Default: what pays.
    pub read_ahead: Option<u64>,
    /// Number of retries after a failed attempt. Default: 3.
    pub retries: u32,
    /// Maximum time of one read, all attempts together; above zero. Default: 2 min.
    pub read_timeout: Duration,
}

impl EngineConfig {
    /// The defaults, over a cache in this directory.
    pub(crate) fn in_dir(cache_dir: PathBuf) -> EngineConfig {
        EngineConfig {
            cache_dir,
            unshared_cache: false,
            cache_size: None,
            min_free: None,
            max_age: None,
            chunk_size: 256 << 10,
            http: HttpConfig::default(),
            bwlimit: None,
            read_ahead: None,
            retries: 3,
            read_timeout: Duration::from_secs(120),
        }
    }
}

/// The form of the log's lines in a file and on standard error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum LogFormat {
    /// Time, level, text, event.
    Text,
    /// A JSON object with these.
    Json,
}

/// The library of a mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LibraryMount {
    /// Its file, which can be read again.
    pub file: LibraryFile,
    /// What the file said.
    pub sources: LibraryConfig,
}

/// The checked configuration of one mount.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct MountConfig {
    /// The sources, at least one. **Their URLs may contain a user name and password**; show them by
    /// [`shown`].
    pub sources: Vec<SourceSpec>,
    /// The source in mount tables: the URLs as given, without secrets, separated by spaces.
    pub source_name: String,
    /// The library, if the sources are those of one.
    pub library: Option<LibraryMount>,
    /// The kind of the sources, by its name; `None` if their first answers decide.
    pub kind: Option<String>,
    /// The mountpoint: absolute. Before it is mounted on, symbolic links in it are resolved, which only the mount table
    /// can do for a dead mount.
    pub mountpoint: PathBuf,
    /// The `/dev/fuse` of a mount that another process has made, as the number of an inherited descriptor; `None` if this
    /// one mounts.
    pub fd: Option<i32>,
    /// How its files are fetched and kept.
    pub engine: EngineConfig,
    /// Which links of index pages become entries.
    pub listings: ListingConfig,
    /// Countries whose mirrors in a Metalink are preferred, in lower case, the most preferred first.
    pub metalink_locations: Vec<String>,
    /// How S3 is reached.
    pub s3: S3Config,
    /// How long listings and attributes are used without a new request; zero means not at all. Default: 10 s.
    pub attr_ttl: Duration,
    /// How thumbnailers, indexers and media scanners are treated.
    pub scan: ScanConfig,
    /// The status page; `None` means that there is none.
    pub web: Option<WebConfig>,
    /// True if single files get the names that their servers give them (Content-Disposition).
    pub content_disposition: bool,
    /// True if other users may access the mount.
    pub allow_other: bool,
    /// The owner of all files. Default: the caller.
    pub uid: u32,
    /// The group of all files. Default: the caller's.
    pub gid: u32,
    /// The permission bits that all files and directories lack, at most 0777. Default: 0022.
    pub umask: u16,
    /// True if the kernel refuses to execute files of the mount.
    pub noexec: bool,
    /// True if files are executable. Never together with `noexec`.
    pub exec: bool,
    /// True if the kernel may read complete files by itself (passthrough).
    pub passthrough: bool,
    /// True if the process stays in the foreground.
    pub foreground: bool,
    /// The log file, absolute; `None` for standard error or the system log.
    pub log_file: Option<PathBuf>,
    /// The form of its lines.
    pub log_format: LogFormat,
    /// Number of `-v`.
    pub verbosity: u8,
    /// The file with the password, absolute.
    pub password_file: Option<PathBuf>,
    /// The options and what they are made of; `None` for a mount of a Rust program.
    pub options: Option<MountOptions>,
}

/// The options of a mount, and where they come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct MountOptions {
    /// What they are made of, some of which can be read again.
    pub sources: OptionSources,
    /// Their values at the start of the mount.
    pub values: Vec<OptionValue>,
    /// Their values at the start of the mount, in the form in which those of a remount are compared with them.
    pub in_force: InForce,
}

impl MountConfig {
    /// The defaults for a mount of these sources (at least one) on this directory (absolute, without symbolic links).
    pub(crate) fn new(sources: Vec<SourceSpec>, mountpoint: PathBuf, engine: EngineConfig) -> MountConfig {
        let names: Vec<String> = sources.iter().map(|source| shown(source.url.as_str())).collect();
        MountConfig {
            source_name: names.join(" "),
            sources,
            library: None,
            kind: None,
            mountpoint,
            fd: None,
            engine,
            listings: ListingConfig::default(),
            metalink_locations: Vec::new(),
            s3: S3Config::default(),
            attr_ttl: ATTR_TTL,
            scan: ScanConfig::default(),
            web: None,
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
            log_format: LogFormat::Text,
            verbosity: 0,
            password_file: None,
            options: None,
        }
    }

    /// The permission bits of every file.
    pub(crate) fn file_mode(&self) -> u16 {
        let all = if self.exec { 0o555 } else { 0o444 };
        all & !self.umask
    }

    /// The permission bits of every directory.
    pub(crate) fn dir_mode(&self) -> u16 {
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
