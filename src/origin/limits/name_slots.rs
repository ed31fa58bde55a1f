//! Name slots: how many requests for names are in flight at one origin, and which of them come first.
//!
//! Each request for a listing or metadata has a [`NameSlot`] until it has its answer, over all its connections and
//! redirects. [`NameSlots`] guarantees:
//!
//! - **The number follows the origin's answers.** It begins at [`FIRST_NAME_REQUESTS`]. A 429, 503 or 403 halves it, down to
//!   1; answers raise it slowly again. Prefetches leave one slot free, and stop while the origin is overloaded.
//! - **It rises above that while answers are as quick as before**: as long as all slots are used and an answer takes no
//!   more than twice the time of the quickest one. A server that works on one request after another answers later with
//!   each one more, and gets none. One that refuses a request while it has more gets no more than
//!   [`FIRST_NAME_REQUESTS`] again.
//! - **A request that is unanswered for a second yields its slot to a waiting one** and is repeated later, each time with
//!   twice the time. It yields only to requests that had no slot yet. So hanging pages block no others, and a server that
//!   is slow with every page still gets its time.

use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::{Semaphore, SemaphorePermit, watch};

use super::aimd::Aimd;
use crate::http::HttpErrorKind;

/// Number of concurrent requests to one origin for listings and metadata, until its answers show that it bears more or
/// fewer. Each also takes one of the origin's connections (`--max-connections`).
pub(crate) const FIRST_NAME_REQUESTS: usize = 8;

/// Maximum number of them, whatever the connections.
const MOST_NAME_REQUESTS: usize = 32;

/// How much longer than the quickest answer another one may take without a sign of overload, if it is not
/// [`MORE_THAN_NOISE`]. Twice: with 8 requests in flight, a server that makes one answer after another takes 8 times as long.
const SLOWER: u32 = 2;

/// Differences up to this say nothing: more requests at once gain nothing at a server so near.
const MORE_THAN_NOISE: Duration = Duration::from_millis(10);

/// How long a prefetch waits for a slot.
const PREFETCH_PATIENCE: Duration = Duration::from_secs(1);

/// The slots of one origin.
pub(crate) struct NameSlots {
    slots: Semaphore,
    /// Prefetches queue here first, so that waiting callers never queue behind all of them. **One less than the slots**,
    /// and never fewer than at the beginning.
    prefetches: Semaphore,
    /// **No other lock is taken under it.**
    limit: Mutex<NameLimit>,
    queue: watch::Sender<Queue>,
}

/// Requests that wait for their first slot, without prefetches.
#[derive(Debug, Default, Clone, Copy)]
struct Queue {
    waiting: usize,
    /// How many requests are yielding their slot. **Never more than `waiting`.**
    giving_way: usize,
}

/// Guard: counts a waiting request until it is dropped.
struct WaitingCount<'a>(&'a watch::Sender<Queue>);

impl<'a> WaitingCount<'a> {
    fn begin(queue: &'a watch::Sender<Queue>) -> WaitingCount<'a> {
        queue.send_modify(|queue| queue.waiting += 1);
        WaitingCount(queue)
    }
}

impl Drop for WaitingCount<'_> {
    fn drop(&mut self) {
        self.0.send_modify(|queue| {
            queue.waiting -= 1;
            queue.giving_way = queue.giving_way.min(queue.waiting);
        });
    }
}

/// The limit as a plain value, without the waiting.
#[derive(Debug)]
struct NameLimit {
    /// From 1 to `most`.
    allowed: Aimd,
    /// At least [`FIRST_NAME_REQUESTS`].
    most: usize,
    /// The time of the quickest answer.
    quickest: Option<Duration>,
    /// Slots to withdraw that requests still have.
    surplus: usize,
    /// Permits of prefetches to withdraw that requests still have.
    prefetch_surplus: usize,
}

/// How many permits of each kind have to go.
#[derive(Debug, Default, PartialEq, Eq)]
struct Leaving {
    slots: usize,
    prefetches: usize,
}

/// What an answer adds.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Gained {
    slot: bool,
    prefetch: bool,
}

