//! Accepts connections, and bounds what they cost.
//!
//! A connection has [`PATIENCE`] from one request to the next, whatever it does meanwhile: send a head byte by byte, read
//! no answer, or nothing. So slow clients need no further limits, and they hold a place only for so long.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::AbortHandle;
use tokio::time::Instant;

use super::access::Access;
use super::answers::Answers;
use super::listener::{Listener, Socket, SocketFile};
use crate::control::Control;
use crate::util::events;

/// Most connections at a time; more wait in the socket's queue. A page has one or two, a scraper one.
const CONNECTIONS: usize = 64;

/// Time from the beginning of a connection or request to that of the next one. Then the connection is closed, idle or not.
const PATIENCE: Duration = Duration::from_secs(15);

/// Most bytes of a request's head, and of an answer that waits for its reader besides the body itself.
const BUFFER: usize = 16 << 10;

/// The status page of a mount, until it is dropped.
pub(crate) struct Serving {
    accepting: AbortHandle,
    file: Option<SocketFile>,
}

impl Drop for Serving {
    fn drop(&mut self) {
        // First, while the next mount sees that it is in use.
        drop(self.file.take());
        self.accepting.abort();
    }
}

/// Begins to answer. Connections end with the mount that `control` is of. `is_mounted` says whether that is where it was
/// mounted.
///
/// # Errors
/// If the system refuses to watch the socket.
pub(crate) fn serve(
    listener: Listener,
    control: Arc<Control>,
    is_mounted: Box<dyn Fn() -> bool + Send + Sync>,
    runtime: &Handle,
) -> std::io::Result<Serving> {
    let _in_runtime = runtime.enter();
    let port = match &listener.socket {
        Socket::Tcp(_, address) => address.port(),
        Socket::Unix(..) => 0,
    };
    let server = Arc::new(Server {
        access: Access::new(&listener.config, port),
        answers: Answers::new(Arc::clone(&control), is_mounted),
        control,
    });
    let (accepting, file) = match listener.socket {
        Socket::Tcp(socket, _) => {
            let socket = TcpListener::from_std(socket)?;
            let accept = accept(server, async move || {
                let (stream, _) = socket.accept().await?;
                let local = stream.local_addr()?;
                Ok((stream, Some(local)))
            });
            (runtime.spawn(accept), None)
        }
        Socket::Unix(socket, file) => {
            let socket = UnixListener::from_std(socket)?;
            let accept = accept(server, async move || Ok((socket.accept().await?.0, None)));
            (runtime.spawn(accept), Some(file))
        }
    };
    Ok(Serving {
        accepting: accepting.abort_handle(),
        file,
    })
}

struct Server {
    access: Access,
    answers: Answers,
    control: Arc<Control>,
}

async fn accept<S: AsyncRead + AsyncWrite + Send + Unpin + 'static>(
    server: Arc<Server>,
    next: impl AsyncFn() -> std::io::Result<(S, Option<SocketAddr>)>,
) {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        // An error would mean that the semaphore was closed, which never happens.
        let Ok(place) = Arc::clone(&places).acquire_owned().await else {
            return;
        };
        match next().await {
            Ok((stream, local)) => drop(tokio::spawn(converse(Arc::clone(&server), stream, local, place))),
            Err(error) => {
                log::warn!(event = events::HTTP_LISTEN_FAILED; "--http-listen: {error}");
                // For example no free descriptor: an immediate retry would only burn CPU time.
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        }
    }
}

/// Serves one connection.
async fn converse<S: AsyncRead + AsyncWrite + Unpin>(
    server: Arc<Server>,
    stream: S,
    local: Option<SocketAddr>,
    _place: OwnedSemaphorePermit,
) {
    let last_request = Mutex::new(Instant::now());
    let service = service_fn(|request: hyper::Request<Incoming>| {
        *last_request.lock() = Instant::now();
        let server = Arc::clone(&server);
        async move {
            // Requests have no body that matters. Hyper closes the connection if there is one.
            let (head, _) = request.into_parts();
            let verdict = server.access.judge(local, &head);
            Ok::<_, Infallible>(server.answers.answer(&head, verdict).await)
        }
    });
    let connection = http1::Builder::new()
        .max_buf_size(BUFFER)
        .header_read_timeout(None)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = pin!(connection);
    loop {
        let deadline = *last_request.lock() + PATIENCE;
        tokio::select! {
            // Errors are the client's.
            _ = &mut connection => return,
            () = server.control.over() => return,
            () = tokio::time::sleep_until(deadline) => {
                if *last_request.lock() + PATIENCE <= Instant::now() {
                    return;
                }
            }
        }
    }
}
