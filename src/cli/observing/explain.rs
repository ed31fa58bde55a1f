//! `fetchfs explain`: the slowest recent reads, what each waited for, and what to do.

mod text;

use std::path::PathBuf;
use std::time::SystemTime;

use clap::{ArgMatches, Args, Command, FromArgMatches};

use crate::cli::support::output;
use crate::cli::support::targets::{self, Failures, Target};
use crate::control::explain::Explained;
use crate::control::protocol::{Reply, Request};
use crate::mount::mountpoint::InMount;

/// Show the slowest recent reads, and why they were slow
///
/// Each read is shown with what it waited for: a connection, the server's first byte, the transfer, a limit, the pause
/// after a failure, or the disk of the cache. A sentence says what to do. For a directory, the slowest reads of all files
/// in it are shown. No server is asked.
#[derive(Args)]
#[command(after_help = "Example:
  fetchfs explain ~/pub/film.mkv    why reading this film was slow
  fetchfs explain ~/pub             the slowest reads of the whole mount")]
struct ExplainArgs {
    /// Files or directories in a mount
    #[arg(value_name = "PATH", required = true)]
    paths: Vec<PathBuf>,

    /// Show at most this many reads of each
    #[arg(short = 'n', long, value_name = "N", default_value_t = 5)]
    number: usize,

    /// Print a JSON array with one object per path and all remembered reads
    #[arg(long, conflicts_with = "number")]
    json: bool,
}

pub(in crate::cli) fn command() -> Command {
    ExplainArgs::augment_args(Command::new("explain"))
}

pub(in crate::cli) fn run(matches: &ArgMatches) -> anyhow::Result<()> {
    let args = ExplainArgs::from_arg_matches(matches)?;
    let mut failed = Failures::default();
    let (mut explained, mut shown) = (Vec::new(), Vec::new());
    for Target { mount, paths } in targets::in_mounts(&args.paths)? {
        let Reply::Explained { files, failures } = targets::ask_once(&mount, &Request::Explain { paths })? else {
            return Err(targets::unexpected(&mount));
        };
        failed.add(&mount, &failures, failures.len() as u64);
        match args.json {
            true => explained.extend(files.into_iter().map(|of| json(&mount, of))),
            false => {
                let (now, width) = (SystemTime::now(), text::width());
                shown.extend(files.iter().map(|of| text::of(&mount, of, args.number, now, width)));
            }
        }
    }
    if args.json {
        output::json(&explained.into_iter().collect::<serde_json::Result<Vec<_>>>()?)?;
    }
    output::write(shown.join("\n"))?;
    failed.end("explained")
}

/// As JSON, with the paths as the user sees them.
fn json(mount: &InMount, of: Explained) -> serde_json::Result<serde_json::Value> {
    let shown: Vec<_> = of
        .slow
        .iter()
        .map(|read| read.path.as_ref().map(|path| targets::shown(mount, path)))
        .collect();
    let path = targets::shown(mount, &of.path);
    let mut value = serde_json::to_value(of)?;
    value["path"] = path.into();
    for (at, path) in shown.into_iter().enumerate() {
        value["slow"][at]["path"] = path.into();
    }
    Ok(value)
}
