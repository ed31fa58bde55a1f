//! The body of a response, with its bytes counted.
//!
//! HTTP libraries differ on a body that ends early or runs too long: a missing Content-Length and a closed connection
//! are a clean end to them. A file's bytes must be exactly those that were announced, so this module counts them.
//!
//! The stall detector is here too. The read timeout of `reqwest` keeps running while the caller is busy (throttled, or
//! writing), so that it would count our own pause as the server's.

use std::{collections::VecDeque, fmt, pin::Pin, sync::Arc, time::Duration};

use bytes::Bytes;

use tokio::time::Instant;

use super::exchange::Response;
use crate::http::{HttpError, HttpErrorKind, Origin, RedactedUrl, error::classify};
use crate::origin::throttle::{Throttle, Turn};

/// Time without data in the middle of a body after which the connection is suspected first: the missing bytes are
/// requested on a new one. A second stall at the same offset counts as the server's, and lasts until the timeout.
const SUSPICIOUS: Duration = Duration::from_secs(4);

/// Bytes after which a connection is trusted as a new one: its next stall is at another offset. A server that drips
/// stays below this, so that not every drip causes a new request.
const PROGRESS: u64 = 64 << 10;

/// Waits until nothing more can be expected of the sender of a body.
pub(crate) type WaitUntilGone = Arc<dyn Fn() -> Pin<Box<dyn Future<Output = ()> + Send>> + Send + Sync>;

/// The unread part of a response. Dropping it before its end closes the connection.
pub struct Body {
    response: Response,
    /// Bytes still due; `None` if the length is unknown.
    due: Option<u64>,
    /// **Whether the transfer's own framing ends where `due` does**, so that nothing can follow.
    is_framed: bool,
    /// Bytes already read, yielded before those that still arrive.
    kept: VecDeque<Bytes>,
    /// The server announced more than is due; the excess is not wanted.
    has_rest: bool,
    /// Maximum time without data.
    timeout: Duration,
    /// True if the missing bytes can be requested again on another connection.
    gives_way: bool,
    /// Bytes that must arrive before a stall is blamed on the connection instead of the server. 0: now.
    trusted_for: u64,
    /// Time without data after which the connection is suspected.
    suspicious: Duration,
    /// The slowest that it may be, if that is limited.
    pace: Option<Pace>,
    /// After this time without data, it is watched whether the sender is gone.
    watched: Option<(Duration, WaitUntilGone)>,
    /// The requested URL, redacted for messages.
    url: RedactedUrl,
    /// The rate of the source, if it has one of its own.
    throttle: Option<Arc<Throttle>>,
    /// The turn at which the next bytes may be read.
    turn: Option<Turn>,
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Body")
            .field("url", &self.url)
            .field("due", &self.due)
            .finish_non_exhaustive()
    }
}

impl Body {
    /// `due` is what response validation expects; `announced` is Content-Length.
    pub(crate) fn new(
        response: Response,
        due: Option<u64>,
        announced: Option<u64>,
        timeout: Duration,
        url: RedactedUrl,
    ) -> Body {
        Body {
            response,
            due,
            is_framed: due.is_some() && due == announced,
            kept: VecDeque::new(),
            has_rest: false,
            timeout,
            gives_way: false,
            trusted_for: 0,
            suspicious: SUSPICIOUS,
            pace: None,
            watched: None,
            url,
            throttle: None,
            turn: None,
        }
    }

    /// Keeps to this rate, together with all other bodies that do.
    pub(super) fn throttled_by(mut self, throttle: Option<Arc<Throttle>>) -> Body {
        self.throttle = throttle;
        self
    }

    /// From now on the connection may be given up, for another request or after a stall: [`HttpErrorKind::AskAgain`].
    pub(crate) fn that_gives_way(mut self) -> Body {
        self.response.gives_way();
        self.gives_way = true;
        self
    }

    /// Suspects the connection after this time without data, and treats a body as silent that brings fewer than `least`
    /// bytes in the time that it may be silent for.
    pub(crate) fn that_is_expected_soon(mut self, suspicious: Duration, least: u64) -> Body {
        self.suspicious = suspicious;
        self.pace = Some(Pace {
            least,
            arrived: 0,
            waited: Duration::ZERO,
        });
        self
    }

    /// After this time without data, gives the connection up as soon as `is_gone` returns.
    pub(crate) fn that_is_watched_after(mut self, silence: Duration, is_gone: WaitUntilGone) -> Body {
        self.watched = Some((silence, is_gone));
        self
    }

    /// A connection stalled at this offset before. Until the body is past it, wait for the server.
    pub fn trust_connection(&mut self) {
        self.trusted_for = PROGRESS;
    }

    /// When the request was sent, after the wait for its connection.
    pub fn sent(&self) -> Instant {
        self.response.sent()
    }

    /// The origin that sends it.
    pub fn origin(&self) -> Option<Origin> {
        self.url.origin()
    }

    /// Sets how many bytes are due, if the length is unknown.
    pub fn expect(&mut self, bytes: u64) {
        self.due.get_or_insert(bytes);
    }

    /// Ends after the bytes that are due, although more was announced. The connection is not reused.
    pub(crate) fn leave_the_rest(&mut self) {
        self.has_rest = true;
    }

    /// Yields `pieces`, which it has yielded before, once more: from its beginning.
    pub fn again(mut self, pieces: Vec<Bytes>) -> Body {
        self.due = Some(pieces.iter().map(|piece| piece.len() as u64).sum());
        (self.kept, self.is_framed) = (pieces.into(), true);
        self
    }

