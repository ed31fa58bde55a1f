//! One request over one connection, and the unread part of its response.
//!
//! **A stall on a kept-alive connection is first blamed on the connection**: routers, firewalls and suspended machines
//! drop connections silently. If no response begins within a few seconds, the origin's idle connections are closed and
//! the same request is sent on a new one. Neither the origin nor the file is blamed.
//!
//! Bytes that are not HTTP, on a reused connection, are left over from the response before (a HEAD with a body). The
//! request is sent again in the same way.

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
use crate::origin::limits::connection_limit::Lease;
use crate::stats::RequestCounters;

/// Bytes of a body that are read to keep a connection: about what arrives in one round trip. A new connection costs two
/// or three.
const LONGEST_FINISH: u64 = 64 << 10;

/// Maximum time to read such a body. A new connection to a distant server takes no longer.
const FINISH_PATIENCE: Duration = Duration::from_secs(1);

/// The outcome of one request over one connection.
pub(crate) enum Exchange {
    /// The head of a response arrived.
    Answered(reqwest::Response),
    /// The HTTP library failed.
    Failed {
        error: reqwest::Error,
        /// The connection was reused.
        was_kept: bool,
    },
    /// No response began on a kept-alive connection.
    Stale,
    /// No response began in time.
    Silent,
    /// The connection was taken for another request.
    GaveWay,
}

/// Sends a request over the connection of `lease` and waits at most `longest` for the response's head. Returns the
/// lease.
pub(crate) async fn exchange(
    lease: Lease,
    request: reqwest::RequestBuilder,
    body: Bytes,
    dial: &Arc<Dial>,
    has_body: bool,
    longest: Duration,
) -> (Exchange, Lease) {
    let begun = Instant::now();
    let request = match lease.is_shared() {
        true if body.is_empty() => request,
        true => request.body(body),
        false => request.body(dial.body(body)),
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
        // Both are set until `done` takes them.
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

/// A request in flight. If it is dropped before its response, the response may still be read: where connections are
/// few, an aborted connection costs a new one, and its server counts it as open until it next checks.
struct Sending {
    request: Option<Pin<Box<dyn Future<Output = reqwest::Result<reqwest::Response>> + Send>>>,
    lease: Option<Lease>,
    has_body: bool,
}

impl Sending {
    fn done(mut self) -> Lease {
        self.request = None;
        // The lease is set until this point.
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

/// A response with an unread body. Dropped before its end, it closes its connection; at its end, it returns the
/// connection.
pub(crate) struct Response {
    inner: Option<reqwest::Response>,
    status: StatusCode,
    headers: HeaderMap,
    content_length: Option<u64>,
    /// Bytes of the body received.
    came: u64,
    /// When the request was sent.
    sent: Instant,
    /// True if the server keeps the connection alive after this response.
    is_kept: bool,
    lease: Option<Lease>,
    /// Counts the bytes of the body.
    requests: Option<Arc<RequestCounters>>,
}

impl Response {
    /// `may_keep`: nothing can follow the response on its connection.
    pub(crate) fn new(
        inner: reqwest::Response,
        lease: Lease,
        sent: Instant,
        has_body: bool,
        may_keep: bool,
    ) -> Response {
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
            requests: None,
            headers,
            inner: Some(inner),
        };
        if is_over {
            response.is_over();
        }
        response
    }

    /// A response that no connection brings.
    pub(crate) fn of_this_machine(inner: reqwest::Response) -> Response {
        Response {
            status: inner.status(),
            content_length: inner.content_length(),
            came: 0,
            sent: Instant::now(),
            is_kept: false,
            lease: None,
            requests: None,
            headers: inner.headers().clone(),
            inner: Some(inner),
        }
    }

    /// Counts the bytes of its body there.
    pub(super) fn count_by(&mut self, requests: &Arc<RequestCounters>) {
        self.requests = Some(Arc::clone(requests));
    }

    pub(crate) fn status(&self) -> StatusCode {
        self.status
    }

    pub(crate) fn headers(&self) -> &HeaderMap {
        &self.headers
    }

    /// When the request was sent, after the wait for its connection.
    pub(crate) fn sent(&self) -> Instant {
        self.sent
    }

    /// The next bytes of the body; `None` after its end. Cancel-safe.
    pub(crate) async fn chunk(&mut self) -> Result<Option<Bytes>, reqwest::Error> {
        let Some(inner) = &mut self.inner else { return Ok(None) };
        let piece = inner.chunk().await?;
        let Some(piece) = piece else {
            self.is_over();
            return Ok(None);
        };
        self.came += piece.len() as u64;
        self.requests
            .iter()
            .for_each(|requests| requests.note_received(piece.len() as u64));
        if let Some(lease) = &self.lease {
            lease.heard();
        }
        if self.content_length.is_some_and(|length| self.came >= length) {
            self.is_over();
        }
        Ok(Some(piece))
    }

    /// From now on the connection may be revoked for another request ([`Self::is_revoked`]); the caller requests the
    /// missing bytes again.
    pub(crate) fn gives_way(&self) {
        if let Some(lease) = &self.lease {
            lease.gives_way();
        }
    }

    /// Resolves when the connection is wanted for another request. Borrows nothing, because it is awaited together with
    /// the body.
    pub(crate) fn revocation(&self) -> impl Future<Output = ()> + use<> {
        let revocation = self.lease.as_ref().map(Lease::revocation);
        async move {
            match revocation {
                Some(revocation) => revocation.await,
                None => pending().await,
            }
        }
    }

    /// Returns true if the connection is wanted for another request.
    pub(crate) fn is_revoked(&self) -> bool {
        self.lease.as_ref().is_some_and(Lease::is_revoked)
    }

    /// The connection stalled in the middle of the body. Connections that have been idle since before then are suspect
    /// as well.
    pub(crate) fn suspects_connections(&self, silence: Duration) {
        if let Some(lease) = &self.lease {
            lease.suspect_idle(Instant::now() - silence);
        }
    }

    /// Reads the rest of the body if that is cheaper than a new connection; otherwise closes the connection.
    pub(crate) async fn finish(&mut self) {
        if self.inner.is_some() && self.content_length.is_some_and(|length| length <= LONGEST_FINISH) {
            let rest = async { while let Ok(Some(_)) = self.chunk().await {} };
            // Any failure here only closes the connection.
            let _ = timeout(FINISH_PATIENCE, rest).await;
        }
        (self.inner, self.lease) = (None, None);
    }

    /// The response was read to its end.
    fn is_over(&mut self) {
        // Before the lease: the next request must not find the connection in use.
        self.inner = None;
        if let Some(lease) = self.lease.take() {
            lease.finish(self.is_kept);
        }
    }
}
