//! `fetchfs unmount`: ends mounts, and returns when their processes are gone.

use std::path::PathBuf;

use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};

use super::support::failure::sentence;
use crate::mount::mountpoint::{self, Ended, Mode};

const LONG_ABOUT: &str = "\
End mounts

Returns when nothing of them is left: what was downloaded is recorded, and the process that served the mount has ended. A mount \
whose process was killed is cleaned up. When the mount is in use, it says by whom.";

pub(super) fn command() -> Command {
    Command::new("unmount")
        .visible_alias("umount")
        .about("End mounts")
        .long_about(LONG_ABOUT)
        .arg(
            Arg::new("mountpoint")
                .value_name("MOUNTPOINT")
                .required(true)
                .num_args(1..)
                .value_parser(value_parser!(PathBuf))
                .help("The directories on which fetchfs is mounted"),
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
    let mode = if matches.get_flag("lazy") {
        Mode::Lazy
    } else {
        Mode::Normal
    };
    let mut last = Ok(());
    for path in matches.get_many::<PathBuf>("mountpoint").expect("clap requires one") {
        match mountpoint::unmount(path, mode) {
            Ok(Ended::Detached { pid }) => eprintln!(
                "fetchfs: {} is no longer mounted; process {pid} ends when its last user lets go",
                path.display()
            ),
            Ok(Ended::Elsewhere(places)) => {
                let places: Vec<_> = places.iter().map(|place| place.display().to_string()).collect();
                eprintln!(
                    "fetchfs: {} is unmounted, but it had been bound, and is still mounted on {}",
                    path.display(),
                    places.join(" and ")
                );
            }
            Ok(Ended::Wholly) => {}
            // One mount that stays does not keep the others. The last such error is returned.
            Err(error) => {
                if let Err(earlier) = std::mem::replace(&mut last, Err(error)) {
                    eprintln!("fetchfs: {}", sentence(&earlier.into()));
                }
            }
        }
    }
    Ok(last?)
}
