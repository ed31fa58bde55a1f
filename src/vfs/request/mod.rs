//! Asking an origin about names: one question, as often as it takes, and for no longer than anybody waits.
//!
//! Who asks decides how hard is tried ([`Urgency`]). Somebody who has nothing to go by waits for the answer until his
//! deadline, over refusals that pass and outages, as a reader waits for bytes: he shares what is known of the origin's
//! health with all others, and keeps to `Retry-After`. What is refused while the origin answers others is no sign of its
//! health: then only this question waits, and it is not asked for ever: **what fails while the origin answers other questions uses up retries**.
//! So one name that a server drops ends in an error after seconds. 403 beside other requests may mean that they are too many: it is asked
//! again when fewer are under way, before it is believed. Who has something older goes by that at the first failure, and
//! while the origin is left alone does not ask at all. What is asked ahead of need is only asked of an origin that is well.
//!
//! **Every wait here ends at the asker's deadline**, wherever it stands: at the health's pause, at the gate, or in the
//! middle of a page that comes byte by byte.

pub(super) mod limiter;
pub(super) mod mirror_lookup;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout_at};
use url::Url;

use super::request::limiter::{Limiter, Place};
use super::request::mirror_lookup::{Answered, Authority};
use super::{Tree, TreeError};
use crate::http::{HttpError, HttpErrorKind, Origin, redact};
use crate::origin::{Backoff, Health, Permit};

/// The pause before the first retry of a question, as before that of a fetch.
const FIRST_PAUSE: Duration = Duration::from_millis(500);

/// The longest pause of a question that the origin refuses while it answers others, unless it asks for more: then its
/// health says nothing, and this is what keeps it from being beaten.
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// How long a question may be unanswered until it gives its place to one that waits, twice; then it is twice as long each time.
const BEFORE_GIVING_WAY: Duration = Duration::from_secs(1);

/// How long a question may be unanswered until something else is asked for, to find out if it is the origin that is silent.
const BEFORE_DOUBT: Duration = Duration::from_secs(2);

/// How long a question is waited for that the origin leaves unanswered while it answers another one.
const IN_DOUBT: Duration = Duration::from_secs(8);

/// The pause after 403 while other requests are under way, and how often that is not believed: at all, and when no other was.
const DENIED_PAUSE: Duration = Duration::from_millis(150);
const MOST_DENIALS: u32 = 20;
const DENIALS_ALONE: u32 = 2;

/// Who wants to know.
#[derive(Debug, Clone, Copy)]
pub(super) enum Urgency {
    /// Somebody who has nothing to go by, and waits until then.
    Waiting(Instant),
    /// Somebody who has something older to go by.
    Refreshing,
    /// Nobody yet: it may be wanted next.
    Guessing,
}

impl Urgency {
    /// Until when an answer is of use, to an asker who begins now and waits for `patience` at most.
    fn deadline(self, patience: Duration) -> Instant {
        match self {
            Urgency::Waiting(until) => until,
            Urgency::Refreshing | Urgency::Guessing => after(patience),
        }
    }

    /// The same asker, where something older is known.
    pub(super) fn who_knows_something(self) -> Urgency {
        match self {
            Urgency::Waiting(_) | Urgency::Refreshing => Urgency::Refreshing,
            Urgency::Guessing => Urgency::Guessing,
        }
    }
}

/// The moment after so long. Nobody lives to see the end of a time that is too long for a clock.
fn after(patience: Duration) -> Instant {
    let now = Instant::now();
    now.checked_add(patience).unwrap_or(now + Duration::from_secs(1 << 30))
}

/// What comes after a failure.
#[derive(Debug, PartialEq, Eq)]
enum Next {
    /// It is asked again after so long, and when the origin's health allows it.
    Again(Duration),
    /// The failure is the answer.
    GiveUp,
}

/// The retries of one question.
struct Tries {
    /// For failures of what was asked about.
    of_the_question: Backoff,
    /// For failures of the origin as a whole, and for what is not ready yet. They use up no retries.
    of_the_origin: Option<Backoff>,
    /// How often it was denied while others asked, and how often by itself.
    denials: u32,
    denials_alone: u32,
    /// How often the origin had answered when the question first failed.
    answers_before: Option<u64>,
}

/// What else goes on at an origin when a question fails.
#[derive(Debug, Clone, Copy, Default)]
struct Beside {
    /// How often it has answered so far, whichever request.
    answers: u64,
    /// Whether other requests are under way.
    has_others: bool,
}

