//! Errors between fetchfs and an origin.
//!
//! One error type for the layer, with the kinds that a caller can act upon. The kind says whether a retry may help; no
//! code guesses it from a message.

use std::{error::Error, io, time::Duration};

use super::redact::RedactedUrl;
use super::tls_failure;

/// A failed request.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{url}: {kind}")]
pub struct HttpError {
    /// What went wrong.
    #[source]
    pub kind: HttpErrorKind,
    /// The requested URL, without credentials and query values.
    pub url: RedactedUrl,
}

/// The kinds of failure that callers distinguish.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HttpErrorKind {
    /// The network must not be used (`--offline`).
    #[error("not requested, because of --offline")]
    Offline,
    /// The host's name has no address.
    #[error("the host name can't be resolved")]
    UnknownHost,
    /// No server listens at that port.
    #[error("the server refused the connection")]
    Refused,
    /// This process or machine has no file descriptor left for a connection. No server is at fault.
    #[error("no connection: the limit of open files is reached (ulimit -n)")]
    NoDescriptors,
    /// The connection failed for another reason (TLS, proxy, network).
    #[error("no connection: {0}")]
    Unreachable(String),
    /// The peer does not speak TLS: it is the server of `http://`, or a machine in front of an unavailable server.
    #[error("the server does not speak TLS there")]
    NoTls,
    /// The TLS handshake failed, for another reason than a certificate.
    #[error("no TLS connection: {0}")]
    Handshake(String),
    /// The server's certificate is not trusted.
    #[error("the server's certificate is not trusted: {0}")]
    Untrusted(String),
    /// A token is required but unavailable.
    #[error("no credentials: {0}")]
    NoCredentials(String),
    /// No byte arrived for longer than the configured time.
    #[error("no response for {}", humantime::format_duration(*.0))]
    TimedOut(Duration),
    /// The connection was closed before a response began: by a relay (a load balancer, a tunnel, a container's proxy)
    /// whose server is unavailable.
    #[error("the server closed the connection without a response")]
    Unanswered,
    /// The client gave up the connection in the middle of the response: for another request, or because it stalled. The
    /// caller requests the missing bytes again at once, on another connection. Neither server nor file is at fault.
    #[error("the connection was aborted in the middle of the response")]
    AskAgain,
    /// The connection ended before the response did.
    #[error("the connection ended in the middle of the response")]
    Interrupted,
    /// 202: the server is preparing the resource, from tape for example. The caller retries later.
    #[error("the server is still preparing it (HTTP 202)")]
    NotReady {
        /// The `Retry-After` of the response.
        retry_after: Option<Duration>,
    },
    /// A status without a kind of its own that is not success.
    #[error("the server answered {status}")]
    Status {
        /// The HTTP status code.
        status: u16,
        /// The `Retry-After` of the response.
        retry_after: Option<Duration>,
    },
    /// 401, 403 or 407; [`NO_STATUS`] for a file on this machine.
    #[error("{}", with_status("the server denies access", "permission denied", *.0))]
    Denied(u16),
    /// 404 or 410: authoritative, the resource does not exist. [`NO_STATUS`] for a file on this machine.
    #[error("{}", with_status("not found", "not found", *.0))]
    NotFound(u16),
    /// A file on this machine can't be read.
    #[error("it can't be read: {0}")]
    Unreadable(String),
    /// A response that does not fit the request, and so fails validation.
    #[error("unusable response: {0}")]
    BadAnswer(String),
    /// A response that contradicts itself, or what the server said of the same version. A retry may succeed: machines
    /// behind one name and caches do this while they change over.
    #[error("unusable response: {0}")]
    Contradiction(String),
}

/// The status of a failure in which no server takes part.
pub(crate) const NO_STATUS: u16 = 0;

/// A message with the status of the server's answer; `without`, if there is no server.
fn with_status(message: &str, without: &str, status: u16) -> String {
    match status {
        NO_STATUS => without.to_owned(),
        status => format!("{message} (HTTP {status})"),
    }
}

