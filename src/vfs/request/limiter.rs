//! Asking one origin for listings and metadata: how many at once, and how long for something newer than what is known.
//!
//! **How many at once** follows from what the origin makes of it: one that answers 429 or 503 is asked by half as many,
//! down to one, and by slowly more again as it answers. What is asked ahead of need leaves a place for those who wait, and
//! is not asked at all of an origin that has too much to do.
//!
//! **A question that is not answered for a second gives its place to one that waits for it**, and is asked again after that one; each time it
//! has twice as long, and only questions that had no place yet are made room for. So pages that hang hold up no other, and a server that is slow with all pages is waited for.
//!
//! **What is known is not held back for long.** Who has an old listing or a cached version to go by waits for the origin
//! for [`PATIENCE`] and then goes by that; the question goes on by itself, and its answer counts from when it comes. An
//! origin that let somebody wait so long is **silent** until it answers anything: meanwhile nobody waits for what is
//! known already, and one question at a time finds out whether it is back. Without this every path of three names would
//! cost three timeouts, again and again, as long as a server swallows its requests.
//!
//! For what an earlier mount has left in the index a [`MOMENT`] is all the waiting there is: a new mount shows its tree at
//! once, but where the origin answers as servers in reach do, what it shows is already the newest.

use std::future::Future;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex as ShortMutex;
use tokio::runtime::Handle;
use tokio::sync::{Mutex, Semaphore, SemaphorePermit, watch};

use crate::http::{HttpErrorKind, Origin};
use crate::vfs::METADATA_CONNECTIONS;

/// Of [`METADATA_CONNECTIONS`], how many may be taken by guesses: the one that is left is for somebody who waits.
const GUESSES: usize = METADATA_CONNECTIONS - 1;

/// How long a guess waits for its turn.
const GUESS_PATIENCE: Duration = Duration::from_secs(1);

/// How long somebody who has something older waits for the origin's word. Far longer than a server takes that is well,
/// with a new connection and TLS over a bad line; short enough that a person does not give up.
const PATIENCE: Duration = Duration::from_secs(2);

/// How long somebody waits for the origin's word who has what an earlier mount was told. A few round trips to the other
/// side of the world; and not yet noticed by a person.
const MOMENT: Duration = Duration::from_millis(300);

/// What the tree keeps of an origin.
pub(in crate::vfs) struct Limiter {
    origin: Origin,
    places: Semaphore,
    /// Guesses queue here first, so that those who wait never queue behind all of them.
    guesses: Semaphore,
    width: ShortMutex<Width>,
    queue: watch::Sender<Queue>,
    is_silent: AtomicBool,
    /// Let somebody wait for a [`MOMENT`], and has not answered anything since.
    is_slow: AtomicBool,
    /// Held by the question that finds out whether a silent origin is back.
    probing: Mutex<()>,
}

/// Those who wait for their first place, guesses apart.
#[derive(Debug, Default, Clone, Copy)]
struct Queue {
    waiting: usize,
    /// How many questions give their place up for them. **No more than wait.**
    giving_way: usize,
}

/// Counts one who waits for a place, until it is dropped.
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

/// How many may ask at once: values, without the waiting.
#[derive(Debug, PartialEq, Eq)]
struct Width {
    /// From 1 to [`METADATA_CONNECTIONS`].
    allowed: usize,
    /// Places that are to go, and are taken by somebody who asks.
    surplus: usize,
    /// Answers since `allowed` last changed.
    answers: usize,
    /// How often it became narrower: a refusal of a question that was asked before the last time is no news.
    narrowings: u64,
}

impl Width {
    fn new() -> Width {
        Width {
            allowed: METADATA_CONNECTIONS,
            surplus: 0,
            answers: 0,
            narrowings: 0,
        }
    }

    /// The origin has too much to do, says the answer to a question that was asked after so many narrowings. How many
    /// places have to go.
    fn refused(&mut self, narrowings: u64) -> usize {
        if narrowings != self.narrowings {
            return 0;
        }
        let before = self.allowed;
        self.allowed = (before / 2).max(1);
        self.narrowings += 1;
        self.answers = 0;
        before - self.allowed
    }

    /// A question was answered. Whether there is a place more: after as many answers as may come side by side.
    fn answered(&mut self) -> bool {
        if self.allowed == METADATA_CONNECTIONS {
            return false;
        }
        self.answers += 1;
        if self.answers < self.allowed {
            return false;
        }
        (self.allowed, self.answers) = (self.allowed + 1, 0);
        let is_there_already = self.surplus > 0;
        self.surplus -= usize::from(is_there_already);
        !is_there_already
    }

    fn is_narrow(&self) -> bool {
        self.allowed < METADATA_CONNECTIONS
    }
}

/// A place among those who ask. Dropped, it is the next one's.
pub(in crate::vfs) struct Place<'a> {
    gate: &'a Limiter,
    permit: Option<SemaphorePermit<'a>>,
    narrowings: u64,
    _guess: Option<SemaphorePermit<'a>>,
}

