//! `fetchfs refresh`: asks the servers now what is there.

use std::path::PathBuf;

use clap::{ArgMatches, Args, Command, FromArgMatches};

use crate::cli::support::output;
use crate::cli::support::targets::{self, Failures, Target};
use crate::control::protocol::{Refreshed, Reply, Request};

/// Ask the servers now what is there
///
/// A mount asks again for what it shows once that is older than --attr-ttl. This asks at once: it lists directories
/// again, and asks for the current version of files. It returns when the mount shows the answers, and prints how many
/// names are new, gone or changed. A path that the mount does not show yet is searched on the server.
///
/// The exit status is 1 if anything could not be refreshed. The mount goes on showing what it knows of that.
#[derive(Args)]
#[command(after_help = "\
Examples:
  fetchfs refresh ~/pub/incoming
  fetchfs refresh --recursive ~/pub")]
struct RefreshArgs {
    /// Files and directories in a mount
    #[arg(value_name = "PATH", required = true)]
    paths: Vec<PathBuf>,

    /// Include the directories below that were listed before
    #[arg(long, short)]
    recursive: bool,

    /// Print a JSON object
    #[arg(long)]
    json: bool,
}

pub(in crate::cli) fn command() -> Command {
    RefreshArgs::augment_args(Command::new("refresh"))
}

pub(in crate::cli) fn run(matches: &ArgMatches) -> anyhow::Result<()> {
    let args = RefreshArgs::from_arg_matches(matches)?;
    let mut failed = Failures::default();
    let mut all = Refreshed::default();
    for Target { mount, paths } in targets::in_mounts(&args.paths)? {
        let request = Request::Refresh {
            paths,
            recursive: args.recursive,
        };
        let mut client = targets::ask(&mount, &request)?;
        let (counts, failures) = loop {
            match client.reply()? {
                Reply::Refreshing(_) => {}
                Reply::Refreshed { counts, failures } => break (counts, failures),
                _ => return Err(targets::unexpected(&mount)),
            }
        };
        failed.add(&mount, &failures, counts.failed);
        all += counts;
    }
    output::line(if args.json {
        serde_json::to_string(&all)?
    } else {
        text(&all)
    })?;
    failed.end("refreshed")
}

/// The result for people: `12 directories: 3 new, 1 gone, 2 changed`.
fn text(counts: &Refreshed) -> String {
    let Refreshed {
        directories,
        files,
        new,
        gone,
        changed,
        ..
    } = *counts;
    let kinds = [(directories, "directory"), (files, "file")];
    let asked: Vec<String> = kinds
        .into_iter()
        .filter(|(number, _)| *number > 0)
        .map(|(number, what)| output::count(number, what))
        .collect();
    let asked = match asked.is_empty() {
        true => String::new(),
        false => format!("{}: ", asked.join(", ")),
    };
    format!("{asked}{new} new, {gone} gone, {changed} changed")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_one_line() {
        let counts = Refreshed {
            directories: 12,
            new: 3,
            gone: 1,
            changed: 2,
            ..Refreshed::default()
        };
        assert_eq!(text(&counts), "12 directories: 3 new, 1 gone, 2 changed");
        let both = Refreshed {
            directories: 1,
            files: 1,
            ..Refreshed::default()
        };
        assert_eq!(text(&both), "1 directory, 1 file: 0 new, 0 gone, 0 changed");
        assert_eq!(text(&Refreshed::default()), "0 new, 0 gone, 0 changed");
    }
}
