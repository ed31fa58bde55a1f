//! `fetchfs unmount`: ends mounts, and returns when their processes are gone.

use std::path::PathBuf;

use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};

use crate::cli::support::failure::sentence;
use crate::mount::mountpoint::{self, Ended, Mode};

const LONG_ABOUT: &str = "\
Unmount

Returns when the process that serves the mount has ended and everything that it downloaded is recorded, or when a \
program that goes on without the mount has released it. The mount of a process that was killed is cleaned up. If the mount is busy, the error names the processes that use it.";

pub(in crate::cli) fn command() -> Command {
    Command::new("unmount")
        .visible_alias("umount")
        .about("Unmount")
        .long_about(LONG_ABOUT)
        .arg(
            Arg::new("mountpoint")
                .value_name("MOUNTPOINT")
                .required_unless_present("all")
                .num_args(1..)
                .value_parser(value_parser!(PathBuf))
                .help("The mountpoints"),
        )
        .arg(
            Arg::new("all")
                .long("all")
                .short('a')
                .conflicts_with("mountpoint")
                .action(ArgAction::SetTrue)
                .help("Unmount all mounts of this user, or of all users for root"),
        )
        .arg(
            Arg::new("lazy")
                .long("lazy")
                .short('z')
                .visible_short_alias('l')
                .action(ArgAction::SetTrue)
                .help("Detach the mount even if it is busy; it ends when the last open file is closed"),
        )
}

pub(in crate::cli) fn run(matches: &ArgMatches) -> anyhow::Result<()> {
    let mode = if matches.get_flag("lazy") {
        Mode::Lazy
    } else {
        Mode::Normal
    };
    let mut last = Ok(());
    let paths: Vec<PathBuf> = match matches.get_many::<PathBuf>("mountpoint") {
        Some(named) => named.cloned().collect(),
        None => all()?,
    };
    for path in &paths {
        match mountpoint::unmount(path, mode) {
            Ok(Ended::Detached { pid }) => eprintln!(
                "fetchfs: {} is detached; process {pid} serves it until the last open file is closed",
                path.display()
            ),
            // They come next.
            Ok(Ended::Elsewhere(places)) if places.iter().all(|place| paths.contains(place)) => {}
            Ok(Ended::Elsewhere(places)) => {
                let places: Vec<_> = places.iter().map(|place| place.display().to_string()).collect();
                eprintln!(
                    "fetchfs: {} is unmounted, but bind mounts of it remain on {}",
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

/// The mountpoints of all mounts that this user may end, the latest first: it may be inside another.
fn all() -> anyhow::Result<Vec<PathBuf>> {
    let mounts = mountpoint::list()?.into_iter().filter(|mount| mount.is_allowed);
    let places = mounts.flat_map(|mount| std::iter::once(mount.mountpoint).chain(mount.elsewhere));
    let mut places: Vec<PathBuf> = places.collect();
    places.reverse();
    Ok(places)
}
