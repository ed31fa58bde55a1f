//! Where the options of a mount come from: the command line, `-o`, the environment, and files that can be read again.
//!
//! From the strongest: flags, `-o`, the environment, the file of a library, the config file, and the defaults.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Command, FromArgMatches};

use super::args::{MountArgs, mount_command};
use super::error::ConfigError;
use super::file::{ConfigFile, Entry, is_secret};
use super::library::LibraryFile;
use super::options::{OPTIONS_ID, adds_up, variable_of};
use super::source;

/// The value of an option, and where it comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct OptionValue {
    /// The option's name, with `_`.
    pub(crate) name: String,
    /// In the notation of the config file; `None` if it has none. **Without secrets.**
    pub(crate) value: Option<String>,
    /// Where it comes from.
    pub(crate) origin: ValueOrigin,
}

/// Where the value of an option comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ValueOrigin {
    /// Nothing sets it.
    Default,
    /// The config file, at this line.
    ConfigFile(PathBuf, usize),
    /// The file of the library, at this line.
    Library(PathBuf, usize),
    /// This environment variable.
    Environment(String),
    /// `-o`.
    MountOption,
    /// A flag.
    Flag,
    /// `fetchfs set`.
    Set,
    /// A Rust program.
    Program,
}

/// What the options of a mount are made of.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct OptionSources {
    /// The words after `fetchfs mount`.
    words: Vec<OsString>,
    /// The flags among them, and the environment.
    typed: ArgMatches,
    /// The same with the flags of `-o`.
    given: ArgMatches,
    /// The flags of `-o`.
    by_options: Vec<String>,
    /// The config file, if an option names it. Absolute.
    config: Option<PathBuf>,
    library: Option<LibraryFile>,
}

impl std::fmt::Debug for OptionSources {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OptionSources").finish_non_exhaustive()
    }
}

/// The files of a mount's options, as they were read.
pub(crate) struct ReadFiles {
    /// In order of precedence, the weakest first.
    entries: Vec<(Entry, ValueOrigin)>,
    /// A sentence for the user about the form of the config file.
    pub(crate) warning: Option<String>,
}

impl ReadFiles {
    /// Its options as flags.
    pub(crate) fn flags(&self) -> impl Iterator<Item = String> {
        self.entries.iter().flat_map(|(entry, _)| entry.flags.iter().cloned())
    }
}

impl OptionSources {
    /// `words` come after `fetchfs mount`; `typed` are their matches, `given` those with the flags `by_options` of `-o`.
    ///
    /// # Errors
    /// If the config file can't be used, or the working directory is gone.
    pub(crate) fn new(
        words: Vec<OsString>,
        typed: ArgMatches,
        given: ArgMatches,
        by_options: Vec<String>,
    ) -> Result<OptionSources, ConfigError> {
        let command = mount_command();
        let args = MountArgs::from_arg_matches(&given).map_err(|error| ConfigError::Conflict(first_line(&error)))?;
        Ok(OptionSources {
            library: args.library_file(&command, &given)?,
            config: args.config.and_then(|path| std::path::absolute(path).ok()),
            words,
            typed,
            given,
            by_options,
        })
    }

    /// The file of the library, if one is mounted.
    pub(crate) fn library(&self) -> Option<&LibraryFile> {
        self.library.as_ref()
    }

    /// The flags of `-o`.
    pub(crate) fn by_options(&self) -> &[String] {
        &self.by_options
    }

    /// Reads the files.
    ///
    /// # Errors
    /// If one of them can't be read or has a mistake.
    pub(crate) fn read_files(&self) -> Result<ReadFiles, ConfigError> {
        let command = mount_command();
        let file = ConfigFile::read(self.config.as_deref(), &command)?;
        let args =
            MountArgs::from_arg_matches(&self.given).map_err(|error| ConfigError::Conflict(first_line(&error)))?;
        // Resolving the sources reports their errors.
        let sources = source::read_all(&args.sources).unwrap_or_default();
        let path = file.path().map(ToOwned::to_owned).unwrap_or_default();
        let of_file = file.used(&command, &self.given, &sources);
        let mut entries: Vec<_> = of_file
            .into_iter()
            .map(|entry| (entry.clone(), ValueOrigin::ConfigFile(path.clone(), entry.place.line)))
            .collect();
        if let Some(library) = &self.library {
            let of_library = library.entries(&command)?.into_iter();
            entries.extend(of_library.map(|entry| {
                let origin = ValueOrigin::Library(library.path().to_owned(), entry.place.line);
                (entry, origin)
            }));
        }
        Ok(ReadFiles {
            entries,
            warning: file.warning().map(str::to_owned),
        })
    }

