//! The config file: `name = value`, each name that of an option.
//!
//! As with `-o`, which options there are and which of them take a value is asked of the clap command, and what comes out
//! is arguments that clap reads with all others; [`crate::cli`] puts them before those. What the environment sets is left out:
//! it wins over the file. Lines below `[URL]` count for sources at that URL and below it.
//!
//! A file may hold secrets, so one that holds any has to be its owner's alone; and whoever can write it has commands run.

use std::fmt;
use std::fs::File;
use std::io::{ErrorKind, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use clap::parser::ValueSource;
use clap::{ArgAction, ArgMatches, Command};
use nix::unistd::geteuid;
use url::Url;

use super::options::flag_named;
use super::source;

/// The config file of mounts that root makes.
const SYSTEM_FILE: &str = "/etc/fetchfs/config";

/// A config file is not larger than this, in bytes: what is, is something else.
const LARGEST: u64 = 1 << 20;

/// The options whose values are secrets. As `-o` names and in config files they may be written with `_`.
pub const SECRETS: [&str; 4] = ["login", "header", "bearer-token", "bearer-token-command"];

/// What is wrong with a config file. Without any value that may be a secret.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// It can't be read.
    #[error("can't read the config file {}: {error}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        error: std::io::Error,
    },
    /// Others may do what only its owner should.
    #[error("{}: {what}; {cure}", path.display())]
    Exposed {
        /// The file.
        path: PathBuf,
        /// What they may do.
        what: String,
        /// What to do about it.
        cure: String,
    },
    /// A line of it.
    #[error("{}:{line}: {fault}", path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// Which line, from 1.
        line: usize,
        /// What is wrong with it.
        fault: Fault,
    },
}

impl FileError {
    /// Whether it is what stands in the file that is wrong, rather than that it can't be had.
    pub fn is_usage(&self) -> bool {
        matches!(self, Self::Line { .. })
    }
}

/// What is wrong with a line.
#[derive(Debug, PartialEq, Eq)]
pub enum Fault {
    /// Neither `name = value` nor a name. What it is might be a secret that lacks its name, and is not repeated.
    NotALine,
    /// Not of an option.
    Unknown(String),
    /// Not for here.
    NotHere(String),
    /// `name` alone, of an option that takes one.
    ValueMissing(String, String),
    /// A switch with a value that is neither yes nor no.
    NotASwitch(String),
    /// A value that the option does not take.
    BadValue(String, String),
    /// `[...` that is no section.
    BadSection,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::NotALine => write!(f, "not a line `name = value`"),
            Fault::Unknown(name) => {
                write!(
                    f,
                    "`{name}`: fetchfs has no such option; `fetchfs mount --help` lists those it has"
                )
            }
            Fault::NotHere(name) => write!(f, "`{name}` is for the command line, not for a config file"),
            Fault::ValueMissing(name, value) => write!(f, "`{name}`: a value is missing; write `{name} = <{value}>`"),
            Fault::NotASwitch(name) => write!(f, "`{name}` is a switch; write `{name} = yes` or `{name} = no`"),
            Fault::BadValue(name, reason) => write!(f, "`{name}`: {reason}"),
            Fault::BadSection => write!(
                f,
                "not a section; write [https://HOST/PATH/] for the sources at that URL and below it"
            ),
        }
    }
}

/// A config file that was read.
#[derive(Debug, Default)]
pub struct ConfigFile {
    path: PathBuf,
    entries: Vec<Entry>,
}

#[derive(Debug, PartialEq, Eq)]
struct Entry {
    line: usize,
    /// Which sources it is for; `None` is all.
    section: Option<Url>,
    /// With `-`.
    name: String,
    value: Option<String>,
}

impl ConfigFile {
    /// Reads the file that was named, or the one that counts when none was, if it is there.
    ///
    /// # Errors
    /// When it can't be read, others may write it, it holds secrets and others may read it, or it makes no sense.
    pub fn read(named: Option<&Path>) -> Result<ConfigFile, FileError> {
        let standard = || {
            standard_path(
                geteuid().is_root(),
                std::env::var_os("XDG_CONFIG_HOME"),
                super::resolve::home(),
            )
        };
        let Some(path) = named.map(Path::to_owned).or_else(standard) else {
            return Ok(ConfigFile::default());
        };
        let mut text = String::new();
        let unreadable = |error| FileError::Unreadable {
            path: path.clone(),
            error,
        };
        let mut file = match File::open(&path) {
            Err(error) if named.is_none() && is_not_there(&error) => return Ok(ConfigFile::default()),
            opened => opened.map_err(unreadable)?,
        };
        let metadata = file.metadata().map_err(unreadable)?;
        (&mut file)
            .take(LARGEST)
            .read_to_string(&mut text)
            .map_err(unreadable)?;
        let entries = parse(&text).map_err(|(line, fault)| FileError::Line {
            path: path.clone(),
            line,
            fault,
        })?;
        // What is no file (/dev/null, a pipe) is whose the caller knows.
        if metadata.is_file() {
            check_exposure(&path, metadata.mode(), &entries)?;
        }
        Ok(ConfigFile { path, entries })
    }

