//! The command line: one file per command in three folders, and [`run`], which dispatches them. `main` is the only caller.
//!
//! Exit status: 0 done, 1 failed, 2 usage error. A failure is one sentence on standard error that begins with
//! `fetchfs:`. A closed pipe on standard output is no error message (`support::output`).

mod caching;
mod generate;
mod mounting;
mod observing;
mod support;

use std::ffi::{OsStr, OsString};
use std::process::ExitCode;

use clap::Command;

use crate::config::mount_command;
use support::failure::{NOT_UNDERSTOOD, exit_code, sentence};
use support::parse::read;
use support::program::program;

/// Runs the whole program. The process must have one thread, because it may fork.
pub fn run() -> ExitCode {
    let typed: Vec<OsString> = std::env::args_os().collect();
    if typed.get(1).is_some_and(|word| is_url(word)) {
        // Other mount tools answer the same way.
        eprintln!("fetchfs: no command given; to mount a URL: fetchfs mount URL DIRECTORY");
        return ExitCode::from(NOT_UNDERSTOOD);
    }
    let matches = read(command(), &typed);
    let outcome = match matches.subcommand() {
        Some(("mount", matches)) => mounting::mount::run(matches, &typed, &command()),
        Some(("unmount", matches)) => mounting::unmount::run(matches),
        Some(("cache", matches)) => caching::cache::run(matches),
        Some(("prefetch", matches)) => caching::prefetch::run(matches),
        Some(("pin", matches)) => caching::pin::run(matches),
        Some(("unpin", matches)) => caching::pin::run_unpin(matches),
        Some(("evict", matches)) => caching::evict::run(matches),
        Some(("list", matches)) => mounting::list::run(matches),
        Some(("map", matches)) => observing::map::run(matches),
        Some(("explain", matches)) => observing::explain::run(matches),
        Some(("refresh", matches)) => caching::refresh::run(matches),
        Some(("status", matches)) => observing::status::run(matches),
        Some(("top", matches)) => observing::top::run(matches),
        Some(("get", matches)) => mounting::options::run_get(matches),
        Some(("set", matches)) => mounting::options::run_set(matches),
        Some(("reload", matches)) => mounting::reload::run(matches),
        Some(("config", matches)) => mounting::config::run(matches),
        Some(("tier", matches)) => caching::tier::run(matches),
        Some(("doctor", matches)) => observing::doctor::run(matches, &typed, &command()),
        Some(("bugreport", matches)) => observing::bugreport::run(matches),
        Some(("completions", matches)) => generate::run_completions(matches, &command()),
        Some(("man", matches)) => generate::run_man(matches, &command()),
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

fn command() -> Command {
    program()
        .subcommand(mount_command())
        .subcommand(mounting::unmount::command())
        .subcommand(caching::cache::command())
        .subcommand(caching::prefetch::command())
        .subcommand(caching::pin::command())
        .subcommand(caching::pin::unpin_command())
        .subcommand(caching::evict::command())
        .subcommand(mounting::list::command())
        .subcommand(observing::map::command())
        .subcommand(observing::explain::command())
        .subcommand(caching::refresh::command())
        .subcommand(observing::status::command())
        .subcommand(observing::top::command())
        .subcommand(mounting::options::get_command())
        .subcommand(mounting::options::set_command())
        .subcommand(mounting::reload::command())
        .subcommand(mounting::config::command())
        .subcommand(caching::tier::command())
        .subcommand(observing::doctor::command())
        .subcommand(observing::bugreport::command())
        .subcommand(generate::completions_command())
        .subcommand(generate::man_command())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_commands_are_sound() {
        command().debug_assert();
    }

    #[test]
    fn help_text_fits_80_columns() {
        let mut command = command().term_width(100);
        command.build();
        for command in command
            .get_subcommands_mut()
            .filter(|command| command.get_name() != "help")
        {
            let name = command.get_name().to_owned();
            insta::assert_snapshot!(format!("{name}_help"), command.render_help());
        }
    }
}
