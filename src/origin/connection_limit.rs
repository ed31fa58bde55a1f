//! The connection limit of an origin, and which request gets a connection: `--max-connections` for bytes, names and
//! probes together.
//!
//! Every request holds a [`Lease`] of one connection, from when it is sent until its response was read to its end. Idle
//! connections count towards the limit: a request takes an idle one first, and opens a new one only below the limit.
//! The rules:
//!
//! - **Requests are served in the order of their due times.** A request for names is due on arrival, one for bytes
//!   [`BYTES_YIELD`] later. So `ls` does not queue behind fetches, and a walk does not keep a reader from its first
//!   byte.
//! - **While a request waits, a connection without data for a second is revoked** (longer for slower origins). The
//!   revoked request is sent again, and has twice as long each time. Waiting requests for names also take a connection
//!   that a fetch has held for a while. That fetch continues at the byte that it has reached.
//! - **A server that does not answer a new connection while it serves our others has a limit of its own.** If no
//!   response begins on a new connection, idle ones are closed. If a response then comes at once, the limit drops for a
//!   minute to the most connections that were ever served side by side.
//!
//! The decisions are in [`state`], which never waits.

mod state;
#[cfg(test)]
mod tests;

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use tokio::{
    runtime::Handle,
    sync::{Notify, oneshot},
    time::{Instant, sleep},
};
use url::Url;

use crate::http::{
    MOST_ORIGINS, Origin,
    connect::wire::{Speech, Wire},
};
use crate::util::events;
use state::{Grant, State, Waiting};

/// How much later a request for bytes is due than one for names. A round trip or two: a walk over a directory sends its
/// next request when the previous one is answered.
const BYTES_YIELD: Duration = Duration::from_millis(300);

/// How long a request waits before a connection is revoked for it.
const BEFORE_TAKING: Duration = Duration::from_millis(200);

/// Time without a response after which a kept-alive connection counts as stale. Three times what a distant server
/// takes, and short enough for a person who resumes a laptop. Longer for origins with slower responses.
const DEAD: Duration = Duration::from_millis(2500);

/// Time without a response on a new connection after which the server may be busy with our other connections.
const SHUT_OUT: Duration = Duration::from_secs(1);

/// Interval of the checks after that.
const LOOK: Duration = Duration::from_millis(100);

/// Up to this number, connections are few: each of them counts, and a configured limit is kept strictly.
const FEW: usize = 8;

/// How long a server takes to notice an aborted connection.
const NOTICED: Duration = Duration::from_millis(30);

/// Maximum time to wait for a hint.
const HINT_PATIENCE: Duration = Duration::from_secs(1);

/// The purpose of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RequestClass {
    /// Listings, metadata, probes.
    Names,
    /// A HEAD. Its response is a hint, and the GET that decides is still to be sent.
    Hint,
    /// Bytes of files.
    Bytes,
}

impl RequestClass {
    /// Maximum time without data, where `timeout` is the client's.
    pub(crate) fn patience(self, timeout: Duration) -> Duration {
        match self {
            RequestClass::Hint => HINT_PATIENCE.min(timeout),
            RequestClass::Names | RequestClass::Bytes => timeout,
        }
    }
}

/// The connection limits of all origins.
pub(crate) struct Limits {
    most: usize,
    began: Instant,
    all: Mutex<HashMap<Origin, Arc<Limit>>>,
}

impl Limits {
    pub(crate) fn new(most: usize) -> Limits {
        Limits {
            most: most.max(1),
            began: Instant::now(),
            all: Mutex::default(),
        }
    }

    /// The limit of a URL's origin.
    pub(crate) fn of(&self, url: &Url) -> Arc<Limit> {
        self.of_origin(&Origin::of(url).unwrap_or_else(Origin::nowhere))
    }

    /// The limit of an origin.
    pub(crate) fn of_origin(&self, origin: &Origin) -> Arc<Limit> {
        let mut all = self.all.lock();
        if all.len() >= MOST_ORIGINS && !all.contains_key(origin) {
            // Leases and waiting requests hold references to theirs. Dropping a limit closes its idle connections.
            all.retain(|_, limit| Arc::strong_count(limit) > 1);
        }
        let new = || Arc::new(Limit::new(origin.clone(), self.most, self.began));
        Arc::clone(all.entry(origin.clone()).or_insert_with(new))
    }
}

/// The connections to one origin, and their limit.
pub(crate) struct Limit {
    origin: Origin,
    began: Instant,
    has_body_after_head: AtomicBool,
    /// **Not held over an await; no other lock is taken under it but a wire's.**
    state: Mutex<State>,
}

