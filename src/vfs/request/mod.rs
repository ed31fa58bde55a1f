//! Requests for names and metadata: retries, deadlines, mirrors.
//!
//! Listings, look-ups and opens send all their requests through [`Tree::ask`]. How hard a request tries depends on
//! its [`Urgency`]:
//!
//! - `Waiting`: there is no older answer. The request retries until its deadline, through outages and refusals. It
//!   shares the origin's health with all other requests and obeys `Retry-After`.
//! - `Refreshing`: an older answer exists. The first failure ends the request, and an unhealthy origin is not asked.
//! - `Guessing`: a prefetch. Only a healthy origin is asked.
//!
//! **A failure uses up retries if the origin answers other requests meanwhile.** Then it says nothing of the origin's
//! health, and only this request waits. So a single name that a server drops ends in an error after seconds. A 403
//! beside other requests may be a rate limit: the request is repeated with fewer others in flight before the 403
//! counts.
//!
//! **Every wait here ends at the caller's deadline**: in the health's pause, at the limiter, or in the middle of a
//! page that arrives byte by byte.

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
use crate::origin::{Evidence, FailureAttribution, Health, OtherRequests, Permit, Retry};
use crate::source::SourceError;

/// How long a request may be unanswered before it yields its permit to a waiting one. Doubles each time.
const BEFORE_GIVING_WAY: Duration = Duration::from_secs(1);

/// How long a request may be unanswered before a second URL is requested, to find out whether the whole origin is
/// silent.
const BEFORE_DOUBT: Duration = Duration::from_secs(2);

/// How long a request may stay unanswered while the origin answers another one.
const IN_DOUBT: Duration = Duration::from_secs(8);

/// How urgent a request is.
#[derive(Debug, Clone, Copy)]
pub(super) enum Urgency {
    /// The caller has no older answer and waits until this deadline.
    Waiting(Instant),
    /// The caller has an older answer to fall back on.
    Refreshing,
    /// A prefetch: the answer may be wanted next.
    Guessing,
}

impl Urgency {
    /// The deadline of a request that begins now, given the caller's maximum wait.
    fn deadline(self, patience: Duration) -> Instant {
        match self {
            Urgency::Waiting(until) => until,
            Urgency::Refreshing | Urgency::Guessing => after(patience),
        }
    }

    /// The urgency of the same caller once it has an older answer.
    pub(super) fn who_knows_something(self) -> Urgency {
        match self {
            Urgency::Waiting(_) | Urgency::Refreshing => Urgency::Refreshing,
            Urgency::Guessing => Urgency::Guessing,
        }
    }
}

/// The instant after `patience`. A time beyond the clock's range becomes a distant one.
fn after(patience: Duration) -> Instant {
    let now = Instant::now();
    now.checked_add(patience).unwrap_or(now + Duration::from_secs(1 << 30))
}

/// Retry state of one request.
struct Tries {
    retry: Retry,
    /// The origin's answer count at the first failure.
    answers_before: Option<u64>,
}

/// Other traffic at the origin when a request fails.
#[derive(Debug, Clone, Copy, Default)]
struct Beside {
    /// Number of answers from the origin so far, to any request.
    answers: u64,
    /// Whether other requests are in flight.
    has_others: bool,
}

impl Tries {
    fn new(retries: u32) -> Tries {
        Tries {
            retry: Retry::new(retries),
            answers_before: None,
        }
    }

    /// The pause before the next try; `None` if the failure is to be reported.
    fn after(&mut self, kind: &HttpErrorKind, asker: Urgency, beside: Beside) -> Option<Duration> {
        if !matches!(asker, Urgency::Waiting(_)) {
            return None;
        }
        if *kind == HttpErrorKind::Denied(403) {
            let others = if beside.has_others {
                OtherRequests::Many
            } else {
                OtherRequests::None
            };
            return self.retry.after_denial(others);
        }
        let before = *self.answers_before.get_or_insert(beside.answers);
        let evidence = Evidence {
            // A rate limit lets the request through at some time, however many others are answered.
            is_one_of_several: matches!(kind, HttpErrorKind::Status { status: 429 | 503, .. }),
            ..evidence(kind, beside.answers > before)
        };
        self.retry.after(kind, evidence.attribute())
    }
}

