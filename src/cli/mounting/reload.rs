//! `fetchfs reload`: a mounted library takes its changed file over.

use std::path::PathBuf;

use clap::{ArgMatches, Args, Command, FromArgMatches};

use crate::cli::support::{output, targets};
use crate::control::protocol::{Reloaded, Reply, Request};

/// Read the file of a mounted library again
///
/// Sources that were added appear, and those that are gone disappear; files that are open stay readable. Changed options
/// of a source apply to new requests. If the file has a mistake, nothing changes.
#[derive(Args)]
struct ReloadArgs {
    /// The mount; the only one of this user if none is named
    #[arg(value_name = "MOUNTPOINT")]
    mountpoint: Option<PathBuf>,
}

pub(in crate::cli) fn command() -> Command {
    ReloadArgs::augment_args(Command::new("reload"))
}

pub(in crate::cli) fn run(matches: &ArgMatches) -> anyhow::Result<()> {
    let args = ReloadArgs::from_arg_matches(matches)?;
    let paths: Vec<PathBuf> = args.mountpoint.into_iter().collect();
    let mount = targets::the_mount(&paths)?;
    match targets::ask_once(&mount, &Request::Reload)? {
        Reply::Reloaded(reloaded) => output::write(text(&reloaded)),
        _ => Err(targets::unexpected(&mount)),
    }
}

/// What has changed, a line for each source.
fn text(reloaded: &Reloaded) -> String {
    let mut text = output::count(reloaded.sources as u64, "source") + "\n";
    let changes = [
        ("added", &reloaded.added),
        ("removed", &reloaded.removed),
        ("changed", &reloaded.changed),
    ];
    for (what, urls) in changes {
        urls.iter()
            .for_each(|url| text.push_str(&format!("  {what:8} {url}\n")));
    }
    if reloaded.needs_mount {
        text.push_str("options of the mount have changed; they take effect when it is mounted again\n");
    }
    text
}