    /// Yields the rest of the last piece once more.
    pub fn put_back(&mut self, rest: Bytes) {
        self.due = self.due.map(|due| due + rest.len() as u64);
        if !rest.is_empty() {
            self.kept.push_front(rest);
        }
    }

    /// The next bytes, or `None` after the last.
    ///
    /// Never yields more in total than was announced. Cancel-safe: dropping the future loses no byte.
    ///
    /// # Errors
    /// - `Interrupted` if the body ends before the announced length. What was yielded is good.
    /// - `TimedOut` after a stall. What was yielded is good.
    /// - `BadAnswer` if the body goes on after the announced length.
    pub async fn next(&mut self) -> Result<Option<Bytes>, HttpError> {
        if self.due == Some(0) {
            if self.has_rest {
                return Ok(None);
            }
            return self.expect_end().await.map(|()| None);
        }
        if let Some(piece) = self.kept.pop_front() {
            self.due = self.due.map(|due| due.saturating_sub(piece.len() as u64));
            return Ok(Some(piece));
        }
        // Before the read, because the bytes of a read must not be lost when the caller gives up.
        if let (Some(throttle), Some(turn)) = (&self.throttle, self.turn) {
            throttle.wait(turn).await;
            self.turn = None;
        }
        loop {
            let piece = match self.read().await {
                Err(kind) => return Err(self.error(kind)),
                Ok(Err(error)) => return Err(self.error(classify(&error, self.timeout))),
                Ok(Ok(piece)) => piece,
            };
            let Some(mut piece) = piece else {
                return match self.due {
                    None => Ok(None),
                    Some(_) => Err(self.error(HttpErrorKind::Interrupted)),
                };
            };
            if let Some(due) = &mut self.due {
                if self.has_rest {
                    piece.truncate(usize::try_from(*due).unwrap_or(usize::MAX));
                }
                if piece.len() as u64 > *due {
                    // Excess in the same read: yield none of it.
                    return Err(self.error(too_long()));
                }
                *due -= piece.len() as u64;
            }
            if !piece.is_empty() {
                self.trusted_for = self.trusted_for.saturating_sub(piece.len() as u64);
                self.turn = self
                    .throttle
                    .as_ref()
                    .and_then(|throttle| throttle.reserve(piece.len()));
                return Ok(Some(piece));
            }
        }
    }

    async fn read(&mut self) -> Result<Result<Option<Bytes>, reqwest::Error>, HttpErrorKind> {
        let suspects = self.gives_way && self.trusted_for == 0 && self.suspicious < self.timeout;
        let silence = if suspects { self.suspicious } else { self.timeout };
        let left = self.pace.as_ref().map(|pace| self.timeout.saturating_sub(pace.waited));
        let patience = left.map_or(silence, |left| left.min(silence));
        let begun = Instant::now();
        if self.response.is_revoked() {
            return Err(HttpErrorKind::AskAgain);
        }
        let revoked = self.response.revocation();
        let is_gone = async {
            let Some((silence, is_gone)) = &self.watched else {
                return std::future::pending().await;
            };
            tokio::time::sleep(*silence).await;
            is_gone().await;
        };
        let read = tokio::time::timeout(patience, self.response.chunk());
        tokio::select! {
            biased;
            read = read => match read {
                Ok(read) => {
                    let bytes = read.as_ref().ok().and_then(Option::as_ref).map_or(0, Bytes::len);
                    self.pace.iter_mut().for_each(|pace| pace.note(bytes as u64, begun.elapsed()));
                    Ok(read)
                }
                Err(_) if suspects && patience == silence => {
                    self.response.suspects_connections(patience);
                    Err(HttpErrorKind::AskAgain)
                }
                Err(_) => Err(HttpErrorKind::TimedOut(self.timeout)),
            },
            () = revoked, if self.gives_way => Err(HttpErrorKind::AskAgain),
            () = is_gone, if self.gives_way => Err(HttpErrorKind::AskAgain),
        }
    }

    /// After the last byte: more bytes prove the announced length wrong. An error or a stall at this point loses no
    /// byte, so neither is reported.
    async fn expect_end(&mut self) -> Result<(), HttpError> {
        if self.is_framed {
            return Ok(());
        }
        match tokio::time::timeout(self.timeout, self.response.chunk()).await {
            Ok(Ok(Some(piece))) if !piece.is_empty() => Err(self.error(too_long())),
            _ => {
                self.is_framed = true;
                Ok(())
            }
        }
    }

    fn error(&self, kind: HttpErrorKind) -> HttpError {
        HttpError {
            kind,
            url: self.url.clone(),
        }
    }
}

/// How slow a body may be.
#[derive(Debug)]
struct Pace {
    /// Bytes that have to arrive in the time that the body may be silent for.
    least: u64,
    /// Bytes that arrived since so many did last.
    arrived: u64,
    /// Time that the caller has waited for them. Our own pauses don't count.
    waited: Duration,
}

impl Pace {
    fn note(&mut self, bytes: u64, waited: Duration) {
        self.arrived += bytes;
        self.waited += waited;
        if self.arrived >= self.least {
            (self.arrived, self.waited) = (0, Duration::ZERO);
        }
    }
}

fn too_long() -> HttpErrorKind {
    HttpErrorKind::BadAnswer("the body is longer than announced".to_owned())
}
