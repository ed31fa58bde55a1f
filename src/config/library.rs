//! A library's file: TOML with the sources of one mount, each in a table `[[source]]`.
//!
//! Above the tables are options of the mount, as in the config file. An option of a source has the name of its flag of
//! `fetchfs mount` ([`OF_SOURCES`]); the others ([`LibraryArgs`]) say where the source is in the tree and which of its names
//! are shown. What is said for all sources holds for those that do not say otherwise: in the config file, then above the
//! tables, then on the command line. **Credentials are for one server, so only a source's own table has them**, or a
//! table for its URL in the config file.
//!
//! [`LibraryFile::load`] can be called again, after the file was changed. It does not depend on the working directory:
//! relative paths are relative to the file.

use std::path::{Path, PathBuf};

use clap::builder::Resettable;
use clap::parser::ValueSource;
use clap::{ArgAction, ArgMatches, Args, Command, FromArgMatches};
use url::Url;
use xxhash_rust::xxh3::xxh3_64;

use super::args::{MountArgs, mount_command, variable_of};
use super::file::{ConfigFile, Entry, Fault, FileError, Place, SourceTable, is_of_a_library, read_library};
use super::options::{adds_up, flag_named};
use super::paths::absolute;
use super::resolve::{ConfigError, source_settings};
use super::{source, units};
use crate::http::redact;
use crate::source::Name;
use crate::source::library::filter::{FilterConfig, Newer, check_pattern};
use crate::source::library::{LibraryConfig, MemberConfig};

/// How the name of a library's file ends.
const EXTENSION: &str = ".toml";

