//! The connections to one origin, and the requests that wait for one: the decisions of the
//! [connection limit](super::connection_limit), as values and without waiting.

use std::{
    collections::HashMap,
    sync::{Arc, Weak, atomic::Ordering},
    time::Duration,
};

use parking_lot::Mutex;
use tokio::{sync::oneshot, time::Instant};

use super::{lease_state::LeaseState, request_class::RequestClass};
use crate::http::connect::{
    setup::IDLE,
    wire::{Speech, Wire},
};

/// Time without a response on a new connection after which the server may be busy with our other connections.
pub(super) const SHUT_OUT: Duration = Duration::from_secs(1);

/// How long a connection stays unused after its response, while a new one waits for its first. The responses of a slow
/// server come in quick succession then, and count as served side by side.
const HELD_OUT: Duration = Duration::from_millis(300);

/// Maximum delay, beyond the usual response time, between the closing of a connection and the response on a new one
/// that was shut out before.
const AT_ONCE: Duration = Duration::from_millis(300);

/// How long a measured limit is used. Then one more connection is tried, which costs a request a second at most.
const BELIEVED: Duration = Duration::from_secs(60);

/// How long a fetch keeps its connection before names may take it, in ms.
const HAD_IT: u64 = 300;

/// A granted connection: an idle one, or the permission to open one. Dropped without [`Grant::take`], it goes to the
/// next request.
pub(super) struct Grant {
    wire: Option<Wire>,
    /// Where it returns to if it is not taken.
    queue: Option<Weak<Mutex<LeaseQueue>>>,
}

impl Grant {
    /// Takes the grant. The connection counts as in use once it is held.
    pub(super) fn take(mut self) -> Option<Wire> {
        self.queue = None;
        self.wire.take()
    }
}

impl Drop for Grant {
    fn drop(&mut self) {
        if let Some(queue) = self.queue.take().and_then(|queue| queue.upgrade()) {
            queue.lock().take_back(self.wire.take(), Instant::now());
        }
    }
}

struct IdleConnection {
    wire: Wire,
    since: Instant,
}

/// A request that waits for a connection.
struct WaitingRequest {
    due: Instant,
    sender: oneshot::Sender<Grant>,
}

/// The connections, the waiting requests, and what was measured of the server.
pub(super) struct LeaseQueue {
    itself: Weak<Mutex<LeaseQueue>>,
    most: usize,
    /// Newest last. **Together with the connections in use never more than `most`.**
    idle: Vec<IdleConnection>,
    busy: HashMap<u64, Arc<LeaseState>>,
    /// Number of grants that are not held yet.
    granted: usize,
    waiting: Vec<WaitingRequest>,
    next_id: u64,
    /// Number of connections that the server serves at a time, as far as it has shut others out. **From 1 to `most`.**
    serves: usize,
    believed_until: Option<Instant>,
    /// The most connections that were seen served side by side.
    proven: usize,
    /// The usual time until a response begins.
    usual: Duration,
    /// The longest recent time until a response began.
    slowest: Duration,
    /// When a connection was last closed for a waiting one.
    made_way: Option<Instant>,
    /// The connection that requests share, with HTTP/2.
    shared: Option<(Wire, bool)>,
}

impl LeaseQueue {
    pub(super) fn new(most: usize) -> Arc<Mutex<LeaseQueue>> {
        let queue = |itself: &Weak<Mutex<LeaseQueue>>| LeaseQueue {
            itself: Weak::clone(itself),
            most,
            idle: Vec::new(),
            busy: HashMap::new(),
            granted: 0,
            waiting: Vec::new(),
            next_id: 0,
            serves: most,
            believed_until: None,
            proven: 0,
            usual: Duration::ZERO,
            slowest: Duration::ZERO,
            made_way: None,
            shared: None,
        };
        Arc::new_cyclic(|itself| Mutex::new(queue(itself)))
    }

    /// Changes the number of connections that are allowed. What was measured of the server holds below it.
    pub(super) fn set_most(&mut self, most: usize) {
        let was_lowered = self.believed_until.is_some();
        self.most = most;
        self.serves = if was_lowered { self.serves.min(most) } else { most };
        self.believed_until = self.believed_until.filter(|_| self.serves < most);
        self.close_surplus();
        self.serve(Instant::now());
    }

