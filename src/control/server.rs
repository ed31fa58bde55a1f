//! The daemon's end of the control socket.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use nix::unistd::geteuid;
use serde::Serialize;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{UnixListener, UnixStream};
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::{AbortHandle, JoinSet};

use super::context::Control;
use super::pins::NOT_RECORDED;
use super::prefetch::{self, Tally};
use super::protocol::{Fetched, Hello, LONGEST_REQUEST, Refreshed, Reply, Request, TreePath, Wanted};
use super::refresh::{self, RefreshTally};
use super::status;
use crate::util::events;

/// Most connections that have not sent their request yet. More wait in the socket's queue.
const CONNECTIONS: usize = 16;

/// Most requests in progress; more are refused. Nearly all of them are long prefetches, so the limit is high: a short
/// request must not wait for those.
const REQUESTS: usize = 256;

/// Most prefetches that run for waiting clients. More queue, and their clients get a message.
const PREFETCHES: usize = 16;

/// Maximum time for a client to send its request or to read a reply. A slower client counts as stuck.
const PATIENCE: Duration = Duration::from_secs(10);

/// Interval of progress reports.
const TELLING: Duration = Duration::from_millis(200);

/// Most failures in a reply. Further ones are counted, and logged.
const FAILURES_TOLD: usize = 10;

/// Listens at `socket` and replaces any file there. The returned handle stops it.
///
/// # Errors
/// If the socket can't be created.
pub(crate) fn serve(socket: &Path, control: Arc<Control>, runtime: &Handle) -> io::Result<AbortHandle> {
    match fs::remove_file(socket) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let _in_runtime = runtime.enter();
    let listener = UnixListener::bind(socket)?;
    // So far only the directory's permissions have kept other users out.
    fs::set_permissions(socket, Permissions::from_mode(0o600))?;
    Ok(runtime.spawn(accept(listener, control)).abort_handle())
}

/// Begins to listen at an abstract address, to which any user can connect; a client without permission is turned away. Until what is
/// returned is told to stop.
///
/// # Errors
/// If the address is in use.
pub(crate) fn serve_at(address: &SocketAddr, control: Arc<Control>, runtime: &Handle) -> io::Result<AbortHandle> {
    let _in_runtime = runtime.enter();
    let listener = std::os::unix::net::UnixListener::bind_addr(address)?;
    listener.set_nonblocking(true)?;
    let listener = UnixListener::from_std(listener)?;
    Ok(runtime.spawn(accept(listener, control)).abort_handle())
}

/// Limits on the work that clients cause.
struct Turns {
    requests: Semaphore,
    prefetches: Semaphore,
}

