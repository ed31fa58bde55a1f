//! `fetchfs evict`: deletes files from the cache now.

use std::path::PathBuf;

use bytesize::ByteSize;
use clap::{ArgMatches, Args, Command, FromArgMatches};

use crate::cli::support::output;
use crate::cli::support::targets::{self, Failures, Target};
use crate::control::protocol::{Reply, Request};

/// Delete files from the cache
///
/// The files on the server do not change; a later read fetches them again. All cached versions of a file are deleted.
///
/// Some files are kept and listed, and then the exit status is 1: pinned files, files that are being read, open
/// complete files that the kernel reads directly (as root), and files that another mount has open.
#[derive(Args)]
struct EvictArgs {
    /// Files and directories in a mount
    #[arg(value_name = "PATH", required = true)]
    paths: Vec<PathBuf>,

    /// Evict all files below directories
    #[arg(long, short)]
    recursive: bool,

    /// Evict pinned files, too; their pins remain
    #[arg(long, short)]
    force: bool,
}

pub(in crate::cli) fn command() -> Command {
    EvictArgs::augment_args(Command::new("evict"))
}

pub(in crate::cli) fn run(matches: &ArgMatches) -> anyhow::Result<()> {
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