    /// Adds a request that is due at this time. It is granted a connection at once if one is free.
    pub(super) fn enqueue(&mut self, due: Instant, now: Instant) -> oneshot::Receiver<Grant> {
        let (sender, receiver) = oneshot::channel();
        self.waiting.push(WaitingRequest { due, sender });
        self.serve(now);
        receiver
    }

    /// Grants free connections in the order of due times.
    fn serve(&mut self, now: Instant) {
        while let Some(first) = self.first() {
            let Some(wire) = self.free(now) else { return };
            let WaitingRequest { sender, .. } = self.waiting.swap_remove(first);
            self.granted += 1;
            let queue = Some(Weak::clone(&self.itself));
            if let Err(refused) = sender.send(Grant { wire, queue }) {
                self.granted -= 1;
                let wire = refused.take();
                self.idle.extend(wire.map(|wire| IdleConnection { wire, since: now }));
            }
        }
    }

    fn take_back(&mut self, wire: Option<Wire>, now: Instant) {
        self.granted -= 1;
        self.idle.extend(wire.map(|wire| IdleConnection { wire, since: now }));
        self.close_surplus();
        self.serve(now);
    }

    fn first(&mut self) -> Option<usize> {
        self.waiting.retain(|waiting| !waiting.sender.is_closed());
        let all = self.waiting.iter().enumerate();
        all.min_by_key(|(_, waiting)| waiting.due).map(|(index, _)| index)
    }

    fn in_use(&self) -> usize {
        self.busy.len() + self.granted
    }

    /// An idle connection, or the permission to open one (`Some(None)`).
    fn free(&mut self, now: Instant) -> Option<Option<Wire>> {
        if self.believed_until.is_some_and(|until| until <= now) {
            self.serves = (self.serves + 1).min(self.most);
            self.believed_until = (self.serves < self.most).then(|| now + BELIEVED);
        }
        if self.in_use() >= self.serves {
            return None;
        }
        // The pool has closed connections that were idle for longer.
        self.idle.retain(|idle| now < idle.since + IDLE);
        let usable = |idle: &IdleConnection, is_shut: bool| !is_shut || now >= idle.since + HELD_OUT;
        let is_shut = self.is_one_shut_out();
        if let Some(at) = self.idle.iter().rposition(|idle| usable(idle, is_shut)) {
            return Some(Some(self.idle.remove(at).wire));
        }
        (self.in_use() + self.idle.len() < self.serves).then_some(None)
    }

    /// Counts a taken grant as in use.
    pub(super) fn hold(&mut self, held: Arc<LeaseState>) -> u64 {
        self.granted = self.granted.saturating_sub(1);
        self.next_id += 1;
        self.busy.insert(self.next_id, held);
        self.next_id
    }

    /// Ends a lease. Keeps its connection if the server does and the limit allows it.
    pub(super) fn release(&mut self, id: u64, wire: Option<Wire>, now: Instant) {
        self.busy.remove(&id);
        if let Some(mut wire) = wire.filter(|wire| !wire.speech.version.is_shared()) {
            wire.keep();
            self.idle.push(IdleConnection { wire, since: now });
        }
        self.close_surplus();
        self.serve(now);
    }

    fn close_surplus(&mut self) {
        let room = self.serves.saturating_sub(self.in_use());
        let surplus = self.idle.len().saturating_sub(room);
        self.idle.drain(..surplus);
    }

    /// Closes connections that have been idle since `since`.
    pub(super) fn drop_idle_since(&mut self, since: Instant) {
        self.idle.retain(|idle| idle.since > since);
    }

    /// A request of this class has waited for a while: revokes the connection of a stalled request, or of one that can
    /// give way to names.
    pub(super) fn take_one_for(&mut self, class: RequestClass, now: u64) {
        let is_revoked = |held: &&Arc<LeaseState>| held.is_revoked.load(Ordering::Acquire);
        if self.busy.values().filter(is_revoked).count() >= self.waiting.len() {
            return;
        }
        let slowest = u64::try_from(self.slowest.as_millis()).unwrap_or(u64::MAX);
        let silence = |held: &LeaseState| now.saturating_sub(held.heard.load(Ordering::Acquire));
        let is_silent = |held: &&Arc<LeaseState>| silence(held) >= held.patience_ms.max(slowest.saturating_mul(2));
        let others = || self.busy.values().filter(|held| held.may_be_revoked());
        let silent = others().filter(is_silent).max_by_key(|held| silence(held));
        let victim =
            silent.or_else(|| (class != RequestClass::Bytes).then(|| longest_that_gives_way(others(), now))?);
        if let Some(victim) = victim {
            victim.revoke();
        }
    }

