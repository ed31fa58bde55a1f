//! The table of mount options: each one once, with its help, its default and its value parser.
//!
//! `--help`, the `-o` names ([`super::options`]) and the environment variables ([`mount_command`]) are derived from it.
//! [`super::resolve`] combines the values with what only the machine knows (the caller, the home directory). The
//! options about servers are in [`super::network`],
//! those of the status page in [`super::web`].

use std::path::PathBuf;
use std::time::Duration;

use clap::builder::{BoolishValueParser, PossibleValuesParser};
use clap::{ArgAction, Args, Command};

use super::bandwidth;
use super::mount_config::LogFormat;
use super::network::NetworkArgs;
use super::options::{OPTIONS_ID, variable_of};
use super::s3::S3Args;
use super::scan::ScanArgs;
use super::source;
use super::units;
use super::web::WebArgs;
use crate::cache::quota::Share;
use crate::source::registry;

/// The end of both forms of the help.
macro_rules! examples {
    () => {
        "\
Examples:
  fetchfs mount https://example.org/pub/ /mnt/pub
  fetchfs mount https://example.org/film.mkv https://example.net/disk.iso ~/remote
  fetchfs mount -o cache_size=20G,allow_other https://example.org/pub/ /mnt/pub
  fetchfs unmount /mnt/pub"
    };
}

/// The folder of a process's own descriptors. A path in it stands for a mountpoint that only the process knows which
/// handed the descriptor over; libfuse has the same convention (mount.fuse3(8)).
pub(crate) const DESCRIPTORS: &str = "/dev/fd";

/// The first descriptor that can be handed over: those before it are for input, output and errors.
pub(super) const FIRST_FD: i32 = 3;

/// The arguments of `fetchfs mount`, before they are resolved.
///
/// Sources are not `required` for clap, so that [`super::ConfigError::OneOfTwo`] can say what is missing.
#[derive(Args, PartialEq)]
#[command(
    allow_missing_positional = true, override_usage = "fetchfs mount [OPTIONS] <SOURCE>... <MOUNTPOINT>",
    after_help = examples!(), after_long_help = AFTER_LONG_HELP
)]
pub(crate) struct MountArgs {
    /// The URL of a directory (http, https; dav, davs for WebDAV; s3) or of a file; a directory of this machine; a list,
    /// playlist or Metalink, as a URL or local file, or `-` for standard input; a library (FILE.toml); or @FILE
    ///
    /// Several sources become several names at the top of the mount. A library has many sources, each at its place in the
    /// tree; docs/sources.md has its form, and `fetchfs config check` finds its mistakes. @FILE has one source in each line. This keeps a
    /// secret URL out of the command line and the mount table.
    #[arg(value_name = "SOURCE")]
    pub(super) sources: Vec<String>,

