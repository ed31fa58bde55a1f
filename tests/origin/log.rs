//! The log of requests and responses: the evidence for most promises.
//!
//! A promise such as "no byte is fetched twice" is about requests, and the log shows them. The log only grows. A test
//! with phases takes a [`Log::mark`] and asks for the requests [`Log::since`] then.

use std::io::{self, Write};
use std::ops::Range;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use rangemap::RangeSet;

use super::request::{AskedRange, Request};

/// Maximum wait for something that must happen. Far longer than a loaded machine needs.
pub(super) const PATIENCE: Duration = Duration::from_secs(60);

/// The log of one origin.
pub struct Log {
    shared: Arc<Shared>,
}

struct Shared {
    /// Guards the requests. Held for an entry, and for a write that does not block.
    state: Mutex<State>,
    /// Notified at every change of `state`.
    changed: Condvar,
}

struct State {
    requests: Requests,
    /// Counts beginnings and ends, which gives their order.
    clock: u64,
    /// Gets a line for each finished request.
    sink: Option<Box<dyn Write + Send>>,
}

/// One request and its response.
#[derive(Debug, Clone)]
pub struct Exchange {
    /// Number of its connection, from 0.
    pub connection: usize,
    /// `GET`, `HEAD`, …
    pub method: String,
    /// Percent-decoded.
    pub path: String,
    /// The requested range.
    pub range: Option<AskedRange>,
    /// All headers.
    pub headers: Vec<(String, String)>,
    /// Status of the response, once its head is being sent.
    pub status: Option<u16>,
    /// Body bytes that were passed to the kernel.
    pub body_bytes: u64,
    /// How the response ended, once it has.
    pub end: Option<End>,
    /// Arrival time.
    pub came: Instant,
    began: u64,
    /// Set before the last bytes are sent: a client that has them may send its next request before the server's
    /// thread runs again.
    ended: Option<u64>,
}

/// How a response ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// All of it was sent.
    Complete,
    /// A fault broke it off.
    Cut,
    /// The client closed the connection.
    ClientLeft,
}

impl Exchange {
    /// The value of a header, case-insensitive.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(key, _)| key.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }

    fn line(&self) -> String {
        let range = self.header("range").unwrap_or("-");
        let status = self.status.map_or("-".to_owned(), |status| status.to_string());
        format!(
            "{} {} {range} {status} {}\n",
            self.method,
            super::encode_path(&self.path),
            self.body_bytes
        )
    }
}

/// Requests from a part of the log, in order of arrival.
#[derive(Debug, Clone)]
pub struct Requests(pub Vec<Exchange>);

impl Requests {
    /// The `GET`s for this path.
    pub fn gets(&self, path: &str) -> Vec<&Exchange> {
        self.0
            .iter()
            .filter(|request| request.method == "GET" && request.path == path)
            .collect()
    }

    /// The statuses of the `GET`s for this path that were answered.
    pub fn statuses(&self, path: &str) -> Vec<u16> {
        self.gets(path)
            .into_iter()
            .filter_map(|request| request.status)
            .collect()
    }

    /// The requests that sent bytes of this file, or will.
    pub fn data(&self, path: &str) -> Vec<&Exchange> {
        let brings = |request: &&Exchange| request.status.is_none_or(|status| matches!(status, 200 | 206));
        self.gets(path).into_iter().filter(brings).collect()
    }

    /// Bytes of this file that were sent.
    pub fn body_bytes(&self, path: &str) -> u64 {
        self.data(path).iter().map(|request| request.body_bytes).sum()
    }

    /// Number of different bytes of this file that were sent. More bytes of an aborted fetch may be sent than are
    /// received, and the rest is sent again. That is inherent in aborting fetches, not a waste.
    pub fn distinct_bytes(&self, path: &str) -> u64 {
        let sent: RangeSet<u64> = self
            .data(path)
            .into_iter()
            .map(|request| {
                let first = request.range.map_or(0, |range| range.first);
                first..first + request.body_bytes
            })
            .filter(|range| !range.is_empty())
            .collect();
        sent.iter().map(|range| range.end - range.start).sum()
    }

    /// The requested ranges of this file: bytes, exclusive.
    pub fn ranges(&self, path: &str) -> Vec<Range<u64>> {
        let asked = self.gets(path).into_iter().filter_map(|request| request.range);
        asked
            .map(|range| range.first..range.last.map_or(u64::MAX, |last| last + 1))
            .collect()
    }

    /// Most requests in flight at one time, as their client sees it. An abandoned request counts until the origin
    /// notices, possibly a moment too long.
    pub fn max_in_flight(&self) -> usize {
        let begins = self.0.iter().map(|request| (request.began, 1));
        let ends = self.0.iter().filter_map(|request| Some((request.ended?, -1)));
        let mut changes: Vec<(u64, i64)> = begins.chain(ends).collect();
        changes.sort_unstable();
        let levels = changes.iter().scan(0, |level, (_, step)| {
            *level += step;
            Some(*level)
        });
        levels.max().unwrap_or(0) as usize
    }

