//! `fetchfs list`: all mounts, from the mount table.

use clap::{ArgMatches, Args, Command, FromArgMatches};
use serde::Serialize;

use crate::cli::support::output;
use crate::mount::mountpoint::{self, Listed};

/// List the mounts of all users
///
/// Reads the mount table and looks for the processes. No mount is asked, so the command returns at once even if a server is
/// silent. `fetchfs status` shows what the mounts of this user do.
#[derive(Args)]
struct ListArgs {
    /// Print a JSON array with one object per mount
    #[arg(long)]
    json: bool,
}

/// A mount for programs.
#[derive(Serialize)]
struct Shown {
    mountpoint: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    elsewhere: Vec<String>,
    source: String,
    user: Option<u32>,
    pid: Option<u32>,
    state: &'static str,
}

impl From<Listed> for Shown {
    fn from(listed: Listed) -> Shown {
        Shown {
            mountpoint: listed.mountpoint.display().to_string(),
            elsewhere: listed.elsewhere.iter().map(|path| path.display().to_string()).collect(),
            source: listed.source,
            user: listed.user,
            pid: listed.pid.filter(|pid| *pid > 0),
            // Whether a process without a reachable socket is dead or in another container, only the mount itself shows.
            state: if listed.pid.is_some() { "mounted" } else { "unreachable" },
        }
    }
}

pub(in crate::cli) fn command() -> Command {
    ListArgs::augment_args(Command::new("list"))
}

pub(in crate::cli) fn run(matches: &ArgMatches) -> anyhow::Result<()> {
    let args = ListArgs::from_arg_matches(matches)?;
    let mounts: Vec<Shown> = mountpoint::list()?.into_iter().map(Shown::from).collect();
    output::write(match (args.json, mounts.is_empty()) {
        (true, _) => serde_json::to_string_pretty(&mounts)? + "\n",
        (false, true) => "nothing is mounted\n".to_owned(),
        (false, false) => table(&mounts),
    })
}

/// A line for each mount, in columns.
fn table(mounts: &[Shown]) -> String {
    let place = |mount: &Shown| {
        let others: String = mount.elsewhere.iter().map(|path| format!(" and {path}")).collect();
        format!("{}{others}", mount.mountpoint)
    };
    let width = mounts
        .iter()
        .map(|mount| place(mount).chars().count())
        .max()
        .unwrap_or(0);
    let line = |mount: &Shown| {
        let pid = mount.pid.map_or_else(|| "-".to_owned(), |pid| pid.to_string());
        format!(
            "{:width$}  {pid:>7}  {:11}  {}\n",
            place(mount),
            mount.state,
            mount.source
        )
    };
    mounts.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mount_is_a_line() {
        let mount = |mountpoint: &str, elsewhere: &[&str], pid: Option<u32>| {
            Shown::from(Listed {
                mountpoint: mountpoint.into(),
                elsewhere: elsewhere.iter().map(Into::into).collect(),
                source: "https://example.org/pub/".to_owned(),
                user: Some(1000),
                pid,
                is_allowed: true,
            })
        };
        let mounts = [
            mount("/mnt/pub", &["/srv/pub"], Some(4711)),
            mount("/mnt/other", &[], None),
        ];
        let expected = "/mnt/pub and /srv/pub     4711  mounted      https://example.org/pub/\n\
                        /mnt/other                   -  unreachable  https://example.org/pub/\n";
        assert_eq!(table(&mounts), expected);
    }
}
