//! Failed requests of a fetch: whether it continues at once, after a pause, when its origin may be
//! asked again, or not at all.

use std::sync::Arc;
use std::time::{Duration, Instant};

use url::Url;

use super::route::RoutePermit;
use super::{FIRST_PAUSE, Fetch, LONGEST_DOUBT};
use crate::cache::fetch::scheduler::{AfterRefusal, Refusal};
use crate::http::{HttpError, HttpErrorKind, Origin};
use crate::origin::{Backoff, FailureAttribution, Health, Permit};

/// Time for which a fetch without a descriptor for its connection waits for others to close theirs.
const UNTIL_DESCRIPTORS: Duration = Duration::from_millis(500);

/// Pause before a file that is not ready (202) is requested again, if the server names none.
pub(in crate::cache) const UNTIL_READY: Duration = Duration::from_secs(2);

/// Minimum of this pause: a server that names 0 must not be asked without end.
const LEAST_UNTIL_READY: Duration = Duration::from_secs(1);

/// The failures of one fetch.
pub(super) struct Failures {
    /// The pauses between tries.
    backoff: Backoff,
    /// Byte offset from which on the tries so far are forgiven: one good chunk resets the count.
    good_until: u64,
    /// The origin to wait for next, if it is not the file's own: one that it redirects to.
    blamed: Option<Arc<Health>>,
    /// The pauses between tries while the cause may be the file or its origin.
    doubtful: Backoff,
    /// Byte offset that the fetch has reached.
    pub(super) at: u64,
    /// The file's own URL has failed for this fetch, though its origin answers: all tiers are asked
    /// before it.
    pub(super) is_detour: bool,
}

impl Failures {
    pub(super) fn new(retries: u32, good_until: u64) -> Failures {
        Failures {
            backoff: Backoff::new(FIRST_PAUSE, retries),
            good_until,
            blamed: None,
            doubtful: Backoff::up_to(FIRST_PAUSE, LONGEST_DOUBT),
            at: 0,
            is_detour: false,
        }
    }

    /// Notes the offset that the fetch has reached.
    pub(super) fn reached(&mut self, offset: u64, chunk: u64) {
        self.at = offset;
        if offset >= self.good_until {
            self.backoff.reset();
            self.doubtful.reset();
            self.good_until = offset + chunk;
        }
    }
}

impl Fetch {
    /// Waits until an origin that has the file may be asked.
    pub(super) async fn leave(&self, reached: u64, failures: &mut Failures) -> RoutePermit {
        let health = failures.blamed.take();
        let health = health.unwrap_or_else(|| self.downloader.client.health_of(&self.order.entry.url));
        let (url, bytes) = (&self.order.entry.url, reached..self.request_end());
        self.downloader
            .leave_to_ask(url, &bytes, health, failures.is_detour)
            .await
    }

    /// After a temporary failure: returns when it is time to try again. `turn` is the request's
    /// permit, if its origin has not answered.
    ///
    /// # Errors The same error, if this fetch does not try again.
    pub(super) async fn retry_after(
        &self,
        error: HttpError,
        turn: Option<Permit>,
        asked: Instant,
        failures: &mut Failures,
    ) -> Result<(), HttpError> {
        let retries = self.downloader.retries;
        if error.kind.is_not_ready() && retries > 0 {
            return self.rest(error);
        }
        match turn {
            Some(turn) if retries > 0 => return self.note_refusal(error, turn, asked, failures).await,
            Some(turn) => drop(turn.ended(Some(&error))),
            None => {}
        }
        if error.kind.may_mean_too_many_connections() {
            self.manager
                .broken_off(self.order.id, &self.origin_asked(&error), asked);
        }
        self.pause(error, failures).await
    }

    /// After a failed request, to the origin or a tier: returns when it is time to try again.
    ///
    /// # Errors The same error, if the tries are used up.
    pub(super) async fn pause(&self, error: HttpError, failures: &mut Failures) -> Result<(), HttpError> {
        if error.kind == HttpErrorKind::NoDescriptors && self.downloader.retries > 0 {
            self.downloader.shortage.on_exhausted();
            tokio::time::sleep(UNTIL_DESCRIPTORS).await;
            return self.go_on_if_wanted(error);
        }
        let Some(pause) = failures.backoff.next_after(error.kind.retry_after()) else {
            return Err(error);
        };
        log::debug!("{error}; trying again in {pause:.1?}");
        tokio::time::sleep(pause).await;
        Ok(())
    }

