//! What the mount says, once a second, and requests to it. On threads of their own, so that keys are obeyed at once
//! even while the mount is slow.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use crate::cli::support::{failure, targets};
use crate::control::protocol::{FileMap, Reply, Request, TreePath};
use crate::control::status::Status;
use crate::mount::mountpoint::{self, InMount, InMountError};

/// How often the mount is asked.
const EVERY: Duration = Duration::from_secs(1);

/// Most files whose maps are asked for: more than a screen shows.
const MOST_MAPS: usize = 24;

/// What the mount said at one moment.
#[derive(Debug, Clone)]
pub(super) struct Seen {
    pub(super) at: Instant,
    pub(super) status: Status,
    /// Of the open files that have a path.
    pub(super) maps: Vec<FileMap>,
}

/// News for the screen.
#[derive(Debug)]
pub(super) enum Update {
    /// The mount has answered.
    Seen(Box<Seen>),
    /// The mount does not answer: a sentence.
    Silent(String),
    /// What became of a request: a sentence.
    Done(String),
}

/// Asks the mount.
pub(super) struct Feed {
    mount: Arc<InMount>,
    tell: Sender<Update>,
}

impl Feed {
    /// Begins to ask. Ends when the receiver is dropped.
    pub(super) fn start(mount: InMount) -> (Feed, Receiver<Update>) {
        let (tell, updates) = channel();
        let feed = Feed {
            mount: Arc::new(mount),
            tell,
        };
        let (mount, tell) = (Arc::clone(&feed.mount), feed.tell.clone());
        std::thread::spawn(move || {
            loop {
                let update = match look(&mount, true) {
                    Ok(seen) => Update::Seen(Box::new(seen)),
                    Err(error) => Update::Silent(silence(&mount, &error)),
                };
                if tell.send(update).is_err() {
                    return;
                }
                std::thread::sleep(EVERY);
            }
        });
        (feed, updates)
    }

    /// Sends a request that has one reply.
    pub(super) fn ask(&self, request: Request) {
        let (mount, tell) = (Arc::clone(&self.mount), self.tell.clone());
        std::thread::spawn(move || {
            let outcome = match targets::ask_once(&mount, &request) {
                Ok(reply) => outcome(&reply),
                Err(error) => failure::sentence(&error),
            };
            // The screen may be gone.
            let _ = tell.send(Update::Done(outcome));
        });
    }
}

/// Why the mount does not answer.
fn silence(mount: &InMount, error: &anyhow::Error) -> String {
    match mountpoint::find_unasked(&mount.mountpoint) {
        Ok(_) => failure::sentence(error),
        Err(InMountError::NotInMount(_)) => format!("the mount on {} has ended", mount.mountpoint.display()),
        Err(gone) => gone.to_string(),
    }
}

/// Asks the mount once.
pub(super) fn look(mount: &InMount, at_once: bool) -> anyhow::Result<Seen> {
    let Reply::Status(status) = targets::ask_once(mount, &Request::Status { at_once })? else {
        return Err(targets::unexpected(mount));
    };
    let paths: BTreeSet<TreePath> = status.open_files.iter().filter_map(|file| file.path.clone()).collect();
    let paths: Vec<TreePath> = paths.into_iter().take(MOST_MAPS).collect();
    let maps = match paths.is_empty() {
        true => Vec::new(),
        false => match targets::ask_once(mount, &Request::Map { paths })? {
            Reply::Maps { files, .. } => files,
            _ => return Err(targets::unexpected(mount)),
        },
    };
    Ok(Seen {
        at: Instant::now(),
        status: *status,
        maps,
    })
}

/// What became of a request.
fn outcome(reply: &Reply) -> String {
    let failed = match reply {
        Reply::Pinned { failures, .. } | Reply::Evicted { failures, .. } => failures.first(),
        _ => None,
    };
    match (failed, reply) {
        (Some(failed), _) => format!("{}: {}", failed.path.as_path().display(), failed.reason),
        (None, Reply::Pinned { job: Some(job), .. }) => format!("pinned; job {job} fetches it"),
        (None, Reply::Pinned { .. }) => "pinned".to_owned(),
        (None, Reply::Evicted { bytes, .. }) => format!("{} evicted", crate::cli::support::output::size(*bytes)),
        (None, Reply::Started { job }) => format!("job {job} fetches it"),
        (None, Reply::Options { options }) => {
            let shown = options.iter().map(|option| {
                let value = option.value.as_deref().unwrap_or("off");
                format!("{} is {value}", option.key)
            });
            shown.collect::<Vec<_>>().join(", ")
        }
        _ => "done".to_owned(),
    }
}
