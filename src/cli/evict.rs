//! `fetchfs evict`: deletes what is cached of some files now.

use std::path::PathBuf;

use bytesize::ByteSize;
use clap::{ArgMatches, Args, Command, FromArgMatches};

use super::support::output;
use super::support::targets::{self, Failures, Target};
use crate::control::protocol::{Reply, Request};

/// Delete files from the cache
///
/// Nothing happens to the files on the server; who reads them next fetches them again. All versions of a file go. What is
/// pinned, what a read is using at that moment, what the kernel reads by itself (an open file that is complete, as root) and what
/// another mount has open stays, and is named; the exit status is 1 then.
#[derive(Args)]
struct EvictArgs {
    /// Files and directories in a mount
    #[arg(value_name = "PATH", required = true)]
    paths: Vec<PathBuf>,

    /// Evict what is below directories
    #[arg(long, short)]
    recursive: bool,

    /// Evict pinned files, too; they stay pinned for when they are fetched again
    #[arg(long, short)]
    force: bool,
}

pub(super) fn command() -> Command {
    EvictArgs::augment_args(Command::new("evict"))
}

pub(super) fn run(matches: &ArgMatches) -> anyhow::Result<()> {
    let args = EvictArgs::from_arg_matches(matches)?;
    let mut failed = Failures::default();
    let (mut all_files, mut all_bytes) = (0, 0);
    for Target { mount, paths } in targets::in_mounts(&args.paths)? {
        let request = Request::Evict {
            paths,
            recursive: args.recursive,
            force: args.force,
        };
        let Reply::Evicted { files, bytes, failures } = targets::ask_once(&mount, &request)? else {
            return Err(targets::unexpected(&mount));
        };
        all_files += files;
        all_bytes += bytes;
        failed.add(&mount, &failures, failures.len() as u64);
    }
    output::line(format_args!(
        "{}: {} evicted",
        output::count(all_files, "file"),
        ByteSize(all_bytes)
    ))?;
    failed.end("evicted")
}
