//! How an origin is doing, as its answers show, and when it is worth asking again.
//!
//! Many fetches go to one origin. When it is down each of them finds that out, and if each came back in its own time the
//! origin would be beaten as often as there are fetches. So they share what they know: after a **failure of the origin**
//! (not of one file: [`HttpErrorKind::is_of_the_origin`]) a **pause** begins, in which nobody asks. When it is over
//! **one** of those who wait asks, the others wait for what becomes of it: an answer lets all through, another
//! failure makes the pause about twice as long. `Retry-After` is a lower bound for it. Those who wait are woken by event.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;
use url::Url;

use super::{Backoff, HttpErrorKind, MOST_ORIGINS, Origin};

/// The first pause.
const FIRST_PAUSE: Duration = Duration::from_millis(500);

/// The longest, unless the server asked for more. It is one question of one mount: no burden on a server that struggles,
/// and whoever reads sees soon that it is back.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// The health of all origins that were asked.
#[derive(Default)]
pub(super) struct Healths(Mutex<HashMap<Origin, Arc<Health>>>);

impl Healths {
    /// That of an origin.
    pub fn of(&self, origin: &Origin) -> Arc<Health> {
        let mut all = self.0.lock();
        if all.len() >= MOST_ORIGINS && !all.contains_key(origin) {
            // Whoever asks or waits holds on to his. How the others are is found out again.
            all.retain(|_, health| Arc::strong_count(health) > 1);
        }
        Arc::clone(
            all.entry(origin.clone())
                .or_insert_with(|| Arc::new(Health::new(origin.clone()))),
        )
    }

    /// That of the origin of a URL that is asked. One that can't be asked is as well as any: asking says what is wrong with it.
    pub fn of_url(&self, url: &Url) -> Arc<Health> {
        Origin::of(url).map_or_else(|| Arc::new(Health::new(Origin::nowhere())), |origin| self.of(&origin))
    }
}

/// The health of one origin.
pub struct Health {
    origin: Origin,
    /// Nothing is taken and nobody waits under it.
    state: Mutex<State>,
    changed: Notify,
}

struct State {
    /// `None` while it is well.
    pause: Option<Pause>,
    /// Counts the pauses that have begun: who asked before the last one says nothing new by failing.
    pauses: u64,
    /// Counts the answers.
    answers: u64,
}

struct Pause {
    until: Instant,
    /// How long the next ones are.
    backoff: Backoff,
    since: Instant,
    /// Whether somebody is asking whether it is back.
    is_probed: bool,
}

/// Leave to ask, given by [`Health::turn`]. Tell by it what became of the question; dropped without a word it lets the
/// next one ask.
pub struct Turn {
    health: Arc<Health>,
    pauses: u64,
    is_probe: bool,
}

impl Health {
    fn new(origin: Origin) -> Health {
        Health {
            origin,
            state: Mutex::new(State {
                pause: None,
                pauses: 0,
                answers: 0,
            }),
            changed: Notify::new(),
        }
    }

    /// Waits until the origin may be asked.
    pub async fn turn(self: &Arc<Self>) -> Turn {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            // Registered before looking, so that a change between the two is not lost.
            changed.as_mut().enable();
            let until = match self.look() {
                Ok(turn) => return turn,
                Err(until) => until,
            };
            match until {
                None => changed.await,
                Some(until) => tokio::select! {
                    () = changed => {}
                    () = tokio::time::sleep_until(until) => {}
                },
            }
        }
    }

    /// Leave to ask, if it may be asked now.
    pub fn turn_now(self: &Arc<Self>) -> Option<Turn> {
        self.look().ok()
    }

    /// A turn, or until when to wait for one; `None`: until somebody else's question is answered.
    fn look(self: &Arc<Self>) -> Result<Turn, Option<Instant>> {
        let mut state = self.state.lock();
        let is_probe = match &mut state.pause {
            None => false,
            Some(pause) if pause.is_probed => return Err(None),
            Some(pause) if Instant::now() < pause.until => return Err(Some(pause.until)),
            Some(pause) => {
                pause.is_probed = true;
                true
            }
        };
        Ok(Turn {
            health: Arc::clone(self),
            pauses: state.pauses,
            is_probe,
        })
    }

    /// It has answered something, whoever asked.
    pub fn answered(&self) {
        let ended = {
            let mut state = self.state.lock();
            state.answers += 1;
            state.pause.take()
        };
        if let Some(pause) = ended {
            log::info!(
                "{} answers again, after {}",
                self.origin,
                humantime::format_duration(Duration::from_secs(pause.since.elapsed().as_secs()))
            );
            self.changed.notify_waiters();
        }
    }

    /// How often it has answered so far, whoever asked.
    pub fn answers(&self) -> u64 {
        self.state.lock().answers
    }

    /// It has failed just now, as somebody found who was sent there by another.
    pub fn has_failed(&self, kind: &HttpErrorKind) {
        let pauses = self.state.lock().pauses;
        self.failed(kind, pauses);
    }

    fn failed(&self, kind: &HttpErrorKind, pauses: u64) {
        let mut state = self.state.lock();
        if state.pauses != pauses {
            return;
        }
        state.pauses += 1;
        let began = state.pause.is_none();
        let now = Instant::now();
        let pause = state.pause.get_or_insert_with(|| Pause {
            until: now,
            backoff: Backoff::up_to(FIRST_PAUSE, LONGEST_PAUSE),
            since: now,
            is_probed: false,
        });
        let time = pause.backoff.next_after(kind.retry_after()).unwrap_or(LONGEST_PAUSE);
        // Nobody lives to see the end of a pause that is too long for a clock.
        pause.until = now.checked_add(time).unwrap_or(now + Duration::from_secs(1 << 30));
        pause.is_probed = false;
        drop(state);
        if began {
            log::warn!(
                "{}: {kind}; it is asked again in {time:.1?}, and then less and less often",
                self.origin
            );
        } else {
            log::debug!("{}: {kind}; it is asked again in {time:.1?}", self.origin);
        }
        self.changed.notify_waiters();
    }
}

