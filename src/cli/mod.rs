//! The command line: one file per command, and [`run`], which dispatches them. `main` is the only caller.
//!
//! Exit status: 0 done, 1 failed, 2 usage error. A failure is one sentence on standard error that begins with
//! `fetchfs:`. A closed pipe on standard output is no error message (`support::output`).

mod cache;
mod evict;
mod generate;
mod mount;
mod pin;
mod prefetch;
mod status;
mod support;
mod unmount;

use std::ffi::{OsStr, OsString};
use std::process::ExitCode;

use clap::Command;

use support::parse::read;

use crate::config::{ConfigError, FileError, OptionError, mount_command};

/// Exit status of a failure.
const FAILED: u8 = 1;

/// Exit status of a usage error; clap uses the same number.
const NOT_UNDERSTOOD: u8 = 2;

const ABOUT: &str = "Mount remote files as a local directory; bytes are fetched when they are read, and kept on disk";

/// Runs the whole program. The process must have one thread, because it may fork.
pub fn run() -> ExitCode {
    let typed: Vec<OsString> = std::env::args_os().collect();
    if typed.get(1).is_some_and(|word| is_url(word)) {
        // Other mount tools answer the same way.
        eprintln!("fetchfs: a command is missing; to mount a URL: fetchfs mount URL DIRECTORY");
        return ExitCode::from(NOT_UNDERSTOOD);
    }
    let matches = read(&typed);
    let outcome = match matches.subcommand() {
        Some(("mount", matches)) => mount::run(matches, &typed),
        Some(("unmount", matches)) => unmount::run(matches),
        Some(("cache", matches)) => cache::run(matches),
        Some(("prefetch", matches)) => prefetch::run(matches),
        Some(("pin", matches)) => pin::run(matches),
        Some(("unpin", matches)) => pin::run_unpin(matches),
        Some(("evict", matches)) => evict::run(matches),
        Some(("status", matches)) => status::run(matches),
        Some(("completions", matches)) => generate::run_completions(matches),
        Some(("man", matches)) => generate::run_man(matches),
        _ => unreachable!("clap requires one of the commands that it was given"),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if error.is::<support::output::NobodyReads>() => ExitCode::from(support::output::NOBODY_READS),
        Err(error) => {
            eprintln!("fetchfs: {}", sentence(&error));
            ExitCode::from(exit_code(&error))
        }
    }
}

fn is_url(word: &OsStr) -> bool {
    let schemes = ["http://", "https://"].map(str::as_bytes);
    schemes.iter().any(|scheme| word.as_encoded_bytes().starts_with(scheme))
}

fn program() -> Command {
    Command::new("fetchfs")
        .version(env!("CARGO_PKG_VERSION"))
        .about(ABOUT)
        .subcommand_required(true)
        .arg_required_else_help(true)
        .max_term_width(120)
}

fn command() -> Command {
    program()
        .subcommand(mount_command())
        .subcommand(unmount::command())
        .subcommand(cache::command())
        .subcommand(prefetch::command())
        .subcommand(pin::command())
        .subcommand(pin::unpin_command())
        .subcommand(evict::command())
        .subcommand(status::command())
        .subcommand(generate::completions_command())
        .subcommand(generate::man_command())
}

/// An error with its causes in one line. A cause that the error's own text already contains is not repeated.
fn sentence(error: &anyhow::Error) -> String {
    error
        .chain()
        .map(ToString::to_string)
        .fold(String::new(), |said, cause| match said {
            said if said.is_empty() => cause,
            said if said.contains(&cause) => said,
            said => format!("{said}: {cause}"),
        })
}

fn exit_code(error: &anyhow::Error) -> u8 {
    let usage = error.is::<OptionError>()
        || error.downcast_ref().is_some_and(ConfigError::is_usage)
        || error.downcast_ref().is_some_and(FileError::is_usage);
    if usage { NOT_UNDERSTOOD } else { FAILED }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_commands_are_sound() {
        command().debug_assert();
    }

    #[test]
    fn a_cause_is_said_once() {
        let io = std::io::Error::other("disk full");
        let error = anyhow::Error::new(io)
            .context("writing index: disk full")
            .context("can't mount");
        assert_eq!(sentence(&error), "can't mount: writing index: disk full");
    }

    #[test]
    fn the_help_text_fits_and_says_what_there_is() {
        let mut command = command().term_width(100);
        command.build();
        let mount = command.find_subcommand_mut("mount").expect("it is there");
        insta::assert_snapshot!("mount_help", mount.render_help());
        for name in ["unmount", "cache", "prefetch", "pin", "unpin", "evict", "status"] {
            let command = command.find_subcommand_mut(name).expect("it is there");
            insta::assert_snapshot!(format!("{name}_help"), command.render_help());
        }
    }
}
