//! What can go wrong between fetchfs and an origin.
//!
//! One error type for the layer, with the kinds that a caller can act upon. Whether trying again
//! may help is part of the kind, never guessed from a message.

use std::{error::Error, io, time::Duration};

use super::{RedactedUrl, connect::tls};

/// A request that did not bring what it was for.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{url}: {kind}")]
pub struct HttpError {
    /// What went wrong.
    #[source]
    pub kind: HttpErrorKind,
    /// The URL asked, without credentials and without the values of its query.
    pub url: RedactedUrl,
}

/// The kinds of failure that callers tell apart.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HttpErrorKind {
    /// The network is not to be asked (`--offline`).
    #[error("not asked, because of --offline")]
    Offline,
    /// The host's name has no address.
    #[error("the host name can't be resolved")]
    UnknownHost,
    /// Nothing listens there.
    #[error("the server refused the connection")]
    Refused,
    /// This machine has no descriptor left for a connection: nothing that a server could be blamed for.
    #[error("no connection: fetchfs has as many files open as it may (ulimit -n)")]
    NoDescriptors,
    /// No connection, for another reason (TLS, proxy, network).
    #[error("no connection: {0}")]
    Unreachable(String),
    /// What answers to TLS is something else: the server of `http://`, or what stands in front of one that is away.
    #[error("the server does not speak TLS there")]
    NoTls,
    /// TLS was begun and came to nothing, other than for a certificate.
    #[error("no TLS connection: {0}")]
    Handshake(String),
    /// TLS stands, but not with somebody who is trusted.
    #[error("the server's certificate is not trusted: {0}")]
    Untrusted(String),
    /// A token is wanted, and can't be had.
    #[error("nothing to log in with: {0}")]
    NoCredentials(String),
    /// No byte came for longer than the configured time.
    #[error("no answer for {}", humantime::format_duration(*.0))]
    TimedOut(Duration),
    /// The connection was made, and closed before an answer began: a relay (a load balancer, a tunnel, the proxy of a container)
    /// whose server is away.
    #[error("the server closed the connection without an answer")]
    Unanswered,
    /// The connection was given up in the middle of the answer, for another request or because it fell silent. What is missing is to be
    /// asked for again at once, on another one. Nothing is to blame.
    #[error("the connection was given up in the middle of the answer")]
    AskAgain,
    /// The connection ended before the answer did.
    #[error("the connection ended in the middle of the answer")]
    Interrupted,
    /// 202: the server has begun to make what was asked for ready, from tape for example. It is asked again later.
    #[error("the server is still preparing it (HTTP 202)")]
    NotReady {
        /// What `Retry-After` asked for.
        retry_after: Option<Duration>,
    },
    /// A status that is neither success nor one that has a kind of its own.
    #[error("the server answered {status}")]
    Status {
        /// The HTTP status code.
        status: u16,
        /// What `Retry-After` asked for.
        retry_after: Option<Duration>,
    },
    /// 401, 403 or 407.
    #[error("the server denies access (HTTP {0})")]
    Denied(u16),
    /// 404 or 410: an authoritative "there is no such thing".
    #[error("there is nothing at this URL (HTTP {0})")]
    NotFound(u16),
    /// An answer that does not fit the request, and so is not believed.
    #[error("the server's answer can't be used: {0}")]
    BadAnswer(String),
    /// An answer that contradicts itself, or what the server said of the same version. The next one may not: machines behind one
    /// name and caches do that while they change over.
    #[error("the server's answer can't be used: {0}")]
    Contradiction(String),
}

impl HttpErrorKind {
    /// How long the server asked to be left alone.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Status { retry_after, .. } | Self::NotReady { retry_after } => *retry_after,
            _ => None,
        }
    }

    /// Whether this is how servers say, or show, that a client has too many connections.
    pub fn may_mean_too_many_connections(&self) -> bool {
        matches!(
            self,
            Self::Interrupted
                | Self::Unanswered
                | Self::Refused
                | Self::Denied(403)
                | Self::Status { status: 429 | 503, .. }
        )
    }

    /// Whether the server makes it ready, so that it has to be asked for again.
    pub fn is_not_ready(&self) -> bool {
        matches!(self, Self::NotReady { .. })
    }

    /// Whether there was no way to the server, so that what was asked of it can't be to blame.
    pub fn is_connect_failure(&self) -> bool {
        matches!(
            self,
            Self::UnknownHost | Self::Refused | Self::Unreachable(_) | Self::Handshake(_) | Self::NoTls
        )
    }

    /// Whether it says that the origin as a whole is down, away or overloaded, as far as one request can tell.
    pub fn is_of_the_origin(&self) -> bool {
        match self {
            Self::UnknownHost
            | Self::Refused
            | Self::Unreachable(_)
            | Self::Handshake(_)
            | Self::NoTls
            | Self::Unanswered
            | Self::TimedOut(_) => true,
            Self::Status { status, .. } => matches!(status, 429 | 502..=504),
            Self::Interrupted
            | Self::AskAgain
            | Self::NoDescriptors
            | Self::NotReady { .. }
            | Self::Contradiction(_)
            | Self::Denied(_)
            | Self::NoCredentials(_)
            | Self::NotFound(_)
            | Self::Untrusted(_)
            | Self::Offline
            | Self::BadAnswer(_) => false,
        }
    }

    /// Whether another server may be asked instead: this one has not said anything about what was asked.
    pub fn may_be_had_elsewhere(&self) -> bool {
        self.is_of_the_origin() || self.is_of_the_server() || matches!(self, Self::Interrupted | Self::AskAgain)
    }

    /// Whether the server says that it can't do what was asked (5xx).
    pub fn is_of_the_server(&self) -> bool {
        matches!(self, Self::Status { status: 500.., .. })
    }

    /// Whether the same request may succeed later, without anybody's doing.
    pub fn is_temporary(&self) -> bool {
        match self {
            Self::UnknownHost
            | Self::Refused
            | Self::Unreachable(_)
            | Self::Handshake(_)
            | Self::NoTls
            | Self::Unanswered
            | Self::TimedOut(_)
            | Self::NoDescriptors
            | Self::NotReady { .. }
            | Self::Contradiction(_)
            | Self::AskAgain
            | Self::Interrupted => true,
            Self::Status { status, .. } => matches!(status, 408 | 425 | 429 | 500..),
            Self::Denied(_)
            | Self::NoCredentials(_)
            | Self::NotFound(_)
            | Self::Untrusted(_)
            | Self::Offline
            | Self::BadAnswer(_) => false,
        }
    }
}