/// What is known of a failure. `others_were_answered`: the origin has answered other requests meanwhile.
fn evidence(kind: &HttpErrorKind, others_were_answered: bool) -> Evidence {
    Evidence {
        is_connect_failure: kind.is_connect_failure(),
        others_were_answered,
        ..Evidence::default()
    }
}

impl Tree {
    /// The urgency of a caller that begins to wait now.
    pub(super) fn waiting(&self) -> Urgency {
        Urgency::Waiting(after(self.patience))
    }

    /// The result of `work`, or an error at the caller's deadline. For locks that other requests hold while they run.
    pub(super) async fn in_time<T>(
        &self,
        url: &Url,
        asker: Urgency,
        work: impl Future<Output = T>,
    ) -> Result<T, TreeError> {
        let done = timeout_at(asker.deadline(self.patience), work).await;
        done.map_err(|_| self.took_too_long(url, None))
    }

    /// Sends a request to the origin of `url` within its connection limit. While the origin can't be asked, a mirror
    /// is asked if `who` allows it; `question` gets the mirror's URL then. Only failed HTTP requests are repeated, and
    /// a URL that is none of HTTP is asked once and without a limit.
    ///
    /// # Errors
    /// - The last failure.
    /// - [`TreeError::DeadlinePassed`] at the caller's deadline.
    /// - [`TreeError::NotAsked`] if the origin is unhealthy and the urgency is not `Waiting`.
    pub(super) async fn ask<T, F>(
        &self,
        url: &Url,
        who: Authority<'_>,
        asker: Urgency,
        mut question: impl FnMut(Option<Url>) -> F,
    ) -> Result<Answered<T>, TreeError>
    where
        F: Future<Output = Result<T, SourceError>>,
    {
        let Some((gate, origin)) = self.gate(url).zip(Origin::of(url)) else {
            return Ok(Answered::by_source(question(None).await?));
        };
        // A prefetch can wait for the source.
        let mirrors = match who {
            Authority::OrElsewhere(urls) if !matches!(asker, Urgency::Guessing) => urls,
            Authority::OrElsewhere(_) | Authority::Source => &[],
        };
        let health = self.client.health(&origin);
        let (mut tries, mut last) = (Tries::new(self.retries), None);
        let is_under_way = AtomicBool::new(false);
        let mut gave_way = 0_u32;
        let asking = async {
            loop {
                if let Some(told) = self.ask_mirrors_instead(url, mirrors, &health, &mut question).await {
                    return Ok(told);
                }
                let (permit, place) = permit_to_ask(&health, gate, asker, gave_way > 0)
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
                        drop((permit, place));
                        if matches!(asker, Urgency::Guessing) {
                            return Err(TreeError::NotAsked);
                        }
                        tokio::task::yield_now().await;
                        continue;
                    }
                    error = self.left_unanswered(url, &health) => Err(error.into()),
                };
                is_under_way.store(false, Ordering::Relaxed);
                let error = answer.as_ref().err().and_then(SourceError::http);
                let refusing = error.and_then(|error| error.url.origin());
                let refusing = refusing.unwrap_or_else(|| origin.clone());
                let has_others = health.had_others(traffic) || self.cache.manager().is_fetching_from(&refusing);
                let error = error.filter(|error| !is_of_another(error, &origin));
                let failure = error.map(|error| &error.kind);
                if is_of_this_question(failure, health.answers() - answers) {
                    drop(permit);
                } else {
                    permit.ended(error);
                }
                gate.note(failure);
                if let Some(place) = place {
                    place.ended(failure);
                }
                let error = match answer {
                    Ok(answer) => return Ok(Answered::by_source(answer)),
                    Err(error) => error,
                };
                let Some(HttpError { kind, .. }) = error.http() else {
                    return Err(error.into());
                };
                if kind.may_be_had_elsewhere()
                    && let Some(told) = self.ask_mirrors(url, mirrors, &mut question).await
                {
                    return Ok(told);
                }
                let beside = Beside {
                    answers: health.answers(),
                    has_others,
                };
                if kind.is_of_the_origin() && !kind.is_connect_failure() {
                    self.client
                        .ask_for_something_else(&self.runtime, url, Arc::clone(&health));
                }
                let Some(pause) = tries.after(kind, asker, beside) else {
                    return Err(error.into());
                };
                log::debug!("{error}; retrying in {pause:.1?}");
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
                Err(self.took_too_long(url, last))
            }
        }
    }

    /// Returns an error once the request has been unanswered for a while although the origin answers another one.
    async fn left_unanswered(&self, url: &Url, health: &Arc<Health>) -> HttpError {
        sleep(BEFORE_DOUBT).await;
        let answers = health.answers();
        self.client
            .ask_for_something_else(&self.runtime, url, Arc::clone(health));
        sleep(IN_DOUBT).await;
        // A directory page may be long and arrive steadily.
        if health.answers() == answers || url.path().ends_with('/') {
            // The cause is unknown, so only the request's own deadline applies.
            std::future::pending::<()>().await;
        }
        HttpError {
            kind: HttpErrorKind::TimedOut(BEFORE_DOUBT + IN_DOUBT),
            url: redact(url),
        }
    }

    fn took_too_long(&self, url: &Url, last: Option<SourceError>) -> TreeError {
        TreeError::DeadlinePassed {
            url: redact(url).into(),
            waited: self.patience,
            last,
        }
    }
}

