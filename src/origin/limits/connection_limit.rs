//! The connection limit of an origin, and which request gets a connection: `--max-connections` for bytes, names and
//! probes together.
//!
//! Every request holds a [`Lease`] of one connection, from when it is sent until its response was read to its end. Idle
//! connections count towards the limit: a request takes an idle one first, and opens a new one only below the limit.
//! The rules:
//!
//! - **Requests are served in the order of their due times.** A request for names is due on arrival, one for bytes
//!   300 ms later. So `ls` does not queue behind fetches, and a walk does not keep a reader from its first byte.
//! - **While a request waits, a connection without data for a second is revoked** (longer for slower origins). The
//!   revoked request is sent again, and has twice as long each time. Waiting requests for names also take a connection
//!   that a fetch has held for a while. That fetch continues at the byte that it has reached.
//! - **A server that does not answer a new connection while it serves our others has a limit of its own.** If no
//!   response begins on a new connection, idle ones are closed. If a response then comes at once, the limit drops for a
//!   minute to the most connections that were ever served side by side.
//!
//! The decisions are in [`LeaseQueue`], which never waits.

#[cfg(test)]
mod tests;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use tokio::{
    runtime::Handle,
    time::{Instant, sleep},
};

use super::{
    lease_queue::{Grant, LeaseQueue, SHUT_OUT},
    lease_state::LeaseState,
    request_class::RequestClass,
};
use crate::http::{
    Origin,
    connect::wire::{Speech, Wire},
};
use crate::util::events;

/// How long a request waits before a connection is revoked for it.
const BEFORE_TAKING: Duration = Duration::from_millis(200);

/// Time without a response after which a kept-alive connection counts as stale. Three times what a distant server
/// takes, and short enough for a person who resumes a laptop. Longer for origins with slower responses.
const DEAD: Duration = Duration::from_millis(2500);

/// Interval of the checks of a new connection after [`SHUT_OUT`].
const LOOK: Duration = Duration::from_millis(100);

/// Up to this number, connections are few: each of them counts, and a configured limit is kept strictly.
const FEW: usize = 8;

/// How long a server takes to notice an aborted connection.
const NOTICED: Duration = Duration::from_millis(30);

/// The connections to one origin, and their limit.
pub(crate) struct ConnectionLimit {
    origin: Origin,
    began: Instant,
    has_body_after_head: AtomicBool,
    /// **Not held over an await; no other lock is taken under it but a wire's.**
    queue: Arc<Mutex<LeaseQueue>>,
}

impl ConnectionLimit {
    /// A limit of `most` connections, at least 1.
    pub(crate) fn new(origin: Origin, most: usize) -> ConnectionLimit {
        ConnectionLimit {
            origin,
            began: Instant::now(),
            has_body_after_head: AtomicBool::new(false),
            queue: LeaseQueue::new(most.max(1)),
        }
    }

    /// The origin.
    pub(crate) fn origin(&self) -> &Origin {
        &self.origin
    }

    /// Allows so many connections from now on, at least 1. Those in use stay.
    pub(crate) fn set_most(&self, most: usize) {
        self.queue.lock().set_most(most.max(1));
    }

    /// Waits for a connection. `given_up`: how often this request has lost one already.
    pub(crate) async fn lease(self: &Arc<Self>, class: RequestClass, given_up: u32) -> Lease {
        let now = Instant::now();
        let mut receiver = self.queue.lock().enqueue(class.due(now), now);
        let wire = loop {
            tokio::select! {
                biased;
                // Only a dropped limit drops its senders, and `self` keeps this one.
                grant = &mut receiver => break grant.ok().and_then(Grant::take),
                () = sleep(BEFORE_TAKING) => self.queue.lock().take_one_for(class, self.now()),
            }
        };
        let state = Arc::new(LeaseState::new(class, given_up, self.now(), wire.is_some()));
        let id = self.queue.lock().hold(Arc::clone(&state));
        Lease {
            limit: Arc::clone(self),
            wire,
            state,
            id,
            is_over: false,
        }
    }

