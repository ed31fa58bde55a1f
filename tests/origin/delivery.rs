//! A response and how it is sent: delay, speed, gates, and a complete or broken end.

use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use super::content::Content;
use super::faults::Place;
use super::gate::Gate;
use super::log::{End, Entry};

/// Most bytes generated and written at a time.
const SLICE: u64 = 64 * 1024;

/// Writes per second of a rate-limited body: often enough to look like a slow line, not like bursts.
const SLICES_A_SECOND: u64 = 50;

/// How long a reset waits for the bytes before it to arrive. See [`reset`].
const RESET_PATIENCE: Duration = Duration::from_secs(5);

/// A response, and the manner of sending it.
#[derive(Debug, Clone)]
pub(super) struct Answer {
    pub status: u16,
    headers: Vec<(&'static str, String)>,
    pub body: Vec<Piece>,
    /// The `Content-Range` of a 206.
    pub part: Option<Part>,
    pub framing: Framing,
    pub manner: Manner,
    /// The whole file that the response is about, if any.
    pub source: Option<Content>,
}

/// A run of bytes in a body.
#[derive(Debug, Clone)]
pub(super) struct Piece {
    pub content: Content,
    pub range: Range<u64>,
}

/// What a 206 claims to contain.
#[derive(Debug, Clone, Copy)]
pub(super) struct Part {
    /// Byte range: first, and one past the last.
    pub start: u64,
    pub end: u64,
    pub total: u64,
}

/// How the response marks the end of its body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// `Content-Length`.
    Length,
    /// By the end of the connection.
    UntilClose,
    /// Piece by piece: `Transfer-Encoding: chunked`.
    Chunked,
}

/// How a response is sent.
#[derive(Debug, Clone, Default)]
pub(super) struct Manner {
    /// Delay before the first byte of the response.
    pub latency: Duration,
    /// Body bytes per second.
    pub rate: Option<u64>,
    /// Its place among the concurrent responses.
    pub place: Option<Arc<Place>>,
    /// Gates before the first byte of the response.
    pub before: Vec<Gate>,
    /// Gates after this many body bytes.
    pub within: Vec<(u64, Gate)>,
    /// Break after this many body bytes.
    pub cut: Option<(u64, Cut)>,
    /// Bytes of garbage after the end of the body.
    pub excess: u64,
    /// Closes the connection instead of responding.
    pub is_silent: bool,
    /// Sends something other than HTTP instead of responding.
    pub is_garbage: bool,
}

/// How a connection is broken off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cut {
    /// A reset: the client sees an error.
    Reset,
    /// An orderly close, as if everything had been sent.
    Close,
}

impl Answer {
    pub fn new(status: u16, body: Content) -> Answer {
        Answer {
            status,
            headers: Vec::new(),
            body: vec![body.into()],
            part: None,
            framing: Framing::Length,
            manner: Manner::default(),
            source: None,
        }
    }

    /// A short page for people, as servers send with errors.
    pub fn text(status: u16, reason: &str) -> Answer {
        let page = format!("<html><body><h1>{status} {reason}</h1></body></html>\n");
        Answer::new(status, page.as_str().into()).with("Content-Type", "text/html")
    }

    /// Sets a header.
    pub fn with(mut self, name: &'static str, value: impl Into<String>) -> Answer {
        self.set(name, value);
        self
    }

    /// Sets a header.
    pub fn set(&mut self, name: &'static str, value: impl Into<String>) {
        self.unset(name);
        self.headers.push((name, value.into()));
    }

    /// Removes a header.
    pub fn unset(&mut self, name: &str) {
        self.headers.retain(|(key, _)| *key != name);
    }