    /// Records that the head of a response arrived after this time. `was_shut_out`: it took longer than [`SHUT_OUT`],
    /// on a new connection. Returns the server's own limit if this response has shown it.
    pub(super) fn answered(&mut self, after: Duration, was_shut_out: bool, now: Instant) -> Option<usize> {
        let is_answered = |held: &&Arc<LeaseState>| held.is_answered.load(Ordering::Acquire);
        let side_by_side = self.busy.values().filter(is_answered).count() + self.idle.len();
        self.proven = self.proven.max(side_by_side);
        let is_at_once = self
            .made_way
            .is_some_and(|closed| now <= closed + AT_ONCE + self.usual * 2);
        if was_shut_out && is_at_once {
            let serves = self.proven.clamp(1, self.most);
            if serves < self.serves {
                self.serves = serves;
                self.believed_until = Some(now + BELIEVED);
                self.close_surplus();
                return Some(serves);
            }
            return None;
        }
        self.usual = (self.usual * 7 + after) / 8;
        self.slowest = after.max(self.slowest * 9 / 10);
        None
    }

    /// The current limit.
    pub(super) fn serves(&self) -> usize {
        self.serves
    }

    /// The usual time until a response begins.
    pub(super) fn usual(&self) -> Duration {
        self.usual
    }

    /// The longest recent time until a response began.
    pub(super) fn slowest(&self) -> Duration {
        self.slowest
    }

    fn is_one_shut_out(&self) -> bool {
        self.busy.values().any(|held| held.is_shut_out.load(Ordering::Acquire))
    }

    /// No response has come on a new connection, for a request sent at `begun`: closes idle connections, or revokes one
    /// of a fetch. Returns true if our other connections may shut it out.
    pub(super) fn make_way_for_new(&mut self, now: Instant, begun: Instant, clock: u64) -> bool {
        let closed_for_it = self.made_way.filter(|closed| *closed > begun);
        if closed_for_it.is_some_and(|closed| now > closed + AT_ONCE + self.usual * 2 + SHUT_OUT) {
            // Closing one did not help.
            return false;
        }
        let before = self.idle.len();
        self.idle.retain(|idle| now < idle.since + HELD_OUT);
        if self.idle.len() < before {
            self.made_way = Some(now);
        } else if closed_for_it.is_none()
            && self.idle.is_empty()
            && self.proven <= 1
            && let Some(fetch) = longest_that_gives_way(self.busy.values(), clock)
        {
            fetch.revoke();
            self.made_way = Some(now);
        }
        true
    }

    /// The connection that all requests share; `make` makes one.
    pub(super) fn shared_wire<E>(&mut self, speech: Speech, make: impl FnOnce() -> Result<Wire, E>) -> Result<Wire, E> {
        if self.shared.as_ref().is_none_or(|(wire, _)| wire.speech != speech) {
            self.shared = Some((make()?, false));
        }
        match &self.shared {
            Some((wire, _)) => Ok(wire.shared()),
            None => unreachable!("it was made"),
        }
    }

    pub(super) fn shared_is_kept(&self) -> bool {
        self.shared.as_ref().is_some_and(|(_, is_kept)| *is_kept)
    }

    pub(super) fn keep_shared(&mut self) {
        if let Some((_, is_kept)) = &mut self.shared {
            *is_kept = true;
        }
    }

    pub(super) fn forget_shared(&mut self) {
        self.shared = None;
    }
}

/// Of the leases that can continue elsewhere and have received data, the oldest.
fn longest_that_gives_way<'a>(all: impl Iterator<Item = &'a Arc<LeaseState>>, now: u64) -> Option<&'a Arc<LeaseState>> {
    let may = |held: &&Arc<LeaseState>| {
        held.class == RequestClass::Bytes
            && held.gives_way.load(Ordering::Acquire)
            && held.may_be_revoked()
            && now.saturating_sub(held.since) >= HAD_IT
    };
    all.filter(may).min_by_key(|held| held.since)
}
