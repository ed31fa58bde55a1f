//! `fetchfs status --check`: whether mounts do their work, for health checks of containers and monitoring.
//!
//! Only their processes are asked, over their control sockets. **The file system gets no request**, and the command
//! ends in time whatever hangs: each mount is asked on a thread of its own, which is left behind if need be.

use std::path::PathBuf;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow, bail};

use crate::cli::support::{failure, output, targets};
use crate::control::protocol::{Reply, Request};
use crate::mount::mountpoint::{self, InMount, InMountError};

/// Time for all of them. The rest of a second is for the start of the program.
const PATIENCE: Duration = Duration::from_millis(800);

/// Says of each of these mounts whether it is well; without paths, of all mounts of this user.
pub(super) fn run(paths: &[PathBuf]) -> anyhow::Result<()> {
    let deadline = Instant::now() + PATIENCE;
    let (tell, told) = mpsc::channel();
    let mut names: Vec<String> = Vec::new();
    let mut begin = |name: String, find: Box<dyn FnOnce() -> Result<InMount, InMountError> + Send>| {
        let (number, tell) = (names.len(), tell.clone());
        names.push(name);
        // The receiver may have given up.
        std::thread::spawn(move || tell.send((number, check(find))));
    };
    if paths.is_empty() {
        for mount in mountpoint::all_unasked().context("can't read the mount table")? {
            let name = match &mount {
                Ok(mount) => mount.mountpoint.display().to_string(),
                Err(_) => String::new(),
            };
            begin(name, Box::new(move || mount));
        }
    } else {
        for path in paths {
            let wanted = path.clone();
            begin(
                path.display().to_string(),
                Box::new(move || mountpoint::find_unasked(&wanted)),
            );
        }
    }
    let mut outcomes: Vec<Option<anyhow::Result<String>>> = names.iter().map(|_| None).collect();
    while outcomes.iter().any(Option::is_none) {
        match told.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok((number, outcome)) => outcomes[number] = Some(outcome),
            Err(_) => break,
        }
    }
    let silent = || humantime::format_duration(PATIENCE);
    let silent = |name: &str| anyhow!("{name}: its process has not responded for {}; see its log", silent());
    let mut failed = Vec::new();
    for (name, outcome) in names.iter().zip(outcomes) {
        match outcome.unwrap_or_else(|| Err(silent(name))) {
            Ok(line) => output::line(line)?,
            Err(error) => failed.push(error),
        }
    }
    if names.is_empty() {
        bail!("nothing is mounted by fetchfs");
    }
    // The last one is the command's own.
    let last = failed.pop();
    failed
        .iter()
        .for_each(|error| eprintln!("fetchfs: {}", failure::sentence(error)));
    last.map_or(Ok(()), Err)
}

/// The line of a mount that is well.
fn check(find: Box<dyn FnOnce() -> Result<InMount, InMountError> + Send>) -> anyhow::Result<String> {
    let mount = find()?;
    let Reply::Checked { notes } = targets::ask_once(&mount, &Request::Check)? else {
        return Err(targets::unexpected(&mount));
    };
    let notes: String = notes.iter().map(|note| format!("; {note}")).collect();
    Ok(format!("{}: well{notes}", mount.mountpoint.display()))
}