    /// The current limit: the configured one, or the number that the server was seen to serve at a time.
    pub(crate) fn serves(&self) -> usize {
        self.queue.lock().serves()
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

/// The right to use one connection for one request. Dropped before [`Lease::finish`], it closes the connection.
pub(crate) struct Lease {
    limit: Arc<ConnectionLimit>,
    /// `None` before the connection is made.
    wire: Option<Wire>,
    state: Arc<LeaseState>,
    id: u64,
    is_over: bool,
}

impl Lease {
    /// The connection; `make` makes it if there is none with this protocol.
    pub(crate) fn wire<E>(&mut self, speech: Speech, make: impl FnOnce() -> Result<Wire, E>) -> Result<&mut Wire, E> {
        let wire = match self.wire.take().filter(|wire| wire.speech == speech) {
            Some(wire) => wire,
            None if speech.version.is_shared() => self.limit.queue.lock().shared_wire(speech, make)?,
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
        self.is_shared() && self.limit.queue.lock().shared_is_kept()
    }

    /// Closes the connection; the request continues on a new one.
    pub(crate) fn renew(&mut self) {
        let is_shared = self.is_shared();
        self.wire = None;
        let mut queue = self.limit.queue.lock();
        if is_shared {
            queue.forget_shared();
        }
        self.state.is_answered.store(false, Ordering::Release);
        self.state.is_shut_out.store(false, Ordering::Release);
    }

    /// Closes the idle connections without data since `since`.
    pub(crate) fn suspect_idle(&self, since: Instant) {
        self.limit.queue.lock().drop_idle_since(since);
    }

    /// How long to wait for a response before a check, on a reused connection or on a new one.
    pub(crate) fn patience(&self, is_kept: bool) -> Duration {
        let queue = self.limit.queue.lock();
        if is_kept || self.is_shared() && queue.shared_is_kept() {
            DEAD.max(queue.slowest() * 2)
        } else {
            SHUT_OUT.max(queue.slowest() * 2)
        }
    }

    /// The head of a response arrived after this time.
    pub(crate) fn answered(&self, after: Duration) {
        self.heard();
        self.state.is_answered.store(true, Ordering::Release);
        self.state.has_head.store(true, Ordering::Release);
        let was_shut_out = self.state.is_shut_out.swap(false, Ordering::AcqRel);
        let mut queue = self.limit.queue.lock();
        if self.is_shared() {
            queue.keep_shared();
        }
        if let Some(serves) = queue.answered(after, was_shut_out, Instant::now()) {
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
        let mut queue = self.limit.queue.lock();
        let is_shut_out = queue.make_way_for_new(now, begun, self.limit.now());
        self.state.is_shut_out.store(is_shut_out, Ordering::Release);
        now + LOOK
    }

    /// Data has arrived.
    pub(crate) fn heard(&self) {
        self.state.heard.store(self.limit.now(), Ordering::Release);
    }

    /// The request can continue on another connection: from now on the lease may be revoked
    /// ([`Response::gives_way`](crate::origin::request::exchange::Response::gives_way)).
    pub(crate) fn gives_way(&self) {
        self.state.gives_way.store(true, Ordering::Release);
    }

    /// Resolves when the connection is revoked.
    pub(crate) fn revocation(&self) -> impl Future<Output = ()> + use<> {
        let state = Arc::clone(&self.state);
        async move {
            while !state.is_revoked.load(Ordering::Acquire) {
                state.revoked.notified().await;
            }
        }
    }

    /// Returns true if the connection is revoked.
    pub(crate) fn is_revoked(&self) -> bool {
        self.state.is_revoked.load(Ordering::Acquire)
    }

    /// The response was read to its end; `is_kept`: the server keeps the connection alive.
    pub(crate) fn finish(mut self, is_kept: bool) {
        let wire = self.wire.take().filter(|_| is_kept);
        self.give_back(wire);
    }

    fn is_one_of_few(&self) -> bool {
        self.limit.queue.lock().serves() <= FEW
    }

    /// How long to wait for the rest of an unneeded response; `None` for not at all.
    pub(crate) fn worth_waiting(&self) -> Option<Duration> {
        let queue = self.limit.queue.lock();
        let patience = (queue.usual() * 2).clamp(BEFORE_TAKING, SHUT_OUT);
        (queue.serves() <= FEW && !self.is_revoked()).then_some(patience)
    }

    fn give_back(&mut self, wire: Option<Wire>) {
        self.is_over = true;
        self.limit.queue.lock().release(self.id, wire, Instant::now());
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
            limit.queue.lock().release(id, None, Instant::now());
        });
    }
}
