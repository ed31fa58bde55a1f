//! How a command that failed ends: one sentence on standard error, and the exit status.

use crate::config::{ConfigError, FileError, OptionError};

/// Exit status of a failure.
pub(in crate::cli) const FAILED: u8 = 1;

/// Exit status of a usage error; clap uses the same number.
pub(in crate::cli) const NOT_UNDERSTOOD: u8 = 2;

/// An error with its causes in one line. A cause that the error's own text already contains is not repeated.
pub(in crate::cli) fn sentence(error: &anyhow::Error) -> String {
    let sentence = error
        .chain()
        .map(ToString::to_string)
        .fold(String::new(), |said, cause| match said {
            said if said.is_empty() => cause,
            said if said.contains(&cause) => said,
            said => format!("{said}: {cause}"),
        });
    without_numbers(&sentence)
}

/// The sentence without the numbers that the standard library adds to the system's errors: `(os error 2)`.
fn without_numbers(sentence: &str) -> String {
    let mut parts = sentence.split(" (os error ");
    let mut text = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        text.push_str(part.split_once(')').map_or(part, |(_, rest)| rest));
    }
    text
}

pub(in crate::cli) fn exit_code(error: &anyhow::Error) -> u8 {
    let usage = error.is::<OptionError>()
        || error.downcast_ref().is_some_and(ConfigError::is_usage)
        || error.downcast_ref().is_some_and(FileError::is_usage);
    if usage { NOT_UNDERSTOOD } else { FAILED }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn number_of_an_error_is_not_shown() {
        let error = anyhow::Error::new(std::io::Error::from_raw_os_error(2)).context("can't read /nope");
        assert_eq!(sentence(&error), "can't read /nope: No such file or directory");
        let text = "a: Is a directory (os error 21); choose another (twice)";
        assert_eq!(without_numbers(text), "a: Is a directory; choose another (twice)");
    }

    #[test]
    fn error_cause_is_printed_once() {
        let io = std::io::Error::other("disk full");
        let error = anyhow::Error::new(io)
            .context("writing index: disk full")
            .context("can't mount");
        assert_eq!(sentence(&error), "can't mount: writing index: disk full");
    }
}
