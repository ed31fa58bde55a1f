//! One request over one connection, and what is left to read of its answer.
//!
//! **A silence on a connection that was kept is first the connection's fault**: routers, firewalls and suspended machines forget
//! connections without a word. So when no answer begins within a few seconds, the idle ones of that origin are dropped, and
//! the same request goes out on a new one, and neither the origin nor the file is blamed. What is no HTTP, on a connection that was used before, is what was left on it
//! by the answer before (a HEAD with a body): it is asked again likewise.

use std::{
    future::{Future, pending},
    pin::Pin,
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use reqwest::{StatusCode, Version, header::HeaderMap};
use tokio::runtime::Handle;
use tokio::time::{Instant, sleep_until, timeout};

use crate::http::connect::wire::Dial;
use crate::origin::connection_limit::Lease;

/// The bytes of an answer's body that are read to keep the connection: about what comes in a round trip, of which a new
/// connection costs two or three.
const LONGEST_FINISH: u64 = 64 << 10;

/// How long such a body may take. A new connection to a far server takes no longer.
const FINISH_PATIENCE: Duration = Duration::from_secs(1);

/// How one request over one connection went.
pub(crate) enum Exchange {
    /// The head of an answer came.
    Answered(reqwest::Response),
    /// The HTTP library failed.
    Failed {
        error: reqwest::Error,
        /// Over a connection that was used before.
        was_kept: bool,
    },
    /// No answer began on a connection that was kept.
    Stale,
    /// No answer began in time.
    Silent,
    /// The connection was taken for another request.
    GaveWay,
}

/// Sends a request over the connection of `lease`, and waits for the head of the answer for at most `longest`. Gives the lease back.
pub(crate) async fn exchange(
    lease: Lease,
    request: reqwest::RequestBuilder,
    dial: &Arc<Dial>,
    has_body: bool,
    longest: Duration,
) -> (Exchange, Lease) {
    let begun = Instant::now();
    let request = match lease.is_shared() {
        true => request,
        false => request.body(dial.body()),
    };
    let (deadline, mut next_look) = (begun + longest, begun + lease.patience(dial.is_on_kept()));
    let revoked = lease.revocation();
    tokio::pin!(revoked);
    let mut sending = Sending {
        request: Some(Box::pin(request.send())),
        lease: Some(lease),
        has_body,
    };
    let exchange = loop {
        // Both are there until `done` takes them.
        let Sending {
            request: Some(request),
            lease: Some(lease),
            ..
        } = &mut sending
        else {
            unreachable!()
        };
        tokio::select! {
            result = request => break match result {
                Ok(response) => {
                    lease.answered(begun.elapsed());
                    Exchange::Answered(response)
                }
                Err(error) => Exchange::Failed { error, was_kept: dial.is_on_kept() },
            },
            () = &mut revoked => break Exchange::GaveWay,
            () = sleep_until(deadline) => break Exchange::Silent,
            () = sleep_until(next_look) => {
                if dial.is_on_kept() || lease.is_shared_and_kept() {
                    break Exchange::Stale;
                }
                next_look = lease.waits_for_its_first_answer(begun);
            }
        }
    };
    (exchange, sending.done())
}

/// A request whose answer is waited for. Dropped before it comes, it may be read all the same: where connections are few, a connection
/// that was broken off costs a new one, and its server takes it for open until it next looks.
struct Sending {
    request: Option<Pin<Box<dyn Future<Output = reqwest::Result<reqwest::Response>> + Send>>>,
    lease: Option<Lease>,
    has_body: bool,
}

impl Sending {
    fn done(mut self) -> Lease {
        self.request = None;
        // It is there until here.
        let Some(lease) = self.lease.take() else { unreachable!() };
        lease
    }
}

impl Drop for Sending {
    fn drop(&mut self) {
        let (Some(request), Some(lease)) = (self.request.take(), self.lease.take()) else {
            return;
        };
        let Some((patience, runtime)) = lease.worth_waiting().zip(Handle::try_current().ok()) else {
            return;
        };
        let (has_body, begun) = (self.has_body, Instant::now());
        runtime.spawn(async move {
            if let Ok(Ok(response)) = timeout(patience, request).await {
                let mut response = Response::new(response, lease, begun, has_body, has_body);
                response.finish().await;
            }
        });
    }
}

/// The answer to a request, its body unread. Dropped before its end it closes its connection; at its end it gives it back.
pub(crate) struct Response {
    inner: Option<reqwest::Response>,
    status: StatusCode,
    headers: HeaderMap,
    content_length: Option<u64>,
    /// Bytes of the body that came.
    came: u64,
    /// When the request was sent.
    sent: Instant,
    /// Whether the server keeps the connection after this answer.
    is_kept: bool,
    lease: Option<Lease>,
}

impl Response {
    /// `may_keep`: nothing can follow the answer on its connection.
    pub fn new(inner: reqwest::Response, lease: Lease, sent: Instant, has_body: bool, may_keep: bool) -> Response {
        let headers = inner.headers().clone();
        let says = |word: &str| {
            let values = headers.get_all(reqwest::header::CONNECTION).iter();
            let mut words = values
                .filter_map(|value| value.to_str().ok())
                .flat_map(|value| value.split(','));
            words.any(|said| said.trim().eq_ignore_ascii_case(word))
        };
        let is_kept = match inner.version() {
            Version::HTTP_09 => false,
            Version::HTTP_10 => says("keep-alive"),
            _ => !says("close"),
        };
        let status = inner.status();
        let content_length = inner.content_length();
        let is_over = !has_body || matches!(status.as_u16(), 204 | 304) || content_length == Some(0);
        let mut response = Response {
            status,
            content_length,
            came: 0,
            sent,
            is_kept: is_kept && may_keep,
            lease: Some(lease),
            headers,
            inner: Some(inner),
        };
        if is_over {
            response.is_over();
        }
        response
    }

    pub fn status(&self) -> StatusCode {
        self.status
    }

    pub fn headers(&self) -> &HeaderMap {
        &self.headers
    }

    /// When the request was sent, over the connection that it had waited for.
    pub fn sent(&self) -> Instant {
        self.sent
    }

    /// The next bytes of the body; `None` after its end. Cancel-safe.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, reqwest::Error> {
        let Some(inner) = &mut self.inner else { return Ok(None) };
        let piece = inner.chunk().await?;
        let Some(piece) = piece else {
            self.is_over();
            return Ok(None);
        };
        self.came += piece.len() as u64;
        if let Some(lease) = &self.lease {
            lease.heard();
        }
        if self.content_length.is_some_and(|length| self.came >= length) {
            self.is_over();
        }
        Ok(Some(piece))
    }

    /// From now on its connection may be taken for another request, which [`Self::revoked`] tells: what is missing is asked for again.
    pub fn gives_way(&self) {
        if let Some(lease) = &self.lease {
            lease.gives_way();
        }
    }

    /// Returns when its connection is wanted for another request. Borrows nothing, for it is awaited beside the body.
    pub fn revocation(&self) -> impl Future<Output = ()> + use<> {
        let revocation = self.lease.as_ref().map(Lease::revocation);
        async move {
            match revocation {
                Some(revocation) => revocation.await,
                None => pending().await,
            }
        }
    }

    /// Whether its connection is wanted for another request.
    pub fn is_revoked(&self) -> bool {
        self.lease.as_ref().is_some_and(Lease::is_revoked)
    }

    /// The connection has fallen silent in the middle of the body. Those that are idle since then are no better.
    pub fn suspects_connections(&self, silence: Duration) {
        if let Some(lease) = &self.lease {
            lease.suspect_idle(Instant::now() - silence);
        }
    }

    /// Reads what is left, if that is cheaper than the new connection that would be needed otherwise; closes the connection otherwise.
    pub async fn finish(&mut self) {
        if self.inner.is_some() && self.content_length.is_some_and(|length| length <= LONGEST_FINISH) {
            let rest = async { while let Ok(Some(_)) = self.chunk().await {} };
            // Whatever goes wrong here, the connection is closed, and that is all.
            let _ = timeout(FINISH_PATIENCE, rest).await;
        }
        (self.inner, self.lease) = (None, None);
    }

    /// The answer was read to its end.
    fn is_over(&mut self) {
        // Before the lease: whoever is next must not find it in use.
        self.inner = None;
        if let Some(lease) = self.lease.take() {
            lease.finish(self.is_kept);
        }
    }
}