async fn accept(listener: UnixListener, control: Arc<Control>) {
    let connections = Arc::new(Semaphore::new(CONNECTIONS));
    let turns = Arc::new(Turns {
        requests: Semaphore::new(REQUESTS),
        prefetches: Semaphore::new(PREFETCHES),
    });
    loop {
        // An error would mean that the semaphore was closed, which never happens.
        let Ok(turn) = Arc::clone(&connections).acquire_owned().await else {
            return;
        };
        match listener.accept().await {
            Ok((stream, _)) if is_allowed(&stream) => {
                let (control, turns) = (Arc::clone(&control), Arc::clone(&turns));
                tokio::spawn(async move {
                    tokio::select! {
                        outcome = converse(stream, &control, turn, &turns) => {
                            if let Err(error) = outcome {
                                log::debug!("control socket: {error}");
                            }
                        }
                        () = control.over() => {}
                    }
                });
            }
            // A client that searches for the mount's process learns only its process id.
            Ok(_) => log::debug!("control socket: a connection of another user was rejected"),
            Err(error) => {
                log::warn!(event = events::CONTROL_FAILED; "control socket: {error}");
                // For example no free descriptor: an immediate retry would only burn CPU time.
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        }
    }
}

/// Whether the peer process belongs to this user or to root (SO_PEERCRED, unix(7)).
fn is_allowed(stream: &UnixStream) -> bool {
    let user = stream.peer_cred().map(|peer| peer.uid());
    user.is_ok_and(|user| user == geteuid().as_raw() || user == 0)
}

/// Serves one connection: greeting, request, replies. `turn` is released once the request has arrived. So clients
/// that are slow to send and requests that are slow to run have separate limits.
async fn converse(
    stream: UnixStream,
    control: &Arc<Control>,
    turn: OwnedSemaphorePermit,
    turns: &Turns,
) -> io::Result<()> {
    let (reader, mut writer) = stream.into_split();
    let mut reader = BufReader::new(reader);
    say(&mut writer, &Hello::of(control.about.outlives_mount)).await?;
    let mut line = Vec::new();
    in_time((&mut reader).take(LONGEST_REQUEST).read_until(b'\n', &mut line)).await?;
    if line.is_empty() {
        return Ok(());
    }
    drop(turn);
    let last = match (serde_json::from_slice(&line), turns.requests.try_acquire()) {
        (Err(error), _) => refused(format!("invalid request: {error}")),
        (_, Err(_)) => refused(format!(
            "this mount already handles {REQUESTS} requests; try again later"
        )),
        (Ok(request), Ok(_held_until_it_is_answered)) => tokio::select! {
            reply = answer(control, request, turns, &mut writer) => reply?,
            // Dropping the answer cancels its work.
            () = gone(reader) => return Ok(()),
        },
    };
    say(&mut writer, &last).await
}

/// Returns when the client closes its end, or sends more than its one request.
async fn gone(mut reader: BufReader<OwnedReadHalf>) {
    let _ = reader.fill_buf().await;
}

/// Carries out a request. Returns the last reply; earlier ones are sent inside.
async fn answer(
    control: &Arc<Control>,
    request: Request,
    turns: &Turns,
    writer: &mut OwnedWriteHalf,
) -> io::Result<Reply> {
    Ok(match request {
        Request::Prefetch { wanted } => Reply::Fetched(fetch(control, wanted, turns, writer).await?),
        Request::PrefetchInBackground { wanted } => {
            let jobs = Arc::clone(&control.jobs);
            match control.with_cache(move |_| jobs.start(wanted)).await {
                Some(Some(job)) => Reply::Started { job },
                Some(None) => refused(format!("the job can't be started: {NOT_RECORDED}")),
                None => refused("the job can't be started: the mount is shutting down".to_owned()),
            }
        }
        Request::ListJobs => Reply::Jobs {
            jobs: control.jobs.list(),
        },
        Request::CancelJob { job } if control.jobs.cancel(job) => Reply::Done,
        Request::CancelJob { job } => refused(format!(
            "there is no prefetch job {job} on {}; `fetchfs prefetch --list` lists the jobs",
            control.about.mountpoint.display()
        )),
        Request::Pin { paths, fetch } => control.pin(paths, fetch).await,
        Request::Unpin { paths } => control.unpin(paths).await,
        Request::ListPins => control.list_pins().await,
        Request::Evict {
            paths,
            recursive,
            force,
        } => control.evict(paths, recursive, force).await,
        Request::Map { paths } => control.maps(paths).await,
        Request::Explain { paths } => control.explain(paths).await,
        Request::Refresh { paths, recursive } => refresh(control, paths, recursive, writer).await?,
        Request::GetOptions { key } => control.get_options(key).await,
        Request::SetOptions { assignments } => control.set_options(assignments).await,
        Request::Remount { source, options } => control.remount(source, options).await,
        Request::Check => Reply::Checked { notes: control.notes() },
        Request::Reload => reload(control).await,
        Request::AwaitEnd => std::future::pending().await,
        Request::Status { at_once } => Reply::Status(Box::new(status::measure(control, at_once).await)),
    })
}

async fn reload(control: &Control) -> Reply {
    let Some(library) = &control.library else {
        return refused(format!(
            "no library is mounted on {}; SIGHUP refreshes the listings of any mount",
            control.about.mountpoint.display()
        ));
    };
    let reload = Arc::clone(&library.reload);
    match control.with_cache(move |_| reload()).await {
        Some(Ok(reloaded)) => Reply::Reloaded(reloaded),
        Some(Err(why)) => refused(why),
        None => refused("the mount is shutting down".to_owned()),
    }
}

/// Fetches and reports progress until it is done or the future is dropped.
async fn fetch(control: &Control, wanted: Wanted, turns: &Turns, writer: &mut OwnedWriteHalf) -> io::Result<Fetched> {
    let tally = Arc::new(Tally::default());
    // A task of its own, so that a client that reads slowly does not delay the fetch. Dropping the set ends it.
    let mut fetching = JoinSet::new();
    let mut ticks = tokio::time::interval(TELLING);
    let turn = turns.prefetches.acquire();
    tokio::pin!(turn);
    let mut wanted = Some(wanted);
    let mut held = None;
    loop {
        tokio::select! {
            turn = &mut turn, if held.is_none() => {
                // The semaphore is never closed.
                held = turn.ok();
                if let Some(wanted) = wanted.take() {
                    fetching.spawn(prefetch::run(control.tools(), wanted, Arc::clone(&tally)));
                }
            }
            done = fetching.join_next(), if held.is_some() => {
                let failed = done.and_then(Result::ok).ok_or_else(|| io::Error::other("the prefetch was aborted"))?;
                return Ok(Fetched {
                    progress: tally.progress(),
                    failures: failed.iter().take(FAILURES_TOLD).map(prefetch::Failed::told).collect(),
                });
            }
            _ = ticks.tick() => say(writer, &Reply::Progress(tally.progress())).await?,
        }
    }
}

/// Refreshes and reports progress until it is done or the future is dropped.
async fn refresh(
    control: &Control,
    paths: Vec<TreePath>,
    recursive: bool,
    writer: &mut OwnedWriteHalf,
) -> io::Result<Reply> {
    let tally = Arc::new(RefreshTally::default());
    // Dropping the set ends it.
    let mut refreshing = JoinSet::new();
    refreshing.spawn(refresh::run(
        Arc::clone(&control.tree),
        paths,
        recursive,
        Arc::clone(&tally),
    ));
    let mut ticks = tokio::time::interval(TELLING);
    loop {
        tokio::select! {
            done = refreshing.join_next() => {
                let failed = done.and_then(Result::ok).ok_or_else(|| io::Error::other("the refresh was aborted"))?;
                return Ok(Reply::Refreshed {
                    counts: Refreshed {
                        failed: failed.len() as u64,
                        ..tally.counts()
                    },
                    failures: failed.into_iter().take(FAILURES_TOLD).collect(),
                });
            }
            _ = ticks.tick() => say(writer, &Reply::Refreshing(tally.counts())).await?,
        }
    }
}

fn refused(reason: String) -> Reply {
    Reply::Refused { reason }
}

async fn say(writer: &mut OwnedWriteHalf, what: &impl Serialize) -> io::Result<()> {
    let mut line = serde_json::to_vec(what)?;
    line.push(b'\n');
    in_time(writer.write_all(&line)).await
}

async fn in_time<T>(work: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    tokio::time::timeout(PATIENCE, work)
        .await
        .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}
