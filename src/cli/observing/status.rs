//! `fetchfs status`: the mounts, what they do and what they have done.

mod block;
mod check;
mod programs;
mod text;
mod tier;

pub(super) use block::wrapped;
pub(super) use tier::{figures as node_figures, name_line};

#[cfg(test)]
pub(super) use text::tests::{busy, tier_name, tier_node};

use std::path::PathBuf;
use std::time::SystemTime;

use clap::{Args, Command, FromArgMatches};

use crate::cli::support::{output, targets};
use crate::control::protocol::{Reply, Request};

/// Show the mounts, what they do and what they have done
///
/// One block for each mount: its sources and whether they can be reached, the cache, how many reads it has answered,
/// what waits and for what, the last errors that programs saw, and where the log is. Figures of the cache are those of the
/// mount's process; its size includes all mounts that share the cache. docs/operations.md says what counts as what.
///
/// With --check, one line for each mount, within a second; the exit status is 0 if all of them do their work. The file
/// system itself gets no request, so a mount that hangs can't hang this command.
#[derive(Args)]
struct StatusArgs {
    /// The mount; all of this user's mounts if none is named
    #[arg(value_name = "MOUNTPOINT")]
    mountpoints: Vec<PathBuf>,

    /// Print a JSON array with one object per mount (docs/control.md)
    #[arg(long)]
    json: bool,

    /// Only say whether the mounts do their work
    #[arg(long, conflicts_with = "json")]
    check: bool,
}

pub(in crate::cli) fn command() -> Command {
    StatusArgs::augment_args(Command::new("status"))
}

pub(in crate::cli) fn run(matches: &clap::ArgMatches) -> anyhow::Result<()> {
    let args = StatusArgs::from_arg_matches(matches)?;
    if args.check {
        return check::run(&args.mountpoints);
    }
    let mut found = Vec::new();
    let request = Request::Status { at_once: false };
    targets::ask_all(&args.mountpoints, &request, |mount, reply| match reply {
        Reply::Status(status) => {
            // The mount may have been moved since it began.
            let mut status = *status;
            status.mountpoint = mount.mountpoint.display().to_string();
            status.elsewhere = mount.elsewhere.iter().map(|path| path.display().to_string()).collect();
            found.push(status);
            Ok(())
        }
        _ => Err(targets::unexpected(mount)),
    })?;
    found.sort_by(|one, other| one.mountpoint.cmp(&other.mountpoint));
    let now = SystemTime::now();
    let text = if args.json {
        serde_json::to_string_pretty(&found)? + "\n"
    } else if found.is_empty() {
        "nothing is mounted\n".to_owned()
    } else {
        let blocks: Vec<_> = found.iter().map(|status| text::of(status, now)).collect();
        blocks.join("\n")
    };
    output::write(text)
}
