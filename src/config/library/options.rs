//! The options of a library's sources.

use clap::builder::Resettable;
use clap::{ArgAction, Args, Command};

use crate::config::args::mount_command;
use crate::config::units;
use crate::source::library::filter::{Newer, check_pattern};

/// The options of `fetchfs mount` that a source may have, by their flags.
pub(super) const OF_SOURCES: [&str; 32] = [
    "attr-ttl",
    "bearer-token",
    "bearer-token-command",
    "bearer-token-file",
    "bind-address",
    "bwlimit",
    "ca-cert",
    "client-cert",
    "client-key",
    "connect-timeout",
    "content-disposition",
    "cookie-file",
    "endpoint-url",
    "external-links",
    "header",
    "http2",
    "insecure",
    "login",
    "max-connections",
    "max-entries",
    "metalink-location",
    "mirror",
    "netrc",
    "netrc-file",
    "no-cookies",
    "no-sign-request",
    "password-command",
    "password-file",
    "profile",
    "proxy",
    "query-links",
    "region",
];

/// Those of them that can't be said for all sources.
pub(super) const OF_ONE_SOURCE: [&str; 9] = [
    "bearer-token",
    "bearer-token-command",
    "bearer-token-file",
    "header",
    "login",
    "mirror",
    "password-command",
    "password-file",
    "type",
];

/// The option that means something else for the whole mount: the sum over all sources.
pub(super) const OF_BOTH: &str = "bwlimit";

/// The options that only a source of a library has.
#[derive(Args)]
pub(super) struct LibraryArgs {
    /// URL of the source, or the path of a list, playlist or Metalink
    #[arg(long, value_name = "URL")]
    pub(super) url: Option<String>,

    /// Place of the source in the tree
    #[arg(long, value_name = "PATH")]
    pub(super) at: Option<String>,

    /// Patterns of the files to show
    #[arg(long, value_name = "PATTERN", value_parser = |text: &str| pattern(text, true))]
    pub(super) include: Vec<String>,

    /// Patterns of files and directories not to show
    #[arg(long, value_name = "PATTERN", value_parser = |text: &str| pattern(text, false))]
    pub(super) exclude: Vec<String>,

    /// Minimum size of files to show
    #[arg(long, value_name = "SIZE", value_parser = units::size)]
    pub(super) min_size: Option<u64>,

    /// Maximum size of files to show
    #[arg(long, value_name = "SIZE", value_parser = units::size)]
    pub(super) max_size: Option<u64>,

    /// Show only files of this date or later: 30d, or 2026-01-31
    #[arg(long, value_name = "AGE", value_parser = newer)]
    pub(super) newer: Option<Newer>,

    /// Show names that begin with a dot
    #[arg(long, value_name = "BOOL", action = ArgAction::Set)]
    pub(super) hidden: Option<bool>,
}

fn pattern(text: &str, is_include: bool) -> Result<String, String> {
    check_pattern(text, is_include).map_err(|error| error.to_string())?;
    Ok(text.to_owned())
}

fn newer(text: &str) -> Result<Newer, String> {
    if let Ok(age) = units::time_above_zero(text) {
        return Ok(Newer::Than(age));
    }
    let day = || humantime::parse_rfc3339_weak(&format!("{text} 00:00:00"));
    let date = humantime::parse_rfc3339_weak(text).or_else(|_| day());
    date.map(Newer::Since)
        .map_err(|_| "not an age or a date; write for example 30d or 2026-01-31".to_owned())
}

/// All options that a source may have, as a command.
pub(crate) fn source_command() -> Command {
    let command = mount_command();
    let of_mount = command
        .get_arguments()
        .filter(|flag| flag.get_long().is_some_and(is_of_sources));
    let source = Command::new("source").args_override_self(true).args(of_mount.cloned());
    without_environment(LibraryArgs::augment_args(source))
}

pub(super) fn is_of_sources(name: &str) -> bool {
    name == "type" || OF_SOURCES.contains(&name)
}

pub(in crate::config) fn without_environment(command: Command) -> Command {
    command.mut_args(|arg| arg.env(Resettable::Reset))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::options::flag_named;

    #[test]
    fn options_of_sources_exist() {
        let command = mount_command();
        for name in OF_SOURCES.iter().chain(&OF_ONE_SOURCE) {
            assert!(flag_named(&command, name).is_some(), "{name}");
            assert!(is_of_sources(name), "{name}");
        }
        source_command().debug_assert();
    }
}
