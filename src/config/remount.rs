//! `-o remount`: which of the options are changes of a mount.
//!
//! mount(8) merges what its user writes with the line in fstab, or with the mount table, so most options of a remount are
//! those in force already. The command ([`asked_for`]) sends all of them, without resolving them; the process that serves
//! the mount ([`InForce`]) compares them with its own.

use std::ffi::OsString;

use clap::parser::ValueSource;
use clap::{ArgAction, ArgMatches, Command, FromArgMatches};

use super::args::{MountArgs, mount_command};
use super::changeable::{CHANGEABLE, absolute_assignment};
use super::options::{OPTIONS_ID, adds_up, flag_named};

/// The options of a remount in the notation of `-o`, one each, with absolute paths of files: first `by_options`, the flags
/// that `-o` stands for, then the flags that were typed.
pub(crate) fn asked_for(command: &Command, by_options: &[String], typed: &ArgMatches) -> Vec<String> {
    let written = |flag: &str| {
        let (name, value) = match flag.split_once('=') {
            Some((name, value)) => (name, format!("={value}")),
            None => (flag, String::new()),
        };
        let name = name.trim_start_matches('-').replace('-', "_");
        absolute_assignment(&format!("{name}{value}"))
    };
    let typed = command.get_arguments().filter_map(|flag| {
        let (id, long) = (flag.get_id().as_str(), flag.get_long()?);
        let is_typed = id != OPTIONS_ID && typed.value_source(id) == Some(ValueSource::CommandLine);
        is_typed.then(|| match flag.get_action() {
            ArgAction::SetTrue => vec![written(long)],
            ArgAction::Count => vec![written(long); typed.get_count(id).into()],
            _ => {
                let values = typed.get_raw(id).into_iter().flatten();
                values
                    .map(|value| written(&format!("{long}={}", value.to_string_lossy())))
                    .collect()
            }
        })
    });
    by_options
        .iter()
        .map(|flag| written(flag))
        .chain(typed.flatten())
        .collect()
}

/// The options with which a mount began.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct InForce {
    /// The words of the command line, after those of files and of `-o`.
    words: Vec<OsString>,
}

/// The options of a remount, without those that are in force.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Split {
    /// Options that can change, each as `KEY=VALUE`. Some may have the value that they ask for.
    pub(crate) assignments: Vec<String>,
    /// Names of options that can't change while mounted.
    pub(crate) fixed: Vec<String>,
}

impl InForce {
    /// `words` make up the whole command line after `fetchfs mount`.
    pub(crate) fn new(words: Vec<OsString>) -> InForce {
        InForce { words }
    }

    /// Sorts the options of a remount, as [`asked_for`] returned them.
    pub(crate) fn split(&self, options: &[String]) -> Split {
        let command = mount_command();
        let mut split = Split {
            assignments: Vec::new(),
            fixed: Vec::new(),
        };
        let mut verbose = 0;
        for option in options {
            let (name, value) = match option.split_once('=') {
                Some((name, value)) => (name, Some(value)),
                None => (option.as_str(), None),
            };
            match value {
                // How the process began means nothing to a mount that exists.
                _ if matches!(name, "foreground" | "background") => {}
                _ if !CHANGEABLE.contains(&name) => {
                    let is_new = !split.fixed.iter().any(|fixed| fixed == name);
                    if is_new && !self.has(&command, name, value) {
                        split.fixed.push(name.to_owned());
                    }
                }
                // `-o verbose,verbose` is -vv.
                None if name == "verbose" => verbose += 1,
                None => split.assignments.push(format!("{name}=true")),
                Some(_) => split.assignments.push(option.clone()),
            }
        }
        if verbose > 0 {
            split.assignments.push(format!("verbose={verbose}"));
        }
        split
    }

    /// Returns true if the mount has this value of an option: an option that may be given several times if it is one of
    /// its values, any other if it would change nothing.
    fn has(&self, command: &Command, name: &str, value: Option<&str>) -> bool {
        let long = name.replace('_', "-");
        let Some(flag) = flag_named(command, &long) else {
            return false;
        };
        let Some(matches) = parse(command, &self.words) else {
            return false;
        };
        if adds_up(flag) {
            let mut values = matches.get_raw(flag.get_id().as_str()).into_iter().flatten();
            return values.any(|known| Some(known.to_string_lossy().as_ref()) == value);
        }
        let written = match value {
            Some(value) => format!("--{long}={value}"),
            None => format!("--{long}"),
        };
        // What follows `--` is no flag.
        let end = self.words.iter().position(|word| word == "--");
        let (before, after) = self.words.split_at(end.unwrap_or(self.words.len()));
        let with_it = [before, &[OsString::from(written)], after].concat();
        let args = |matches: &ArgMatches| MountArgs::from_arg_matches(matches).ok();
        parse(command, &with_it).is_some_and(|with_it| args(&with_it) == args(&matches))
    }
}

fn parse(command: &Command, words: &[OsString]) -> Option<ArgMatches> {
    let command = command.clone().no_binary_name(true);
    command.try_get_matches_from(words).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(words: &str, options: &[&str]) -> Split {
        let words = words.split(' ').map(OsString::from).collect();
        let options: Vec<String> = options.iter().map(|&option| option.to_owned()).collect();
        InForce::new(words).split(&options)
    }

    #[test]
    fn options_in_force_are_no_change() {
        let words = "--allow-other --chunk-size=1M --header A:1 --header B:2 --uid 0 --umask=022 -- http://h/ /mnt";
        let same = [
            "allow_other",
            "chunk_size=1MiB",
            "chunk_size=1M",
            "header=B:2",
            "uid=root",
            "umask=0022",
            "foreground",
            // The defaults are in force too.
            "timeout=30s",
            "retries=3",
        ];
        assert_eq!(split(words, &same).fixed, [""; 0]);
        let others = [
            "chunk_size=2M",
            "header=C:3",
            "noexec",
            "timeout=31",
            "timeout=32",
            "umask=077",
        ];
        assert_eq!(
            split(words, &others).fixed,
            ["chunk_size", "header", "noexec", "timeout", "umask"]
        );
    }

    #[test]
    fn changeable_options_become_assignments() {
        let options = ["offline", "verbose", "bwlimit=2MB", "verbose", "chunk_size=4K"];
        let split = split("http://h/ /mnt", &options);
        assert_eq!(split.assignments, ["offline=true", "bwlimit=2MB", "verbose=2"]);
        assert_eq!(split.fixed, ["chunk_size"]);
    }

    #[test]
    fn flags_and_options_are_one_list() {
        let command = mount_command();
        let matches = command.clone().no_binary_name(true);
        let matches = matches.get_matches_from(["-vv", "--bwlimit", "2MB", "--header=A:1", "--header=B:2", "/mnt"]);
        let by_options = ["--password-file=p".to_owned(), "--allow-other".to_owned()];
        let asked = asked_for(&command, &by_options, &matches);
        let password_file = format!("password_file={}", std::env::current_dir().unwrap().join("p").display());
        assert_eq!(asked[..2], [password_file, "allow_other".to_owned()]);
        let mut typed = asked[2..].to_vec();
        typed.sort();
        assert_eq!(typed, ["bwlimit=2MB", "header=A:1", "header=B:2", "verbose", "verbose"]);
    }
}
