//! What an origin's [queue](super::lease_queue) and a request that has a connection tell each other.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use tokio::sync::Notify;

use super::request_class::RequestClass;

/// The state of a lease. Times are milliseconds since the limit was created.
pub(super) struct LeaseState {
    pub(super) class: RequestClass,
    pub(super) since: u64,
    /// When data last arrived.
    pub(super) heard: AtomicU64,
    /// Time without data after which the connection may be revoked.
    pub(super) patience_ms: u64,
    /// True after a response on its connection.
    pub(super) is_answered: AtomicBool,
    /// True after the head of this response.
    pub(super) has_head: AtomicBool,
    /// True if the request can continue on another connection.
    pub(super) gives_way: AtomicBool,
    /// True if it has waited too long for the first response of a new connection.
    pub(super) is_shut_out: AtomicBool,
    pub(super) is_revoked: AtomicBool,
    pub(super) revoked: Notify,
}

impl LeaseState {
    pub(super) fn new(class: RequestClass, given_up: u32, now: u64, is_answered: bool) -> LeaseState {
        LeaseState {
            class,
            since: now,
            heard: AtomicU64::new(now),
            patience_ms: 1000 << given_up.min(6),
            is_answered: AtomicBool::new(is_answered),
            has_head: AtomicBool::new(false),
            gives_way: AtomicBool::new(false),
            is_shut_out: AtomicBool::new(false),
            is_revoked: AtomicBool::new(false),
            revoked: Notify::new(),
        }
    }

    /// Returns true if the lease's request would notice a revocation.
    pub(super) fn may_be_revoked(&self) -> bool {
        !self.is_revoked.load(Ordering::Acquire)
            && (!self.has_head.load(Ordering::Acquire) || self.gives_way.load(Ordering::Acquire))
    }

    pub(super) fn revoke(&self) {
        self.is_revoked.store(true, Ordering::Release);
        self.revoked.notify_one();
    }
}