impl Tries {
    fn new(retries: u32) -> Tries {
        Tries {
            of_the_question: Backoff::new(FIRST_PAUSE, retries),
            of_the_origin: (retries > 0).then(|| Backoff::up_to(FIRST_PAUSE, LONGEST_PAUSE)),
            denials: 0,
            denials_alone: 0,
            answers_before: None,
        }
    }

    fn after(&mut self, kind: &HttpErrorKind, asker: Urgency, beside: Beside) -> Next {
        if !matches!(asker, Urgency::Waiting(_)) {
            return Next::GiveUp;
        }
        if *kind == HttpErrorKind::Denied(403) {
            return self.after_denial(beside);
        }
        if !kind.is_temporary() {
            return Next::GiveUp;
        }
        let before = *self.answers_before.get_or_insert(beside.answers);
        // What is refused for the rate comes through some time, however many others are answered.
        let may_be_the_rate = matches!(kind, HttpErrorKind::Status { status: 429 | 503, .. });
        let is_its_own = beside.answers > before && !kind.is_connect_failure() && !may_be_the_rate;
        let pause = match &mut self.of_the_origin {
            Some(pauses) if kind.is_not_ready() || (kind.is_of_the_origin() && !is_its_own) => {
                pauses.next_after(kind.retry_after())
            }
            _ => self.of_the_question.next_after(kind.retry_after()),
        };
        pause.map_or(Next::GiveUp, Next::Again)
    }

    fn after_denial(&mut self, beside: Beside) -> Next {
        self.denials += 1;
        self.denials_alone += u32::from(!beside.has_others);
        let was_suspected = self.denials > self.denials_alone;
        let believed_after = if was_suspected { DENIALS_ALONE } else { 1 };
        if self.of_the_origin.is_none() || self.denials_alone >= believed_after || self.denials >= MOST_DENIALS {
            return Next::GiveUp;
        }
        Next::Again(DENIED_PAUSE.mul_f64(0.5 + fastrand::f64()))
    }
}

impl Tree {
    /// Somebody who begins to wait now.
    pub(super) fn waiting(&self) -> Urgency {
        Urgency::Waiting(after(self.patience))
    }

    /// What `work` brings, if it does so before the asker has waited for too long. For locks that others hold while they
    /// ask.
    pub(super) async fn in_time<T>(
        &self,
        url: &Url,
        asker: Urgency,
        work: impl Future<Output = T>,
    ) -> Result<T, TreeError> {
        let done = timeout_at(asker.deadline(self.patience), work).await;
        done.map_err(|_| self.took_too_long(url, None))
    }

