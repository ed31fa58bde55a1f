//! The command line as clap reads it; and what clap finds wrong with it, said of what is to blame.
//!
//! clap takes a value from the environment where no flag was given, and calls it the flag's when it can't be meant. Whoever has typed no such flag
//! would look for it in vain.

use std::ffi::{OsStr, OsString};

use clap::ArgMatches;
use clap::error::{ContextKind, ContextValue};

use crate::config::variable_of;

/// Reads these words. If they are not understood, or ask for help, that is answered, and the program ends.
pub(in crate::cli) fn read(words: &[OsString]) -> ArgMatches {
    let error = match crate::cli::command().try_get_matches_from(words) {
        Ok(matches) => return matches,
        Err(error) => error,
    };
    blame_the_environment(error, words).exit()
}

/// The error, naming the variable instead of the flag, if that is where the value comes from.
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
        let named = ContextValue::String(format!("{variable} in the environment"));
        error.insert(ContextKind::InvalidArg, named);
    }
    error
}

/// The variable from which an argument has this value: `argument` is as clap shows it (`--bwlimit <RATE>`). `None` if it is a flag among the words.
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
