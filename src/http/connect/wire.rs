//! A wire: a `reqwest` pool with at most one connection, and the state of that connection.
//!
//! `reqwest` keeps connections in its own pools, opens them at will, and does not say which one a request used. Here
//! each connection has its own client, and one request at a time uses it
//! ([`connection_limit`](crate::origin::limits::connection_limit)). So connections can be counted and closed when idle, and a
//! request on a reused connection is recognised.
//!
//! **A wire never has more than one connection, even for a moment.** The pool dials as soon as it has no idle
//! connection, but the kept-alive one may still be on its way back to the pool. So with a kept-alive connection,
//! dialling waits for [`RETURNING`]. A new connection is dropped if the request was sent on the kept-alive one
//! meanwhile. The request's body shows that: the library polls it when it sends the request.

use std::{
    convert::Infallible,
    error::Error,
    future::Future,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use parking_lot::Mutex;
use reqwest::ClientBuilder;
use tokio::sync::Notify;
use tower_layer::Layer;
use tower_service::Service;

use crate::stats::{Phase, PhaseCell};

/// How long a kept-alive connection may take to return to its pool. It takes microseconds; the rest is for a busy
/// machine. The wait happens only if the server has closed a kept-alive connection.
const RETURNING: Duration = Duration::from_millis(5);

type BoxError = Box<dyn Error + Send + Sync>;

/// The protocol of one connection. `reqwest` fixes these settings per client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Speech {
    /// The number of the [`Connections`](super::setup::Connections) that make it.
    pub maker: u32,
    /// With the client certificate.
    pub shows_identity: bool,
    /// The HTTP version, or how TLS negotiates it.
    pub version: HttpVersion,
}

/// The HTTP version of a wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum HttpVersion {
    /// HTTP/1.1 only.
    Http1,
    /// Negotiated in the TLS handshake.
    Agreed,
    /// HTTP/2 without negotiation.
    Http2,
}

impl HttpVersion {
    /// Returns true if requests share one connection.
    pub(crate) fn is_shared(self) -> bool {
        self != HttpVersion::Http1
    }
}

/// A connection, or the place of one.
pub(crate) struct Wire {
    pub client: reqwest::Client,
    pub speech: Speech,
    dials: Dials,
    /// True if a response was read to its end on it and the connection was kept alive.
    is_kept: bool,
}

impl Wire {
    /// A connection that is not established yet. `finish` builds the client.
    pub(crate) fn new<E>(
        speech: Speech,
        builder: ClientBuilder,
        finish: impl FnOnce(ClientBuilder) -> Result<reqwest::Client, E>,
    ) -> Result<Wire, E> {
        let dials = Dials::default();
        let builder = match speech.version.is_shared() {
            true => builder,
            false => builder.pool_max_idle_per_host(1).connector_layer(dials.clone()),
        };
        Ok(Wire {
            client: finish(builder)?,
            speech,
            dials,
            is_kept: false,
        })
    }

    /// A second request on the same connection, at the same time.
    pub(crate) fn shared(&self) -> Wire {
        Wire {
            client: self.client.clone(),
            speech: self.speech,
            dials: self.dials.clone(),
            is_kept: self.is_kept,
        }
    }

    /// Begins a request, whose body must be [`Dial::body`].
    pub(crate) fn begin(&mut self) -> Arc<Dial> {
        let dial = Arc::new(Dial {
            is_kept: self.is_kept,
            phase: PhaseCell::current(),
            ..Dial::default()
        });
        // A shared connection does not say when it is made.
        let is_made = self.is_kept || self.speech.version.is_shared();
        dial.enter(if is_made { Phase::FirstByte } else { Phase::Connecting });
        *self.dials.0.lock() = Arc::clone(&dial);
        // Not kept until the response is read to its end.
        self.is_kept &= self.speech.version.is_shared();
        dial
    }

    /// A response was read to its end, and the server keeps the connection alive.
    pub(crate) fn keep(&mut self) {
        self.is_kept = true;
    }
}

/// The state of one request's connection set-up.
#[derive(Default)]
pub(crate) struct Dial {
    /// True if there is a kept-alive connection.
    is_kept: bool,
    is_taken: AtomicBool,
    taken: Notify,
    has_dialled: AtomicBool,
    /// Of the fetch that sends the request.
    phase: Option<Arc<PhaseCell>>,
}

impl Dial {
    /// Returns true if the request was sent on a reused connection.
    pub(crate) fn is_on_kept(&self) -> bool {
        self.is_kept && !self.has_dialled.load(Ordering::Acquire)
    }

    /// A request body, often empty, whose polling shows that the request is being sent.
    pub(crate) fn body(self: &Arc<Self>, bytes: Bytes) -> reqwest::Body {
        reqwest::Body::wrap(RequestBody {
            dial: Arc::clone(self),
            bytes,
        })
    }

    fn enter(&self, phase: Phase) {
        self.phase.iter().for_each(|cell| cell.set(phase));
    }

    fn is_taken(&self) -> bool {
        self.is_taken.load(Ordering::Acquire)
    }

    fn take(&self) {
        if !self.is_taken.swap(true, Ordering::AcqRel) {
            self.taken.notify_one();
        }
    }

    /// Returns true if a new connection must be made.
    async fn has_to_dial(&self) -> bool {
        if self.is_kept {
            let _ = tokio::time::timeout(RETURNING, self.taken.notified()).await;
        }
        let has_to = !self.is_taken();
        if has_to {
            self.has_dialled.store(true, Ordering::Release);
        }
        has_to
    }
}

struct RequestBody {
    dial: Arc<Dial>,
    /// The bytes that are not sent yet.
    bytes: Bytes,
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let bytes = std::mem::take(&mut self.bytes);
        Poll::Ready((!bytes.is_empty()).then(|| Ok(Frame::data(bytes))))
    }

    /// Called when the request is written to a connection, and not before.
    fn is_end_stream(&self) -> bool {
        self.dial.take();
        self.bytes.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.bytes.len() as u64)
    }
}

/// A layer between the pool and its connector. Holds the state of the request in flight.
#[derive(Clone, Default)]
struct Dials(Arc<Mutex<Arc<Dial>>>);

impl<S> Layer<S> for Dials {
    type Service = Dialler<S>;

    fn layer(&self, inner: S) -> Dialler<S> {
        Dialler {
            inner,
            dials: self.clone(),
        }
    }
}

#[derive(Clone)]
struct Dialler<S> {
    inner: S,
    dials: Dials,
}

impl<S, R> Service<R> for Dialler<S>
where
    S: Service<R, Error = BoxError> + Clone + Send + 'static,
    S::Future: Send,
    S::Response: Send,
    R: Send + 'static,
{
    type Response = S::Response;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<S::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, to: R) -> Self::Future {
        let dial = Arc::clone(&self.dials.0.lock());
        // The ready clone is the one to be called.
        let clone = self.inner.clone();
        let mut inner = std::mem::replace(&mut self.inner, clone);
        Box::pin(async move {
            if !dial.has_to_dial().await {
                return Err("the kept connection was used".into());
            }
            dial.enter(Phase::Connecting);
            let connection = inner.call(to).await?;
            dial.enter(Phase::FirstByte);
            // The kept-alive connection returned late: the new one is superfluous.
            if dial.is_taken() {
                return Err("the kept connection was used".into());
            }
            Ok(connection)
        })
    }
}
