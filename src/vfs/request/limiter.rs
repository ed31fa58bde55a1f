//! The connection limit of one origin for listings and metadata, and the short waits for revalidation.
//!
//! Each of the [`Requests`](super::requests::Requests) takes a permit here ([`Limiter::place`]). The limiter guarantees:
//!
//! - **The limit follows the origin's answers.** A 429 or 503 halves it, down to 1; answers raise it slowly again.
//!   Prefetches leave one permit free, and stop while the origin is overloaded.
//! - **A request that is unanswered for a second yields its permit to a waiting one** and is repeated later, each
//!   time with twice the time. It yields only to requests that had no permit yet. So hanging pages block no others,
//!   and a server that is slow with every page still gets its time.
//! - **Known answers are not held back for long.** A caller with an old listing or a cached version waits
//!   [`PATIENCE`] for the origin and then uses the old answer. The request goes on in the background, and its answer
//!   counts when it arrives.
//! - An origin that let a caller wait that long is **silent** until it answers anything. Meanwhile no caller with a
//!   known answer waits, and one request at a time probes the origin. Otherwise each path of three names would cost
//!   three timeouts while a server swallows requests.
//! - For what an earlier mount stored, the wait is only a [`MOMENT`]. A new mount shows its tree at once; where the
//!   origin answers quickly, it already shows the current state.

use std::future::Future;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex as ShortMutex;
use tokio::runtime::Handle;
use tokio::sync::{Mutex, Semaphore, SemaphorePermit, watch};

use crate::http::{HttpErrorKind, Origin};
use crate::origin::Aimd;
use crate::util::events;

/// Most concurrent requests to one origin for listings and metadata. Each also takes one of the origin's connections
/// (`--max-connections`).
pub(crate) const METADATA_CONNECTIONS: usize = 8;

/// How many of the [`METADATA_CONNECTIONS`] prefetches may use. The remaining one is for callers that wait.
const GUESSES: usize = METADATA_CONNECTIONS - 1;

/// How long a prefetch waits for a permit.
const GUESS_PATIENCE: Duration = Duration::from_secs(1);

/// How long a caller with an older answer waits for the origin. A healthy server needs far less, with a new
/// connection and TLS over a bad line. A person does not give up within this time.
const PATIENCE: Duration = Duration::from_secs(2);

/// How long a caller with an earlier mount's answer waits for the origin. A few round trips around the world, and too
/// short for a person to notice.
const MOMENT: Duration = Duration::from_millis(300);

/// Limits and state of one origin.
pub(in crate::vfs) struct Limiter {
    origin: Origin,
    places: Semaphore,
    /// Prefetches queue here first, so that waiting callers never queue behind all of them.
    guesses: Semaphore,
    width: ShortMutex<Width>,
    queue: watch::Sender<Queue>,
    is_silent: AtomicBool,
    /// An answer took longer than a [`MOMENT`], and the origin has not answered anything since.
    is_slow: AtomicBool,
    /// Held by the request that probes a silent origin.
    probing: Mutex<()>,
}

/// Requests that wait for their first permit, without prefetches.
#[derive(Debug, Default, Clone, Copy)]
struct Queue {
    waiting: usize,
    /// How many requests are yielding their permit. **Never more than wait.**
    giving_way: usize,
}

/// Guard: counts a waiting request until it is dropped.
struct Waits<'a>(&'a watch::Sender<Queue>);

impl<'a> Waits<'a> {
    fn begin(queue: &'a watch::Sender<Queue>) -> Waits<'a> {
        queue.send_modify(|queue| queue.waiting += 1);
        Waits(queue)
    }
}

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        self.0.send_modify(|queue| {
            queue.waiting -= 1;
            queue.giving_way = queue.giving_way.min(queue.waiting);
        });
    }
}

/// The limit as a plain value, without the waiting.
#[derive(Debug)]
struct Width {
    /// From 1 to [`METADATA_CONNECTIONS`].
    allowed: Aimd,
    /// Permits to withdraw that requests still hold.
    surplus: usize,
    /// How often the limit was lowered. A refusal of a request from before the last time does not lower it again.
    narrowings: u64,
}

impl Width {
    fn new() -> Width {
        Width {
            allowed: Aimd::new(METADATA_CONNECTIONS),
            surplus: 0,
            narrowings: 0,
        }
    }

