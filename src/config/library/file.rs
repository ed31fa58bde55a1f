//! A library's file, and its sources.

use std::path::{Path, PathBuf};

use clap::parser::ValueSource;
use clap::{ArgMatches, Command};
use xxhash_rust::xxh3::xxh3_64;

use super::fault::{fault, written};
use super::member::{Base, same_place_of_several_users};
use super::options::{OF_ONE_SOURCE, is_of_sources, source_command};
use crate::config::args::mount_command;
use crate::config::error::ConfigError;
use crate::config::file::{ConfigFile, Entry, Fault, FileError, Place, read_library};
use crate::config::options::flag_named;
use crate::config::paths::absolute;
use crate::source::library::{LibraryConfig, MemberConfig};

/// A library's file, and what else the settings of its sources depend on.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct LibraryFile {
    /// Absolute.
    path: PathBuf,
    /// The command line with the environment, without the files.
    given: ArgMatches,
    config_file: ConfigFile,
}

impl std::fmt::Debug for LibraryFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LibraryFile")
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}

impl LibraryFile {
    /// The file at this path. `given` has the command line and the environment, which win over what files say for all
    /// sources.
    pub(in crate::config) fn new(
        path: &str,
        given: ArgMatches,
        config_file: ConfigFile,
    ) -> Result<LibraryFile, ConfigError> {
        Ok(LibraryFile::at(absolute(PathBuf::from(path))?, given, config_file))
    }

    /// The file at this absolute path.
    pub(super) fn at(path: PathBuf, given: ArgMatches, config_file: ConfigFile) -> LibraryFile {
        LibraryFile {
            path,
            given,
            config_file,
        }
    }

    /// The file.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The options of the mount in it, as flags.
    ///
    /// # Errors
    /// As for [`Self::load`], but for the values of the sources.
    pub(crate) fn flags(&self, command: &Command) -> Result<Vec<String>, FileError> {
        let entries = self.entries(command)?;
        Ok(entries.into_iter().flat_map(|entry| entry.flags).collect())
    }

    /// The options of the mount in it, as far as they count.
    ///
    /// # Errors
    /// As for [`Self::flags`].
    pub(in crate::config) fn entries(&self, command: &Command) -> Result<Vec<Entry>, FileError> {
        let (mut file, _, faults) = read_library(&self.path, command, &source_command())?;
        self.refuse(faults)?;
        self.set_base(command, &mut file.entries);
        let used = file.used(command, &self.given, &[]);
        Ok(used.into_iter().cloned().collect())
    }

    /// Reads the sources.
    ///
    /// # Errors
    /// [`FileError::NotUnderstood`] has all mistakes. Otherwise why the file can't be read.
    pub(crate) fn load(&self) -> Result<LibraryConfig, FileError> {
        let (command, source) = (mount_command(), source_command());
        let (mut file, mut tables, mut faults) = read_library(&self.path, &command, &source)?;
        self.set_base(&command, &mut file.entries);
        for entry in &file.entries {
            if OF_ONE_SOURCE.contains(&entry.name.as_str()) {
                let sentence = format!("`{}` is for one source; write it below its [[source]]", entry.name);
                faults.push(fault(entry.place, sentence));
            }
        }
        let for_all = self.for_all_sources(&mut faults);
        let mut members = Vec::new();
        for table in &mut tables {
            self.set_base(&source, &mut table.entries);
            let base = Base {
                folder: self.folder(),
                given: &self.given,
                config_file: &self.config_file,
                for_all: &for_all,
                of_file: &file.entries,
            };
            match base.member(table) {
                Ok(member) => members.push((table.place, member)),
                Err(fault) => faults.push(fault),
            }
        }
        if tables.is_empty() && faults.is_empty() {
            let place = Place { line: 1, column: 1 };
            faults.push(fault(
                place,
                "it has no source; write [[source]], and below it url = \"https://HOST/PATH/\"",
            ));
        }
        faults.extend(same_place_of_several_users(&members));
        self.refuse(faults)?;
        let members: Vec<_> = members.into_iter().map(|(_, member)| member).collect();
        Ok(LibraryConfig {
            name: self.name(&members),
            members,
        })
    }

    /// Identifies the library in the cache. Other logins may see other names.
    fn name(&self, members: &[MemberConfig]) -> String {
        let users = members.iter().map(|member| {
            let login = member.http.access.login.as_ref().map(|login| &login.user);
            (member.spec.url.username(), login)
        });
        let what = format!("{:?} {:?}", self.path, users.collect::<Vec<_>>());
        format!("{:016x}", xxh3_64(what.as_bytes()))
    }

    fn refuse(&self, mut faults: Vec<Fault>) -> Result<(), FileError> {
        if faults.is_empty() {
            return Ok(());
        }
        faults.sort_by_key(|fault| (fault.place.line, fault.place.column));
        Err(FileError::NotUnderstood {
            path: self.path.clone(),
            faults,
        })
    }

    /// The directory to which its paths are relative.
    fn folder(&self) -> &Path {
        self.path.parent().unwrap_or(Path::new("/"))
    }

    /// Makes paths relative to the file.
    fn set_base(&self, command: &Command, entries: &mut [Entry]) {
        let folder = self.folder();
        for entry in entries {
            let flag = flag_named(command, &entry.name);
            let placeholder = flag.and_then(|flag| flag.get_value_names()).and_then(<[_]>::first);
            let is_path = placeholder.is_some_and(|name| matches!(name.as_str(), "FILE" | "DIR"));
            let value = match entry.value.strip_prefix('@') {
                Some(path) if entry.name == "header" => format!("@{}", folder.join(path).display()),
                _ if is_path => folder.join(&entry.value).display().to_string(),
                _ => continue,
            };
            entry.flags = vec![format!("--{}={value}", entry.name)];
            entry.value = value;
        }
    }

    /// What the command line and the environment say for all sources.
    fn for_all_sources(&self, faults: &mut Vec<Fault>) -> Vec<(String, Vec<String>)> {
        let mut all = Vec::new();
        let command = mount_command();
        for flag in command
            .get_arguments()
            .filter(|flag| flag.get_long().is_some_and(is_of_sources))
        {
            let (id, name) = (flag.get_id().as_str(), flag.get_long().unwrap_or_default());
            let source = self.given.value_source(id);
            if !matches!(source, Some(ValueSource::CommandLine | ValueSource::EnvVariable)) {
                continue;
            }
            if OF_ONE_SOURCE.contains(&name) {
                let place = Place { line: 1, column: 1 };
                let sentence = format!(
                    "--{name} is for one source; write `{}` below its [[source]]",
                    written(name)
                );
                faults.push(fault(place, sentence));
                continue;
            }
            let flags = if flag.get_action().takes_values() {
                let values = self.given.get_raw(id).into_iter().flatten();
                values
                    .map(|value| format!("--{name}={}", value.to_string_lossy()))
                    .collect()
            } else if self.given.get_flag(id) {
                vec![format!("--{name}")]
            } else {
                Vec::new()
            };
            all.push((name.to_owned(), flags));
        }
        all
    }
}