    /// The arguments with what the files say now.
    ///
    /// # Errors
    /// As for [`Self::read_files`], or if options contradict each other.
    pub(crate) fn read_again(&self) -> Result<(MountArgs, Vec<OptionValue>), ConfigError> {
        let files = self.read_files()?;
        let words = files.flags().chain(self.by_options.iter().cloned()).map(OsString::from);
        let command = mount_command().no_binary_name(true);
        let matches = command.try_get_matches_from(words.chain(self.words.iter().cloned()));
        let conflict = |error: clap::Error| ConfigError::Conflict(first_line(&error));
        let matches = matches.map_err(conflict)?;
        let args = MountArgs::from_arg_matches(&matches).map_err(conflict)?;
        Ok((args, self.values(&matches, &files)))
    }

    /// All options and where each value comes from. `matches` have all of them. An option that adds up has an element for
    /// each value.
    pub(crate) fn values(&self, matches: &ArgMatches, files: &ReadFiles) -> Vec<OptionValue> {
        let command = mount_command();
        let flags = command.get_arguments().filter(|flag| !flag.is_positional());
        let mut values: Vec<OptionValue> = flags
            .filter(|flag| flag.get_id() != OPTIONS_ID && flag.get_long().is_some())
            .flat_map(|flag| self.values_of(&command, flag, matches, files))
            .collect();
        values.sort_by(|one, other| one.name.cmp(&other.name));
        values
    }

    fn values_of(&self, command: &Command, flag: &Arg, matches: &ArgMatches, files: &ReadFiles) -> Vec<OptionValue> {
        let long = flag.get_long().unwrap_or_default();
        let raw: Vec<String> = matches
            .get_raw(flag.get_id().as_str())
            .into_iter()
            .flatten()
            .map(|value| value.to_string_lossy().into_owned())
            .collect();
        let value = |text: Option<&String>, origin| OptionValue {
            name: long.replace('-', "_"),
            value: text.map(|text| shown(long, text)),
            origin,
        };
        let origins = self.origins(command, flag, matches, files);
        match flag.get_action() {
            ArgAction::SetTrue | ArgAction::Count => {
                let text = match flag.get_action() {
                    ArgAction::Count => matches.get_count(flag.get_id().as_str()).to_string(),
                    _ => matches.get_flag(flag.get_id().as_str()).to_string(),
                };
                vec![value(Some(&text), strongest(origins))]
            }
            _ if adds_up(flag) && origins.len() == raw.len() && !raw.is_empty() => {
                let pairs = raw.iter().zip(origins);
                pairs.map(|(text, origin)| value(Some(text), origin)).collect()
            }
            _ if adds_up(flag) && !raw.is_empty() => {
                let origin = strongest(origins);
                raw.iter().map(|text| value(Some(text), origin.clone())).collect()
            }
            _ => vec![value(raw.last(), strongest(origins))],
        }
    }

    /// Where the values of an option come from, the weakest first: one for each value, as far as that is known.
    fn origins(&self, _command: &Command, flag: &Arg, matches: &ArgMatches, files: &ReadFiles) -> Vec<ValueOrigin> {
        let (id, long) = (flag.get_id().as_str(), flag.get_long().unwrap_or_default());
        match matches.value_source(id) {
            Some(ValueSource::EnvVariable) => return vec![ValueOrigin::Environment(variable_of(long))],
            Some(ValueSource::CommandLine) => {}
            _ => return vec![ValueOrigin::Default],
        }
        let in_files = files.entries.iter().filter(|(entry, _)| entry.name == long);
        let mut origins: Vec<ValueOrigin> = in_files.map(|(_, origin)| origin.clone()).collect();
        let with_value = format!("--{long}=");
        let by_options = self.by_options.iter();
        let by_options = by_options.filter(|option| option[2..] == *long || option.starts_with(&with_value));
        origins.extend(by_options.map(|_| ValueOrigin::MountOption));
        if self.typed.value_source(id) == Some(ValueSource::CommandLine) {
            let count = self.typed.get_raw(id).map_or(1, |values| values.len().max(1));
            origins.extend(std::iter::repeat_n(ValueOrigin::Flag, count));
        }
        origins
    }
}

fn strongest(mut origins: Vec<ValueOrigin>) -> ValueOrigin {
    origins.pop().unwrap_or(ValueOrigin::Default)
}

/// A value without secrets.
fn shown(long: &str, value: &str) -> String {
    if is_secret(long, value) {
        return "***".to_owned();
    }
    match value.contains("://") {
        true => source::shown(value),
        false => value.to_owned(),
    }
}

/// The first line of clap's error, which may be about options of different origins.
fn first_line(error: &clap::Error) -> String {
    let text = error.to_string();
    let first = text.lines().next().unwrap_or_default();
    first.strip_prefix("error: ").unwrap_or(first).to_owned()
}