    /// The value of a header.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(key, _)| *key == name)
            .map(|(_, value)| value.as_str())
    }

    /// Replaces the response, but keeps the manner of sending.
    pub fn replace(&mut self, other: Answer) {
        *self = Answer {
            manner: std::mem::take(&mut self.manner),
            ..other
        };
    }

    fn length(&self) -> u64 {
        self.body.iter().map(|piece| piece.range.end - piece.range.start).sum()
    }

    fn head(&self, keep_alive: bool) -> String {
        let mut head = format!("HTTP/1.1 {} {}\r\nServer: origin\r\n", self.status, reason(self.status));
        if self.framing == Framing::Length && self.status != 304 {
            head += &format!("Content-Length: {}\r\n", self.length());
        }
        if self.framing == Framing::Chunked {
            head += "Transfer-Encoding: chunked\r\n";
        }
        if let (Some(Part { start, end, total }), None) = (self.part, self.header("Content-Range")) {
            head += &format!("Content-Range: bytes {start}-{}/{total}\r\n", end - 1);
        }
        for (name, value) in &self.headers {
            head += &format!("{name}: {value}\r\n");
        }
        head + if keep_alive {
            "\r\n"
        } else {
            "Connection: close\r\n\r\n"
        }
    }

    /// Sends the response. Returns whether the connection can take another request.
    pub async fn send(self, stream: &mut TcpStream, method: &str, closes: bool, entry: &mut Entry) -> io::Result<bool> {
        if self.manner.is_silent {
            entry.end(End::Cut);
            return Ok(false);
        }
        if self.manner.is_garbage {
            entry.end(End::Cut);
            stream.write_all(b"220 ftp.example.org ready\r\n\r\n").await?;
            return Ok(false);
        }
        let torn = self.manner.cut.is_some() || self.manner.excess > 0;
        let keep_alive = !closes && !torn && self.framing != Framing::UntilClose;
        while_connected(stream, tokio::time::sleep(self.manner.latency)).await?;
        for gate in &self.manner.before {
            while_connected(stream, gate.pass()).await?;
        }
        let bodiless = method == "HEAD" || self.status == 304;
        if bodiless {
            entry.last_words();
        }
        // A broken response claims to keep the connection open, as an accidentally broken one does.
        entry.answered(self.status);
        stream.write_all(self.head(keep_alive || torn).as_bytes()).await?;
        if bodiless {
            entry.end(End::Complete);
            return Ok(keep_alive);
        }
        let mut pace = Pace {
            rate: self.manner.rate,
            since: Instant::now(),
            sent: 0,
        };
        for stop in self.stops() {
            self.send_until(stream, stop.at, &mut pace, entry).await?;
            match stop.then {
                Then::Hold(gate) => while_connected(stream, gate.pass()).await?,
                Then::Break(cut) => {
                    entry.end(End::Cut);
                    if cut == Cut::Reset {
                        reset(stream).await?;
                    }
                    return Ok(false);
                }
                Then::Finish => {}
            }
        }
        if self.framing == Framing::Chunked {
            stream.write_all(b"0\r\n\r\n").await?;
        }
        if self.manner.excess > 0 {
            stream.write_all(&vec![b'!'; self.manner.excess as usize]).await?;
        }
        entry.end(End::Complete);
        Ok(keep_alive)
    }

    /// The places in the body where something happens, in order; the last is its end.
    fn stops(&self) -> Vec<Stop> {
        let held = self.manner.within.iter().map(|(at, gate)| Stop {
            at: *at,
            then: Then::Hold(gate.clone()),
        });
        let cut = self.manner.cut.map(|(at, cut)| Stop {
            at,
            then: Then::Break(cut),
        });
        let end = Stop {
            at: self.length(),
            then: Then::Finish,
        };
        let mut stops: Vec<Stop> = held.chain(cut).filter(|stop| stop.at <= end.at).collect();
        stops.sort_by_key(|stop| stop.at);
        stops.push(end);
        stops
    }

    /// Sends the body up to byte `end`.
    async fn send_until(&self, stream: &TcpStream, end: u64, pace: &mut Pace, entry: &mut Entry) -> io::Result<()> {
        let mut piece_start = 0;
        for piece in &self.body {
            let piece_end = piece_start + (piece.range.end - piece.range.start);
            while pace.sent < end.min(piece_end) {
                let take = (end.min(piece_end) - pace.sent).min(pace.slice());
                let mut bytes = vec![0; take as usize];
                piece
                    .content
                    .fill(piece.range.start + (pace.sent - piece_start), &mut bytes);
                if pace.sent + take == self.length() {
                    // A client with the last byte may send its next request before this task runs again.
                    self.manner.place.iter().for_each(|place| place.leave());
                    entry.last_words();
                }
                if self.framing == Framing::Chunked {
                    bytes = [format!("{take:x}\r\n").as_bytes(), &bytes, b"\r\n"].concat();
                }
                let mut rest = bytes.as_slice();
                while !rest.is_empty() {
                    stream.writable().await?;
                    match entry.send(|| stream.try_write(rest)) {
                        Ok(written) => rest = &rest[written..],
                        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                        Err(error) => return Err(error),
                    }
                }
                pace.sent += take;
                while_connected(stream, tokio::time::sleep_until(pace.next().into())).await?;
            }
            piece_start = piece_end;
        }
        Ok(())
    }
}

struct Stop {
    at: u64,
    then: Then,
}

enum Then {
    Hold(Gate),
    Break(Cut),
    Finish,
}

/// The speed of a body.
struct Pace {
    rate: Option<u64>,
    since: Instant,
    sent: u64,
}

impl Pace {
    fn slice(&self) -> u64 {
        self.rate.map_or(SLICE, |rate| (rate / SLICES_A_SECOND).clamp(1, SLICE))
    }

    /// When the next slice is due.
    fn next(&self) -> Instant {
        self.rate.map_or(self.since, |rate| {
            self.since + Duration::from_secs_f64(self.sent as f64 / rate as f64)
        })
    }
}

/// Waits for `event`, unless the client closes the connection first.
async fn while_connected(stream: &TcpStream, event: impl Future<Output = ()>) -> io::Result<()> {
    let gone = async {
        // Readable bytes are an early next request. Then a close can't be detected, and the event decides.
        match stream.peek(&mut [0]).await {
            Ok(0) => io::Error::from(io::ErrorKind::ConnectionAborted),
            Ok(_) => std::future::pending().await,
            Err(error) => error,
        }
    };
    tokio::select! {
        biased;
        () = event => Ok(()),
        error = gone => Err(error),
    }
}

/// Resets the connection once everything sent before has arrived.
///
/// At a reset the kernel drops undelivered bytes, so an immediate reset would make "after N bytes" random. The empty
/// send queue has no event, so it is polled.
async fn reset(stream: &TcpStream) -> io::Result<()> {
    use std::os::fd::AsRawFd;
    let deadline = Instant::now() + RESET_PATIENCE;
    loop {
        let mut queued: libc::c_int = 0;
        // SAFETY: TIOCOUTQ writes one int, and the descriptor is open as long as `stream` is.
        let result = unsafe { libc::ioctl(stream.as_raw_fd(), libc::TIOCOUTQ, &raw mut queued) };
        if result < 0 {
            return Err(io::Error::last_os_error());
        }
        if queued == 0 || Instant::now() > deadline {
            return stream.set_zero_linger();
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        206 => "Partial Content",
        301 => "Moved Permanently",
        302 => "Found",
        304 => "Not Modified",
        404 => "Not Found",
        416 => "Range Not Satisfiable",
        500 => "Internal Server Error",
        503 => "Service Unavailable",
        _ => "Something Else",
    }
}
