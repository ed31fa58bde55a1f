//! Failed requests of a fetch: whether it continues at once, after a pause, when its origin may be
//! asked again, or not at all.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Fetch;
use super::route::RoutePermit;
use crate::cache::fetch::scheduler::{AfterRefusal, Refusal};
use crate::http::{HttpError, HttpErrorKind, Origin};
use crate::origin::{FailureAttribution, Health, Permit, Retry};

/// The failures of one fetch.
pub(super) struct Failures {
    retry: Retry,
    /// Byte offset from which on the tries so far are forgiven: one good chunk resets the count.
    good_until: u64,
    /// The origin to wait for next, if it is not the file's own: one that it redirects to.
    blamed: Option<Arc<Health>>,
    /// Byte offset that the fetch has reached.
    pub(super) at: u64,
    /// The file's own URL has failed for this fetch, though its origin answers: all tiers are asked
    /// before it.
    pub(super) is_detour: bool,
}

impl Failures {
    pub(super) fn new(retries: u32, good_until: u64) -> Failures {
        Failures {
            retry: Retry::new(retries),
            good_until,
            blamed: None,
            at: 0,
            is_detour: false,
        }
    }

    /// Notes the offset that the fetch has reached.
    pub(super) fn reached(&mut self, offset: u64, chunk: u64) {
        self.at = offset;
        if offset >= self.good_until {
            self.retry.reset();
            self.good_until = offset + chunk;
        }
    }
}

impl Fetch {
    /// Waits until an origin that has the file may be asked.
    pub(super) async fn wait_for_permit(&self, reached: u64, failures: &mut Failures) -> RoutePermit {
        let health = failures.blamed.take();
        let health = health.unwrap_or_else(|| self.downloader.client.health_of(self.order.entry.url()));
        let (content, bytes) = (&self.order.entry.content, reached..self.request_end());
        self.downloader
            .permit_to_ask(content, &bytes, health, failures.is_detour)
            .await
    }

    /// After a temporary failure: returns when it is time to try again. `permit` is the request's
    /// permit, if its origin has not answered.
    ///
    /// # Errors
    /// The same error, if this fetch does not try again.
    pub(super) async fn retry_after(
        &self,
        error: HttpError,
        permit: Option<Permit>,
        asked: Instant,
        failures: &mut Failures,
    ) -> Result<(), HttpError> {
        if error.kind.is_not_ready()
            && let Some(pause) = failures.retry.after(&error.kind, FailureAttribution::Resource)
        {
            return self.rest(error, pause);
        }
        match permit {
            Some(permit) if self.downloader.retries > 0 => {
                return self.note_refusal(error, permit, asked, failures).await;
            }
            Some(permit) => drop(permit.ended(Some(&error))),
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
    /// # Errors
    /// The same error, if the tries are used up.
    pub(super) async fn pause(&self, error: HttpError, failures: &mut Failures) -> Result<(), HttpError> {
        if error.kind == HttpErrorKind::NoDescriptors {
            self.downloader.shortage.on_exhausted();
        }
        self.pause_for(error, FailureAttribution::Resource, failures).await
    }

    async fn pause_for(
        &self,
        error: HttpError,
        attribution: FailureAttribution,
        failures: &mut Failures,
    ) -> Result<(), HttpError> {
        let Some(pause) = failures.retry.after(&error.kind, attribution) else {
            return Err(error);
        };
        log::debug!("{error}; retrying in {pause:.1?}");
        tokio::time::sleep(pause).await;
        self.go_on_if_wanted(error)
    }

    /// Reports a failed request to the scheduler, which attributes the cause; see [`Refusal`].
    async fn note_refusal(
        &self,
        error: HttpError,
        permit: Permit,
        asked: Instant,
        failures: &mut Failures,
    ) -> Result<(), HttpError> {
        let origin = self.origin_asked(&error);
        let health = self.downloader.client.health(&origin);
        let refusal = Refusal {
            kind: &error.kind,
            asked,
            now: Instant::now(),
            answers: health.answers(),
            had_others: false,
            retry: &failures.retry,
        };
        let next = self.manager.refused(self.order.id, &origin, &refusal);
        let mut attribution = FailureAttribution::Origin;
        if matches!(next, AfterRefusal::WaitForOrigin | AfterRefusal::YieldUntil(_)) {
            if permit.is_to(&health) {
                attribution = self.attribute(&error, permit, failures.at);
            } else {
                attribution = health.has_failed(&error);
                failures.blamed = Some(Arc::clone(&health));
            }
        }
        if attribution == FailureAttribution::Resource {
            let (client, runtime) = (&self.downloader.client, &self.downloader.runtime);
            client.ask_for_something_else(runtime, error.url.url(), health);
        }
        match next {
            // The cause may be this file alone; then no other file has to wait. While that is in
            // doubt, no retry is used up.
            AfterRefusal::WaitForOrigin if attribution == FailureAttribution::Resource => {
                if self.try_tiers(failures) {
                    return Ok(());
                }
                self.pause_for(error, FailureAttribution::Origin, failures).await
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
    fn attribute(&self, error: &HttpError, permit: Permit, at: u64) -> FailureAttribution {
        let is_silence = matches!(error.kind, HttpErrorKind::TimedOut(_) | HttpErrorKind::Unanswered);
        if is_silence && self.has_fallback(at) {
            permit.failed_altogether(error);
            return FailureAttribution::Origin;
        }
        permit.failed(error)
    }

    /// The server is preparing the file: this fetch ends, its slot goes to others, and the file is
    /// requested again after this pause.
    ///
    /// # Errors
    /// Always the same error. Readers do not get it: each waits until its deadline.
    fn rest(&self, error: HttpError, pause: Duration) -> Result<(), HttpError> {
        if let Some(until) = self.manager.rest(self.order.id, Instant::now() + pause) {
            self.ask_again_at(until, &error);
        }
        Err(error)
    }

    /// The server denies access. `had_others`: other requests to it were in flight meanwhile. If the
    /// cause may be too many requests, the scheduler takes the slot and retries later.
    pub(super) fn note_denial(
        &self,
        error: HttpError,
        asked: Instant,
        had_others: bool,
        failures: &Failures,
    ) -> HttpError {
        let origin = self.origin_asked(&error);
        let refusal = Refusal {
            kind: &error.kind,
            asked,
            now: Instant::now(),
            answers: self.downloader.client.health(&origin).answers(),
            had_others,
            retry: &failures.retry,
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
        log::debug!("{error}; next request in {:.1?}", until - Instant::now());
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
