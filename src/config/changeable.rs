//! The options that can change while a file system is mounted, and `KEY=VALUE` for them.
//!
//! Values are read by the parsers of the flags, from the same table of options. [`crate::mount`] applies them.

use std::path::PathBuf;
use std::time::Duration;

use clap::builder::{BoolishValueParser, TypedValueParser};
use clap::error::{ContextKind, ContextValue};
use clap::{Arg, ArgAction, Command, FromArgMatches};

use super::args::{MountArgs, mount_command};
use super::library::without_environment;
use super::mount_config::MountConfig;
use super::options::{flag_named, nearest};
use super::units;
use crate::cache::quota::Share;
use crate::fuse::ScanPolicy;
use crate::util::bandwidth::BandwidthLimit;

/// The names of the options that can change, with `_`.
pub(crate) const CHANGEABLE: [&str; 13] = [
    "attr_ttl",
    "bearer_token_file",
    "bwlimit",
    "cache_size",
    "max_connections",
    "min_free",
    "netrc_file",
    "offline",
    "password_file",
    "read_ahead",
    "scan_limit",
    "scan_policy",
    "verbose",
];

/// The current values of these options.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Changeable {
    pub attr_ttl: Duration,
    /// Absolute, as the other files.
    pub bearer_token_file: Option<PathBuf>,
    pub bwlimit: Option<BandwidthLimit>,
    pub cache_size: Option<Share>,
    pub max_connections: u16,
    pub min_free: Option<Share>,
    pub netrc_file: Option<PathBuf>,
    pub offline: bool,
    pub password_file: Option<PathBuf>,
    pub read_ahead: Option<u64>,
    pub scan_limit: u64,
    pub scan_policy: ScanPolicy,
    pub verbose: u8,
}

impl Changeable {
    /// Their values at the start of a mount.
    pub(crate) fn of(config: &MountConfig) -> Changeable {
        let engine = &config.engine;
        Changeable {
            attr_ttl: config.attr_ttl,
            bearer_token_file: engine.http.access.token_file().map(ToOwned::to_owned),
            bwlimit: engine.bwlimit.clone(),
            cache_size: engine.cache_size,
            max_connections: u16::try_from(engine.http.max_connections).unwrap_or(u16::MAX),
            min_free: engine.min_free,
            netrc_file: engine.http.access.netrc.path().map(ToOwned::to_owned),
            offline: engine.http.offline,
            password_file: config.password_file.clone(),
            read_ahead: engine.read_ahead,
            scan_limit: config.scan.limit,
            scan_policy: config.scan.policy,
            verbose: config.verbosity,
        }
    }

    /// Takes the value of an option from arguments that have it.
    pub(crate) fn take(&mut self, name: &str, args: &MountArgs) {
        let file = |path: &Option<PathBuf>| path.as_ref().and_then(|path| std::path::absolute(path).ok());
        match name {
            "attr_ttl" => self.attr_ttl = args.attr_ttl,
            "bearer_token_file" => self.bearer_token_file = file(&args.network.bearer_token_file),
            "bwlimit" => self.bwlimit = args.bwlimit.clone().and_then(|limit| limit.0),
            "cache_size" => self.cache_size = args.cache_size,
            "max_connections" => self.max_connections = args.max_connections,
            "min_free" => self.min_free = args.min_free,
            "netrc_file" => self.netrc_file = file(&args.network.netrc_file),
            "offline" => self.offline = args.offline,
            "password_file" => self.password_file = file(&args.network.password_file),
            "read_ahead" => self.read_ahead = args.read_ahead,
            "scan_limit" => self.scan_limit = args.scan.scan_limit,
            "scan_policy" => self.scan_policy = args.scan.scan_policy,
            "verbose" => self.verbose = args.verbose,
            _ => {}
        }
    }

    /// The value of an option in the notation of `KEY=VALUE`; `None` if it has none.
    pub(crate) fn value(&self, name: &str) -> Option<String> {
        let file = |path: &Option<PathBuf>| path.as_ref().map(|path| path.display().to_string());
        match name {
            "attr_ttl" => Some(humantime::format_duration(self.attr_ttl).to_string()),
            "bearer_token_file" => file(&self.bearer_token_file),
            "bwlimit" => Some(self.bwlimit.as_ref().map_or("off", BandwidthLimit::text).to_owned()),
            "cache_size" => self.cache_size.map(share),
            "max_connections" => Some(self.max_connections.to_string()),
            "min_free" => self.min_free.map(share),
            "netrc_file" => file(&self.netrc_file),
            "offline" => Some(self.offline.to_string()),
            "password_file" => file(&self.password_file),
            "read_ahead" => self.read_ahead.map(units::exact),
            "scan_limit" => Some(units::exact(self.scan_limit)),
            "scan_policy" => Some(self.scan_policy.name().to_owned()),
            "verbose" => Some(self.verbose.to_string()),
            _ => None,
        }
    }

