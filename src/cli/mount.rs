//! `fetchfs mount`: from what was typed to a process that serves the mount.

use std::ffi::OsString;

use clap::{ArgMatches, FromArgMatches};

use super::argv::hide_secrets;
use super::background::{self, Ready};
use crate::config::{MountArgs, MountConfig, expand_options, mount_command};
use crate::{logging, mount};

pub(super) fn run(matches: &ArgMatches, typed: &[OsString]) -> anyhow::Result<()> {
    let args = MountArgs::from_arg_matches(matches)?;
    let config = with_options(args, typed)?.resolve()?;
    hide_secrets();
    if config.foreground {
        serve(config, Ready::foreground())
    } else {
        background::start(|ready| serve(config, ready))
    }
}

/// In the process that will serve the mount.
fn serve(config: MountConfig, ready: Ready) -> anyhow::Result<()> {
    logging::init(&config)?;
    let outcome = mount::run(config, ready);
    // What was kept back as a repetition.
    log::logger().flush();
    outcome
}

/// Reads the command line again with the values of `-o` as flags before all others, so that the others win.
fn with_options(args: MountArgs, typed: &[OsString]) -> anyhow::Result<MountArgs> {
    let flags = expand_options(&mount_command(), &args.options())?;
    if flags.is_empty() {
        return Ok(args);
    }
    let (command, rest) = typed.split_at(COMMAND_WORDS.min(typed.len()));
    let all = command
        .iter()
        .cloned()
        .chain(flags.into_iter().map(OsString::from))
        .chain(rest.iter().cloned());
    let matches = super::command().get_matches_from(all);
    let matches = matches.subcommand_matches("mount").expect("it is what was typed");
    Ok(MountArgs::from_arg_matches(matches)?)
}

/// `fetchfs mount`: nothing can stand between the two, because what could (`--help`, `--version`) ends the program.
const COMMAND_WORDS: usize = 2;
