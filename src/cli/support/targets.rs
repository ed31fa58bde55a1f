//! From typed paths to the mounts that contain them, and requests to these mounts.

use std::collections::BTreeMap;
use std::panic::resume_unwind;
use std::path::PathBuf;
use std::thread::ScopedJoinHandle;

use anyhow::{Context, bail};

use super::{failure, output};
use crate::control::Client;
use crate::control::protocol::{Failure, OptionShown, Reply, Request, TreePath};
use crate::mount::mountpoint::{self, InMount};

/// Paths in one mount.
pub(in crate::cli) struct Target {
    pub(in crate::cli) mount: InMount,
    pub(in crate::cli) paths: Vec<TreePath>,
}

/// Groups paths by their mounts and makes them relative to the mountpoints.
pub(in crate::cli) fn in_mounts(paths: &[PathBuf]) -> anyhow::Result<Vec<Target>> {
    let mut targets: BTreeMap<PathBuf, Target> = BTreeMap::new();
    for path in paths {
        let mount = mountpoint::find(path)?;
        let inside = TreePath::new(mount.inside.clone()).context("a path with a zero byte")?;
        let target = targets.entry(mount.mountpoint.clone()).or_insert_with(|| Target {
            mount,
            paths: Vec::new(),
        });
        target.paths.push(inside);
    }
    Ok(targets.into_values().collect())
}

/// The mounts that contain these paths; without paths, all mounts of this user. Dead mounts among the latter are
/// named on standard error and left out, so the others are still reported.
pub(in crate::cli) fn mounts(paths: &[PathBuf]) -> anyhow::Result<Vec<InMount>> {
    if !paths.is_empty() {
        return Ok(in_mounts(paths)?.into_iter().map(|target| target.mount).collect());
    }
    let all = mountpoint::all().context("can't read the mount table")?;
    let alive = all
        .into_iter()
        .filter_map(|mount| mount.inspect_err(|error| eprintln!("fetchfs: {error}")).ok());
    Ok(alive.collect())
}

/// The mount that contains the path; without a path, the only mount of this user.
pub(in crate::cli) fn the_mount(paths: &[PathBuf]) -> anyhow::Result<InMount> {
    let mut mounts = mounts(paths)?;
    match mounts.len() {
        1 => Ok(mounts.remove(0)),
        0 => bail!("nothing is mounted by fetchfs"),
        _ => bail!("there are several mounts; name a mountpoint"),
    }
}

/// Sends a request to a mount.
pub(in crate::cli) fn ask(mount: &InMount, request: &Request) -> anyhow::Result<Client> {
    Client::ask(&mount.address, request).with_context(|| mount.mountpoint.display().to_string())
}

/// Sends a request that has one reply to a mount.
pub(in crate::cli) fn ask_once(mount: &InMount, request: &Request) -> anyhow::Result<Reply> {
    let reply = ask(mount, request)?.reply();
    reply.with_context(|| mount.mountpoint.display().to_string())
}

/// Sends a request that has one reply to the mounts that contain these paths; without paths, to all mounts of this
/// user. Among the latter, mounts that can't be asked, for example because they are ending, are named on standard
/// error. All are asked in parallel, so several hanging mounts cost one time limit.
pub(in crate::cli) fn ask_all(
    paths: &[PathBuf],
    request: &Request,
    mut take: impl FnMut(&InMount, Reply) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let mounts = mounts(paths)?;
    let replies: Vec<_> = std::thread::scope(|scope| {
        let asked: Vec<_> = mounts
            .iter()
            .map(|mount| scope.spawn(|| ask_once(mount, request)))
            .collect();
        let hear = |thread: ScopedJoinHandle<'_, _>| thread.join().unwrap_or_else(|panic| resume_unwind(panic));
        asked.into_iter().map(hear).collect()
    });
    for (mount, reply) in mounts.iter().zip(replies) {
        match reply {
            Ok(reply) => take(mount, reply)?,
            Err(error) if paths.is_empty() => eprintln!("fetchfs: {}", failure::sentence(&error)),
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Says what keeps changed options from having their full effect.
pub(in crate::cli) fn warn_of_notes(options: &[OptionShown]) {
    for option in options {
        if let Some(note) = &option.note {
            eprintln!("fetchfs: {}: {note}", option.key);
        }
    }
}

/// The error for a reply that does not match the request.
pub(in crate::cli) fn unexpected(mount: &InMount) -> anyhow::Error {
    anyhow::anyhow!("{}: unexpected reply", mount.mountpoint.display())
}

/// Reports that a job has started.
pub(in crate::cli) fn say_started(mount: &InMount, job: u64) -> anyhow::Result<()> {
    let place = mount.mountpoint.display();
    output::line(format_args!(
        "job {job} on {place}; `fetchfs prefetch --list` shows its progress"
    ))
}

/// The path below the mountpoint as a path of the system.
pub(in crate::cli) fn shown(mount: &InMount, path: &TreePath) -> String {
    let shown = path.as_path().strip_prefix(&mount.root).unwrap_or(path.as_path());
    match shown.as_os_str().is_empty() {
        true => mount.mountpoint.display().to_string(),
        false => mount.mountpoint.join(shown).display().to_string(),
    }
}

/// The failures of a command, over all mounts.
#[derive(Default)]
pub(in crate::cli) struct Failures {
    /// The first failures, one sentence each.
    told: Vec<String>,
    count: u64,
}

impl Failures {
    /// Adds `count` failures of a mount; `told` holds the first of them.
    pub(in crate::cli) fn add(&mut self, mount: &InMount, told: &[Failure], count: u64) {
        let sentence = |failure: &Failure| format!("{}: {}", shown(mount, &failure.path), failure.reason);
        self.told.extend(told.iter().map(sentence));
        self.count += count;
    }

    /// Reports what could not be `done`. A single failure becomes the error itself.
    pub(in crate::cli) fn end(mut self, done: &str) -> anyhow::Result<()> {
        match (self.count, self.told.pop()) {
            (0, _) => Ok(()),
            (1, Some(only)) => bail!(only),
            (count, last) => {
                self.told
                    .iter()
                    .chain(&last)
                    .for_each(|failure| eprintln!("fetchfs: {failure}"));
                bail!("{count} paths could not be {done}")
            }
        }
    }
}