    /// Changes one value, as `KEY=VALUE` says. Returns the option's name.
    ///
    /// # Errors
    /// What is wrong with it: one sentence.
    pub(crate) fn assign(&mut self, assignment: &str) -> Result<&'static str, String> {
        let command = mount_command();
        let (name, value) = split(&command, assignment)?;
        let flags = flags(&command, name, value)?;
        let positionals = ["http://host/", "/"].map(str::to_owned);
        let matches = without_environment(command)
            .no_binary_name(true)
            .try_get_matches_from(flags.iter().chain(&positionals));
        let args = matches.and_then(|matches| MountArgs::from_arg_matches(&matches));
        let args = args.map_err(|error| {
            let reason = std::error::Error::source(&error).map(ToString::to_string);
            let possible = match error.get(ContextKind::ValidValue) {
                Some(ContextValue::Strings(values)) => Some(format!("write one of {}", values.join(", "))),
                _ => None,
            };
            let reason = reason.or(possible);
            format!("`{name}`: {}", reason.unwrap_or_else(|| "not a valid value".to_owned()))
        })?;
        self.take(name, &args);
        Ok(name)
    }
}

fn share(share: Share) -> String {
    match share {
        Share::Bytes(bytes) => units::exact(bytes),
        Share::Percent(percent) => format!("{percent}%"),
    }
}

/// The option of an assignment and its value.
fn split<'a>(command: &Command, assignment: &'a str) -> Result<(&'static str, &'a str), String> {
    let (written, value) = match assignment.split_once('=') {
        Some((written, value)) => (written.trim(), Some(value)),
        None => (assignment.trim(), None),
    };
    let name = changeable(command, written)?;
    match value {
        Some(value) if !value.trim().is_empty() => Ok((name, value)),
        _ => Err(format!(
            "`{written}`: a value is missing; write {name}={}",
            placeholder(command, name)
        )),
    }
}

/// The name of an option that can change.
fn changeable(command: &Command, written: &str) -> Result<&'static str, String> {
    let name = written.replace('-', "_");
    if let Some(name) = CHANGEABLE.iter().find(|known| **known == name) {
        return Ok(name);
    }
    let all = CHANGEABLE.join(", ");
    let flag = written.replace('_', "-");
    if flag_named(command, &flag).is_some() {
        return Err(format!("`{written}` can't change while mounted; these can: {all}"));
    }
    match meant(command, &flag) {
        Some(nearest) => Err(format!("`{written}`: unknown option; did you mean `{nearest}`?")),
        None => Err(format!(
            "`{written}`: unknown option; these can change while mounted: {all}"
        )),
    }
}

/// The option that was probably meant; better one that can change.
fn meant(command: &Command, flag: &str) -> Option<String> {
    if matches!(flag, "log" | "log-level" | "loglevel" | "verbosity") {
        return Some("verbose".to_owned());
    }
    nearest(command, flag)
}

/// Checks a name for `get`.
///
/// # Errors
/// If there is no option of this name: one sentence.
pub(crate) fn option_named(written: &str) -> Result<String, String> {
    let command = mount_command();
    let flag = written.replace('_', "-");
    match flag_named(&command, &flag) {
        Some(_) => Ok(flag.replace('-', "_")),
        None => Err(match meant(&command, &flag) {
            Some(nearest) => format!("`{written}`: unknown option; did you mean `{nearest}`?"),
            None => format!("`{written}`: unknown option; `fetchfs mount --help` lists the options"),
        }),
    }
}

/// An assignment for a process with another working directory: with the absolute path of a file.
pub(crate) fn absolute_assignment(assignment: &str) -> String {
    let Some((written, value)) = assignment.split_once('=') else {
        return assignment.to_owned();
    };
    let command = mount_command();
    let flag = flag_named(&command, &written.trim().replace('_', "-"));
    let is_file = flag.is_some_and(|flag| placeholder_of(flag) == "FILE") && !value.is_empty();
    match std::path::absolute(value) {
        Ok(path) if is_file => format!("{written}={}", path.display()),
        _ => assignment.to_owned(),
    }
}

