//! `fetchfs pin` and `fetchfs unpin`: which files the cache must keep.

use std::collections::BTreeSet;
use std::path::PathBuf;

use clap::{ArgMatches, Args, Command, FromArgMatches};

use crate::cli::support::output;
use crate::cli::support::targets::{self, Failures, Target};
use crate::control::protocol::{Reply, Request};

/// Keep files in the cache
///
/// Pinned files are never evicted. A pinned directory covers all files below it, including later ones. When a pinned
/// file has a new version on the server, the new version is pinned instead of the old. Pins stay until `fetchfs unpin`
/// removes them, whatever is mounted.
///
/// Files that are not cached yet are fetched in the background, as by `fetchfs prefetch --background --recursive`.
#[derive(Args)]
struct PinArgs {
    /// Files and directories in a mount; with --list its mountpoint
    #[arg(value_name = "PATH", required_unless_present = "list")]
    paths: Vec<PathBuf>,

    /// Do not fetch now; later reads fetch the files
    #[arg(long)]
    no_fetch: bool,

    /// List the pins of all mounts, or of those named
    #[arg(long, conflicts_with = "no_fetch")]
    list: bool,

    /// Print the list as a JSON array of URLs
    #[arg(long, requires = "list")]
    json: bool,
}

/// Unpin files
///
/// The files stay in the cache until space is needed.
#[derive(Args)]
struct UnpinArgs {
    /// Files and directories in a mount, as they were pinned
    #[arg(value_name = "PATH", required = true)]
    paths: Vec<PathBuf>,
}

pub(in crate::cli) fn command() -> Command {
    PinArgs::augment_args(Command::new("pin"))
}

pub(in crate::cli) fn unpin_command() -> Command {
    UnpinArgs::augment_args(Command::new("unpin"))
}

pub(in crate::cli) fn run(matches: &ArgMatches) -> anyhow::Result<()> {
    let args = PinArgs::from_arg_matches(matches)?;
    if args.list {
        return list(&args.paths, args.json);
    }
    let mut failed = Failures::default();
    for Target { mount, paths } in targets::in_mounts(&args.paths)? {
        let fetch = !args.no_fetch;
        let Reply::Pinned { job, failures } = targets::ask_once(&mount, &Request::Pin { paths, fetch })? else {
            return Err(targets::unexpected(&mount));
        };
        if let Some(job) = job {
            targets::say_started(&mount, job)?;
        }
        failed.add(&mount, &failures, failures.len() as u64);
    }
    failed.end("pinned")
}

pub(in crate::cli) fn run_unpin(matches: &ArgMatches) -> anyhow::Result<()> {
    let args = UnpinArgs::from_arg_matches(matches)?;
    let mut failed = Failures::default();
    for Target { mount, paths } in targets::in_mounts(&args.paths)? {
        let Reply::Unpinned { failures } = targets::ask_once(&mount, &Request::Unpin { paths })? else {
            return Err(targets::unexpected(&mount));
        };
        failed.add(&mount, &failures, failures.len() as u64);
    }
    failed.end("unpinned")
}

/// Lists the pins. Mounts that share a cache share its pins, so each pin is shown once.
fn list(paths: &[PathBuf], is_json: bool) -> anyhow::Result<()> {
    let mut all = BTreeSet::new();
    targets::ask_all(paths, &Request::ListPins, |mount, reply| {
        let Reply::Pins { urls } = reply else {
            return Err(targets::unexpected(mount));
        };
        all.extend(urls);
        Ok(())
    })?;
    if is_json {
        return output::json(&all);
    }
    let text: String = all.into_iter().map(|url| url + "\n").collect();
    output::write(text)
}