impl NameLimit {
    /// A limit of as many requests as an origin's `connections` can spare: the fourth of them stays free for bytes.
    fn new(connections: usize) -> NameLimit {
        NameLimit {
            allowed: Aimd::new(FIRST_NAME_REQUESTS),
            most: (connections * 3 / 4 + 1).clamp(FIRST_NAME_REQUESTS, MOST_NAME_REQUESTS),
            quickest: None,
            surplus: 0,
            prefetch_surplus: 0,
        }
    }

    /// The origin refused a request that began at this time. Returns what has to go.
    fn refused(&mut self, began: Instant) -> Leaving {
        let before = self.allowed.limit();
        if before > FIRST_NAME_REQUESTS {
            self.most = FIRST_NAME_REQUESTS;
        }
        self.allowed.refused(began, Instant::now(), before, 1);
        let now = self.allowed.limit();
        Leaving {
            slots: before - now,
            prefetches: before.max(FIRST_NAME_REQUESTS) - now.max(FIRST_NAME_REQUESTS),
        }
    }

    /// Notes an answer that took so long. `is_full`: all slots are used.
    fn answered(&mut self, took: Duration, is_full: bool) -> Gained {
        let quickest = self.quickest.map_or(took, |quickest| quickest.min(took));
        self.quickest = Some(quickest);
        let before = self.allowed.limit();
        let may_rise = match before {
            ..FIRST_NAME_REQUESTS => true,
            _ if before >= self.most => false,
            _ => is_full && took <= (quickest * SLOWER).max(quickest + MORE_THAN_NOISE),
        };
        if !may_rise {
            return Gained::default();
        }
        if before < FIRST_NAME_REQUESTS {
            self.allowed.increase();
        } else {
            // Doubles with each round, as at the beginning of a TCP connection. A refusal ends it for good.
            self.allowed.raise_to(before + 1);
        }
        if self.allowed.limit() == before {
            return Gained::default();
        }
        let is_there_already = |surplus: &mut usize| {
            let is_there = *surplus > 0;
            *surplus -= usize::from(is_there);
            is_there
        };
        Gained {
            slot: !is_there_already(&mut self.surplus),
            prefetch: before >= FIRST_NAME_REQUESTS && !is_there_already(&mut self.prefetch_surplus),
        }
    }

    fn is_lowered(&self) -> bool {
        self.allowed.limit() < FIRST_NAME_REQUESTS
    }
}

/// The slot of one request. Dropping it releases it.
pub(crate) struct NameSlot<'a> {
    slots: &'a NameSlots,
    permit: Option<SemaphorePermit<'a>>,
    began: Instant,
    prefetch: Option<SemaphorePermit<'a>>,
}

impl NameSlot<'_> {
    /// Returns when the request has to yield its slot: after this time, if another request waits.
    pub(crate) async fn given_way(&self, after: Duration) {
        tokio::time::sleep(after).await;
        let (queue, mut changes) = (&self.slots.queue, self.slots.queue.subscribe());
        let is_called = |queue: &Queue| queue.waiting > queue.giving_way;
        let mut is_late = false;
        loop {
            let claims = |queue: &mut Queue| {
                let is_called = is_called(queue) || (is_late && queue.waiting > 0);
                queue.giving_way = (queue.giving_way + usize::from(is_called)).min(queue.waiting);
                is_called
            };
            if queue.send_if_modified(claims) {
                return;
            }
            // The slot that it makes free may be taken by another request. One that has waited all this time gets
            // another.
            let is_waited_for = queue.borrow().waiting > 0;
            let is_over = tokio::time::timeout(after, changes.wait_for(is_called)).await.is_err();
            is_late = is_waited_for && is_over;
        }
    }

    /// Notes how the request ended and releases the slot.
    pub(crate) fn ended(self, failure: Option<&HttpErrorKind>) {
        let slots = self.slots;
        let mut limit = slots.limit.lock();
        match failure {
            Some(HttpErrorKind::Status { status: 429 | 503, .. } | HttpErrorKind::Denied(403)) => {
                let leaving = limit.refused(self.began);
                limit.surplus += leaving.slots - slots.slots.forget_permits(leaving.slots);
                limit.prefetch_surplus += leaving.prefetches - slots.prefetches.forget_permits(leaving.prefetches);
            }
            Some(kind) if kind.is_of_the_origin() => {}
            _ => {
                // Prefetches alone leave one free.
                let is_full = slots.slots.available_permits() <= 1;
                let gained = limit.answered(self.began.elapsed(), is_full);
                slots.slots.add_permits(usize::from(gained.slot));
                slots.prefetches.add_permits(usize::from(gained.prefetch));
            }
        }
    }
}

