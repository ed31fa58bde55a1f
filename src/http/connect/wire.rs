//! One connection: a pool of `reqwest`'s that holds one at most, and what is known of it.
//!
//! `reqwest` keeps connections in pools of its own, opens them as it likes, and does not tell which one a request went out on. Here
//! each connection is a client for itself, and one request at a time uses it ([`limit`](crate::origin::connection_limit)). So connections can be counted,
//! idle ones closed, and a request that went out on one that was kept is known as such.
//!
//! **A wire has one connection at most, also for a moment.** The pool dials as soon as it has no idle connection at hand, and the kept
//! one may be on its way back to it. So dialling waits for [`RETURNING`] where one is kept, and what was dialled is dropped if the
//! request has gone out on the kept one meanwhile. That it has is seen by its body, which is looked at when it is sent.

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

/// How long a connection that was kept may take to get back into its pool. It takes microseconds; the rest is for a loaded machine.
/// It is waited for only where the server has closed a kept connection.
const RETURNING: Duration = Duration::from_millis(5);

type BoxError = Box<dyn Error + Send + Sync>;

/// How a server is spoken to, over one connection: `reqwest` settles these for a client as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Speech {
    /// With our certificate.
    pub shows_identity: bool,
    /// Over TLS, which knows which version of HTTP is spoken.
    pub version: HttpVersion,
}

/// The version of HTTP that a wire is made for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum HttpVersion {
    /// HTTP/1.1 only.
    Http1,
    /// What is agreed upon in the TLS handshake.
    Agreed,
    /// HTTP/2 without being asked.
    Http2,
}

impl HttpVersion {
    /// Whether requests share one connection.
    pub fn is_shared(self) -> bool {
        self != HttpVersion::Http1
    }
}

/// A connection, or the place of one.
pub(crate) struct Wire {
    pub client: reqwest::Client,
    pub speech: Speech,
    dials: Dials,
    /// Whether an answer was read to its end on it, and the connection kept.
    is_kept: bool,
}

impl Wire {
    /// The place of a connection that does not stand yet. `finish` makes a client of the builder that is given to it.
    pub fn new<E>(
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

    /// Another request over the same connection, beside this one.
    pub fn shared(&self) -> Wire {
        Wire {
            client: self.client.clone(),
            speech: self.speech,
            dials: self.dials.clone(),
            is_kept: self.is_kept,
        }
    }

    /// Begins a request, whose body has to be [`Dial::body`].
    pub fn begin(&mut self) -> Arc<Dial> {
        let dial = Arc::new(Dial {
            is_kept: self.is_kept,
            ..Dial::default()
        });
        *self.dials.0.lock() = Arc::clone(&dial);
        // Until its answer is read to its end.
        self.is_kept &= self.speech.version.is_shared();
        dial
    }

    /// An answer was read to its end, and the server keeps the connection.
    pub fn keep(&mut self) {
        self.is_kept = true;
    }
}

/// The dialling of one request.
#[derive(Default)]
pub(crate) struct Dial {
    /// Whether there is a connection that was used before.
    is_kept: bool,
    is_taken: AtomicBool,
    taken: Notify,
    has_dialled: AtomicBool,
}

impl Dial {
    /// Whether the request has gone out on a connection that was used before.
    pub fn is_on_kept(&self) -> bool {
        self.is_kept && !self.has_dialled.load(Ordering::Acquire)
    }

    /// A body without a byte, by which it is seen that the request is sent.
    pub fn body(self: &Arc<Self>) -> reqwest::Body {
        reqwest::Body::wrap(NoBody(Arc::clone(self)))
    }

    fn is_taken(&self) -> bool {
        self.is_taken.load(Ordering::Acquire)
    }

    fn take(&self) {
        if !self.is_taken.swap(true, Ordering::AcqRel) {
            self.taken.notify_one();
        }
    }

    /// Whether a connection is to be made for it.
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

struct NoBody(Arc<Dial>);

impl Body for NoBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(None)
    }

    /// Asked when the request is written to a connection, and not before.
    fn is_end_stream(&self) -> bool {
        self.0.take();
        true
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(0)
    }
}

/// Sits between a pool and what makes its connections. Holds the dialling of the request that is under way.
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
        // The one that is ready is the one that was asked.
        let clone = self.inner.clone();
        let mut inner = std::mem::replace(&mut self.inner, clone);
        Box::pin(async move {
            if !dial.has_to_dial().await {
                return Err("the kept connection was used".into());
            }
            let connection = inner.call(to).await?;
            // It came back late: what was dialled is one too many.
            if dial.is_taken() {
                return Err("the kept connection was used".into());
            }
            Ok(connection)
        })
    }
}
