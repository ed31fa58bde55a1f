//! clap's errors in the form of all others: one sentence that says what, why, and what to do.

use std::error::Error;
use std::ffi::OsString;

use clap::Command;
use clap::error::{ContextKind, ContextValue, ErrorKind};

/// The sentence for what was typed, as far as it was not understood.
///
/// `help`: where the right words are, as a clause ([`help_of`]).
pub(super) fn sentence(error: &clap::Error, help: &str) -> String {
    let text = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => Some(text.clone()),
        Some(ContextValue::Strings(texts)) if !texts.is_empty() => Some(texts.join(", ")),
        _ => None,
    };
    let argument = text(ContextKind::InvalidArg).unwrap_or_default();
    let value = text(ContextKind::InvalidValue).unwrap_or_default();
    match error.kind() {
        ErrorKind::InvalidValue if value.is_empty() => {
            format!("{}: a value is missing; write {argument}", name(&argument))
        }
        ErrorKind::InvalidValue => {
            let one_of = text(ContextKind::ValidValue).map_or(String::new(), |all| format!(": write one of {all}"));
            format!(
                "{} {value}{one_of}{}",
                name(&argument),
                did_you_mean(text(ContextKind::SuggestedValue))
            )
        }
        ErrorKind::ValueValidation => {
            let reason = error
                .source()
                .map_or_else(|| "not valid".to_owned(), ToString::to_string);
            format!("{} {value}: {reason}", name(&argument))
        }
        ErrorKind::UnknownArgument => match did_you_mean(text(ContextKind::SuggestedArg)) {
            meant if !meant.is_empty() => format!("{argument}: unknown option{meant}"),
            _ if argument.starts_with('-') => format!("{argument}: unknown option; {help}"),
            _ => format!("{argument}: one argument too many; {help}"),
        },
        ErrorKind::InvalidSubcommand => {
            let command = text(ContextKind::InvalidSubcommand).unwrap_or_default();
            match did_you_mean(text(ContextKind::SuggestedSubcommand)) {
                meant if meant.is_empty() => format!("{command}: unknown command; {help}"),
                meant => format!("{command}: unknown command{meant}"),
            }
        }
        ErrorKind::MissingRequiredArgument => format!("{argument} is missing; {help}"),
        ErrorKind::TooManyValues => format!("{}: takes no value; write {0}", name(&argument)),
        ErrorKind::ArgumentConflict => {
            let other = text(ContextKind::PriorArg).unwrap_or_default();
            format!("{} can't be used with {}", name(&argument), name(&other))
        }
        _ => {
            let rendered = error.to_string();
            let first = rendered.lines().next().unwrap_or_default();
            format!("{}; {help}", first.trim_start_matches("error: "))
        }
    }
}

/// An argument as it is typed, without the placeholder of its value: `--cache-size` of `--cache-size <SIZE>`.
fn name(argument: &str) -> &str {
    argument.split(" <").next().unwrap_or(argument)
}

fn did_you_mean(suggested: Option<String>) -> String {
    suggested.map_or(String::new(), |suggested| format!("; did you mean {suggested}?"))
}

/// Where the right words are for these words, which `program` does not understand.
pub(super) fn help_of(program: &Command, words: &[OsString]) -> String {
    let (mut command, mut names) = (program, String::new());
    // What is no command may be a flag, or the mistake itself.
    for word in words.iter().skip(1).map_while(|word| word.to_str()) {
        let Some(inner) = command.find_subcommand(word) else {
            break;
        };
        names.push_str(&format!(" {}", inner.get_name()));
        command = inner;
    }
    let what = if command.has_subcommands() {
        "commands"
    } else {
        "options"
    };
    format!("`fetchfs{names} --help` lists the {what}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(line: &str) -> String {
        let words: Vec<OsString> = line.split(' ').map(OsString::from).collect();
        let command = crate::cli::command();
        let help = help_of(&command, &words);
        sentence(&command.try_get_matches_from(&words).unwrap_err(), &help)
    }

    #[test]
    fn each_mistake_is_one_sentence() {
        let lines = [
            "fetchfs foo",
            "fetchfs staus",
            "fetchfs mount --cachesize 3 http://h/ m",
            "fetchfs mount --xyzzy http://h/ m",
            "fetchfs mount --max-connections 0 http://h/ m",
            "fetchfs mount --retries abc http://h/ m",
            "fetchfs mount --cache-size 0 http://h/ m",
            "fetchfs mount --cache-size",
            "fetchfs mount --bwlimit 10Mbit/s http://h/ m",
            "fetchfs mount --exec=maybe http://h/ m",
            "fetchfs evict",
            "fetchfs unmount",
            "fetchfs prefetch --list --recursive",
            "fetchfs --foo",
            "fetchfs cache verify --foo",
            "fetchfs cache --foo",
        ];
        let said: Vec<_> = lines.map(|line| format!("{line}\n    {}", of(line))).to_vec();
        insta::assert_snapshot!(said.join("\n"));
        let of_kind = of("fetchfs mount --type indx http://h/ m");
        assert!(
            of_kind.starts_with("--type indx: write one of ") && of_kind.ends_with("; did you mean index?"),
            "{of_kind}"
        );
    }
}