    /// Lowers the limit: the origin refused a request that was sent after so many narrowings. Returns how many
    /// permits have to go.
    fn refused(&mut self, narrowings: u64) -> usize {
        if narrowings != self.narrowings {
            return 0;
        }
        let before = self.allowed.limit();
        self.allowed = self.allowed.decreased(before, 1);
        self.narrowings += 1;
        before - self.allowed.limit()
    }

    /// Notes an answer. Returns true if the limit rises: after as many answers as the limit.
    fn answered(&mut self) -> bool {
        let before = self.allowed.limit();
        if before == METADATA_CONNECTIONS {
            return false;
        }
        self.allowed.increase();
        if self.allowed.limit() == before {
            return false;
        }
        let is_there_already = self.surplus > 0;
        self.surplus -= usize::from(is_there_already);
        !is_there_already
    }

    fn is_narrow(&self) -> bool {
        self.allowed.limit() < METADATA_CONNECTIONS
    }
}

/// A permit for one request. Dropping it releases it.
pub(in crate::vfs) struct Place<'a> {
    gate: &'a Limiter,
    permit: Option<SemaphorePermit<'a>>,
    narrowings: u64,
    _guess: Option<SemaphorePermit<'a>>,
}

impl Place<'_> {
    /// Returns when the request has to yield its permit: after this time, if another request waits.
    pub(in crate::vfs) async fn given_way(&self, after: Duration) {
        tokio::time::sleep(after).await;
        let (queue, mut changes) = (&self.gate.queue, self.gate.queue.subscribe());
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
            // The permit that it makes free may be taken by another request. One that has waited all this time gets
            // another.
            let is_waited_for = queue.borrow().waiting > 0;
            let is_over = tokio::time::timeout(after, changes.wait_for(is_called)).await.is_err();
            is_late = is_waited_for && is_over;
        }
    }

    /// Notes how the request ended and releases the permit.
    pub(in crate::vfs) fn ended(self, failure: Option<&HttpErrorKind>) {
        let gate = self.gate;
        let mut width = gate.width.lock();
        match failure {
            Some(HttpErrorKind::Status { status: 429 | 503, .. } | HttpErrorKind::Denied(403)) => {
                let leaving = width.refused(self.narrowings);
                width.surplus += leaving - gate.places.forget_permits(leaving);
            }
            Some(kind) if kind.is_of_the_origin() => {}
            _ if width.answered() => gate.places.add_permits(1),
            _ => {}
        }
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut width = self.gate.width.lock();
        if width.surplus > 0
            && let Some(permit) = self.permit.take()
        {
            width.surplus -= 1;
            permit.forget();
        }
    }
}

impl Limiter {
    pub(in crate::vfs) fn new(origin: Origin) -> Limiter {
        Limiter {
            origin,
            places: Semaphore::new(METADATA_CONNECTIONS),
            guesses: Semaphore::new(GUESSES),
            width: ShortMutex::new(Width::new()),
            queue: watch::Sender::default(),
            is_silent: AtomicBool::new(false),
            is_slow: AtomicBool::new(false),
            probing: Mutex::new(()),
        }
    }