    /// What the sources are, where their URLs and first answers do not show it
    ///
    /// Without this option, a URL that ends in / is an index page, and so is one that redirects to such a URL or whose
    /// page says that it is an index; any other is a file. An index page is asked for with a / at the end of its URL.
    /// A URL without an index page is WebDAV if its server says so, as dav:// and davs:// always are.
    /// The option is needed for an index page that does not say so, if the URL has no /, and for a file whose URL ends
    /// in /, or that is an index page itself. Lists of URLs, playlists, Metalinks and items of archive.org are recognised
    /// by URL, media type and content; docs/sources.md has the rules.
    ///
    /// Default: what the first answer of each source's server shows.
    #[arg(
        long = "type", value_name = "KIND", value_parser = PossibleValuesParser::new(registry::kinds()),
        help_heading = "Network"
    )]
    pub(super) kind: Option<String>,

    /// The empty directory on which to mount
    #[arg(value_name = "MOUNTPOINT")]
    pub(super) mountpoint: PathBuf,

    /// Directory of the cache
    ///
    /// The cache survives unmounting, crashes and reboots. It can be deleted while nothing is mounted.
    ///
    /// Default: $XDG_CACHE_HOME/fetchfs, or ~/.cache/fetchfs; /var/cache/fetchfs for root.
    #[arg(long, value_name = "DIR", help_heading = "Cache")]
    pub(super) cache_dir: Option<PathBuf>,

    /// Allow a cache directory on a network file system that no other host uses
    ///
    /// Without this option, a cache directory on NFS, CIFS, FUSE, 9P and their like is refused: two hosts that used it
    /// at the same time would damage each other's files. An encrypted home directory, for example, is a FUSE file
    /// system and needs this option.
    #[arg(long, help_heading = "Cache")]
    pub(super) unshared_cache: bool,

    /// Maximum size of the cache on disk, for example 20GiB or 10%
    ///
    /// A hard limit, in disk blocks of everything in the directory. A percentage is one of the file system. When the
    /// cache is full, the least recently used chunks are evicted, also those of open files. Mounts that share the
    /// directory use the smallest of their sizes. The minimum is two chunks for each connection.
    ///
    /// Default: half of the space that is free, or that the cache already occupies, at the time of the mount.
    #[arg(long, value_name = "SIZE", value_parser = units::share_above_zero, help_heading = "Cache")]
    pub(super) cache_size: Option<Share>,

    /// Minimum free space on the cache's file system, for example 5GiB or 10%
    ///
    /// When other programs fill the disk, the cache shrinks. 0 turns this off.
    ///
    /// Default: 5 % of the file system, at most 1 GiB.
    #[arg(long, value_name = "SIZE", value_parser = units::share, help_heading = "Cache")]
    pub(super) min_free: Option<Share>,

    /// Maximum bytes to fetch ahead of a reader, for example 8MiB; 0 turns read-ahead off
    ///
    /// Without this option, as much is fetched ahead as keeps a sequential reader from waiting, up to 256 MiB or a 32nd of
    /// the cache. Files of up to 1 MiB are fetched whole in any case.
    ///
    /// Default: what pays.
    #[arg(long, value_name = "SIZE", value_parser = units::size, help_heading = "Cache")]
    pub(super) read_ahead: Option<u64>,

    /// Delete cached data that was not used for this time, for example 30d
    ///
    /// Default: data is kept until the cache is full.
    #[arg(long, value_name = "TIME", value_parser = units::time_above_zero, help_heading = "Cache")]
    pub(super) max_age: Option<Duration>,

    /// Unit of caching and eviction
    ///
    /// A power of two from 4KiB to 64MiB. Smaller chunks transfer fewer bytes for a read at a random offset; larger
    /// ones need less bookkeeping. A sequential read fetches many chunks in one request, whatever their size.
    #[arg(
        long, value_name = "SIZE", default_value = "256KiB", value_parser = units::chunk_size,
        help_heading = "Cache"
    )]
    pub(super) chunk_size: u32,

    /// Maximum number of connections to one server
    #[arg(
        long, value_name = "N", default_value = "16", value_parser = |text: &str| units::count(text, 1..=u16::MAX),
        help_heading = "Network"
    )]
    pub(super) max_connections: u16,

    /// Bandwidth limit in bytes per second, for example 10MB; or a timetable: 08:00-18:00=2MB,else=off
    ///
    /// Applies to the sum of all downloads of the mount. 0 and off are no limit. A timetable has spans of each day, with
    /// commas or spaces between them, or times as rclone has them: "Mon-08:00,2M Fri-18:00,off". Times are local.
    ///
    /// Default: no limit.
    #[arg(long, value_name = "RATE", value_parser = bandwidth::limit, help_heading = "Network")]
    pub(super) bwlimit: Option<bandwidth::Limit>,

    /// Number of retries of a failed request
    ///
    /// The first retry comes after half a second, later ones after growing pauses. Each continues at the byte that was
    /// reached. If the server is down or overloaded, retries continue until --read-timeout, whatever this number is,
    /// unless it is 0.
    #[arg(
        long, value_name = "N", default_value = "3", value_parser = |text: &str| units::count(text, 0..=u32::MAX),
        help_heading = "Network"
    )]
    pub(super) retries: u32,

    /// Maximum time without data from the server before a request fails and is retried
    #[arg(
        long, value_name = "TIME", default_value = "30s", value_parser = units::time_above_zero,
        help_heading = "Network"
    )]
    pub(super) timeout: Duration,

    /// Maximum time of one read or lookup, including all retries; then it fails
    #[arg(
        long, value_name = "TIME", default_value = "2m", value_parser = units::time_above_zero,
        help_heading = "Network"
    )]
    pub(super) read_timeout: Duration,

    /// Time for which listings and attributes are cached before they are checked again
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = units::time, help_heading = "Network")]
    pub(super) attr_ttl: Duration,

    /// Never use the network; serve only cached listings and files
    ///
    /// Anything else fails immediately with ENETUNREACH. Needs a cache that an earlier mount has filled.
    #[arg(long, help_heading = "Network")]
    pub(super) offline: bool,

    #[command(flatten)]
    pub(super) network: NetworkArgs,

    #[command(flatten)]
    pub(super) s3: S3Args,

    #[command(flatten)]
    pub(super) scan: ScanArgs,

    /// Name single files by Content-Disposition instead of by their URLs
    ///
    /// The name comes from the Content-Disposition header of the server's response, if there is one.
    #[arg(long, help_heading = "Access")]
    pub(super) content_disposition: bool,

    /// Allow other users to access the mount
    ///
    /// For an ordinary user, this needs the line `user_allow_other` in /etc/fuse.conf.
    #[arg(long, help_heading = "Access")]
    pub(super) allow_other: bool,

    /// Owner of all files, as a number or name
    ///
    /// Default: the user that runs the command.
    #[arg(long, value_name = "USER", value_parser = units::user, help_heading = "Access")]
    pub(super) uid: Option<u32>,

    /// Group of all files, as a number or name
    ///
    /// Default: the group of the user that runs the command.
    #[arg(long, value_name = "GROUP", value_parser = units::group, help_heading = "Access")]
    pub(super) gid: Option<u32>,

    /// Permission bits to clear from 0444 for files (0555 with --exec) and 0555 for directories
    #[arg(long, value_name = "OCTAL", default_value = "0022", value_parser = units::umask, help_heading = "Access")]
    pub(super) umask: u16,

    /// Make files executable
    ///
    /// Without this option no file is executable, so a server can't choose which programs run on this machine.
    #[arg(long, overrides_with = "noexec", help_heading = "Access")]
    pub(super) exec: bool,

    /// Mount with noexec: nothing in the mount can be executed or mapped as code
    #[arg(long, overrides_with = "exec", help_heading = "Access")]
    pub(super) noexec: bool,

    /// Do not use FUSE passthrough for complete files
    ///
    /// For a mount by root, the kernel reads a complete cached file by itself (FUSE passthrough, Linux 6.9), as fast as
    /// a local file. This option turns that off.
    #[arg(long, help_heading = "Cache")]
    pub(super) no_passthrough: bool,

    /// Serve a mount that another process has made, by its /dev/fuse, an inherited file descriptor
    ///
    /// For supervisors and CSI drivers: they open /dev/fuse, call mount(2) with fd=N,rootmode=40000,user_id=UID,group_id=GID
    /// and the type fuse.fetchfs, and start fetchfs, which needs no privilege then. MOUNTPOINT is where they have mounted,
    /// or /dev/fd/N, which is the same as this option. Owner, access by others, and read-only are what they chose: allow_other
    /// and noexec have no effect.
    #[arg(
        long, value_name = "N", value_parser = |text: &str| units::count(text, FIRST_FD..=i32::MAX), help_heading = "Running"
    )]
    pub(super) fd: Option<i32>,

    /// Run in the foreground; Ctrl-C unmounts
    ///
    /// Without this option, the command returns when the mount is ready, and a background process serves it. In the
    /// foreground, the process notifies systemd when the mount is ready (Type=notify).
    #[arg(short, long, overrides_with = "background", help_heading = "Running")]
    pub(super) foreground: bool,

    /// Return when the mount is ready, which is the default
    ///
    /// For callers that wait for the command, such as mount(8)'s helper: the config file, the environment or -o may say
    /// foreground.
    #[arg(long, overrides_with = "foreground", help_heading = "Running")]
    pub(super) background: bool,

    /// Check the arguments and the mountpoint, and mount nothing
    ///
    /// No server is asked: `fetchfs doctor` does that.
    #[arg(long, help_heading = "Running")]
    pub(super) dry_run: bool,

    /// Config file in TOML, with options as keys
    ///
    /// For example cache_size = "20GiB", allow_other = true, header = ["X-A: 1", "X-B: 2"]. Options for only some
    /// sources are below a line ["https://HOST/PATH/"]. Flags, -o and the environment override the file. A file with
    /// secrets must be readable only by its owner.
    ///
    /// Default: $XDG_CONFIG_HOME/fetchfs/config, or ~/.config/fetchfs/config; /etc/fetchfs/config for root; if the file
    /// exists.
    #[arg(long, value_name = "FILE", help_heading = "Running")]
    pub(super) config: Option<PathBuf>,

    /// Log more: -v info, -vv debug, -vvv trace
    #[arg(short, long, action = ArgAction::Count, help_heading = "Running")]
    pub(super) verbose: u8,

    /// Append the log to this file
    ///
    /// Default: standard error in the foreground, else the journal or the system log. Without both, a file named after
    /// the mountpoint in /var/log/fetchfs for root, and in $XDG_STATE_HOME/fetchfs or ~/.local/state/fetchfs for others;
    /// `fetchfs status` shows which.
    #[arg(long, value_name = "FILE", help_heading = "Running")]
    pub(super) log_file: Option<PathBuf>,

    /// Form of the log's lines in a file and on standard error: text or json
    ///
    /// With json, each line is an object with time, level, event, message and module. The journal has them as fields in any
    /// case, for example FETCHFS_EVENT.
    #[arg(
        long,
        value_name = "FORM",
        value_enum,
        default_value = "text",
        help_heading = "Running"
    )]
    pub(super) log_format: LogFormat,

    #[command(flatten)]
    pub(super) web: WebArgs,

    /// Options in the style of mount(8): -o cache_size=20G,allow_other
    ///
    /// Every option above by its name, with _ or -, and the standard ones of fstab such as ro, noauto, _netdev. Write
    /// \, for a comma in a value.
    #[arg(
        short = 'o', long = "options", id = OPTIONS_ID, value_name = "OPTS", allow_hyphen_values = true,
        help_heading = "Running"
    )]
    pub(super) options: Vec<String>,
}