    /// Whether all of them have ended.
    pub fn all_ended(&self) -> bool {
        self.0.iter().all(|request| request.end.is_some())
    }
}

impl Log {
    pub(super) fn new() -> Log {
        let state = State {
            requests: Requests(Vec::new()),
            clock: 0,
            sink: None,
        };
        Log {
            shared: Arc::new(Shared {
                state: Mutex::new(state),
                changed: Condvar::new(),
            }),
        }
    }

    /// All requests so far.
    pub fn all(&self) -> Requests {
        self.since(0)
    }

    /// The position of the next request in the log.
    pub fn mark(&self) -> usize {
        self.shared.lock().requests.0.len()
    }

    /// The requests since the mark.
    pub fn since(&self, mark: usize) -> Requests {
        Requests(self.shared.lock().requests.0[mark..].to_vec())
    }

    /// Waits until `seen` returns true. Fails the test, with the log, after [`PATIENCE`].
    #[track_caller]
    pub fn wait_for(&self, what: &str, seen: impl Fn(&Requests) -> bool) -> Requests {
        let deadline = Instant::now() + PATIENCE;
        let mut state = self.shared.lock();
        // The log is read under the lock under which it grows, so no change is missed between check and wait.
        loop {
            if seen(&state.requests) {
                return state.requests.clone();
            }
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(
                !left.is_zero(),
                "the origin never saw {what}; it saw {:#?}",
                state.requests.0
            );
            state = self
                .shared
                .changed
                .wait_timeout(state, left)
                .unwrap_or_else(|poisoned| poisoned.into_inner())
                .0;
        }
    }

    /// Waits for a request after the mark. Fails the test if none comes.
    #[track_caller]
    pub fn wait_beyond(&self, mark: usize) {
        let (state, timeout) = self
            .shared
            .changed
            .wait_timeout_while(self.shared.lock(), PATIENCE, |state| state.requests.0.len() <= mark)
            .unwrap_or_else(|poisoned| poisoned.into_inner());
        drop(state);
        assert!(!timeout.timed_out(), "no request came after the first {mark}");
    }

    /// From now on writes a line for each finished request: method, path, range, status, bytes of body sent.
    pub fn write_to(&self, sink: impl Write + Send + 'static) {
        self.shared.lock().sink = Some(Box::new(sink));
    }

    pub(super) fn begin(&self, connection: usize, request: &Request) -> Entry {
        let mut state = self.shared.lock();
        state.clock += 1;
        let exchange = Exchange {
            connection,
            method: request.method.clone(),
            path: request.path.clone(),
            range: request.range(),
            headers: request.headers.clone(),
            status: None,
            body_bytes: 0,
            end: None,
            came: Instant::now(),
            began: state.clock,
            ended: None,
        };
        state.requests.0.push(exchange);
        let index = state.requests.0.len() - 1;
        self.shared.changed.notify_all();
        Entry {
            shared: Arc::clone(&self.shared),
            index,
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

/// Guard: the log's entry of a request in progress. Dropping it before the end records that the client left.
pub(super) struct Entry {
    shared: Arc<Shared>,
    index: usize,
}

impl Entry {
    pub fn answered(&mut self, status: u16) {
        self.change(|exchange| exchange.status = Some(status));
    }

    /// Sends a piece of the body and counts it in one step: a client that has received a byte finds it in the log.
    /// `write` must not block, because the log is locked meanwhile.
    pub fn send(&mut self, write: impl FnOnce() -> io::Result<usize>) -> io::Result<usize> {
        let mut state = self.shared.lock();
        let written = write()?;
        state.requests.0[self.index].body_bytes += written as u64;
        self.shared.changed.notify_all();
        Ok(written)
    }

    /// Notes that the next bytes are the last.
    pub fn last_words(&mut self) {
        let mut state = self.shared.lock();
        state.clock += 1;
        let clock = state.clock;
        state.requests.0[self.index].ended.get_or_insert(clock);
    }

    /// Records the end. Only the first end counts.
    pub fn end(&mut self, end: End) {
        let mut guard = self.shared.lock();
        let state = &mut *guard;
        let exchange = &mut state.requests.0[self.index];
        if exchange.end.is_some() {
            return;
        }
        state.clock += 1;
        exchange.end = Some(end);
        exchange.ended.get_or_insert(state.clock);
        if let Some(sink) = &mut state.sink {
            sink.write_all(exchange.line().as_bytes())
                .expect("the origin's log can be written");
        }
        self.shared.changed.notify_all();
    }

    fn change(&self, change: impl FnOnce(&mut Exchange)) {
        change(&mut self.shared.lock().requests.0[self.index]);
        self.shared.changed.notify_all();
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.end(End::ClientLeft);
    }
}