    /// A permit for a caller that waits.
    pub(in crate::vfs) async fn place(&self) -> Place<'_> {
        if let Ok(permit) = self.places.try_acquire() {
            return self.taken(Some(permit));
        }
        let _waits = Waits::begin(&self.queue);
        // An error would mean that the semaphore was closed, which never happens.
        let permit = self.places.acquire().await.ok();
        self.queue
            .send_modify(|queue| queue.giving_way = queue.giving_way.saturating_sub(1));
        self.taken(permit)
    }

    /// A permit for a request that others precede: a prefetch, or one that yielded its permit.
    pub(in crate::vfs) async fn place_behind_others(&self) -> Place<'_> {
        let mut changes = self.queue.subscribe();
        loop {
            // It fails only if the limiter is dropped, which never happens.
            let _ = changes.wait_for(|queue| queue.waiting == 0).await;
            // In this order: a permit that was yielded to a waiting request must not be taken here.
            tokio::select! {
                biased;
                _ = changes.wait_for(|queue| queue.waiting > 0) => {}
                permit = self.places.acquire() => return self.taken(permit.ok()),
            }
        }
    }

    fn taken<'a>(&'a self, permit: Option<SemaphorePermit<'a>>) -> Place<'a> {
        Place {
            gate: self,
            permit,
            narrowings: self.width.lock().narrowings,
            _guess: None,
        }
    }

    /// A permit for a prefetch. `None` if it should not be sent now or soon. It holds its directory's lock meanwhile,
    /// which a caller may come to need.
    pub(in crate::vfs) async fn place_for_a_guess(&self) -> Option<Place<'_>> {
        tokio::time::timeout(GUESS_PATIENCE, self.queue_for_a_guess())
            .await
            .ok()?
    }

    async fn queue_for_a_guess(&self) -> Option<Place<'_>> {
        let guess = self.guesses.acquire().await.ok();
        if self.width.lock().is_narrow() {
            return None;
        }
        let mut place = self.place_behind_others().await;
        place._guess = guess;
        // The limit may have fallen while this prefetch queued. (Dropping a permit takes the lock.)
        let is_narrow = self.width.lock().is_narrow();
        (!is_narrow).then_some(place)
    }

    /// Notes how a request ended.
    pub(in crate::vfs) fn note(&self, failure: Option<&HttpErrorKind>) {
        match failure {
            Some(HttpErrorKind::TimedOut(_)) => self.is_silent.store(true, Ordering::Release),
            // These say nothing of the origin's speed: they are no timely answers, or no request was sent.
            Some(
                HttpErrorKind::Unreachable(_)
                | HttpErrorKind::NoTls
                | HttpErrorKind::Handshake(_)
                | HttpErrorKind::AskAgain
                | HttpErrorKind::UnknownHost
                | HttpErrorKind::NoDescriptors
                | HttpErrorKind::Unanswered
                | HttpErrorKind::Interrupted
                | HttpErrorKind::NoCredentials(_)
                | HttpErrorKind::Offline,
            ) => {}
            _ => {
                self.is_slow.store(false, Ordering::Release);
                if self.is_silent.swap(false, Ordering::AcqRel) {
                    log::info!(event = events::ORIGIN_RESPONSIVE; "{} responds again", self.origin);
                }
            }
        }
    }

    /// Runs `ask` for a caller that has an older answer. `None` if the caller shall use that. Then `ask` goes on in
    /// the background, or is dropped because another request already probes the origin.
    pub(in crate::vfs) async fn ask<T: Send + 'static>(
        &'static self,
        runtime: &Handle,
        ask: impl Future<Output = T> + Send + 'static,
    ) -> Option<T> {
        if self.is_silent.load(Ordering::Acquire) {
            let probing = self.probing.try_lock().ok()?;
            runtime.spawn(async move {
                tokio::pin!(ask);
                // A probe that is itself unanswered keeps the others from asking for no longer than they would wait.
                let answered = tokio::time::timeout(PATIENCE, &mut ask).await;
                drop(probing);
                if answered.is_err() {
                    ask.await;
                }
            });
            return None;
        }
        let asking = runtime.spawn(ask);
        let Ok(answer) = tokio::time::timeout(PATIENCE, asking).await else {
            if !self.is_silent.swap(true, Ordering::AcqRel) {
                log::warn!(
                    event = events::ORIGIN_UNRESPONSIVE;
                    "{} does not respond; serving cached listings and files until it does",
                    self.origin
                );
            }
            return None;
        };
        // The task fails only if it panics or the runtime shuts down.
        answer.ok()
    }

    /// [`Self::ask`] for a caller that has an earlier mount's answer.
    pub(in crate::vfs) async fn ask_in_passing<T: Send + 'static>(
        &'static self,
        runtime: &Handle,
        ask: impl Future<Output = T> + Send + 'static,
    ) -> Option<T> {
        let for_asking = runtime.clone();
        let asking = runtime.spawn(async move { self.ask(&for_asking, ask).await });
        if self.is_slow.load(Ordering::Acquire) {
            return None;
        }
        let Ok(answer) = tokio::time::timeout(MOMENT, asking).await else {
            self.is_slow.store(true, Ordering::Release);
            return None;
        };
        // The task fails only if it panics or the runtime shuts down.
        answer.ok().flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::sync::oneshot;
    use url::Url;

    fn gate() -> &'static Limiter {
        let origin = Origin::of(&Url::parse("http://h/").unwrap()).unwrap();
        Box::leak(Box::new(Limiter::new(origin)))
    }

    const BUSY: HttpErrorKind = HttpErrorKind::Status {
        status: 503,
        retry_after: None,
    };

    #[tokio::test]
    async fn overload_halves_the_limit() {
        let gate = gate();
        let places = |count| async move {
            let mut places = Vec::new();
            for _ in 0..count {
                places.push(gate.place().await);
            }
            places
        };
        // All refusals of one burst count once.
        for place in places(METADATA_CONNECTIONS).await {
            place.ended(Some(&BUSY));
        }
        assert_eq!(gate.places.available_permits(), METADATA_CONNECTIONS / 2);
        for _ in 0..5 {
            gate.place().await.ended(Some(&BUSY));
        }
        assert_eq!(gate.places.available_permits(), 1, "one may always ask");
        assert!(gate.place_for_a_guess().await.is_none(), "and nobody ahead of need");
        for answers in 1..=40 {
            gate.place().await.ended(Some(&HttpErrorKind::NotFound(404)));
            assert!(gate.places.available_permits() <= answers + 1);
        }
        assert_eq!(gate.places.available_permits(), METADATA_CONNECTIONS);
        assert_eq!(gate.width.lock().surplus, 0);
        assert!(gate.place_for_a_guess().await.is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn a_question_that_hangs_gives_its_place_to_one_that_waits() {
        let gate = gate();
        let mut hung = Vec::new();
        for _ in 0..METADATA_CONNECTIONS {
            hung.push(tokio::spawn(async {
                let place = gate.place().await;
                place.given_way(Duration::from_secs(1)).await;
            }));
        }
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert!(hung.iter().all(|hung| !hung.is_finished()), "nobody waits");
        drop(gate.place().await);
        tokio::task::yield_now().await;
        let finished = hung.iter().filter(|hung| hung.is_finished()).count();
        assert_eq!(finished, 1, "for one that waits, one goes");
    }

    #[tokio::test(start_paused = true)]
    async fn speculative_requests_leave_a_slot() {
        let gate = gate();
        let mut guesses = Vec::new();
        for _ in 0..GUESSES {
            guesses.push(gate.place_for_a_guess().await);
        }
        let one_more = tokio::time::timeout(Duration::from_millis(1), gate.place_for_a_guess()).await;
        assert!(one_more.is_err(), "it queues with the guesses");
        drop(gate.place().await);
    }

    #[tokio::test(start_paused = true)]
    async fn late_response_is_not_awaited() {
        let (gate, runtime) = (gate(), Handle::current());
        let takes = |time| async move {
            tokio::time::sleep(time).await;
            1
        };
        assert_eq!(gate.ask(&runtime, takes(PATIENCE / 2)).await, Some(1));
        assert_eq!(gate.ask(&runtime, takes(PATIENCE * 2)).await, None);
    }

    #[tokio::test(start_paused = true)]
    async fn silent_origin_gets_one_probe() {
        let (gate, runtime) = (gate(), Handle::current());
        assert_eq!(gate.ask(&runtime, std::future::pending::<()>()).await, None);
        let (asked, heard) = oneshot::channel();
        let (answer, answered) = oneshot::channel::<()>();
        let probe = async move {
            asked.send(()).unwrap();
            answered.await.unwrap();
            gate.note(None);
        };
        let began = tokio::time::Instant::now();
        assert_eq!(gate.ask(&runtime, probe).await, None);
        heard.await.unwrap();
        let second = async { unreachable!("one question is enough") };
        assert_eq!(gate.ask::<()>(&runtime, second).await, None);
        assert_eq!(began.elapsed(), Duration::ZERO);
        answer.send(()).unwrap();
        drop(gate.probing.lock().await);
        assert_eq!(gate.ask(&runtime, async { 2 }).await, Some(2));
    }

    #[tokio::test(start_paused = true)]
    async fn cached_metadata_limits_the_wait() {
        let (gate, runtime) = (gate(), Handle::current());
        let takes = |time| async move {
            tokio::time::sleep(time).await;
            1
        };
        assert_eq!(gate.ask_in_passing(&runtime, takes(MOMENT / 2)).await, Some(1));
        let began = tokio::time::Instant::now();
        for _ in 0..3 {
            assert_eq!(gate.ask_in_passing(&runtime, takes(MOMENT * 2)).await, None);
        }
        assert_eq!(began.elapsed(), MOMENT);
        assert_eq!(
            gate.ask(&runtime, takes(MOMENT * 2)).await,
            Some(1),
            "slow is not silent"
        );
        gate.note(None);
        assert_eq!(gate.ask_in_passing(&runtime, takes(MOMENT / 2)).await, Some(1));
    }

    #[tokio::test]
    async fn denial_is_a_response_and_a_reset_is_not() {
        let gate = gate();
        gate.note(Some(&HttpErrorKind::TimedOut(PATIENCE)));
        gate.note(Some(&HttpErrorKind::Interrupted));
        assert!(gate.is_silent.load(Ordering::Acquire));
        gate.note(Some(&HttpErrorKind::Refused));
        assert!(!gate.is_silent.load(Ordering::Acquire));
    }
}