/// The flags for a value in the notation of the config file.
fn flags(command: &Command, name: &str, value: &str) -> Result<Vec<String>, String> {
    let long = name.replace('_', "-");
    let Some(flag) = flag_named(command, &long) else {
        return Err(format!("`{name}`: unknown option"));
    };
    match flag.get_action() {
        ArgAction::Count => {
            let count = units::count(value, 0..=9_usize).map_err(|error| format!("`{name}`: {error}"))?;
            Ok(vec![format!("--{long}"); count])
        }
        ArgAction::SetTrue => {
            let parsed = BoolishValueParser::new().parse_ref(command, None, value.trim().as_ref());
            match parsed {
                Ok(true) => Ok(vec![format!("--{long}")]),
                Ok(false) => Ok(Vec::new()),
                Err(_) => Err(format!("`{name}`: write true or false")),
            }
        }
        _ => Ok(vec![format!("--{long}={value}")]),
    }
}

fn placeholder(command: &Command, name: &str) -> String {
    let flag = flag_named(command, &name.replace('_', "-"));
    flag.map_or("", |flag| placeholder_of(flag)).to_owned()
}

fn placeholder_of(flag: &Arg) -> &str {
    match flag.get_action() {
        ArgAction::Count => "0",
        ArgAction::SetTrue => "true",
        _ => flag
            .get_value_names()
            .and_then(<[_]>::first)
            .map_or("VALUE", |name| name.as_str()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::resolve::tests::config;

    fn start() -> Changeable {
        Changeable::of(&config(&["http://h/", "/"]).unwrap())
    }

    fn wrong(assignment: &str) -> String {
        start().assign(assignment).unwrap_err()
    }

    #[test]
    fn value_is_written_as_it_is_read() {
        let assignments = [
            ("attr_ttl=1m", "1m"),
            ("bearer_token_file=/t", "/t"),
            ("bwlimit=08:00-18:00=2MB,else=off", "08:00-18:00=2MB,else=off"),
            ("bwlimit=off", "off"),
            ("cache-size=20G", "20GiB"),
            ("cache_size=10%", "10%"),
            ("max_connections=4", "4"),
            ("min_free=1234567", "1234567"),
            ("netrc_file=/n", "/n"),
            ("offline=yes", "true"),
            ("offline=0", "false"),
            ("password_file=/p", "/p"),
            ("read_ahead=1500kB", "1500kB"),
            ("read_ahead=0", "0"),
            ("scan_limit=4M", "4MiB"),
            ("scan_policy=gentle", "gentle"),
            ("verbose=2", "2"),
        ];
        for (assignment, value) in assignments {
            let mut options = start();
            let name = options.assign(assignment).unwrap();
            assert_eq!(options.value(name).as_deref(), Some(value), "{assignment}");
            let mut again = start();
            again.assign(&format!("{name}={value}")).unwrap();
            assert_eq!(again, options, "{assignment}");
        }
        for name in CHANGEABLE {
            assert!(
                assignments
                    .iter()
                    .any(|(text, _)| text.replace('-', "_").starts_with(name)),
                "{name}"
            );
        }
    }

    #[test]
    fn mistake_is_one_sentence() {
        insta::assert_snapshot!(wrong("bwlimitt=2MB"), @"`bwlimitt`: unknown option; did you mean `bwlimit`?");
        insta::assert_snapshot!(wrong("zzz=1"), @"`zzz`: unknown option; these can change while mounted: attr_ttl, bearer_token_file, bwlimit, cache_size, max_connections, min_free, netrc_file, offline, password_file, read_ahead, scan_limit, scan_policy, verbose");
        insta::assert_snapshot!(wrong("log_level=debug"), @"`log_level`: unknown option; did you mean `verbose`?");
        insta::assert_snapshot!(wrong("chunk_size=1MiB"), @"`chunk_size` can't change while mounted; these can: attr_ttl, bearer_token_file, bwlimit, cache_size, max_connections, min_free, netrc_file, offline, password_file, read_ahead, scan_limit, scan_policy, verbose");
        insta::assert_snapshot!(wrong("cache_size"), @"`cache_size`: a value is missing; write cache_size=SIZE");
        insta::assert_snapshot!(wrong("offline="), @"`offline`: a value is missing; write offline=true");
        insta::assert_snapshot!(wrong("offline=maybe"), @"`offline`: write true or false");
        insta::assert_snapshot!(wrong("verbose=10"), @"`verbose`: write a number from 0 to 9");
        insta::assert_snapshot!(wrong("scan_policy=on"), @"`scan_policy`: write one of limit, gentle, off");
        insta::assert_snapshot!(wrong("max_connections=0"), @"`max_connections`: write a number from 1 to 65535");
        insta::assert_snapshot!(wrong("bwlimit=10Mbit/s"), @"`bwlimit`: the unit is bytes per second; write 1250kB");
        insta::assert_snapshot!(option_named("cash_size").unwrap_err(), @"`cash_size`: unknown option; did you mean `cache_size`?");
        assert_eq!(option_named("chunk-size").as_deref(), Ok("chunk_size"));
    }
}