impl HttpErrorKind {
    /// The server's `Retry-After`.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Status { retry_after, .. } | Self::NotReady { retry_after } => *retry_after,
            _ => None,
        }
    }

    /// The HTTP status that the server answered with, if that is the failure.
    pub(crate) fn http_status(&self) -> Option<u16> {
        match self {
            Self::Status { status, .. } => Some(*status),
            Self::Denied(status) | Self::NotFound(status) => Some(*status).filter(|&status| status != NO_STATUS),
            Self::NotReady { .. } => Some(202),
            _ => None,
        }
    }

    /// Returns true if servers use this failure to say, or to show, that a client has too many connections.
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

    /// Returns true if the server is preparing the resource, so that the caller must retry.
    pub fn is_not_ready(&self) -> bool {
        matches!(self, Self::NotReady { .. })
    }

    /// Returns true if the server was unreachable, so that the requested resource is not at fault.
    pub fn is_connect_failure(&self) -> bool {
        matches!(
            self,
            Self::UnknownHost | Self::Refused | Self::Unreachable(_) | Self::Handshake(_) | Self::NoTls
        )
    }

    /// Returns true if the whole origin is down, unreachable or overloaded, as far as one request can show.
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
            | Self::Unreadable(_)
            | Self::Offline
            | Self::BadAnswer(_) => false,
        }
    }

    /// Returns true if the server has answered the request, and no connection, lack of resources or overload is the
    /// failure.
    pub fn is_answered(&self) -> bool {
        !self.is_of_the_origin()
            && !matches!(
                self,
                Self::Interrupted | Self::AskAgain | Self::NoDescriptors | Self::Offline
            )
    }

    /// Returns true if another server may be asked instead: this one has said nothing about the resource.
    pub fn may_be_had_elsewhere(&self) -> bool {
        self.is_of_the_origin() || self.is_of_the_server() || matches!(self, Self::Interrupted | Self::AskAgain)
    }

    /// Returns true if the server reports an error of its own (5xx).
    pub fn is_of_the_server(&self) -> bool {
        matches!(self, Self::Status { status: 500.., .. })
    }

    /// Returns true if the same request may succeed later without the user's intervention.
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
            | Self::Unreadable(_)
            | Self::Offline
            | Self::BadAnswer(_) => false,
        }
    }
}

/// Classifies a failure of the HTTP library. `timeout` is the configured one.
///
/// Experiments showed which predicate is true for which failure: `reqwest` calls a truncated or reset body a "decode"
/// error, and an unknown host both a "dns" and a "connect" error. The library's own texts contain the URL and are not
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
            return match tls_failure::distrust(error) {
                Some(why) => HttpErrorKind::Untrusted(why),
                None if is_no_tls(error) => HttpErrorKind::NoTls,
                None => HttpErrorKind::Handshake(tls_failure::failure(error)),
            };
        }
        return HttpErrorKind::Unreachable(causes().last().map_or("unknown cause".to_owned(), ToString::to_string));
    }
    let parsing = |cause: &&hyper::Error| cause.is_parse();
    if let Some(error) = causes().filter_map(|cause| cause.downcast_ref()).find(parsing) {
        // hyper has a predicate for this in servers only. Only the error text depends on it.
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

/// For endless headers: the client reads 500 of them, and some 400 KiB.
const TOO_MANY_HEADERS: &str = "it has too many headers, or too long ones";

/// Returns true if a proxy answered CONNECT with 407. The library does not export the error's type, so this compares
/// its text; a test with such a proxy guards it.
fn wants_login(cause: &(dyn Error + 'static)) -> bool {
    cause.to_string() == "tunnel error: proxy authorization required"
}

/// Returns true if this process or machine is out of file descriptors.
fn is_out_of_descriptors(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE))
}

/// Returns true if the connection ended after the request was sent and before a response began.
pub(crate) fn ended_unanswered(error: &reqwest::Error) -> bool {
    let is_reset =
        |cause: &io::Error| matches!(cause.kind(), io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe);
    !error.is_connect()
        && causes(error).any(|cause| {
            cause.downcast_ref().is_some_and(hyper::Error::is_incomplete_message)
                || cause.downcast_ref().is_some_and(is_reset)
        })
}

/// Returns true if the peer does not speak TLS.
fn is_no_tls(error: &rustls::Error) -> bool {
    matches!(
        error,
        rustls::Error::InvalidMessage(rustls::InvalidMessage::InvalidContentType)
    )
}

/// Returns true if the peer's bytes were not HTTP.
pub(crate) fn is_no_http(error: &reqwest::Error) -> bool {
    !error.is_connect() && causes(error).any(|cause| cause.downcast_ref().is_some_and(hyper::Error::is_parse))
}

/// Returns true if the TLS handshake failed because the server does not offer HTTP/1.1 (RFC 7301 §3.2).
pub(crate) fn refuses_http1(error: &reqwest::Error) -> bool {
    matches!(
        tls_error(error),
        Some(rustls::Error::AlertReceived(
            rustls::AlertDescription::NoApplicationProtocol
        ))
    )
}

/// The TLS error in the chain. It is wrapped in I/O errors, which do not report their content as their source.
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
