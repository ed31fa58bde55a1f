//! One source of a library: from its table in the file to its settings.

use std::path::Path;

use clap::{ArgMatches, Args, Command, FromArgMatches};
use url::Url;

use super::fault::{as_written, fault, of_option, place_of};
use super::name::is_library;
use super::options::{LibraryArgs, OF_BOTH, is_of_sources, without_environment};
use crate::config::args::{MountArgs, mount_command};
use crate::config::file::{ConfigFile, Entry, Fault, Place, SourceTable};
use crate::config::options::{adds_up, flag_named};
use crate::config::source;
use crate::config::source_settings::source_settings;
use crate::source::library::MemberConfig;
use crate::source::library::filter::FilterConfig;
use crate::source::{Name, SourceSpec};

/// Everything but a source's own table that its settings depend on.
pub(super) struct Base<'a> {
    /// The directory of the library's file.
    pub(super) folder: &'a Path,
    /// The command line with the environment.
    pub(super) given: &'a ArgMatches,
    pub(super) config_file: &'a ConfigFile,
    pub(super) for_all: &'a [(String, Vec<String>)],
    pub(super) of_file: &'a [Entry],
}

impl Base<'_> {
    /// One source.
    pub(super) fn member(&self, table: &SourceTable) -> Result<MemberConfig, Fault> {
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
        for entry in self.config_file.entries_for(&command, self.given, &spec) {
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

    fn spec(&self, url: &str) -> Result<SourceSpec, String> {
        if url == "-" || url.starts_with('@') || is_library(url) {
            return Err("a source of a library is a URL, or the path of a list, playlist or Metalink".to_owned());
        }
        let text = match url.contains("://") {
            true => url.to_owned(),
            false => self.folder.join(url).display().to_string(),
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
pub(super) fn same_place_of_several_users(members: &[(Place, MemberConfig)]) -> Vec<Fault> {
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