/// What a failure of the HTTP library means. `timeout` is the one that was set.
///
/// Which predicate is true for which failure was found out by experiment: a body that is cut or reset is a "decode"
/// error to `reqwest`, an unknown name is a "dns" and a "connect" error. The library's texts hold the URL and are not
/// used; the texts of its causes do not.
pub(crate) fn classify(error: &reqwest::Error, timeout: Duration) -> HttpErrorKind {
    if error.is_timeout() {
        return HttpErrorKind::TimedOut(timeout);
    }
    if error.is_dns() {
        return HttpErrorKind::UnknownHost;
    }
    let causes = || causes(error);
    if error.is_connect() || error.is_builder() {
        let refused = |cause: &io::Error| cause.kind() == io::ErrorKind::ConnectionRefused;
        if causes().any(|cause| cause.downcast_ref().is_some_and(refused)) {
            return HttpErrorKind::Refused;
        }
        if causes().any(|cause| cause.downcast_ref().is_some_and(is_out_of_descriptors)) {
            return HttpErrorKind::NoDescriptors;
        }
        if causes().any(wants_login) {
            return HttpErrorKind::Denied(407);
        }
        if let Some(error) = tls_error(error) {
            return match tls::distrust(error) {
                Some(why) => HttpErrorKind::Untrusted(why),
                None if is_no_tls(error) => HttpErrorKind::NoTls,
                None => HttpErrorKind::Handshake(tls::failure(error)),
            };
        }
        return HttpErrorKind::Unreachable(causes().last().map_or("unknown cause".to_owned(), ToString::to_string));
    }
    let parsing = |cause: &&hyper::Error| cause.is_parse();
    if let Some(error) = causes().filter_map(|cause| cause.downcast_ref()).find(parsing) {
        // hyper has a predicate for this in servers only. Nothing but the wording depends on it.
        let is_too_large = error.to_string().contains("too large");
        let what = if is_too_large {
            TOO_MANY_HEADERS
        } else {
            "it is not HTTP"
        };
        return HttpErrorKind::BadAnswer(what.to_owned());
    }
    HttpErrorKind::Interrupted
}

/// For headers without end: 500 of them are read, and some 400 KiB.
const TOO_MANY_HEADERS: &str = "it has more headers, or longer ones, than any server needs";

/// Whether a proxy answered CONNECT with 407. The type of the library's error has no name outside of it, so its text has to do;
/// a test with such a proxy holds it to that.
fn wants_login(cause: &(dyn Error + 'static)) -> bool {
    cause.to_string() == "tunnel error: proxy authorization required"
}

/// Whether this process, or the machine, has as many files and sockets open as it may.
fn is_out_of_descriptors(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE))
}

/// Whether the connection ended after the request was sent, and before an answer began.
pub(crate) fn ended_unanswered(error: &reqwest::Error) -> bool {
    let is_reset =
        |cause: &io::Error| matches!(cause.kind(), io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe);
    !error.is_connect()
        && causes(error).any(|cause| {
            cause.downcast_ref().is_some_and(hyper::Error::is_incomplete_message)
                || cause.downcast_ref().is_some_and(is_reset)
        })
}

/// Whether what answered is no TLS at all.
fn is_no_tls(error: &rustls::Error) -> bool {
    matches!(
        error,
        rustls::Error::InvalidMessage(rustls::InvalidMessage::InvalidContentType)
    )
}

/// Whether what came on a connection was no HTTP.
pub(crate) fn is_no_http(error: &reqwest::Error) -> bool {
    !error.is_connect() && causes(error).any(|cause| cause.downcast_ref().is_some_and(hyper::Error::is_parse))
}

/// Whether the TLS handshake failed because the server speaks no HTTP/1.1 (RFC 7301 §3.2).
pub(crate) fn refuses_http1(error: &reqwest::Error) -> bool {
    matches!(
        tls_error(error),
        Some(rustls::Error::AlertReceived(
            rustls::AlertDescription::NoApplicationProtocol
        ))
    )
}

/// What TLS complains of. The error travels inside I/O errors, which do not name what they hold as their source.
fn tls_error(error: &reqwest::Error) -> Option<&rustls::Error> {
    causes(error).find_map(|cause| {
        let mut held: &(dyn Error + 'static) = cause;
        while let Some(io) = held.downcast_ref::<io::Error>() {
            held = io.get_ref()?;
        }
        held.downcast_ref()
    })
}

fn causes(error: &reqwest::Error) -> impl Iterator<Item = &(dyn Error + 'static)> {
    std::iter::successors(error.source(), |cause: &&(dyn Error + 'static)| (*cause).source())
}
