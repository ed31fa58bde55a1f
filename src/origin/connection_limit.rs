//! How many connections there are to an origin, and which request gets one: `--max-connections`, over bytes, names and probes together.
//!
//! Every request has a [`Lease`] of one connection, from when it is sent until its answer was read to its end. Idle connections count:
//! a request takes an idle one first, and opens one only while they are fewer than allowed. The rules:
//!
//! - **Whose time has come first is served first**; that of names is their coming, that of bytes [`BYTES_YIELD`] later. So `ls` does not
//!   queue behind fetches, and a walk does not keep a reader from its first byte.
//! - **A connection that brings nothing for a second is given up while a request waits**, longer silences by slower origins; what was given up is asked again, and
//!   has twice as long each time. Names that wait take the connection of a fetch that has had it for a while: it goes on from the
//!   byte that it has reached.
//! - **A server that lets a new connection wait while it serves others of ours serves so many at a time.** When no answer begins on a
//!   new one, idle ones are closed; if an answer then comes at once, no more are opened than were ever served side by side, for a
//!   minute.
//!
//! The decisions are in [`state`], which does no waiting.

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
use state::{Grant, State, Waiting};

/// How much later the time of bytes comes than that of names. A round trip or two: a walk over a directory sends the next question when
/// the one before is answered.
const BYTES_YIELD: Duration = Duration::from_millis(300);

/// How long a request waits for a connection before one is taken from another request.
const BEFORE_TAKING: Duration = Duration::from_millis(200);

/// No answer for so long on a connection that was kept: it is taken for dead. Three times what a far server takes, and short enough that a
/// person who resumes a laptop does not give up. The slower an origin has answered, the longer.
const DEAD: Duration = Duration::from_millis(2500);

/// No answer for so long on a new connection: the server may be busy with others of ours.
const SHUT_OUT: Duration = Duration::from_secs(1);

/// How often it is looked then.
const LOOK: Duration = Duration::from_millis(100);

/// So many connections are few: each of them counts, and a limit that was set is kept to the letter.
const FEW: usize = 8;

/// How long a server takes to notice that a connection was broken off.
const NOTICED: Duration = Duration::from_millis(30);

/// How long a hint is waited for.
const HINT_PATIENCE: Duration = Duration::from_secs(1);

/// What a request is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RequestClass {
    /// Listings, metadata, probes.
    Names,
    /// A HEAD. What it says is a hint, and the GET that decides has yet to be sent.
    Hint,
    /// Bytes of files.
    Bytes,
}

impl RequestClass {
    /// The longest silence of the server, where `timeout` is that of the client.
    pub fn patience(self, timeout: Duration) -> Duration {
        match self {
            RequestClass::Hint => HINT_PATIENCE.min(timeout),
            RequestClass::Names | RequestClass::Bytes => timeout,
        }
    }
}

/// The limits of all origins.
pub(crate) struct Limits {
    most: usize,
    began: Instant,
    all: Mutex<HashMap<Origin, Arc<Limit>>>,
}

impl Limits {
    pub fn new(most: usize) -> Limits {
        Limits {
            most: most.max(1),
            began: Instant::now(),
            all: Mutex::default(),
        }
    }

    /// That of the origin of a URL.
    pub fn of(&self, url: &Url) -> Arc<Limit> {
        self.of_origin(&Origin::of(url).unwrap_or_else(Origin::nowhere))
    }

    /// That of an origin.
    pub fn of_origin(&self, origin: &Origin) -> Arc<Limit> {
        let mut all = self.all.lock();
        if all.len() >= MOST_ORIGINS && !all.contains_key(origin) {
            // Leases and those who wait for one hold on to theirs. Idle connections are closed.
            all.retain(|_, limit| Arc::strong_count(limit) > 1);
        }
        let new = || Arc::new(Limit::new(origin.clone(), self.most, self.began));
        Arc::clone(all.entry(origin.clone()).or_insert_with(new))
    }
}