    /// Asks the origin of `url`, in turn with others that ask it for listings and metadata; or, if it may be anybody, a mirror while
    /// that can't be asked. `question` is given the mirror's URL for it.
    ///
    /// # Errors
    /// The last failure; [`TreeError::DeadlinePassed`] at the asker's deadline; [`TreeError::NotAsked`] for who can do
    /// without, when the origin is left alone.
    pub(super) async fn ask<T, F>(
        &self,
        url: &Url,
        who: Authority,
        asker: Urgency,
        mut question: impl FnMut(Option<Url>) -> F,
    ) -> Result<Answered<T>, TreeError>
    where
        F: Future<Output = Result<T, HttpError>>,
    {
        let Some((gate, origin)) = self.gate(url).zip(Origin::of(url)) else {
            return Ok(Answered::by_source(question(None).await?));
        };
        // What is asked ahead of need can wait for the source.
        let may_be_mirror = who == Authority::Anybody && !matches!(asker, Urgency::Guessing);
        let health = self.client.health(&origin);
        let (mut tries, mut last) = (Tries::new(self.retries), None);
        let is_under_way = AtomicBool::new(false);
        let mut gave_way = 0_u32;
        let asking = async {
            loop {
                if may_be_mirror && let Some(told) = self.ask_mirrors_instead(url, &health, &mut question).await {
                    return Ok(told);
                }
                let (turn, place) = leave_to_ask(&health, gate, asker, gave_way > 0)
                    .await
                    .ok_or(TreeError::NotAsked)?;
                let (answers, traffic) = (health.answers(), health.traffic());
                is_under_way.store(true, Ordering::Relaxed);
                let patience = BEFORE_GIVING_WAY.saturating_mul(1 << gave_way.saturating_sub(1).min(10));
                let answer = tokio::select! {
                    biased;
                    answer = question(None) => answer,
                    () = given_way(place.as_ref(), patience) => {
                        is_under_way.store(false, Ordering::Relaxed);
                        gave_way += 1;
                        drop((turn, place));
                        if matches!(asker, Urgency::Guessing) {
                            return Err(TreeError::NotAsked);
                        }
                        tokio::task::yield_now().await;
                        continue;
                    }
                    error = self.left_unanswered(url, &health) => Err(error),
                };
                is_under_way.store(false, Ordering::Relaxed);
                let has_others = health.had_others(traffic) || self.cache.manager().is_fetching_from(&origin);
                let failure = answer.as_ref().err().filter(|error| !is_of_another(error, &origin));
                let failure = failure.map(|error| &error.kind);
                if is_of_this_question(failure, health.answers() - answers) {
                    drop(turn);
                } else {
                    turn.ended(answer.as_ref().err().filter(|error| !is_of_another(error, &origin)));
                }
                gate.note(failure);
                if let Some(place) = place {
                    place.ended(failure);
                }
                let error = match answer {
                    Ok(answer) => return Ok(Answered::by_source(answer)),
                    Err(error) => error,
                };
                if may_be_mirror
                    && error.kind.may_be_had_elsewhere()
                    && let Some(told) = self.ask_mirrors(url, &mut question).await
                {
                    return Ok(told);
                }
                let beside = Beside {
                    answers: health.answers(),
                    has_others,
                };
                if error.kind.is_of_the_origin() && !error.kind.is_connect_failure() {
                    self.client
                        .ask_for_something_else(&self.runtime, url, Arc::clone(&health));
                }
                let Next::Again(pause) = tries.after(&error.kind, asker, beside) else {
                    return Err(error.into());
                };
                log::debug!("{error}; asking again in {pause:.1?}");
                last = Some(error);
                sleep(pause).await;
            }
        };
        match timeout_at(asker.deadline(self.patience), asking).await {
            Ok(answer) => answer,
            Err(_) => {
                if is_under_way.load(Ordering::Relaxed) {
                    gate.note(Some(&HttpErrorKind::TimedOut(self.patience)));
                }
                Err(self.took_too_long(url, last.map(|error| error.kind)))
            }
        }
    }

    /// Returns when a question has been left unanswered for a while though the origin answers another one, with what that comes to.
    async fn left_unanswered(&self, url: &Url, health: &Arc<Health>) -> HttpError {
        sleep(BEFORE_DOUBT).await;
        let answers = health.answers();
        self.client
            .ask_for_something_else(&self.runtime, url, Arc::clone(health));
        sleep(IN_DOUBT).await;
        // A page may be long, and come all the time.
        if health.answers() == answers || url.path().ends_with('/') {
            // It is not known whose fault it is, and the question has its own time.
            std::future::pending::<()>().await;
        }
        HttpError {
            kind: HttpErrorKind::TimedOut(BEFORE_DOUBT + IN_DOUBT),
            url: redact(url),
        }
    }

    fn took_too_long(&self, url: &Url, last: Option<HttpErrorKind>) -> TreeError {
        TreeError::DeadlinePassed {
            url: redact(url).into(),
            waited: self.patience,
            last,
        }
    }
}

/// Whether a failure that looks like the origin's is one of this question alone, because the origin gave so many answers
/// to others meanwhile.
fn is_of_this_question(failure: Option<&HttpErrorKind>, answers: u64) -> bool {
    answers > 0 && failure.is_some_and(|kind| kind.is_of_the_origin() && !kind.is_connect_failure())
}

/// Whether it was another origin that failed: one to which this one has redirected.
fn is_of_another(error: &HttpError, origin: &Origin) -> bool {
    let asked = Url::parse(&error.url).ok();
    asked
        .and_then(|asked| Origin::of(&asked))
        .is_some_and(|asked| asked != *origin)
}

/// Returns when a question is to give its place up; one that has none never does.
async fn given_way(place: Option<&Place<'_>>, after: Duration) {
    match place {
        Some(place) => place.given_way(after).await,
        None => std::future::pending().await,
    }
}

