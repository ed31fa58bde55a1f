//! `fetchfs mount -o remount`: changes options of a mount, as mount(8) asks for it.

use anyhow::bail;
use clap::ArgMatches;

use crate::cli::support::scrub_argv::hide_secrets;
use crate::cli::support::targets;
use crate::config::{MountArgs, mount_command, remount_options};
use crate::control::protocol::{Reply, Request};

/// Asks the process that serves the mount to take the options over. `by_options` are the flags that `-o` stands for.
pub(super) fn run(args: MountArgs, by_options: &[String], typed: &ArgMatches) -> anyhow::Result<()> {
    hide_secrets();
    let mount = targets::the_mount(&[args.mountpoint()])?;
    if !mount.inside.as_os_str().is_empty() {
        bail!(
            "{} is not a mountpoint; name {}",
            args.mountpoint().display(),
            mount.mountpoint.display()
        );
    }
    if args.is_dry_run() {
        return Ok(());
    }
    let request = Request::Remount {
        source: args.source_name(),
        options: remount_options(&mount_command(), by_options, typed),
    };
    match targets::ask_once(&mount, &request)? {
        Reply::Options { options } => {
            targets::warn_of_notes(&options);
            Ok(())
        }
        _ => Err(targets::unexpected(&mount)),
    }
}