/// Whether a failure that looks like the origin's concerns this request alone: the origin answered others meanwhile.
fn is_of_this_question(failure: Option<&HttpErrorKind>, answers: u64) -> bool {
    failure.is_some_and(|kind| {
        kind.is_of_the_origin() && evidence(kind, answers > 0).attribute() == FailureAttribution::Resource
    })
}

/// Whether another origin failed, to which this one has redirected.
fn is_of_another(error: &HttpError, origin: &Origin) -> bool {
    error.url.origin().is_some_and(|asked| asked != *origin)
}

/// Returns when the request has to yield its permit. A request without one never does.
async fn given_way(place: Option<&Place<'_>>, after: Duration) {
    match place {
        Some(place) => place.given_way(after).await,
        None => std::future::pending().await,
    }
}

/// Waits for the origin's health and for a permit. `None` if a request that is not `Waiting` must not be sent now.
async fn permit_to_ask<'a>(
    health: &Arc<Health>,
    gate: &'a Limiter,
    asker: Urgency,
    had_place: bool,
) -> Option<(Permit, Option<Place<'a>>)> {
    loop {
        let permit = match asker {
            Urgency::Waiting(_) => health.permit().await,
            Urgency::Refreshing | Urgency::Guessing => health.permit_now()?,
        };
        if permit.is_probe() {
            // All other requests wait for this probe, so it does not queue behind slow pages.
            return Some((permit, None));
        }
        let place = match asker {
            Urgency::Guessing => gate.place_for_a_guess().await?,
            Urgency::Waiting(_) | Urgency::Refreshing if had_place => gate.place_behind_others().await,
            Urgency::Waiting(_) | Urgency::Refreshing => gate.place().await,
        };
        if permit.is_good() {
            return Some((permit, Some(place)));
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

    #[test]
    fn only_who_waits_asks_again() {
        let mut tries = Tries::new(3);
        for asker in [Urgency::Refreshing, Urgency::Guessing] {
            assert_eq!(tries.after(&BUSY, asker, Beside::default()), None);
        }
        assert!(tries.after(&BUSY, waiting(), Beside::default()).is_some());
    }

    #[test]
    fn single_refusal_does_not_stop_others() {
        assert!(is_of_this_question(Some(&BUSY), 1));
        assert!(!is_of_this_question(Some(&BUSY), 0), "nobody is answered");
        assert!(
            !is_of_this_question(Some(&HttpErrorKind::Refused), 1),
            "it has gone down"
        );
        assert!(!is_of_this_question(Some(&HttpErrorKind::NotFound(404)), 1) && !is_of_this_question(None, 1));
    }

    #[test]
    fn what_fails_while_others_are_answered_uses_up_retries() {
        let mut tries = Tries::new(2);
        let beside = |answers| Beside {
            answers,
            has_others: false,
        };
        let silence = HttpErrorKind::TimedOut(Duration::from_secs(1));
        for answers in [5, 6, 7] {
            assert!(tries.after(&silence, waiting(), beside(answers)).is_some());
        }
        assert_eq!(tries.after(&silence, waiting(), beside(8)), None);
        // The rate may be at fault, however many others are answered.
        assert!(tries.after(&BUSY, waiting(), beside(9)).is_some());
    }
}