/// Waits until the origin may be asked and it is the asker's turn. `None` if one who can do without shall not ask now.
async fn leave_to_ask<'a>(
    health: &Arc<Health>,
    gate: &'a Limiter,
    asker: Urgency,
    had_place: bool,
) -> Option<(Permit, Option<Place<'a>>)> {
    loop {
        let turn = match asker {
            Urgency::Waiting(_) => health.turn().await,
            Urgency::Refreshing | Urgency::Guessing => health.turn_now()?,
        };
        if turn.is_probe() {
            // All others wait for this one answer, so it does not queue behind pages that come slowly.
            return Some((turn, None));
        }
        let place = match asker {
            Urgency::Guessing => gate.place_for_a_guess().await?,
            Urgency::Waiting(_) | Urgency::Refreshing if had_place => gate.place_behind_others().await,
            Urgency::Waiting(_) | Urgency::Refreshing => gate.place().await,
        };
        if turn.is_good() {
            return Some((turn, Some(place)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BUSY: HttpErrorKind = HttpErrorKind::Status {
        status: 503,
        retry_after: None,
    };

    fn waiting() -> Urgency {
        Urgency::Waiting(Instant::now())
    }

    #[tokio::test]
    async fn only_who_waits_asks_again_and_only_after_what_may_pass() {
        let mut tries = Tries::new(3);
        for asker in [Urgency::Refreshing, Urgency::Guessing] {
            assert_eq!(tries.after(&BUSY, asker, Beside::default()), Next::GiveUp);
        }
        for kind in [HttpErrorKind::NotFound(404), HttpErrorKind::Denied(403)] {
            assert_eq!(tries.after(&kind, waiting(), Beside::default()), Next::GiveUp);
        }
        assert!(matches!(
            tries.after(&BUSY, waiting(), Beside::default()),
            Next::Again(_)
        ));
    }

    #[tokio::test]
    async fn an_origin_that_is_down_uses_up_no_retries_and_a_broken_answer_does() {
        let mut tries = Tries::new(2);
        for _ in 0..20 {
            match tries.after(&BUSY, waiting(), Beside::default()) {
                Next::Again(pause) => assert!(pause <= LONGEST_PAUSE),
                Next::GiveUp => panic!("it was not to use up retries"),
            }
        }
        for _ in 0..2 {
            assert!(matches!(
                tries.after(&HttpErrorKind::Interrupted, waiting(), Beside::default()),
                Next::Again(_)
            ));
        }
        assert_eq!(
            tries.after(&HttpErrorKind::Interrupted, waiting(), Beside::default()),
            Next::GiveUp
        );
        assert_eq!(
            Tries::new(0).after(&BUSY, waiting(), Beside::default()),
            Next::GiveUp,
            "it was turned off"
        );
    }

    #[test]
    fn what_is_refused_while_others_are_answered_does_not_stop_them() {
        assert!(is_of_this_question(Some(&BUSY), 1));
        assert!(!is_of_this_question(Some(&BUSY), 0), "nobody is answered");
        assert!(
            !is_of_this_question(Some(&HttpErrorKind::Refused), 1),
            "it has gone down"
        );
        assert!(!is_of_this_question(Some(&HttpErrorKind::NotFound(404)), 1) && !is_of_this_question(None, 1));
    }

    #[tokio::test]
    async fn a_server_that_names_a_time_is_not_asked_before() {
        let asked = Duration::from_secs(20);
        let kind = HttpErrorKind::Status {
            status: 429,
            retry_after: Some(asked),
        };
        match Tries::new(1).after(&kind, waiting(), Beside::default()) {
            Next::Again(pause) => assert!(pause >= asked && pause <= asked * 2),
            Next::GiveUp => panic!("it may pass"),
        }
    }

    #[tokio::test]
    async fn what_fails_while_others_are_answered_uses_up_retries() {
        let mut tries = Tries::new(2);
        let beside = |answers| Beside {
            answers,
            has_others: false,
        };
        let silence = HttpErrorKind::TimedOut(Duration::from_secs(1));
        for answers in [5, 6, 7] {
            assert!(matches!(
                tries.after(&silence, waiting(), beside(answers)),
                Next::Again(_)
            ));
        }
        assert_eq!(tries.after(&silence, waiting(), beside(8)), Next::GiveUp);
    }

    #[tokio::test]
    async fn denied_is_believed_when_nothing_else_is_under_way() {
        let beside = |has_others| Beside { answers: 0, has_others };
        let denied = HttpErrorKind::Denied(403);
        assert_eq!(Tries::new(3).after(&denied, waiting(), beside(false)), Next::GiveUp);
        let mut tries = Tries::new(3);
        for has_others in [true, false] {
            assert!(matches!(
                tries.after(&denied, waiting(), beside(has_others)),
                Next::Again(_)
            ));
        }
        assert_eq!(tries.after(&denied, waiting(), beside(false)), Next::GiveUp);
    }
}
