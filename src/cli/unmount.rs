//! `fetchfs unmount`: ends a mount, and returns when nothing of it is left.

use std::path::PathBuf;

use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};

use crate::fuse::mountpoint::{self, Ended, Mode};

const LONG_ABOUT: &str = "\
End a mount

Returns when nothing of it is left: what was downloaded is recorded, and the process that served the mount has ended. A mount \
whose process was killed is cleaned up. When the mount is in use, it says by whom.";

pub(super) fn command() -> Command {
    Command::new("unmount")
        .visible_alias("umount")
        .about("End a mount")
        .long_about(LONG_ABOUT)
        .arg(
            Arg::new("mountpoint")
                .value_name("MOUNTPOINT")
                .required(true)
                .value_parser(value_parser!(PathBuf))
                .help("The directory on which fetchfs is mounted"),
        )
        .arg(
            Arg::new("lazy")
                .long("lazy")
                .short('z')
                .visible_short_alias('l')
                .action(ArgAction::SetTrue)
                .help("Take the mount away even if it is in use; it ends when its last user lets go"),
        )
}

pub(super) fn run(matches: &ArgMatches) -> anyhow::Result<()> {
    let path: &PathBuf = matches.get_one("mountpoint").expect("clap requires it");
    let mode = if matches.get_flag("lazy") {
        Mode::Lazy
    } else {
        Mode::Normal
    };
    if let Ended::Detached { pid } = mountpoint::unmount(path, mode)? {
        eprintln!(
            "fetchfs: {} is no longer mounted; process {pid} ends when its last user lets go",
            path.display()
        );
    }
    Ok(())
}