    /// Reports a failed request to the scheduler, which attributes the cause; see [`Refusal`].
    async fn note_refusal(
        &self,
        error: HttpError,
        turn: Permit,
        asked: Instant,
        failures: &mut Failures,
    ) -> Result<(), HttpError> {
        let origin = self.origin_asked(&error);
        let health = self.downloader.client.health(&origin);
        let mut backoff = Backoff::new(FIRST_PAUSE, self.downloader.retries);
        backoff.catch_up_with(&failures.doubtful);
        let refusal = Refusal {
            kind: &error.kind,
            asked,
            now: Instant::now(),
            answers: health.answers(),
            had_others: false,
            backoff,
        };
        let next = self.manager.refused(self.order.id, &origin, &refusal);
        let mut blame = FailureAttribution::Origin;
        if matches!(next, AfterRefusal::WaitForOrigin | AfterRefusal::YieldUntil(_)) {
            if turn.is_to(&health) {
                blame = self.attribute(&error, turn, failures.at);
            } else {
                blame = health.has_failed(&error);
                failures.blamed = Some(Arc::clone(&health));
            }
        }
        if blame == FailureAttribution::Resource
            && let Some(failed) = error.asked()
        {
            let (client, runtime) = (&self.downloader.client, &self.downloader.runtime);
            client.ask_for_something_else(runtime, &failed, health);
        }
        match next {
            // The cause may be this file alone; then no other file has to wait.
            AfterRefusal::WaitForOrigin if blame == FailureAttribution::Resource => {
                if self.try_tiers(failures) {
                    return Ok(());
                }
                tokio::time::sleep(failures.doubtful.next_after(None).unwrap_or(LONGEST_DOUBT)).await;
                self.go_on_if_wanted(error)
            }
            // An origin that is down uses up no retry. This fetch waits with all others until the
            // origin may be asked again, for as long as its bytes are wanted. Each reader has its
            // own deadline.
            AfterRefusal::WaitForOrigin => self.go_on_if_wanted(error),
            AfterRefusal::YieldUntil(until) | AfterRefusal::RestUntil(until) => {
                self.ask_again_at(until, &error);
                Err(error)
            }
            AfterRefusal::Fail => Err(error),
        }
    }

    /// Attributes a failure of the file's own origin. Silence is first attributed to the file. With
    /// a fallback, the whole origin is left alone instead: that costs no reader anything, and asking
    /// it again for the same file would cost each reader `--timeout`.
    fn attribute(&self, error: &HttpError, turn: Permit, at: u64) -> FailureAttribution {
        let is_silence = matches!(error.kind, HttpErrorKind::TimedOut(_) | HttpErrorKind::Unanswered);
        if is_silence && self.has_fallback(at) {
            turn.failed_altogether(error);
            return FailureAttribution::Origin;
        }
        turn.failed(error)
    }

    /// The server is preparing the file: this fetch ends, its slot goes to others, and the file is
    /// requested again at the time that the server named.
    ///
    /// # Errors Always the same error. Readers do not get it: each waits until its deadline.
    fn rest(&self, error: HttpError) -> Result<(), HttpError> {
        let pause = error.kind.retry_after().unwrap_or(UNTIL_READY).max(LEAST_UNTIL_READY);
        if let Some(until) = self.manager.rest(self.order.id, Instant::now() + pause) {
            self.ask_again_at(until, &error);
        }
        Err(error)
    }

    /// The server denies access. `had_others`: other requests to it were in flight meanwhile. If the
    /// cause may be too many requests, the scheduler takes the slot and retries later.
    pub(super) fn note_denial(&self, error: HttpError, asked: Instant, had_others: bool) -> HttpError {
        let origin = self.origin_asked(&error);
        let refusal = Refusal {
            kind: &error.kind,
            asked,
            now: Instant::now(),
            answers: self.downloader.client.health(&origin).answers(),
            had_others,
            backoff: Backoff::new(FIRST_PAUSE, self.downloader.retries),
        };
        let next = self.manager.refused(self.order.id, &origin, &refusal);
        if let AfterRefusal::YieldUntil(until) | AfterRefusal::RestUntil(until) = next {
            self.ask_again_at(until, &error);
        }
        error
    }

    /// The origin that a request has failed at: that of the file, or one that it redirects to.
    fn origin_asked(&self, error: &HttpError) -> Origin {
        let origin = error.url.origin();
        origin.unwrap_or_else(|| self.order.entry.origin.clone())
    }

    fn ask_again_at(&self, until: Instant, error: &HttpError) {
        log::debug!("{error}; it is asked for again in {:.1?}", until - Instant::now());
        let (manager, entry) = (Arc::clone(&self.manager), self.order.entry.id);
        self.downloader.runtime.spawn(async move {
            tokio::time::sleep_until(until.into()).await;
            manager.rested(entry, until);
        });
    }

    pub(super) fn go_on_if_wanted(&self, error: HttpError) -> Result<(), HttpError> {
        if self.manager.is_wanted(self.order.id) {
            Ok(())
        } else {
            Err(error)
        }
    }
}

impl HttpError {
    /// The URL that was requested. It may have another origin than the file, after a redirect.
    fn asked(&self) -> Option<Url> {
        Url::parse(&self.url).ok()
    }
}