impl Place<'_> {
    /// Returns when the question is to give its place to one that waits: after this time, if it is not answered by then.
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
            // Whatever became of a place that was given up: a question that has waited all this time gets another.
            let is_waited_for = queue.borrow().waiting > 0;
            let is_over = tokio::time::timeout(after, changes.wait_for(is_called)).await.is_err();
            is_late = is_waited_for && is_over;
        }
    }

    /// What became of the question.
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

    /// A place for somebody who waits.
    pub(in crate::vfs) async fn place(&self) -> Place<'_> {
        if let Ok(permit) = self.places.try_acquire() {
            return self.taken(Some(permit));
        }
        let _waits = Waits::begin(&self.queue);
        // An error would mean that the semaphore was closed, which nobody does.
        let permit = self.places.acquire().await.ok();
        self.queue
            .send_modify(|queue| queue.giving_way = queue.giving_way.saturating_sub(1));
        self.taken(permit)
    }

    /// A place for a question that others go before: a guess, or one that had a place and gave it up.
    pub(in crate::vfs) async fn place_behind_others(&self) -> Place<'_> {
        let mut changes = self.queue.subscribe();
        loop {
            // It fails only if the gate is gone, which stays.
            let _ = changes.wait_for(|queue| queue.waiting == 0).await;
            // In this order: a place that was given up for one that waits must not be taken here.
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

    /// A place for a question that nobody waits for; `None` if it is not to be asked now, or not soon: it holds its directory meanwhile, and
    /// somebody may come to wait for that.
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
        // It may have become so while this one queued. (A place takes the lock when it is dropped.)
        let is_narrow = self.width.lock().is_narrow();
        (!is_narrow).then_some(place)
    }

    /// Notes how a question ended.
    pub(in crate::vfs) fn note(&self, failure: Option<&HttpErrorKind>) {
        match failure {
            Some(HttpErrorKind::TimedOut(_)) => self.is_silent.store(true, Ordering::Release),
            // No answer either, but at what time it came says nothing; or nobody was asked.
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
                    log::info!("{} answers again", self.origin);
                }
            }
        }
    }

    /// Runs `ask`, for somebody who has something older to go by. `None` if they shall go by that; then `ask` goes on by
    /// itself, or is left out because another question is under way that tells as much.
    pub(in crate::vfs) async fn ask<T: Send + 'static>(
        &'static self,
        runtime: &Handle,
        ask: impl Future<Output = T> + Send + 'static,
    ) -> Option<T> {
        if self.is_silent.load(Ordering::Acquire) {
            let probing = self.probing.try_lock().ok()?;
            runtime.spawn(async move {
                tokio::pin!(ask);
                // One that is silent by itself keeps the others from asking for no longer than they would wait.
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
                    "{} does not answer; until it does, directories are shown and cached files served as they were",
                    self.origin
                );
            }
            return None;
        };
        // The task fails only if it panics, or if the runtime is going down.
        answer.ok()
    }

    /// Like [`Self::ask`], for somebody who has what an earlier mount was told.
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
        // As above.
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
    async fn an_origin_that_has_too_much_to_do_is_asked_by_half_as_many_and_by_slowly_more_again() {
        let gate = gate();
        let places = |count| async move {
            let mut places = Vec::new();
            for _ in 0..count {
                places.push(gate.place().await);
            }
            places
        };
        // All of one burst are one refusal.
        for place in places(METADATA_CONNECTIONS).await {
            place.ended(Some(&BUSY));
        }
        assert_eq!(gate.places.available_permits(), METADATA_CONNECTIONS / 2);
        for _ in 0..5 {
            gate.place().await.ended(Some(&BUSY));
        }
        assert_eq!(gate.places.available_permits(), 1, "one may always ask");
        assert!(gate.place_for_a_guess().await.is_none(), "and nobody ahead of need");
        for answers in 1..=(1..METADATA_CONNECTIONS).sum() {
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
    async fn guesses_leave_a_place_for_somebody_who_waits() {
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
    async fn an_answer_in_time_is_taken_and_a_late_one_is_not_waited_for() {
        let (gate, runtime) = (gate(), Handle::current());
        let takes = |time| async move {
            tokio::time::sleep(time).await;
            1
        };
        assert_eq!(gate.ask(&runtime, takes(PATIENCE / 2)).await, Some(1));
        assert_eq!(gate.ask(&runtime, takes(PATIENCE * 2)).await, None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_origin_lets_nobody_wait_and_is_asked_one_question_until_it_answers() {
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
    async fn who_has_what_an_earlier_mount_was_told_waits_for_a_moment_and_only_once() {
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
    async fn a_refusal_is_an_answer_and_a_broken_connection_says_nothing() {
        let gate = gate();
        gate.note(Some(&HttpErrorKind::TimedOut(PATIENCE)));
        gate.note(Some(&HttpErrorKind::Interrupted));
        assert!(gate.is_silent.load(Ordering::Acquire));
        gate.note(Some(&HttpErrorKind::Refused));
        assert!(!gate.is_silent.load(Ordering::Acquire));
    }
}
