//! Asking an origin about names: one question, as often as it takes, and for no longer than anybody waits.
//!
//! Who asks decides how hard is tried ([`Asker`]). Somebody who has nothing to go by waits for the answer until his
//! deadline, over refusals that pass and outages, as a reader waits for bytes: he shares what is known of the origin's
//! health with all others, and keeps to `Retry-After`. What is refused while the origin answers others is no sign of its
//! health: then only this question waits. Who has something older goes by that at the first failure, and
//! while the origin is left alone does not ask at all. What is asked ahead of need is only asked of an origin that is well.
//!
//! **Every wait here ends at the asker's deadline**, wherever it stands: at the health's pause, at the gate, or in the
//! middle of a page that comes byte by byte.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout_at};
use url::Url;

use super::elsewhere::{Told, Who};
use super::gate::{Gate, Place};
use super::{Tree, TreeError};
use crate::http::{Backoff, Health, HttpError, HttpErrorKind, Origin, Turn, redact};

/// The pause before the first retry of a question, as before that of a fetch.
const FIRST_PAUSE: Duration = Duration::from_millis(500);

/// The longest pause of a question that the origin refuses while it answers others, unless it asks for more: then its
/// health says nothing, and this is what keeps it from being beaten.
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// Who wants to know.
#[derive(Debug, Clone, Copy)]
pub(super) enum Asker {
    /// Somebody who has nothing to go by, and waits until then.
    Waiting(Instant),
    /// Somebody who has something older to go by.
    Refreshing,
    /// Nobody yet: it may be wanted next.
    Guessing,
}

impl Asker {
    /// Until when an answer is of use, to an asker who begins now and waits for `patience` at most.
    fn deadline(self, patience: Duration) -> Instant {
        match self {
            Asker::Waiting(until) => until,
            Asker::Refreshing | Asker::Guessing => after(patience),
        }
    }