impl Turn {
    /// Whether it finds out for all others if the origin is back.
    pub fn is_probe(&self) -> bool {
        self.is_probe
    }

    /// Whether no pause has begun since it was given: who did something else first must look again.
    pub fn is_good(&self) -> bool {
        self.health.state.lock().pauses == self.pauses
    }

    /// Whether it was given by this one.
    pub fn is_to(&self, health: &Arc<Health>) -> bool {
        Arc::ptr_eq(&self.health, health)
    }

    /// The origin has answered, whatever it was.
    pub fn answered(self) {
        self.health.answered();
    }

    /// What became of the question: an answer, or why there is none. Whether the origin has answered, whatever it was.
    pub fn ended(self, error: Option<&HttpErrorKind>) -> bool {
        match error {
            Some(kind) if kind.is_of_the_origin() => {
                self.failed(kind);
                false
            }
            // Nothing that says how it is doing.
            Some(HttpErrorKind::Interrupted | HttpErrorKind::NoDescriptors | HttpErrorKind::Offline) => false,
            _ => {
                self.answered();
                true
            }
        }
    }

    /// It has failed; see [`HttpErrorKind::is_of_the_origin`].
    pub fn failed(self, kind: &HttpErrorKind) {
        self.health.failed(kind, self.pauses);
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        if !self.is_probe {
            return;
        }
        let mut state = self.health.state.lock();
        // Nothing, if what became of the question was told.
        if state.pauses == self.pauses
            && let Some(pause) = &mut state.pause
        {
            pause.is_probed = false;
            drop(state);
            self.health.changed.notify_waiters();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn health() -> Arc<Health> {
        Healths::default().of(&Origin::of(&Url::parse("http://h/").unwrap()).unwrap())
    }

    const DOWN: HttpErrorKind = HttpErrorKind::Refused;

    #[test]
    fn no_server_makes_it_remember_origins_without_end_and_what_is_held_stays() {
        let healths = Healths::default();
        let of = |port: usize| healths.of_url(&Url::parse(&format!("http://h:{}/", port + 1)).unwrap());
        let held = of(0);
        (1..3 * MOST_ORIGINS).for_each(|port| drop(of(port)));
        assert!(healths.0.lock().len() <= MOST_ORIGINS, "{}", healths.0.lock().len());
        assert!(Arc::ptr_eq(&held, &of(0)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_well_origin_is_asked_at_once_by_all() {
        let health = health();
        let began = Instant::now();
        let turns = [health.turn().await, health.turn().await];
        assert_eq!(began.elapsed(), Duration::ZERO);
        turns.into_iter().for_each(Turn::answered);
        assert!(health.state.lock().pause.is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn failures_of_questions_that_were_under_way_together_count_as_one() {
        let health = health();
        let turns = [health.turn().await, health.turn().await, health.turn().await];
        turns.into_iter().for_each(|turn| turn.failed(&DOWN));
        let began = Instant::now();
        let probe = health.turn().await;
        assert!(began.elapsed() < FIRST_PAUSE * 2, "{:?}", began.elapsed());
        drop(probe);
    }

    #[tokio::test(start_paused = true)]
    async fn pauses_grow_and_one_asks_for_all() {
        let health = health();
        health.turn().await.failed(&DOWN);
        let mut last = Duration::ZERO;
        for _ in 0..4 {
            let began = Instant::now();
            let probe = health.turn().await;
            assert!(began.elapsed() > last, "{:?} after {last:?}", began.elapsed());
            last = began.elapsed();
            let second = health.turn();
            tokio::pin!(second);
            assert!(futures_pending(&mut second).await, "one asks at a time");
            probe.failed(&DOWN);
        }
        let probe = health.turn().await;
        let waiting: Vec<_> = (0..3)
            .map(|_| {
                let health = Arc::clone(&health);
                tokio::spawn(async move { health.turn().await.answered() })
            })
            .collect();
        tokio::task::yield_now().await;
        let began = Instant::now();
        probe.answered();
        for waiter in waiting {
            waiter.await.unwrap();
        }
        assert_eq!(began.elapsed(), Duration::ZERO, "all are let through at once");
    }

    async fn futures_pending(future: &mut (impl Future + Unpin)) -> bool {
        tokio::time::timeout(Duration::from_millis(1), future).await.is_err()
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_names_a_time_is_left_alone_until_then() {
        let health = health();
        let asked = Duration::from_secs(20);
        health.turn().await.failed(&HttpErrorKind::Status {
            status: 503,
            retry_after: Some(asked),
        });
        let began = Instant::now();
        drop(health.turn().await);
        assert!(began.elapsed() >= asked, "{:?}", began.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn who_gives_its_turn_back_without_a_word_lets_the_next_one_ask() {
        let health = health();
        health.turn().await.failed(&DOWN);
        let probe = health.turn().await;
        let next = tokio::spawn({
            let health = Arc::clone(&health);
            async move { health.turn().await.answered() }
        });
        tokio::task::yield_now().await;
        drop(probe);
        next.await.unwrap();
        assert!(health.state.lock().pause.is_none());
    }
}
