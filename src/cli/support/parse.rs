//! Parses the command line with clap, and corrects an error that blames the wrong input.
//!
//! clap takes a value from the environment if the flag is missing. If the value is invalid, clap's error names the
//! flag, which the user never typed. The error here names the variable.

use std::ffi::{OsStr, OsString};

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{ArgMatches, Command};

use super::failure::NOT_UNDERSTOOD;
use super::usage;
use crate::config::variable_of;

/// Parses these words as `command`, which is the whole program. A usage error or a request for help is printed and ends the program.
pub(in crate::cli) fn read(command: Command, words: &[OsString]) -> ArgMatches {
    let help = usage::help_of(&command, words);
    let error = match command.try_get_matches_from(words) {
        Ok(matches) => return matches,
        Err(error) => error,
    };
    let is_help = error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand;
    if is_help || !error.use_stderr() {
        // Help, or the version.
        error.exit()
    }
    eprintln!(
        "fetchfs: {}",
        usage::sentence(&blame_the_environment(error, words), &help)
    );
    std::process::exit(NOT_UNDERSTOOD.into())
}

/// The error, with the variable instead of the flag if the value comes from there.
fn blame_the_environment(mut error: clap::Error, words: &[OsString]) -> clap::Error {
    let text = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => Some(text.clone()),
        _ => None,
    };
    let (Some(argument), Some(value)) = (text(ContextKind::InvalidArg), text(ContextKind::InvalidValue)) else {
        return error;
    };
    let in_environment = |variable: &str| std::env::var_os(variable);
    if let Some(variable) = variable_behind(&argument, &value, words, in_environment) {
        let named = ContextValue::String(format!("{variable} in the environment:"));
        error.insert(ContextKind::InvalidArg, named);
    }
    error
}

/// The variable that gave an argument this value. `argument` is as clap shows it (`--bwlimit <RATE>`). `None` if the
/// flag is among the words.
fn variable_behind(
    argument: &str,
    value: &str,
    words: &[OsString],
    in_environment: impl Fn(&str) -> Option<OsString>,
) -> Option<String> {
    let flag = argument.split_whitespace().next()?;
    let variable = variable_of(flag.strip_prefix("--")?);
    let is_flag = |word: &OsString| word.to_string_lossy().split('=').next() == Some(flag);
    let is_from_there = in_environment(&variable).is_some_and(|there| there == OsStr::new(value));
    (is_from_there && !words.iter().any(is_flag)).then_some(variable)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_variable_is_blamed_only_for_what_is_its_own() {
        let behind = |value: &str, words: &[&str]| {
            let words: Vec<OsString> = words.iter().map(OsString::from).collect();
            let there = |name: &str| (name == "FETCHFS_CACHE_SIZE").then(|| "abc".into());
            variable_behind("--cache-size <SIZE>", value, &words, there)
        };
        let variable = Some("FETCHFS_CACHE_SIZE".to_owned());
        assert_eq!(behind("abc", &["fetchfs", "mount", "http://h/", "/mnt"]), variable);
        assert_eq!(behind("other", &["fetchfs", "mount"]), None);
        assert_eq!(behind("abc", &["fetchfs", "mount", "--cache-size", "abc"]), None);
        assert_eq!(behind("abc", &["fetchfs", "mount", "--cache-size=abc"]), None);
        let there = |_: &str| Some("abc".into());
        assert_eq!(
            variable_behind("<SOURCE>", "abc", &[], there),
            None,
            "it has no variable"
        );
    }
}