    /// The same asker, where something older is known.
    pub(super) fn who_knows_something(self) -> Asker {
        match self {
            Asker::Waiting(_) | Asker::Refreshing => Asker::Refreshing,
            Asker::Guessing => Asker::Guessing,
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
}

impl Tries {
    fn new(retries: u32) -> Tries {
        Tries {
            of_the_question: Backoff::new(FIRST_PAUSE, retries),
            of_the_origin: (retries > 0).then(|| Backoff::up_to(FIRST_PAUSE, LONGEST_PAUSE)),
        }
    }

    fn after(&mut self, kind: &HttpErrorKind, asker: Asker) -> Next {
        if !matches!(asker, Asker::Waiting(_)) || !kind.is_temporary() {
            return Next::GiveUp;
        }
        let pause = match &mut self.of_the_origin {
            Some(pauses) if kind.is_of_the_origin() || kind.is_not_ready() => pauses.next_after(kind.retry_after()),
            _ => self.of_the_question.next_after(kind.retry_after()),
        };
        pause.map_or(Next::GiveUp, Next::Again)
    }
}

impl Tree {
    /// Somebody who begins to wait now.
    pub(super) fn waiting(&self) -> Asker {
        Asker::Waiting(after(self.patience))
    }

    /// What `work` brings, if it does so before the asker has waited for too long. For locks that others hold while they
    /// ask.
    pub(super) async fn in_time<T>(
        &self,
        url: &Url,
        asker: Asker,
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
        who: Who,
        asker: Asker,
        mut question: impl FnMut(Option<Url>) -> F,
    ) -> Result<Told<T>, TreeError>
    where
        F: Future<Output = Result<T, HttpError>>,
    {
        let Some((gate, origin)) = self.gate(url).zip(Origin::of(url)) else {
            return Ok(Told::by_source(question(None).await?));
        };
        // What is asked ahead of need can wait for the source.
        let may_be_mirror = who == Who::Anybody && !matches!(asker, Asker::Guessing);
        let health = self.client.health(&origin);
        let (mut tries, mut last) = (Tries::new(self.retries), None);
        let is_under_way = AtomicBool::new(false);
        let asking = async {
            loop {
                if may_be_mirror && let Some(told) = self.ask_mirrors_instead(url, &health, &mut question).await {
                    return Ok(told);
                }
                let (turn, place) = leave_to_ask(&health, gate, asker).await.ok_or(TreeError::NotAsked)?;
                let answers = health.answers();
                is_under_way.store(true, Ordering::Relaxed);
                let answer = question(None).await;
                is_under_way.store(false, Ordering::Relaxed);
                let failure = answer.as_ref().err().map(|error| &error.kind);
                if is_of_this_question(failure, health.answers() - answers) {
                    drop(turn);
                } else {
                    turn.ended(answer.as_ref().err());
                }
                gate.note(failure);
                if let Some(place) = place {
                    place.ended(failure);
                }
                let error = match answer {
                    Ok(answer) => return Ok(Told::by_source(answer)),
                    Err(error) => error,
                };
                if may_be_mirror
                    && error.kind.may_be_had_elsewhere()
                    && let Some(told) = self.ask_mirrors(url, &mut question).await
                {
                    return Ok(told);
                }
                let Next::Again(pause) = tries.after(&error.kind, asker) else {
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

    fn took_too_long(&self, url: &Url, last: Option<HttpErrorKind>) -> TreeError {
        TreeError::DeadlinePassed {
            url: redact(url),
            waited: self.patience,
            last,
        }
    }
}

/// Whether a failure that looks like the origin's is one of this question alone, because the origin gave so many answers
/// to others meanwhile.
fn is_of_this_question(failure: Option<&HttpErrorKind>, answers: u64) -> bool {
    answers > 0 && failure.is_some_and(|kind| kind.is_of_the_origin() && !kind.is_of_the_way())
}

/// Waits until the origin may be asked and it is the asker's turn. `None` if one who can do without shall not ask now.
async fn leave_to_ask<'a>(
    health: &std::sync::Arc<Health>,
    gate: &'a Gate,
    asker: Asker,
) -> Option<(Turn, Option<Place<'a>>)> {
    loop {
        let turn = match asker {
            Asker::Waiting(_) => health.turn().await,
            Asker::Refreshing | Asker::Guessing => health.turn_now()?,
        };
        if turn.is_probe() {
            // All others wait for this one answer, so it does not queue behind pages that come slowly.
            return Some((turn, None));
        }
        let place = match asker {
            Asker::Guessing => gate.place_for_a_guess().await?,
            Asker::Waiting(_) | Asker::Refreshing => gate.place().await,
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

    fn waiting() -> Asker {
        Asker::Waiting(Instant::now())
    }

    #[tokio::test]
    async fn only_who_waits_asks_again_and_only_after_what_may_pass() {
        let mut tries = Tries::new(3);
        for asker in [Asker::Refreshing, Asker::Guessing] {
            assert_eq!(tries.after(&BUSY, asker), Next::GiveUp);
        }
        for kind in [HttpErrorKind::NotFound(404), HttpErrorKind::Denied(403)] {
            assert_eq!(tries.after(&kind, waiting()), Next::GiveUp);
        }
        assert!(matches!(tries.after(&BUSY, waiting()), Next::Again(_)));
    }

    #[tokio::test]
    async fn an_origin_that_is_down_uses_up_no_retries_and_a_broken_answer_does() {
        let mut tries = Tries::new(2);
        for _ in 0..20 {
            match tries.after(&BUSY, waiting()) {
                Next::Again(pause) => assert!(pause <= LONGEST_PAUSE),
                Next::GiveUp => panic!("it was not to use up retries"),
            }
        }
        for _ in 0..2 {
            assert!(matches!(
                tries.after(&HttpErrorKind::Interrupted, waiting()),
                Next::Again(_)
            ));
        }
        assert_eq!(tries.after(&HttpErrorKind::Interrupted, waiting()), Next::GiveUp);
        assert_eq!(Tries::new(0).after(&BUSY, waiting()), Next::GiveUp, "it was turned off");
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
        match Tries::new(1).after(&kind, waiting()) {
            Next::Again(pause) => assert!(pause >= asked && pause <= asked * 2),
            Next::GiveUp => panic!("it may pass"),
        }
    }
}
