//! The config file: TOML, each key an option of `fetchfs mount`.
//!
//! As with `-o`, the clap command says which options there are and what they take. The file becomes flags, which [`crate::cli`]
//! puts before the flags that were typed. Options that the environment sets are left out, because the environment wins over the
//! file. A table named by a URL, `["https://HOST/PATH/"]`, is for the sources at that URL and below it.
//!
//! [`toml_form`] reads TOML. [`old_form`] reads the files of earlier versions, which had lines `name = value`, by translating each
//! line to TOML.
//!
//! The file may name commands to run and hold secrets. So fetchfs refuses a file that all users can change, and one with secrets
//! that other users can read.

mod entry;
mod kind;
mod line;
mod old_form;
mod toml_form;

use std::fs::File;
use std::io::{ErrorKind, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use clap::parser::ValueSource;
use clap::{Arg, ArgMatches, Command};
use nix::unistd::geteuid;
use url::Url;

use super::args::mount_command;
use super::options::{adds_up, flag_named};
use super::paths;
use crate::source::SourceSpec;
pub(crate) use entry::SECRETS;
pub(super) use entry::is_secret;
pub(super) use entry::{Entry, Fault, Place, SourceTable};
use toml_form::Form;

/// The config file of mounts that root makes.
const SYSTEM_FILE: &str = "/etc/fetchfs/config";

/// The largest config file, in bytes. A larger file is something else, named by mistake.
const LARGEST: u64 = 1 << 20;

/// What is wrong with a config file. Without any value that may be a secret.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FileError {
    /// It can't be read.
    #[error("can't read the config file {}: {error}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The system's error.
        error: std::io::Error,
    },
    /// Other users have permissions that only its owner should have.
    #[error("{}: {what}; {cure}", path.display())]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Their permissions.
        what: String,
        /// How to correct them.
        cure: String,
    },
    /// Its content has a mistake.
    #[error("{}:{}{}", path.display(), .faults[0], more(.path, .faults))]
    NotUnderstood {
        /// The file.
        path: PathBuf,
        /// The mistakes and their places. **At least one.**
        faults: Vec<Fault>,
    },
}

impl FileError {
    /// Returns true if the content of the file is wrong, false if the file can't be read or used.
    pub(crate) fn is_usage(&self) -> bool {
        matches!(self, Self::NotUnderstood { .. })
    }

    /// The mistakes in the file, each a sentence with its place. Empty if the file can't be read at all.
    pub(crate) fn mistakes(&self) -> Vec<String> {
        match self {
            Self::NotUnderstood { path, faults } => {
                let faults = faults.iter();
                faults.map(|fault| format!("{}:{fault}", path.display())).collect()
            }
            _ => Vec::new(),
        }
    }
}

/// The end of a message that has the first one of several mistakes.
fn more(path: &Path, faults: &[Fault]) -> String {
    match faults.len() {
        1 => String::new(),
        more => format!(
            " (and {} more: fetchfs config check {})",
            crate::util::plural::count((more - 1) as u64, "mistake"),
            path.display()
        ),
    }
}

/// A config file that was read.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct ConfigFile {
    pub(super) entries: Vec<Entry>,
    /// For a file in the form of earlier versions: the message for the user.
    warning: Option<String>,
    /// `None` if there is no file.
    path: Option<PathBuf>,
}

impl ConfigFile {
    /// Reads the named file; without a name, the standard one if it exists. `command` is `fetchfs mount`.
    ///
    /// # Errors
    /// If the file can't be read or has a mistake; if all users can change it; if it has secrets that other users can
    /// read.
    pub(super) fn read(named: Option<&Path>, command: &Command) -> Result<ConfigFile, FileError> {
        let standard = || standard_path(geteuid().is_root(), std::env::var_os("XDG_CONFIG_HOME"), paths::home());
        let Some(path) = named.map(Path::to_owned).or_else(standard) else {
            return Ok(ConfigFile::default());
        };
        let (text, mode) = match open(&path) {
            Err(FileError::Unreadable { error, .. }) if named.is_none() && is_not_there(&error) => {
                return Ok(ConfigFile::default());
            }
            opened => opened?,
        };
        let mut read = parse(command, &text).map_err(|faults| FileError::NotUnderstood {
            path: path.clone(),
            faults,
        })?;
        read.warning = read.warning.map(|warning| format!("{}:{warning}", path.display()));
        check_exposure(&path, mode, &read.entries)?;
        read.path = Some(path);
        Ok(read)
    }

    /// The options for one source of a library: those for all sources, and those for its URL.
    pub(super) fn entries_for(&self, command: &Command, given: &ArgMatches, source: &SourceSpec) -> Vec<&Entry> {
        self.used(command, given, std::slice::from_ref(source))
    }

    /// The entries that count for a mount of these sources. `given` has the flags, the `-o` options and the environment, which
    /// win over the file.
    pub(super) fn used(&self, command: &Command, given: &ArgMatches, sources: &[SourceSpec]) -> Vec<&Entry> {
        // clap makes the groups that options only name when it builds the command.
        let mut built = command.clone();
        built.build();
        let mut used: Vec<&Entry> = Vec::new();
        for entry in &self.entries {
            let section = entry.section.as_ref();
            let counts = section.is_none_or(|section| sources.iter().any(|source| is_below(&source.url, section)));
            let Some(flag) = flag_named(&built, &entry.name).filter(|_| counts) else {
                continue;
            };
            if is_settled(&built, given, flag) {
                continue;
            }
            // `off` in a section undoes `on` for all sources, which no flag could.
            if !adds_up(flag) {
                used.retain(|other| other.name != entry.name);
            }
            used.push(entry);
        }
        used
    }

