//! The bytes of an answer, counted.
//!
//! HTTP libraries differ in what they make of a body that ends early or goes on too long: a missing Content-Length and a
//! closed connection are a clean end to them. A file's bytes must be exactly those that were announced, so they are
//! counted here. The stall detector is here too and not in `reqwest`: its own read timeout goes on while the caller is
//! busy (throttled, or writing), and would take our pause for the server's.

use std::{collections::VecDeque, fmt, time::Duration};

use bytes::Bytes;

use tokio::time::Instant;

use super::exchange::Response;
use crate::http::{HttpError, HttpErrorKind, RedactedUrl, error::classify};

/// A silence in the middle of a body that is first taken for the connection's fault: what is missing is asked for on a new one. A
/// second silence at the same place is the server's, and lasts as long as the timeout says.
const SUSPICIOUS: Duration = Duration::from_secs(4);

/// Bytes after which a connection is as new: its next silence is at another place. What drips stays below it, and is not asked for
/// anew at each drop.
const PROGRESS: u64 = 64 << 10;

/// What is left to read of an answer. Dropping it before its end closes the connection.
pub struct Body {
    response: Response,
    /// Bytes still due; `None` if nobody said how many will come.
    due: Option<u64>,
    /// **Whether the transfer's own framing ends where `due` does**, so that nothing can follow.
    is_framed: bool,
    /// Comes before what the response still brings.
    kept: VecDeque<Bytes>,
    /// More than what is due was announced, and is not wanted.
    has_rest: bool,
    /// The longest silence that is tolerated.
    timeout: Duration,
    /// Whether what is missing can be asked for again, on another connection.
    gives_way: bool,
    /// Bytes that have to come until a silence is the connection's fault before it is the server's. 0: it is now.
    trusted_for: u64,
    /// The URL asked, fit for messages.
    url: RedactedUrl,
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
    /// `due` is what the judgement expects; `announced` is Content-Length.
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
            url,
        }
    }

    /// From now on the connection may be given up for another request, or for its silence: [`HttpErrorKind::AskAgain`].
    pub(crate) fn that_gives_way(mut self) -> Body {
        self.response.gives_way();
        self.gives_way = true;
        self
    }

    /// A connection has fallen silent at this place before: until the body is past it, the server is waited for.
    pub fn trust_connection(&mut self) {
        self.trusted_for = PROGRESS;
    }

    /// When the request was sent, over the connection that it had waited for.
    pub fn sent(&self) -> Instant {
        self.response.sent()
    }

    /// Says how many bytes are due, where nobody else has.
    pub fn expect(&mut self, bytes: u64) {
        self.due.get_or_insert(bytes);
    }

    /// Ends where what is due ends, though more was announced. The connection is not used again.
    pub(crate) fn leave_the_rest(&mut self) {
        self.has_rest = true;
    }

    /// Yields once more what it has yielded, from its beginning to its end.
    pub fn again(mut self, pieces: Vec<Bytes>) -> Body {
        self.due = Some(pieces.iter().map(|piece| piece.len() as u64).sum());
        (self.kept, self.is_framed) = (pieces.into(), true);
        self
    }

    /// The next bytes, or `None` after the last.
    ///
    /// Never yields more in all than was announced. Cancel-safe: no byte is lost if the future is dropped.
    ///
    /// # Errors
    /// `Interrupted` if the body ends before the bytes that were announced have come, `TimedOut` after a silence,
    /// `BadAnswer` if it goes on after them. What was yielded before is good in the first two cases.
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
                    // In the same read: no need to hand out any of it.
                    return Err(self.error(too_long()));
                }
                *due -= piece.len() as u64;
            }
            if !piece.is_empty() {
                self.trusted_for = self.trusted_for.saturating_sub(piece.len() as u64);
                return Ok(Some(piece));
            }
        }
    }

    async fn read(&mut self) -> Result<Result<Option<Bytes>, reqwest::Error>, HttpErrorKind> {
        let suspects = self.gives_way && self.trusted_for == 0 && SUSPICIOUS < self.timeout;
        let patience = if suspects { SUSPICIOUS } else { self.timeout };
        if self.response.is_revoked() {
            return Err(HttpErrorKind::AskAgain);
        }
        let revoked = self.response.revocation();
        let read = tokio::time::timeout(patience, self.response.chunk());
        tokio::select! {
            biased;
            read = read => match read {
                Ok(read) => Ok(read),
                Err(_) if suspects => {
                    self.response.suspects_connections(patience);
                    Err(HttpErrorKind::AskAgain)
                }
                Err(_) => Err(HttpErrorKind::TimedOut(self.timeout)),
            },
            () = revoked, if self.gives_way => Err(HttpErrorKind::AskAgain),
        }
    }

    /// After the last byte: whatever else comes shows that the announced length was wrong. An error or a silence at
    /// this point costs nobody a byte, so neither is reported.
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

fn too_long() -> HttpErrorKind {
    HttpErrorKind::BadAnswer("the body is longer than announced".to_owned())
}