const AFTER_LONG_HELP: &str = concat!(
    examples!(),
    "

Sizes: 20G and 20GiB are 20 × 2^30 bytes, 20GB is 20 × 10^9, a plain number is bytes.

Times: 500ms, 30s, 2m, 1h; a plain number is seconds.

Environment: FETCHFS_CACHE_SIZE=20G is the same as --cache-size=20G, and so on for each option. Flags override -o, \
-o overrides the environment, and the environment overrides the config file. FETCHFS_LOG sets the log level in \
env_logger's syntax, for example FETCHFS_LOG=debug.

Exit status: 0 mounted, 1 failed, 2 wrong usage."
);

impl MountArgs {
    /// Returns true if nothing is to be mounted.
    pub(crate) fn is_dry_run(&self) -> bool {
        self.dry_run
    }

    /// Where to mount, as it was typed.
    pub(crate) fn mountpoint(&self) -> PathBuf {
        self.mountpoint.clone()
    }

    /// The sources as the mount table shows them, if there are any. mount(8) passes several, which it has from there, in
    /// one word.
    pub(crate) fn source_name(&self) -> Option<String> {
        let names: Vec<String> = self
            .sources
            .iter()
            .flat_map(|text| text.split(' '))
            .map(source::name)
            .collect();
        (!names.is_empty()).then(|| names.join(" "))
    }

