//! How a mount is that exists already: by its control socket, never by its files, which may hang.

use std::path::Path;
use std::time::Duration;

use anyhow::Context;

use super::{Finding, Section};
use crate::cli::support::failure::sentence;
use crate::cli::support::targets;
use crate::control::protocol::{Reply, Request};
use crate::control::status::{SourceState, Status};
use crate::mount::mountpoint::{self, InMount, InMountError};

const SUBJECT: &str = "mount";

/// All mounts of this user.
///
/// # Errors
/// If the mount table can't be read.
pub(super) fn all() -> anyhow::Result<Vec<Section>> {
    let all = mountpoint::all().context("can't read the mount table")?;
    Ok(all.into_iter().map(of).collect())
}

/// The mount that this path is in, if it is in one.
pub(super) fn at(path: &Path) -> Option<Section> {
    match mountpoint::find(path) {
        Err(InMountError::NotInMount(_) | InMountError::Io { .. }) => None,
        found => Some(of(found)),
    }
}

fn of(found: Result<InMount, InMountError>) -> Section {
    let mount = match found {
        Ok(mount) => mount,
        Err(error) => {
            return Section {
                of: "a mount".to_owned(),
                findings: vec![Finding::failed(SUBJECT, &error.to_string())],
            };
        }
    };
    let findings = match targets::ask_once(&mount, &Request::Status { at_once: true }) {
        Ok(Reply::Status(status)) => of_status(&status),
        Ok(_) => vec![Finding::bad(
            SUBJECT,
            "it gives an unexpected reply",
            "mount again with this version",
        )],
        Err(error) => vec![Finding::bad(
            SUBJECT,
            sentence(&error),
            "if that lasts: `fetchfs unmount --lazy` it, and mount again",
        )],
    };
    Section {
        of: mount.mountpoint.display().to_string(),
        findings,
    }
}

fn of_status(status: &Status) -> Vec<Finding> {
    let time = |seconds| humantime::format_duration(Duration::from_secs(seconds));
    let mut findings = vec![Finding::good(
        SUBJECT,
        format!("process {} serves {} and answers", status.pid, status.source),
    )];
    let own = env!("CARGO_PKG_VERSION");
    if status.version != own {
        findings.push(Finding::note(
            "version",
            format!("it is served by fetchfs {}, and this is {own}", status.version),
            "unmount, and mount again",
        ));
    }
    findings.push(match &status.cache_trouble {
        None => Finding::good("cache", status.cache_dir.clone()),
        Some(why) => Finding::bad(
            "cache",
            format!("{why}; reads bypass it"),
            "repair that; the mount uses the cache again by itself",
        ),
    });
    for source in &status.sources {
        if source.state == SourceState::Down {
            let why = source.reason.as_deref().unwrap_or("it can't be listed");
            findings.push(Finding::bad(
                "source",
                format!("/{}: {}: {why}", source.at, source.url),
                "`fetchfs doctor` with that source says more",
            ));
        }
    }
    for down in &status.down {
        findings.push(Finding::bad(
            "server",
            format!(
                "{} has been down for {}: {}",
                down.origin,
                time(down.seconds),
                down.reason
            ),
            "look at the server and the way to it; it is asked again by itself",
        ));
    }
    if status.down.is_empty() {
        findings.push(Finding::good("server", "no server is known to be down"));
    }
    findings
}