/// The options of `fetchfs mount` that a source may have, by their flags.
const OF_SOURCES: [&str; 32] = [
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
const OF_ONE_SOURCE: [&str; 9] = [
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
const OF_BOTH: &str = "bwlimit";

/// The options that only a source of a library has.
#[derive(Args)]
struct LibraryArgs {
    /// URL of the source, or the path of a list, playlist or Metalink
    #[arg(long, value_name = "URL")]
    url: Option<String>,

    /// Place of the source in the tree
    #[arg(long, value_name = "PATH")]
    at: Option<String>,

    /// Patterns of the files to show
    #[arg(long, value_name = "PATTERN", value_parser = |text: &str| pattern(text, true))]
    include: Vec<String>,

    /// Patterns of files and directories not to show
    #[arg(long, value_name = "PATTERN", value_parser = |text: &str| pattern(text, false))]
    exclude: Vec<String>,

    /// Minimum size of files to show
    #[arg(long, value_name = "SIZE", value_parser = units::size)]
    min_size: Option<u64>,

    /// Maximum size of files to show
    #[arg(long, value_name = "SIZE", value_parser = units::size)]
    max_size: Option<u64>,

    /// Show only files of this date or later: 30d, or 2026-01-31
    #[arg(long, value_name = "AGE", value_parser = newer)]
    newer: Option<Newer>,

    /// Show names that begin with a dot
    #[arg(long, value_name = "BOOL", action = ArgAction::Set)]
    hidden: Option<bool>,
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

/// Returns true if a source on the command line is a library's file.
pub(super) fn is_library(text: &str) -> bool {
    text.ends_with(EXTENSION) && !text.contains("://") && !text.starts_with('@')
}

impl LibraryFile {
    /// The file at this path. `given` has the command line and the environment, which win over what files say for all
    /// sources.
    pub(super) fn new(path: &str, given: ArgMatches, config_file: ConfigFile) -> Result<LibraryFile, ConfigError> {
        Ok(LibraryFile {
            path: absolute(PathBuf::from(path))?,
            given,
            config_file,
        })
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
        let (mut file, _, faults) = read_library(&self.path, command, &source_command())?;
        self.refuse(faults)?;
        self.set_base(command, &mut file.entries);
        Ok(file.flags(command, &self.given, &[]))
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
                file: self,
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

    /// Makes paths relative to the file.
    fn set_base(&self, command: &Command, entries: &mut [Entry]) {
        let Some(folder) = self.path.parent() else { return };
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

/// What a file is that has no mistake.
pub(crate) enum Checked {
    /// A config file.
    Config {
        /// The number of options.
        options: usize,
    },
    /// A library.
    Library {
        /// The place and the URL of each source, without secrets.
        sources: Vec<(String, String)>,
    },
}

/// Checks a library's file or a config file.
///
/// # Errors
/// All mistakes in it, or why it can't be read.
pub(crate) fn check_config(path: &Path) -> Result<Checked, FileError> {
    let command = mount_command();
    if !is_of_a_library(path) {
        let file = ConfigFile::read(Some(path), &command)?;
        let options = file.entries.len();
        return Ok(Checked::Config { options });
    }
    let named = std::env::var_os(variable_of("config")).filter(|name| !name.is_empty());
    let config_file = ConfigFile::read(named.as_deref().map(Path::new), &command)?;
    let given = command
        .no_binary_name(true)
        .try_get_matches_from([path.as_os_str(), "/".as_ref()]);
    let file = LibraryFile {
        path: std::path::absolute(path).unwrap_or_else(|_| path.to_owned()),
        // Only the environment can be wrong, which has nothing to do with the file.
        given: given.unwrap_or_default(),
        config_file,
    };
    let sources = file.load()?.members.into_iter();
    Ok(Checked::Library {
        sources: sources
            .map(|member| (shown(&member), redact(&member.spec.url).into()))
            .collect(),
    })
}

/// The path of a source's place, without `/` at both ends.
fn shown(member: &MemberConfig) -> String {
    let names = member.at.iter().map(|name| name.as_os_str().to_string_lossy());
    names.collect::<Vec<_>>().join("/")
}

/// Everything but a source's own table that its settings depend on.
struct Base<'a> {
    file: &'a LibraryFile,
    for_all: &'a [(String, Vec<String>)],
    of_file: &'a [Entry],
}

impl Base<'_> {
    /// One source.
    fn member(&self, table: &SourceTable) -> Result<MemberConfig, Fault> {
        let own = own_args(table)?;
        let Some(url) = &own.url else {
            return Err(fault(table.place, "a source needs a `url`"));
        };
        let at_url = place_of(table, "url");
        let spec = self.spec(url).map_err(|sentence| fault(at_url, sentence))?;
        let at =
            place(own.at.as_deref().unwrap_or_default()).map_err(|sentence| fault(place_of(table, "at"), sentence))?;
        let command = mount_command();
        let mut flags = Flags::default();
        for entry in self.file.config_file.entries_for(&command, &self.file.given, &spec) {
            if entry.name != OF_BOTH || entry.is_for_some() {
                flags.add(&command, &entry.name, &entry.flags);
            }
        }
        for entry in self.of_file.iter().filter(|entry| entry.name != OF_BOTH) {
            flags.add(&command, &entry.name, &entry.flags);
        }
        for (name, values) in self.for_all.iter().filter(|(name, _)| name != OF_BOTH) {
            flags.add(&command, name, values);
        }
        for entry in &table.entries {
            flags.add(&command, &entry.name, &entry.flags);
        }
        let args = flags.parse().map_err(|sentence| fault(table.place, sentence))?;
        let settings = source_settings(args, &spec).map_err(|error| of_option(table, &error.to_string()))?;
        Ok(MemberConfig {
            spec,
            at,
            kind: settings.kind,
            settings: settings.sources,
            filter: FilterConfig {
                include: own.include,
                exclude: own.exclude,
                min_size: own.min_size,
                max_size: own.max_size,
                newer: own.newer,
                hides_dot_files: own.hidden == Some(false),
            },
            http: settings.http,
            content_disposition: settings.content_disposition,
        })
    }

    fn spec(&self, url: &str) -> Result<crate::source::SourceSpec, String> {
        if url == "-" || url.starts_with('@') || is_library(url) {
            return Err("a source of a library is a URL, or the path of a list, playlist or Metalink".to_owned());
        }
        let folder = self.file.path.parent().unwrap_or(Path::new("/"));
        let text = match url.contains("://") {
            true => url.to_owned(),
            false => folder.join(url).display().to_string(),
        };
        source::parse(&text).map_err(|error| error.to_string())
    }
}

/// Flags for one source. Later values replace earlier ones, but for options that add up.
#[derive(Default)]
struct Flags(Vec<(String, Vec<String>)>);

impl Flags {
    fn add(&mut self, command: &Command, name: &str, flags: &[String]) {
        let Some(flag) = flag_named(command, name).filter(|_| is_of_sources(name)) else {
            return;
        };
        if !adds_up(flag) {
            self.0.retain(|(other, _)| other != name);
        }
        self.0.push((name.to_owned(), flags.to_vec()));
    }

    fn parse(self) -> Result<MountArgs, String> {
        let command = without_environment(mount_command()).no_binary_name(true);
        let flags = self.0.into_iter().flat_map(|(_, flags)| flags);
        let all = flags.chain(["http://host/".to_owned(), "/".to_owned()]);
        let matches = command.try_get_matches_from(all).map_err(|error| {
            let text = error.to_string();
            let first = text.lines().next().unwrap_or_default();
            as_written(first.strip_prefix("error: ").unwrap_or(first))
        })?;
        MountArgs::from_arg_matches(&matches).map_err(|error| error.to_string())
    }
}

/// The options that only libraries have, as a source's table has them.
fn own_args(table: &SourceTable) -> Result<LibraryArgs, Fault> {
    let command = LibraryArgs::augment_args(Command::new("source")).no_binary_name(true);
    let is_own = |entry: &&Entry| flag_named(&command, &entry.name).is_some();
    let flags = table.entries.iter().filter(is_own).flat_map(|entry| &entry.flags);
    let matches = command.clone().try_get_matches_from(flags);
    let args = matches.and_then(|matches| LibraryArgs::from_arg_matches(&matches));
    args.map_err(|error| fault(table.place, error.to_string()))
}

/// All options that a source may have, as a command.
fn source_command() -> Command {
    let command = mount_command();
    let of_mount = command
        .get_arguments()
        .filter(|flag| flag.get_long().is_some_and(is_of_sources));
    let source = Command::new("source").args_override_self(true).args(of_mount.cloned());
    without_environment(LibraryArgs::augment_args(source))
}

fn is_of_sources(name: &str) -> bool {
    name == "type" || OF_SOURCES.contains(&name)
}

fn without_environment(command: Command) -> Command {
    command.mut_args(|arg| arg.env(Resettable::Reset))
}

/// The names of a place's directories.
fn place(at: &str) -> Result<Vec<Name>, String> {
    let names = at.split('/').filter(|name| !name.is_empty());
    let name = |text: &str| {
        let name = Name::new(text.as_bytes().to_vec());
        name.ok_or_else(|| format!("`{text}` can't be the name of a directory; write a path such as films/new"))
    };
    names.map(name).collect()
}

/// The mistakes of sources with one URL and different credentials: a request for it could not tell them apart.
fn same_place_of_several_users(members: &[(Place, MemberConfig)]) -> Vec<Fault> {
    let mut faults = Vec::new();
    for (index, (place, member)) in members.iter().enumerate() {
        let is_same = |(_, other): &(Place, MemberConfig)| {
            let (url, before) = (&member.spec.url, &other.spec.url);
            if url.scheme() == "s3" && before.scheme() == "s3" {
                let (s3, other) = (&member.settings.s3, &other.settings.s3);
                return url.host_str() == before.host_str() && s3.endpoint == other.endpoint && s3 != other;
            }
            bare(before) == bare(url) && identity(other) != identity(member)
        };
        if members[..index].iter().any(is_same) {
            let sentence = "another source has the same URL or bucket and other credentials, and a library can't tell them \
                            apart; mount one of them separately";
            faults.push(fault(*place, sentence));
        }
    }
    faults
}

fn bare(url: &Url) -> Url {
    let mut url = url.clone();
    crate::http::strip(&mut url);
    url
}

fn identity(member: &MemberConfig) -> impl PartialEq + use<> {
    let (url, http) = (&member.spec.url, &member.http);
    let user = (url.username().to_owned(), url.password().map(str::to_owned));
    (user, http.access.clone(), http.tls.clone(), http.cookies.clone())
}

fn fault(place: Place, sentence: impl Into<String>) -> Fault {
    Fault {
        place,
        sentence: sentence.into(),
    }
}

/// The place of an option in a table; of the table without it.
fn place_of(table: &SourceTable, name: &str) -> Place {
    let entry = table.entries.iter().find(|entry| entry.name == name);
    entry.map_or(table.place, |entry| entry.place)
}

/// The mistake of the option that a message names.
fn of_option(table: &SourceTable, message: &str) -> Fault {
    let named = message.split(|c: char| !c.is_ascii_alphanumeric() && c != '-');
    let mut named = named.filter_map(|word| word.strip_prefix("--"));
    let place = named.find_map(|name| table.entries.iter().find(|entry| entry.name == name));
    fault(place.map_or(table.place, |entry| entry.place), as_written(message))
}

/// A message about flags as one about options in the file: `--ca-cert` is `ca_cert`.
fn as_written(message: &str) -> String {
    let mut text = String::new();
    for (index, part) in message.split("--").enumerate() {
        if index == 0 {
            text.push_str(part);
            continue;
        }
        let end = part
            .find(|c: char| !c.is_ascii_alphanumeric() && c != '-')
            .unwrap_or(part.len());
        text.push_str(&written(&part[..end]));
        text.push_str(&part[end..]);
    }
    text
}

fn written(name: &str) -> String {
    name.replace('-', "_")
}

#[cfg(test)]
mod tests {
    use super::*;

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