impl Limit {
    fn new(origin: Origin, most: usize, began: Instant) -> Limit {
        Limit {
            origin,
            began,
            has_body_after_head: AtomicBool::new(false),
            state: Mutex::new(State::new(most)),
        }
    }

    /// Waits for a connection. `given_up`: how often this request has lost one already.
    pub(crate) async fn lease(self: &Arc<Self>, errand: RequestClass, given_up: u32) -> Lease {
        let now = Instant::now();
        let (sender, mut receiver) = oneshot::channel();
        let due = match errand {
            RequestClass::Names | RequestClass::Hint => now,
            RequestClass::Bytes => now + BYTES_YIELD,
        };
        {
            let mut state = self.state.lock();
            state.enqueue(Waiting::new(due, self, sender));
            state.serve(now);
        }
        let wire = loop {
            tokio::select! {
                biased;
                // Only a dropped limit drops its senders, and `self` keeps this one.
                grant = &mut receiver => break grant.ok().and_then(Grant::take),
                () = sleep(BEFORE_TAKING) => self.state.lock().take_one_for(errand, self.now()),
            }
        };
        let held = Arc::new(Held::new(errand, given_up, self.now(), wire.is_some()));
        let id = self.state.lock().hold(Arc::clone(&held));
        Lease {
            limit: Arc::clone(self),
            wire,
            held,
            id,
            is_over: false,
        }
    }

    /// The current limit: the configured one, or the number that the server was seen to serve at a time.
    pub(crate) fn serves(&self) -> usize {
        self.state.lock().serves()
    }

    /// Bytes that are not HTTP came on a reused connection: they followed a response without a body.
    pub(crate) fn has_answered_too_much(&self) {
        self.has_body_after_head.store(true, Ordering::Release);
    }

    /// Returns true if bytes follow the response to HEAD, so that its connection can't be reused (RFC 9110 §9.3.2
    /// forbids them).
    pub(crate) fn has_body_after_head(&self) -> bool {
        self.has_body_after_head.load(Ordering::Acquire)
    }