    /// The file as arguments of `command`, which is `fetchfs mount`. `given` is what was typed, with `-o`, and what the environment
    /// has: that wins. What is mounted are
    /// these sources.
    ///
    /// # Errors
    /// The first line that can't be accepted, whether it counts for these sources or not.
    pub fn arguments(&self, command: &Command, given: &ArgMatches, sources: &[Url]) -> Result<Vec<String>, FileError> {
        // Groups that options only name are made then.
        let mut built = command.clone();
        built.build();
        let mut arguments = Vec::new();
        for entry in &self.entries {
            let words = words(command, entry).map_err(|fault| FileError::Line {
                path: self.path.clone(),
                line: entry.line,
                fault,
            })?;
            let counts = entry
                .section
                .as_ref()
                .is_none_or(|section| sources.iter().any(|source| is_below(source, section)));
            if counts && !is_settled(&built, given, &entry.name) {
                arguments.extend(words);
            }
        }
        Ok(arguments)
    }

    /// What the file says of the cache's directory, whatever the source.
    pub fn cache_dir(&self) -> Option<PathBuf> {
        let is_it = |entry: &&Entry| entry.section.is_none() && entry.name == "cache-dir";
        Some(self.entries.iter().rev().find(is_it)?.value.as_deref()?.into())
    }
}

/// Whether this user has no such file. HOME may be another user's (sudo), whose files are not for this one to see.
fn is_not_there(error: &std::io::Error) -> bool {
    use ErrorKind::{NotADirectory, NotFound, PermissionDenied};
    matches!(error.kind(), NotFound | NotADirectory | PermissionDenied)
}

/// Where the file is that counts when none is named; `None` for a user without a home.
fn standard_path(root: bool, xdg_config_home: Option<std::ffi::OsString>, home: Option<PathBuf>) -> Option<PathBuf> {
    if root {
        return Some(SYSTEM_FILE.into());
    }
    // The XDG Base Directory Specification: a relative path in a variable is to be ignored.
    let given = xdg_config_home.map(PathBuf::from).filter(|path| path.is_absolute());
    let config = given.or_else(|| Some(home.filter(|path| path.is_absolute())?.join(".config")))?;
    Some(config.join("fetchfs/config"))
}

fn parse(text: &str) -> Result<Vec<Entry>, (usize, Fault)> {
    let mut section = None;
    let mut entries = Vec::new();
    for (line, text) in (1..).zip(text.lines()) {
        let text = text.trim();
        if text.is_empty() || text.starts_with('#') {
            continue;
        }
        if let Some(rest) = text.strip_prefix('[') {
            let url = rest.strip_suffix(']').and_then(|url| source::parse(url.trim()).ok());
            // A section that names a user would hold a secret, and match nothing more.
            let url = url.filter(|url| url.username().is_empty() && url.password().is_none() && url.query().is_none());
            section = Some(url.ok_or((line, Fault::BadSection))?);
            continue;
        }
        let (name, value) = match text.split_once('=') {
            Some((name, value)) => (name.trim_end(), Some(value.trim_start().to_owned())),
            None => (text, None),
        };
        let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
        if name.is_empty() || !name.chars().all(is_name) {
            return Err((line, Fault::NotALine));
        }
        entries.push(Entry {
            line,
            section: section.clone(),
            name: name.replace('_', "-"),
            value,
        });
    }
    Ok(entries)
}