    /// The values of all `-o`, joined. Each still needs [`super::expand_options`].
    pub(crate) fn options(&self) -> String {
        self.options.join(",")
    }
}

/// `fetchfs mount` as a clap command: the table above, with an environment variable for each option. A variable that is
/// set but empty counts as not set, so a line `FETCHFS_CACHE_SIZE=` in a unit's environment file is harmless.
pub fn mount_command() -> Command {
    let command = MountArgs::augment_args(Command::new("mount"))
        .about("Mount remote files as a directory")
        // Otherwise the long help would begin with the doc comment of `MountArgs`.
        .long_about(None::<&str>)
        .args_override_self(true);
    command.mut_args(|mut arg| {
        let Some(long) = arg.get_long() else { return arg };
        let variable = variable_of(long);
        if matches!(arg.get_action(), ArgAction::SetTrue) {
            arg = arg.value_parser(BoolishValueParser::new());
        }
        match std::env::var_os(&variable) {
            Some(value) if value.is_empty() => arg,
            _ => arg.env(variable).hide_env(true),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_sound() {
        mount_command().debug_assert();
    }

    #[test]
    fn the_long_help_begins_with_what_the_command_is_for() {
        let help = mount_command().render_long_help().to_string();
        assert!(
            help.starts_with("Mount remote files as a directory\n\nUsage:"),
            "{help}"
        );
        assert!(!help.contains("::"), "a name of the code's: {help}");
    }

    #[test]
    fn every_option_has_help_and_a_heading() {
        for arg in mount_command().get_arguments().filter(|arg| !arg.is_positional()) {
            assert!(arg.get_help().is_some(), "{arg}");
            assert!(arg.get_help_heading().is_some(), "{arg}");
            assert!(arg.get_env().is_some(), "{arg}");
        }
    }
}
