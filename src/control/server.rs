//! The daemon's end of the socket.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use nix::unistd::geteuid;
use serde::Serialize;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{UnixListener, UnixStream};
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::Control;
use super::prefetch::{self, Tally};
use super::protocol::{Fetched, Hello, LONGEST_REQUEST, Reply, Request, Wanted};

/// Connections at a time. More wait for their turn in the socket's queue.
const CONNECTIONS: usize = 16;

/// How long a client may take to say what it wants, and to take an answer: longer, and it is stuck.
const PATIENCE: Duration = Duration::from_secs(10);

/// How often progress is told.
const TELLING: Duration = Duration::from_millis(200);

/// Failures that are told; the others are counted, and in the log.
const FAILURES_TOLD: usize = 10;

/// Begins to listen at `socket`, in the place of whatever was left there.
///
/// # Errors
/// When no socket can be made there.
pub fn serve(socket: &Path, control: Arc<Control>, runtime: &Handle) -> io::Result<()> {
    match fs::remove_file(socket) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let _in_runtime = runtime.enter();
    let listener = UnixListener::bind(socket)?;
    // Until now the directory, which is only this user's, has kept others out.
    fs::set_permissions(socket, Permissions::from_mode(0o600))?;
    runtime.spawn(accept(listener, control));
    Ok(())
}

async fn accept(listener: UnixListener, control: Arc<Control>) {
    let turns = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        // An error would mean that the semaphore was closed, which nobody does.
        let Ok(turn) = Arc::clone(&turns).acquire_owned().await else {
            return;
        };
        match listener.accept().await {
            Ok((stream, _)) if is_allowed(&stream) => {
                let control = Arc::clone(&control);
                tokio::spawn(async move {
                    if let Err(error) = converse(stream, control).await {
                        log::debug!("control socket: {error}");
                    }
                    drop(turn);
                });
            }
            Ok(_) => log::warn!("control socket: another user was turned away"),
            Err(error) => {
                log::warn!("control socket: {error}");
                // Out of descriptors, say: trying again at once would only burn time.
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        }
    }
}

/// Whether the process at the other end is this user's, or root's (SO_PEERCRED, unix(7)).
fn is_allowed(stream: &UnixStream) -> bool {
    let user = stream.peer_cred().map(|peer| peer.uid());
    user.is_ok_and(|user| user == geteuid().as_raw() || user == 0)
}

/// One connection: greeting, request, replies.
async fn converse(stream: UnixStream, control: Arc<Control>) -> io::Result<()> {
    let (reader, mut writer) = stream.into_split();
    let mut reader = BufReader::new(reader);
    say(&mut writer, &Hello::ours()).await?;
    let mut line = Vec::new();
    in_time((&mut reader).take(LONGEST_REQUEST).read_until(b'\n', &mut line)).await?;
    if line.is_empty() {
        return Ok(());
    }
    let last = match serde_json::from_slice(&line) {
        Err(error) => refused(format!("the request is not understood: {error}")),
        Ok(request) => tokio::select! {
            reply = answer(&control, request, &mut writer) => reply?,
            // Dropping the answer takes back what it has asked for.
            () = gone(reader) => return Ok(()),
        },
    };
    say(&mut writer, &last).await
}

/// Returns when the client has closed its end, or says something though it has had its say.
async fn gone(mut reader: BufReader<OwnedReadHalf>) {
    let _ = reader.fill_buf().await;
}

/// Does what is asked. Gives back the last reply; the others it has sent itself.
async fn answer(control: &Arc<Control>, request: Request, writer: &mut OwnedWriteHalf) -> io::Result<Reply> {
    Ok(match request {
        Request::Prefetch { wanted } => Reply::Fetched(fetch(control, wanted, writer).await?),
        Request::PrefetchInBackground { wanted } => {
            let jobs = Arc::clone(&control.jobs);
            match control.with_cache(move |_| jobs.start(wanted)).await {
                Some(job) => Reply::Started { job },
                None => refused("the job can't be started: the mount is being ended".to_owned()),
            }
        }
        Request::ListJobs => Reply::Jobs {
            jobs: control.jobs.list(),
        },
        Request::CancelJob { job } if control.jobs.cancel(job) => Reply::Done,
        Request::CancelJob { job } => refused(format!(
            "there is no prefetch job {job} on {}; `fetchfs prefetch --list` shows which there are",
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
        Request::Status => Reply::Status(Box::new(control.status().await)),
    })
}

/// Fetches, and tells how it goes, until it is done or the caller drops this.
async fn fetch(control: &Control, wanted: Wanted, writer: &mut OwnedWriteHalf) -> io::Result<Fetched> {
    let tally = Arc::new(Tally::default());
    // A task of its own, so that a client that is slow to listen holds nothing up. Ended when the set is dropped.
    let mut fetching = JoinSet::new();
    fetching.spawn(prefetch::run(control.tools(), wanted, Arc::clone(&tally)));
    let mut ticks = tokio::time::interval(TELLING);
    loop {
        tokio::select! {
            done = fetching.join_next() => {
                let failed = done.and_then(Result::ok).ok_or_else(|| io::Error::other("the prefetch was broken off"))?;
                return Ok(Fetched {
                    progress: tally.progress(),
                    failures: failed.iter().take(FAILURES_TOLD).map(prefetch::Failed::told).collect(),
                });
            }
            _ = ticks.tick() => say(writer, &Reply::Progress(tally.progress())).await?,
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