/// An entry as arguments.
fn words(command: &Command, entry: &Entry) -> Result<Vec<String>, Fault> {
    let name = &entry.name;
    if matches!(name.as_str(), "config" | super::OPTIONS_ID) {
        return Err(Fault::NotHere(name.clone()));
    }
    let flag = flag_named(command, name).ok_or_else(|| Fault::Unknown(name.clone()))?;
    let words = match (flag.get_action(), &entry.value) {
        (ArgAction::Count, None) => vec![format!("--{name}")],
        (ArgAction::Count, Some(value)) => {
            let count: usize = value
                .parse()
                .ok()
                .filter(|count| *count <= 9)
                .ok_or_else(|| Fault::BadValue(name.clone(), "not a number from 0 to 9".to_owned()))?;
            vec![format!("--{name}"); count]
        }
        (action, value) if !action.takes_values() => match value.as_deref() {
            None | Some("yes" | "true" | "on" | "1") => vec![format!("--{name}")],
            Some("no" | "false" | "off" | "0") => Vec::new(),
            Some(_) => return Err(Fault::NotASwitch(name.clone())),
        },
        (_, Some(value)) if !value.is_empty() => vec![format!("--{name}={value}")],
        (..) => {
            let value = flag.get_value_names().and_then(|names| names.first());
            let value = value.map_or("VALUE", |name| name.as_str());
            return Err(Fault::ValueMissing(name.clone(), value.to_owned()));
        }
    };
    try_value(command, name, &words)?;
    Ok(words)
}

/// Whether the option takes the value: asked of clap, whose own error would not know where it stands.
fn try_value(command: &Command, name: &str, words: &[String]) -> Result<(), Fault> {
    use clap::error::ErrorKind::{InvalidValue, ValueValidation};
    let rest = ["http://host/", "/"].map(str::to_owned);
    let all = words.iter().chain(&rest);
    let parsed = command.clone().no_binary_name(true).try_get_matches_from(all);
    match parsed {
        Err(error) if matches!(error.kind(), ValueValidation | InvalidValue) => {
            let reason = std::error::Error::source(&error).map(ToString::to_string);
            let reason = reason.unwrap_or_else(|| "not a value that it takes".to_owned());
            Err(Fault::BadValue(name.to_owned(), reason))
        }
        _ => Ok(()),
    }
}

/// Whether something that wins over the file has said what this option is about: the option itself, or one that excludes it.
/// Options that may be given several times add up, unless the environment has them.
fn is_settled(command: &Command, given: &ArgMatches, name: &str) -> bool {
    let Some(flag) = flag_named(command, name) else {
        return false;
    };
    let excluding = command.get_groups().filter(|group| {
        let is_exclusive = !(*group).clone().is_multiple();
        is_exclusive && group.get_args().any(|id| id == flag.get_id())
    });
    let others = excluding.flat_map(clap::ArgGroup::get_args);
    let adds_up = matches!(flag.get_action(), ArgAction::Append);
    others
        .chain([flag.get_id()])
        .any(|id| match given.value_source(id.as_str()) {
            Some(ValueSource::CommandLine) => !adds_up,
            Some(ValueSource::EnvVariable) => true,
            _ => false,
        })
}

/// Whether a source is at the URL of a section, or below it: of the same origin, and with all of its path.
fn is_below(source: &Url, section: &Url) -> bool {
    let of = |url: &Url| {
        (
            url.scheme().to_owned(),
            url.host_str().map(str::to_owned),
            url.port_or_known_default(),
        )
    };
    let rest = source.path().strip_prefix(section.path());
    of(source) == of(section)
        && rest.is_some_and(|rest| rest.is_empty() || section.path().ends_with('/') || rest.starts_with('/'))
}

fn check_exposure(path: &Path, mode: u32, entries: &[Entry]) -> Result<(), FileError> {
    let exposed = |what: String, bits: &str| {
        Err(FileError::Exposed {
            path: path.to_owned(),
            what,
            cure: format!("chmod {bits} {}", path.display()),
        })
    };
    if mode & 0o002 != 0 {
        return exposed("everybody can change it, and so what fetchfs does".to_owned(), "o-w");
    }
    let secret = entries.iter().find(|entry| is_secret(entry));
    match secret {
        Some(entry) if mode & 0o044 != 0 => exposed(
            format!(
                "others can read it, and line {} has a secret ({})",
                entry.line, entry.name
            ),
            "600",
        ),
        _ => Ok(()),
    }
}

fn is_secret(entry: &Entry) -> bool {
    let value = entry.value.as_deref().unwrap_or_default();
    match entry.name.as_str() {
        // Those are in another file.
        "header" => !value.starts_with('@'),
        "login" => value.contains(':'),
        "proxy" => value.contains('@'),
        name => SECRETS.contains(&name),
    }
}

#[cfg(test)]
mod tests;
