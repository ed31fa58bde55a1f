//! The command line: one file per command, and [`run`], which dispatches them. `main` is the only caller.
//!
//! Exit status: 0 done, 1 failed, 2 usage error. A failure is one sentence on standard error that begins with
//! `fetchfs:`. A closed pipe on standard output is no error message (`support::output`).

mod bugreport;
mod cache;
mod config;
mod doctor;
mod evict;
mod generate;
mod list;
mod map;
mod mount;
mod options;
mod pin;
mod prefetch;
mod refresh;
mod reload;
mod status;
mod support;
mod top;
mod unmount;

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
        Some(("mount", matches)) => mount::run(matches, &typed, &command()),
        Some(("unmount", matches)) => unmount::run(matches),
        Some(("cache", matches)) => cache::run(matches),
        Some(("prefetch", matches)) => prefetch::run(matches),
        Some(("pin", matches)) => pin::run(matches),
        Some(("unpin", matches)) => pin::run_unpin(matches),
        Some(("evict", matches)) => evict::run(matches),
        Some(("list", matches)) => list::run(matches),
        Some(("map", matches)) => map::run(matches),
        Some(("refresh", matches)) => refresh::run(matches),
        Some(("status", matches)) => status::run(matches),
        Some(("top", matches)) => top::run(matches),
        Some(("get", matches)) => options::run_get(matches),
        Some(("set", matches)) => options::run_set(matches),
        Some(("reload", matches)) => reload::run(matches),
        Some(("config", matches)) => config::run(matches),
        Some(("doctor", matches)) => doctor::run(matches, &typed, &command()),
        Some(("bugreport", matches)) => bugreport::run(matches),
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
        .subcommand(unmount::command())
        .subcommand(cache::command())
        .subcommand(prefetch::command())
        .subcommand(pin::command())
        .subcommand(pin::unpin_command())
        .subcommand(evict::command())
        .subcommand(list::command())
        .subcommand(map::command())
        .subcommand(refresh::command())
        .subcommand(status::command())
        .subcommand(top::command())
        .subcommand(options::get_command())
        .subcommand(options::set_command())
        .subcommand(reload::command())
        .subcommand(config::command())
        .subcommand(doctor::command())
        .subcommand(bugreport::command())
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
        let mount = command.find_subcommand_mut("mount").expect("it is there");
        insta::assert_snapshot!("mount_help", mount.render_help());
        for name in [
            "unmount",
            "cache",
            "prefetch",
            "pin",
            "unpin",
            "evict",
            "list",
            "map",
            "refresh",
            "status",
            "get",
            "set",
            "reload",
            "config",
            "doctor",
            "bugreport",
        ] {
            let command = command.find_subcommand_mut(name).expect("it is there");
            insta::assert_snapshot!(format!("{name}_help"), command.render_help());
        }
    }
}
