//! `fetchfs mount`: from the command line to a process that serves the mount.

use std::ffi::OsString;

use clap::{ArgMatches, Command, FromArgMatches};

use super::remount;
use crate::cli::support::scrub_argv::hide_secrets;
use crate::cli::support::{background, parse};
use crate::config::{
    self, Expanded, InForce, MountArgs, MountConfig, MountOptions, OptionSources, expand_options, mount_command,
};
use crate::logging;
use crate::mount::{self, Ready, mountpoint};

pub(in crate::cli) fn run(matches: &ArgMatches, typed: &[OsString], program: &Command) -> anyhow::Result<()> {
    let asked = MountArgs::from_arg_matches(matches)?;
    let by_options = expand_options(&mount_command(), &asked.options())?;
    if by_options.remounts {
        warn_of(by_options.ignored);
        return remount::run(asked, &by_options.flags, matches);
    }
    let (args, options) = understand(matches, typed, program)?;
    let is_dry_run = args.is_dry_run();
    let mut config = config::resolve(args, options.sources.library().cloned())?;
    config.options = Some(options);
    config.mountpoint = match config.fd {
        Some(fd) => mountpoint::handed_over(fd, &config.mountpoint)?,
        None => mountpoint::resolve(&config.mountpoint)?,
    };
    if is_dry_run {
        return Ok(());
    }
    hide_secrets();
    if config.foreground {
        serve(config, Ready::foreground())
    } else {
        background::start(|ready| serve(config, ready))
    }
}

/// Combines the command line with the config file and `-o`. Their values are put before the typed flags, so the typed
/// flags win; `-o` wins over the config file.
pub(in crate::cli) fn understand(
    typed_matches: &ArgMatches,
    typed: &[OsString],
    program: &Command,
) -> anyhow::Result<(MountArgs, MountOptions)> {
    let command = mount_command();
    let args = MountArgs::from_arg_matches(typed_matches)?;
    let Expanded {
        flags: by_options,
        ignored,
        remounts: _,
    } = expand_options(&command, &args.options())?;
    warn_of(ignored);
    warn_of(config::unknown_variables(&command, std::env::vars_os()));
    let given = match by_options.is_empty() {
        true => typed_matches.clone(),
        false => read_again(program, &by_options, typed),
    };
    let words = typed.get(COMMAND_WORDS..).unwrap_or_default().to_vec();
    let sources = OptionSources::new(words, typed_matches.clone(), given, by_options)?;
    let files = sources.read_files()?;
    warn_of(files.warning.clone());
    let flags: Vec<String> = files.flags().chain(sources.by_options().iter().cloned()).collect();
    let matches = read_again(program, &flags, typed);
    let values = sources.values(&matches, &files);
    let args = MountArgs::from_arg_matches(&matches)?;
    let typed = typed.iter().skip(COMMAND_WORDS).cloned();
    let in_force = InForce::new(flags.into_iter().map(OsString::from).chain(typed).collect());
    Ok((
        args,
        MountOptions {
            sources,
            values,
            in_force,
        },
    ))
}

/// Says what has no effect, each in one sentence.
fn warn_of(sentences: impl IntoIterator<Item = String>) {
    for sentence in sentences {
        eprintln!("fetchfs: {sentence}");
    }
}

/// Runs in the process that serves the mount.
fn serve(config: MountConfig, ready: Ready) -> anyhow::Result<()> {
    logging::init(&config)?;
    let outcome = mount::run(config, ready);
    // Flushes log lines that were held back as repetitions.
    log::logger().flush();
    outcome
}

/// Parses the command line again with `flags` before all others.
fn read_again(program: &Command, flags: &[String], typed: &[OsString]) -> ArgMatches {
    let (command, rest) = typed.split_at(COMMAND_WORDS.min(typed.len()));
    let all: Vec<OsString> = command
        .iter()
        .cloned()
        .chain(flags.iter().map(OsString::from))
        .chain(rest.iter().cloned())
        .collect();
    let mut matches = parse::read(program.clone(), &all);
    let (_, matches) = matches.remove_subcommand().expect("it is what was typed");
    matches
}

/// The words `fetchfs mount`. No flag can precede `mount`: `--help` and `--version` end the program.
const COMMAND_WORDS: usize = 2;
