//! `fetchfs mount`: from the command line to a process that serves the mount.

use std::ffi::OsString;

use clap::{ArgMatches, Command, FromArgMatches};

use super::support::scrub_argv::hide_secrets;
use super::support::{background, parse};
use crate::config::{self, Expanded, LibraryFile, MountArgs, MountConfig, expand_options, mount_command};
use crate::logging;
use crate::mount::{self, Ready, mountpoint};

pub(super) fn run(matches: &ArgMatches, typed: &[OsString], program: &Command) -> anyhow::Result<()> {
    let (args, library) = understand(matches, typed, program)?;
    let mut config = config::resolve(args, library)?;
    config.mountpoint = mountpoint::resolve(&config.mountpoint)?;
    hide_secrets();
    if config.foreground {
        serve(config, Ready::foreground())
    } else {
        background::start(|ready| serve(config, ready))
    }
}

/// Combines the command line with the config file and `-o`. Their values are put before the typed flags, so the typed
/// flags win; `-o` wins over the config file. Returns the file of the library as well, if one is mounted.
pub(super) fn understand(
    matches: &ArgMatches,
    typed: &[OsString],
    program: &Command,
) -> anyhow::Result<(MountArgs, Option<LibraryFile>)> {
    let command = mount_command();
    let mut matches = matches.clone();
    let args = MountArgs::from_arg_matches(&matches)?;
    let Expanded {
        flags: options,
        ignored,
    } = expand_options(&command, &args.options())?;
    warn_of(ignored);
    warn_of(config::unknown_variables(&command, std::env::vars_os()));
    if !options.is_empty() {
        matches = read_again(program, &options, typed);
    }
    let args = MountArgs::from_arg_matches(&matches)?;
    let (mut flags, warning) = args.config_file(&command, &matches)?;
    warn_of(warning);
    let library = args.library_file(&command, &matches)?;
    if let Some(library) = &library {
        flags.extend(library.flags(&command)?);
    }
    flags.extend(options);
    let args = MountArgs::from_arg_matches(&read_again(program, &flags, typed))?;
    Ok((args, library))
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