/// The connections to one origin.
pub(crate) struct Limit {
    origin: Origin,
    began: Instant,
    has_body_after_head: AtomicBool,
    /// Nothing is awaited under it, and no other lock taken but a wire's.
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
    pub async fn lease(self: &Arc<Self>, errand: RequestClass, given_up: u32) -> Lease {
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
                // Only a limit that is gone grants nothing, and this one is here.
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

    /// How many connections there may be, as far as the server has shown how many it serves at a time.
    pub fn serves(&self) -> usize {
        self.state.lock().serves()
    }

    /// On a connection that was used before came what is no HTTP: what followed an answer that has no body.
    pub fn has_answered_too_much(&self) {
        self.has_body_after_head.store(true, Ordering::Release);
    }

    /// Whether bytes follow the answer to HEAD, so that its connection can't be used again (RFC 9110 §9.3.2 forbids it).
    pub fn has_body_after_head(&self) -> bool {
        self.has_body_after_head.load(Ordering::Acquire)
    }

    fn now(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

/// What is known of a lease while it lasts. Times are milliseconds since the limits were made.
pub(crate) struct Held {
    errand: RequestClass,
    since: u64,
    /// When something last came.
    heard: AtomicU64,
    /// How long a silence may be before it is given up for others, in ms.
    patience: u64,
    /// Whether an answer has come over its connection.
    is_answered: AtomicBool,
    /// Whether the head of this answer has come.
    has_head: AtomicBool,
    /// Whether what it brings can be gone on with on another connection.
    gives_way: AtomicBool,
    /// Whether it waits for the first answer of a new connection for too long.
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

    /// Whether the request that has it would notice that it is to give it up.
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
    /// `None` until it is made.
    wire: Option<Wire>,
    held: Arc<Held>,
    id: u64,
    is_over: bool,
}

impl Lease {
    /// The connection, which is made by `make` if there is none that speaks so.
    pub fn wire<E>(&mut self, speech: Speech, make: impl FnOnce() -> Result<Wire, E>) -> Result<&mut Wire, E> {
        let wire = match self.wire.take().filter(|wire| wire.speech == speech) {
            Some(wire) => wire,
            None if speech.version.is_shared() => self.limit.state.lock().shared_wire(speech, make)?,
            None => make()?,
        };
        Ok(self.wire.insert(wire))
    }

    /// Whether other requests go out on the same connection.
    pub fn is_shared(&self) -> bool {
        self.wire.as_ref().is_some_and(|wire| wire.speech.version.is_shared())
    }

    /// Whether answers have come over a connection that is shared.
    pub fn is_shared_and_kept(&self) -> bool {
        self.is_shared() && self.limit.state.lock().shared_is_kept()
    }

    /// Closes the connection, and goes on with a new one.
    pub fn renew(&mut self) {
        let is_shared = self.is_shared();
        self.wire = None;
        let mut state = self.limit.state.lock();
        if is_shared {
            state.forget_shared();
        }
        self.held.is_answered.store(false, Ordering::Release);
        self.held.is_shut_out.store(false, Ordering::Release);
    }

    /// Closes the idle connections that have brought nothing since then.
    pub fn suspect_idle(&self, since: Instant) {
        self.limit.state.lock().drop_idle_since(since);
    }

    /// How long an answer is waited for before anything is thought of it, on a connection that was used before or on a new one.
    pub fn patience(&self, is_kept: bool) -> Duration {
        let state = self.limit.state.lock();
        if is_kept || self.is_shared() && state.shared_is_kept() {
            DEAD.max(state.slowest() * 2)
        } else {
            SHUT_OUT.max(state.slowest() * 2)
        }
    }

    /// The head of an answer came after this time.
    pub fn answered(&self, after: Duration) {
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
                "{} answers a new connection only when another one is closed: {serves} at a time",
                self.limit.origin
            );
        }
    }

    /// No answer has come on a new connection for [`SHUT_OUT`]. Gives the time to look again.
    pub fn waits_for_its_first_answer(&self, begun: Instant) -> Instant {
        let now = Instant::now();
        let mut state = self.limit.state.lock();
        let is_shut_out = state.make_way_for_new(now, begun, self.limit.now());
        self.held.is_shut_out.store(is_shut_out, Ordering::Release);
        now + LOOK
    }

    /// Something has come.
    pub fn heard(&self) {
        self.held.heard.store(self.limit.now(), Ordering::Release);
    }

    /// See [`Response::gives_way`](super::client::exchange::Response::gives_way).
    pub fn gives_way(&self) {
        self.held.gives_way.store(true, Ordering::Release);
    }

    /// Returns when the connection is to be given up.
    pub fn revocation(&self) -> impl Future<Output = ()> + use<> {
        let held = Arc::clone(&self.held);
        async move {
            while !held.is_revoked.load(Ordering::Acquire) {
                held.revoked.notified().await;
            }
        }
    }

    /// Whether the connection is to be given up.
    pub fn is_revoked(&self) -> bool {
        self.held.is_revoked.load(Ordering::Acquire)
    }

    /// The answer was read to its end; `is_kept` says whether the server keeps the connection.
    pub fn finish(mut self, is_kept: bool) {
        let wire = self.wire.take().filter(|_| is_kept);
        self.give_back(wire);
    }

    fn is_one_of_few(&self) -> bool {
        self.limit.state.lock().serves() <= FEW
    }

    /// How long the rest of an answer is to be waited for that nobody needs any more, if at all.
    pub fn worth_waiting(&self) -> Option<Duration> {
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
            "{}: a connection is closed before its answer was read",
            self.limit.origin
        );
        // It has to be closed before another one is opened.
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