    fn now(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

/// The state of a lease. Times are milliseconds since the limits were created.
pub(crate) struct Held {
    errand: RequestClass,
    since: u64,
    /// When data last arrived.
    heard: AtomicU64,
    /// Time without data, in ms, after which the connection may be revoked.
    patience: u64,
    /// True after a response on its connection.
    is_answered: AtomicBool,
    /// True after the head of this response.
    has_head: AtomicBool,
    /// True if the request can continue on another connection.
    gives_way: AtomicBool,
    /// True if it has waited too long for the first response of a new connection.
    is_shut_out: AtomicBool,
    is_revoked: AtomicBool,
    revoked: Notify,
}

impl Held {
    fn new(errand: RequestClass, given_up: u32, now: u64, is_answered: bool) -> Held {
        Held {
            errand,
            since: now,
            heard: AtomicU64::new(now),
            patience: 1000 << given_up.min(6),
            is_answered: AtomicBool::new(is_answered),
            has_head: AtomicBool::new(false),
            gives_way: AtomicBool::new(false),
            is_shut_out: AtomicBool::new(false),
            is_revoked: AtomicBool::new(false),
            revoked: Notify::new(),
        }
    }

    /// Returns true if the lease's request would notice a revocation.
    fn may_be_revoked(&self) -> bool {
        !self.is_revoked.load(Ordering::Acquire)
            && (!self.has_head.load(Ordering::Acquire) || self.gives_way.load(Ordering::Acquire))
    }

    fn revoke(&self) {
        self.is_revoked.store(true, Ordering::Release);
        self.revoked.notify_one();
    }
}

/// The right to use one connection for one request. Dropped before [`Lease::finish`], it closes the connection.
pub(crate) struct Lease {
    limit: Arc<Limit>,
    /// `None` before the connection is made.
    wire: Option<Wire>,
    held: Arc<Held>,
    id: u64,
    is_over: bool,
}

impl Lease {
    /// The connection; `make` makes it if there is none with this protocol.
    pub(crate) fn wire<E>(&mut self, speech: Speech, make: impl FnOnce() -> Result<Wire, E>) -> Result<&mut Wire, E> {
        let wire = match self.wire.take().filter(|wire| wire.speech == speech) {
            Some(wire) => wire,
            None if speech.version.is_shared() => self.limit.state.lock().shared_wire(speech, make)?,
            None => make()?,
        };
        Ok(self.wire.insert(wire))
    }

    /// Returns true if other requests use the same connection.
    pub(crate) fn is_shared(&self) -> bool {
        self.wire.as_ref().is_some_and(|wire| wire.speech.version.is_shared())
    }

    /// Returns true if the connection is shared and has carried responses.
    pub(crate) fn is_shared_and_kept(&self) -> bool {
        self.is_shared() && self.limit.state.lock().shared_is_kept()
    }

    /// Closes the connection; the request continues on a new one.
    pub(crate) fn renew(&mut self) {
        let is_shared = self.is_shared();
        self.wire = None;
        let mut state = self.limit.state.lock();
        if is_shared {
            state.forget_shared();
        }
        self.held.is_answered.store(false, Ordering::Release);
        self.held.is_shut_out.store(false, Ordering::Release);
    }

    /// Closes the idle connections without data since `since`.
    pub(crate) fn suspect_idle(&self, since: Instant) {
        self.limit.state.lock().drop_idle_since(since);
    }

    /// How long to wait for a response before a check, on a reused connection or on a new one.
    pub(crate) fn patience(&self, is_kept: bool) -> Duration {
        let state = self.limit.state.lock();
        if is_kept || self.is_shared() && state.shared_is_kept() {
            DEAD.max(state.slowest() * 2)
        } else {
            SHUT_OUT.max(state.slowest() * 2)
        }
    }

    /// The head of a response arrived after this time.
    pub(crate) fn answered(&self, after: Duration) {
        self.heard();
        self.held.is_answered.store(true, Ordering::Release);
        self.held.has_head.store(true, Ordering::Release);
        let was_shut_out = self.held.is_shut_out.swap(false, Ordering::AcqRel);
        let mut state = self.limit.state.lock();
        if self.is_shared() {
            state.keep_shared();
        }
        if let Some(serves) = state.answered(after, was_shut_out, Instant::now()) {
            log::info!(
                event = events::CONNECTIONS_CAPPED;
                "{} accepts a new connection only after another one is closed; using {serves} at a time",
                self.limit.origin
            );
        }
    }

    /// No response has come on a new connection within [`SHUT_OUT`]. Returns when to check again.
    pub(crate) fn waits_for_its_first_answer(&self, begun: Instant) -> Instant {
        let now = Instant::now();
        let mut state = self.limit.state.lock();
        let is_shut_out = state.make_way_for_new(now, begun, self.limit.now());
        self.held.is_shut_out.store(is_shut_out, Ordering::Release);
        now + LOOK
    }

    /// Data has arrived.
    pub(crate) fn heard(&self) {
        self.held.heard.store(self.limit.now(), Ordering::Release);
    }

    /// The request can continue on another connection: from now on the lease may be revoked
    /// ([`Response::gives_way`](super::client::exchange::Response::gives_way)).
    pub(crate) fn gives_way(&self) {
        self.held.gives_way.store(true, Ordering::Release);
    }

    /// Resolves when the connection is revoked.
    pub(crate) fn revocation(&self) -> impl Future<Output = ()> + use<> {
        let held = Arc::clone(&self.held);
        async move {
            while !held.is_revoked.load(Ordering::Acquire) {
                held.revoked.notified().await;
            }
        }
    }

    /// Returns true if the connection is revoked.
    pub(crate) fn is_revoked(&self) -> bool {
        self.held.is_revoked.load(Ordering::Acquire)
    }

    /// The response was read to its end; `is_kept`: the server keeps the connection alive.
    pub(crate) fn finish(mut self, is_kept: bool) {
        let wire = self.wire.take().filter(|_| is_kept);
        self.give_back(wire);
    }

    fn is_one_of_few(&self) -> bool {
        self.limit.state.lock().serves() <= FEW
    }

    /// How long to wait for the rest of an unneeded response; `None` for not at all.
    pub(crate) fn worth_waiting(&self) -> Option<Duration> {
        let state = self.limit.state.lock();
        let patience = (state.usual() * 2).clamp(BEFORE_TAKING, SHUT_OUT);
        (state.serves() <= FEW && !self.is_revoked()).then_some(patience)
    }

    fn give_back(&mut self, wire: Option<Wire>) {
        self.is_over = true;
        self.limit.state.lock().release(self.id, wire, Instant::now());
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if self.is_over {
            return;
        }
        log::debug!(
            "{}: closing a connection before its response was read",
            self.limit.origin
        );
        // It must be closed before another one is opened.
        self.wire = None;
        let runtime = Handle::try_current().ok().filter(|_| self.is_one_of_few());
        let Some(runtime) = runtime else {
            return self.give_back(None);
        };
        let (limit, id) = (Arc::clone(&self.limit), self.id);
        runtime.spawn(async move {
            sleep(NOTICED).await;
            limit.state.lock().release(id, None, Instant::now());
        });
    }
}