    /// The cache directory that the file names for all sources.
    pub(super) fn cache_dir(&self) -> Option<PathBuf> {
        let is_it = |entry: &&Entry| entry.section.is_none() && entry.name == "cache-dir";
        Some(self.entries.iter().rev().find(is_it)?.value.as_str().into())
    }

    /// The file, if there is one.
    pub(super) fn path(&self) -> Option<&Path> {
        self.path.as_deref()
    }

    /// One sentence for the user if the file is in the form of earlier versions.
    pub(super) fn warning(&self) -> Option<&str> {
        self.warning.as_deref()
    }
}

fn parse(command: &Command, text: &str) -> Result<ConfigFile, Vec<Fault>> {
    if let Some((entries, warning)) = old_form::parse(command, text) {
        return Ok(ConfigFile {
            entries: entries.map_err(|fault| vec![fault])?,
            warning: Some(warning),
            path: None,
        });
    }
    let content = toml_form::read(command, text, Form::Config);
    match content.faults.is_empty() {
        true => Ok(ConfigFile {
            entries: content.entries,
            warning: None,
            path: None,
        }),
        false => Err(content.faults),
    }
}

/// The options of a library's file for the whole mount, and its sources. `command` is `fetchfs mount`, `source` has the
/// options of a source.
///
/// # Errors
/// As for [`ConfigFile::read`].
pub(super) fn read_library(
    path: &Path,
    command: &Command,
    source: &Command,
) -> Result<(ConfigFile, Vec<SourceTable>, Vec<Fault>), FileError> {
    let (text, mode) = open(path)?;
    let content = toml_form::read(command, &text, Form::Library(source));
    let in_sources = content.sources.iter().flat_map(|source| &source.entries);
    let all: Vec<Entry> = content.entries.iter().chain(in_sources).cloned().collect();
    check_exposure(path, mode, &all)?;
    let file = ConfigFile {
        entries: content.entries,
        warning: None,
        path: Some(path.to_owned()),
    };
    Ok((file, content.sources, content.faults))
}

/// Returns true if a file has a source of a library, as far as it can be read.
pub(super) fn is_of_a_library(path: &Path) -> bool {
    let text = open(path).map(|(text, _)| text).unwrap_or_default();
    toml_form::has_sources(&text)
}

/// The text of a file, and its permissions. Those of /dev/null or a pipe say nothing about its content, and are 0.
fn open(path: &Path) -> Result<(String, u32), FileError> {
    let unreadable = |error| FileError::Unreadable {
        path: path.to_owned(),
        error,
    };
    let mut text = String::new();
    let file = File::open(path).map_err(unreadable)?;
    let metadata = file.metadata().map_err(unreadable)?;
    file.take(LARGEST + 1).read_to_string(&mut text).map_err(unreadable)?;
    if text.len() as u64 > LARGEST {
        return Err(unreadable(ErrorKind::FileTooLarge.into()));
    }
    Ok((text, if metadata.is_file() { metadata.mode() } else { 0 }))
}

/// Returns true if this user has no such file. HOME may be another user's (sudo), whose files this user can't see.
fn is_not_there(error: &std::io::Error) -> bool {
    use ErrorKind::{NotADirectory, NotFound, PermissionDenied};
    matches!(error.kind(), NotFound | NotADirectory | PermissionDenied)
}

/// The path of the config file if no option names one; `None` for a user without a home.
fn standard_path(root: bool, xdg_config_home: Option<std::ffi::OsString>, home: Option<PathBuf>) -> Option<PathBuf> {
    if root {
        return Some(SYSTEM_FILE.into());
    }
    // The XDG Base Directory Specification: a relative path in a variable is to be ignored.
    let given = xdg_config_home.map(PathBuf::from).filter(|path| path.is_absolute());
    let config = given.or_else(|| Some(home.filter(|path| path.is_absolute())?.join(".config")))?;
    Some(config.join("fetchfs/config"))
}

/// Returns true if a flag, `-o` or the environment has set this option, or one that excludes it. Flags and `-o` don't settle an
/// option that adds up.
fn is_settled(command: &Command, given: &ArgMatches, flag: &Arg) -> bool {
    let excluding = command.get_groups().filter(|group| {
        let is_exclusive = !(*group).clone().is_multiple();
        is_exclusive && group.get_args().any(|id| id == flag.get_id())
    });
    let others = excluding.flat_map(clap::ArgGroup::get_args);
    others
        .chain([flag.get_id()])
        .any(|id| match given.value_source(id.as_str()) {
            Some(ValueSource::CommandLine) => !adds_up(flag),
            Some(ValueSource::EnvVariable) => true,
            _ => false,
        })
}

/// Returns true if a source is at the URL of a section or below it: on the same origin, with all of its path.
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
        return exposed("all users can write to it".to_owned(), "o-w");
    }
    let secret = entries.iter().find(|entry| is_secret(&entry.name, &entry.value));
    match secret {
        Some(entry) if mode & 0o044 != 0 => exposed(
            format!(
                "others can read it, and line {} has a secret ({})",
                entry.place.line, entry.name
            ),
            "600",
        ),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests;