impl Drop for NameSlot<'_> {
    fn drop(&mut self) {
        let mut limit = self.slots.limit.lock();
        if limit.surplus > 0
            && let Some(permit) = self.permit.take()
        {
            limit.surplus -= 1;
            permit.forget();
        }
        if limit.prefetch_surplus > 0
            && let Some(permit) = self.prefetch.take()
        {
            limit.prefetch_surplus -= 1;
            permit.forget();
        }
    }
}

impl NameSlots {
    /// The slots of an origin to which there may be so many connections.
    pub(crate) fn new(connections: usize) -> NameSlots {
        NameSlots {
            slots: Semaphore::new(FIRST_NAME_REQUESTS),
            prefetches: Semaphore::new(FIRST_NAME_REQUESTS - 1),
            limit: Mutex::new(NameLimit::new(connections)),
            queue: watch::Sender::default(),
        }
    }

    /// A slot for a caller that waits.
    pub(crate) async fn slot(&self) -> NameSlot<'_> {
        if let Ok(permit) = self.slots.try_acquire() {
            return self.taken(Some(permit));
        }
        let _counted = WaitingCount::begin(&self.queue);
        // An error would mean that the semaphore was closed, which never happens.
        let permit = self.slots.acquire().await.ok();
        self.queue
            .send_modify(|queue| queue.giving_way = queue.giving_way.saturating_sub(1));
        self.taken(permit)
    }

    /// A slot for a request that others precede: a prefetch, or one that yielded its slot.
    pub(crate) async fn slot_behind_others(&self) -> NameSlot<'_> {
        let mut changes = self.queue.subscribe();
        loop {
            // It fails only after the queue is dropped, and `self` keeps it.
            let _ = changes.wait_for(|queue| queue.waiting == 0).await;
            // In this order: a slot that was yielded to a waiting request must not be taken here.
            tokio::select! {
                biased;
                _ = changes.wait_for(|queue| queue.waiting > 0) => {}
                permit = self.slots.acquire() => return self.taken(permit.ok()),
            }
        }
    }

    fn taken<'a>(&'a self, permit: Option<SemaphorePermit<'a>>) -> NameSlot<'a> {
        NameSlot {
            slots: self,
            permit,
            began: Instant::now(),
            prefetch: None,
        }
    }

    /// A slot for a prefetch. `None` if it should not be sent now or soon. It holds its directory's lock meanwhile,
    /// which a caller may come to need.
    pub(crate) async fn slot_for_prefetch(&self) -> Option<NameSlot<'_>> {
        tokio::time::timeout(PREFETCH_PATIENCE, self.queue_for_prefetch())
            .await
            .ok()?
    }

    async fn queue_for_prefetch(&self) -> Option<NameSlot<'_>> {
        let prefetch = self.prefetches.acquire().await.ok();
        if self.limit.lock().is_lowered() {
            return None;
        }
        let mut slot = self.slot_behind_others().await;
        slot.prefetch = prefetch;
        // The limit may have fallen while this prefetch queued. (Dropping a slot takes the lock.)
        let is_lowered = self.limit.lock().is_lowered();
        (!is_lowered).then_some(slot)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    const BUSY: HttpErrorKind = HttpErrorKind::Status {
        status: 503,
        retry_after: None,
    };

    #[tokio::test]
    async fn overload_halves_the_limit() {
        let slots = NameSlots::new(16);
        let mut burst = Vec::new();
        for _ in 0..FIRST_NAME_REQUESTS {
            burst.push(slots.slot().await);
        }
        // All refusals of one burst count once.
        burst.into_iter().for_each(|slot| slot.ended(Some(&BUSY)));
        assert_eq!(slots.slots.available_permits(), FIRST_NAME_REQUESTS / 2);
        for _ in 0..5 {
            slots.slot().await.ended(Some(&BUSY));
        }
        assert_eq!(slots.slots.available_permits(), 1, "one may always ask");
        assert!(slots.slot_for_prefetch().await.is_none(), "no prefetch is sent");
        for answers in 1..=40 {
            slots.slot().await.ended(Some(&HttpErrorKind::NotFound(404)));
            assert!(slots.slots.available_permits() <= answers + 1);
        }
        assert_eq!(slots.slots.available_permits(), FIRST_NAME_REQUESTS);
        assert_eq!(slots.limit.lock().surplus, 0);
        assert!(slots.slot_for_prefetch().await.is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn hanging_request_yields_to_a_waiting_one() {
        let slots = Arc::new(NameSlots::new(16));
        let mut hung = Vec::new();
        for _ in 0..FIRST_NAME_REQUESTS {
            let slots = Arc::clone(&slots);
            hung.push(tokio::spawn(async move {
                slots.slot().await.given_way(Duration::from_secs(1)).await;
            }));
        }
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert!(hung.iter().all(|hung| !hung.is_finished()), "no other request waits");
        drop(slots.slot().await);
        tokio::task::yield_now().await;
        let finished = hung.iter().filter(|hung| hung.is_finished()).count();
        assert_eq!(finished, 1, "one goes for each that waits");
    }

    #[tokio::test(start_paused = true)]
    async fn speculative_requests_leave_a_slot() {
        let slots = NameSlots::new(16);
        let mut prefetches = Vec::new();
        for _ in 0..FIRST_NAME_REQUESTS - 1 {
            prefetches.push(slots.slot_for_prefetch().await);
        }
        let one_more = tokio::time::timeout(Duration::from_millis(1), slots.slot_for_prefetch()).await;
        assert!(one_more.is_err(), "it queues behind the prefetches");
        drop(slots.slot().await);
    }

    const QUICK: Duration = Duration::from_millis(50);

    #[test]
    fn limit_rises_while_answers_stay_quick() {
        let gains = |limit: &mut NameLimit, took, is_full| {
            let gained = (0..100).map(|_| limit.answered(took, is_full));
            gained.filter(|gained| gained.slot && gained.prefetch).count()
        };
        let mut limit = NameLimit::new(16);
        limit.answered(QUICK, true);
        assert_eq!(gains(&mut limit, QUICK, false), 0, "it does not need more");
        assert_eq!(gains(&mut limit, QUICK * 3, true), 0, "it is busy already");
        assert_eq!(gains(&mut limit, QUICK * 2, true), 4);
        assert_eq!(limit.allowed.limit(), 13, "three quarters of the connections, and one");
        assert_eq!(NameLimit::new(4).most, FIRST_NAME_REQUESTS);
        assert_eq!(NameLimit::new(1000).most, MOST_NAME_REQUESTS);

        let leaving = limit.refused(Instant::now());
        let expected = Leaving {
            slots: 7,
            prefetches: 5,
        };
        assert_eq!(leaving, expected);
        gains(&mut limit, QUICK, true);
        assert_eq!(
            limit.allowed.limit(),
            FIRST_NAME_REQUESTS,
            "it is never asked for more again"
        );
    }

    #[tokio::test]
    async fn prefetches_leave_a_slot_whatever_the_limit() {
        let slots = NameSlots::new(16);
        let free = || (slots.slots.available_permits(), slots.prefetches.available_permits());
        for _ in 0..5 {
            let mut burst = Vec::new();
            while slots.slots.available_permits() > 0 {
                burst.push(slots.slot().await);
            }
            burst.into_iter().for_each(|slot| slot.ended(None));
        }
        assert_eq!(free(), (13, 12));
        let mut prefetches = Vec::new();
        while slots.prefetches.available_permits() > 0 {
            prefetches.push(slots.slot_for_prefetch().await.expect("a slot"));
        }
        let refused = prefetches.pop().expect("a prefetch");
        refused.ended(Some(&BUSY));
        drop(prefetches);
        assert_eq!(free(), (6, FIRST_NAME_REQUESTS - 1));
        let limit = slots.limit.lock();
        assert_eq!((limit.surplus, limit.prefetch_surplus), (0, 0));
    }
}
