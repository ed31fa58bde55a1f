//! Failed requests of a fetch: whether it continues at once, after a pause, elsewhere, when its origin
//! may be asked again, or not at all.

use std::sync::Arc;
use std::time::Instant;

use super::fetch_job::FetchJob;
use super::route::{RoutePermit, Routes, TierUrl};
use crate::cache::error::ReadError;
use crate::cache::fetch::scheduler::{AfterRefusal, Refusal};
use crate::http::{HttpError, HttpErrorKind, Origin};
use crate::origin::{FailureAttribution, Health, Permit, Retry};
use crate::stats::Phase;

/// The failures of one fetch.
pub(super) struct FetchRetries {
    retry: Retry,
    /// Byte offset from which on the tries so far are forgiven: one good chunk resets the count.
    good_until: u64,
    /// The origin to wait for next, if it is not the file's own: one that it redirects to.
    failed_target: Option<Arc<Health>>,
    /// Byte offset that the fetch has reached.
    at: u64,
    /// The file's own URL has failed for this fetch, though its origin answers: all tiers are asked
    /// before it.
    is_detour: bool,
}

/// A request that failed.
pub(super) struct FailedRequest {
    pub(super) error: HttpError,
    /// When it was sent.
    pub(super) asked: Instant,
    /// Its permit, if its origin has not answered.
    pub(super) permit: Option<Permit>,
    /// The tier that was asked; `None` is the file's own URL.
    pub(super) tier: Option<TierUrl>,
    /// True if other requests to the file's origin were in flight meanwhile.
    pub(super) had_others: bool,
}

fn routes(job: &FetchJob) -> Routes<'_> {
    Routes {
        downloader: &job.downloader,
        content: &job.order.entry.content,
        version: job.order.entry.settled().map(|settled| &settled.version),
    }
}

impl FetchRetries {
    /// The number of `retries` starts anew at this byte offset.
    pub(super) fn new(retries: u32, good_until: u64) -> FetchRetries {
        FetchRetries {
            retry: Retry::new(retries),
            good_until,
            failed_target: None,
            at: 0,
            is_detour: false,
        }
    }

    /// Waits until an origin that has the bytes from `reached` on may be asked.
    ///
    /// # Errors
    /// [`ReadError::Rejected`] if there is none left.
    pub(super) async fn permit(&mut self, job: &FetchJob, reached: u64) -> Result<RoutePermit, ReadError> {
        let health = self.failed_target.take();
        let health = health.unwrap_or_else(|| job.downloader.client.health_of(job.order.entry.url()));
        let bytes = job.rest_from(reached);
        // It waits only while no origin that has the bytes is well.
        Phase::BackingOff.enter();
        routes(job).permit_to_ask(&bytes, health, self.is_detour).await
    }

    /// After a failed request of a fetch that has reached this offset: returns when it is time to ask
    /// again, here or elsewhere.
    ///
    /// # Errors
    /// The error, if this fetch does not continue.
    pub(super) async fn after(&mut self, job: &FetchJob, failed: FailedRequest, reached: u64) -> Result<(), HttpError> {
        self.at = reached;
        if reached >= self.good_until {
            self.retry.reset();
            self.good_until = reached + job.order.entry.chunk.bytes();
        }
        if let Some(tier) = failed.tier {
            return self.after_tier(job, &tier, failed.error, failed.permit).await;
        }
        let kind = &failed.error.kind;
        if *kind == HttpErrorKind::Denied(403) && job.downloader.retries > 0 {
            return Err(self.after_denial(job, failed));
        }
        if !kind.is_temporary() {
            return Err(failed.error);
        }
        if failed.permit.is_none() && kind.is_of_the_server() && self.try_tiers(job) {
            return Ok(());
        }
        match self.after_temporary(job, failed).await {
            Err(error) if !self.try_tiers(job) => Err(error),
            Err(_) | Ok(()) => Ok(()),
        }
    }

    /// After a failure of a tier.
    async fn after_tier(
        &mut self,
        job: &FetchJob,
        tier: &TierUrl,
        error: HttpError,
        permit: Option<Permit>,
    ) -> Result<(), HttpError> {
        match (&error.kind, permit) {
            (_, Some(permit)) => {
                // It is left alone for a while; the fetch may ask the others at once.
                permit.failed_altogether(&error);
                if job.downloader.retries == 0 && !tier.tier.is_asked_first() {
                    return Err(error);
                }
                log::debug!("{error}; trying another URL");
                go_on_if_wanted(job, error)
            }
            // The tier does not name it for a while, so another place is asked at once.
            (kind, None) if tier.tier.is_asked_first() && !is_of_this_machine(kind) => go_on_if_wanted(job, error),
            // Failed in the middle of the answer, or for lack of local resources.
            (HttpErrorKind::Interrupted | HttpErrorKind::NoDescriptors, None) => self.pause(job, error).await,
            (HttpErrorKind::Offline, None) => Err(error),
            // The tier does not name this candidate again.
            (_, None) => Ok(()),
        }
    }

    /// The server denies access. If the cause may be too many requests, the scheduler takes the slot and
    /// retries later. Returns the error.
    fn after_denial(&self, job: &FetchJob, failed: FailedRequest) -> HttpError {
        let (next, _) = self.report(job, &failed, failed.had_others);
        if let AfterRefusal::YieldUntil(until) | AfterRefusal::RestUntil(until) = next {
            ask_again_at(job, until, &failed.error);
        }
        failed.error
    }

    /// After a temporary failure of the file's own URL.
    async fn after_temporary(&mut self, job: &FetchJob, mut failed: FailedRequest) -> Result<(), HttpError> {
        let kind = &failed.error.kind;
        if kind.is_not_ready()
            && let Some(pause) = self.retry.after(kind, FailureAttribution::Resource)
        {
            // The server is preparing the file: this fetch ends, its slot goes to others, and the file
            // is requested again after this pause. Readers do not get the error: each waits until its
            // deadline.
            let (fetch, until) = (job.order.id, Instant::now() + pause);
            if let Some(until) = job.manager.report(|scheduler| scheduler.not_ready(fetch, until)) {
                ask_again_at(job, until, &failed.error);
            }
            return Err(failed.error);
        }
        match failed.permit.take() {
            Some(permit) if job.downloader.retries > 0 => return self.after_refusal(job, failed, permit).await,
            Some(permit) => drop(permit.ended(Some(&failed.error))),
            None => {}
        }
        if kind.may_mean_too_many_connections() {
            let origin = origin_asked(job, &failed.error);
            job.manager.broken_off(job.order.id, &origin, failed.asked);
        }
        self.pause(job, failed.error).await
    }

    /// After a request that failed before its origin answered. The scheduler attributes the cause; see
    /// [`Refusal`].
    async fn after_refusal(&mut self, job: &FetchJob, failed: FailedRequest, permit: Permit) -> Result<(), HttpError> {
        let (next, health) = self.report(job, &failed, false);
        let error = failed.error;
        let mut attribution = FailureAttribution::Origin;
        if matches!(next, AfterRefusal::WaitForOrigin | AfterRefusal::YieldUntil(_)) {
            if permit.is_to(&health) {
                attribution = self.attribute(job, &error, permit);
            } else {
                attribution = health.has_failed(&error);
                self.failed_target = Some(Arc::clone(&health));
            }
        }
        if attribution == FailureAttribution::Resource {
            let (client, runtime) = (&job.downloader.client, &job.downloader.runtime);
            client.ask_for_something_else(runtime, error.url.url(), health);
        }
        match next {
            // The cause may be this file alone; then no other file has to wait. While that is in
            // doubt, no retry is used up.
            AfterRefusal::WaitForOrigin if attribution == FailureAttribution::Resource => {
                if self.try_tiers(job) {
                    return Ok(());
                }
                self.pause_for(job, error, FailureAttribution::Origin).await
            }
            // An origin that is down uses up no retry. This fetch waits with all others until the
            // origin may be asked again, for as long as its bytes are wanted. Each reader has its
            // own deadline.
            AfterRefusal::WaitForOrigin => go_on_if_wanted(job, error),
            AfterRefusal::YieldUntil(until) | AfterRefusal::RestUntil(until) => {
                ask_again_at(job, until, &error);
                Err(error)
            }
            AfterRefusal::Fail => Err(error),
        }
    }

    /// Reports a failed request to the scheduler. Returns what follows, and the health of its origin.
    fn report(&self, job: &FetchJob, failed: &FailedRequest, had_others: bool) -> (AfterRefusal, Arc<Health>) {
        let origin = origin_asked(job, &failed.error);
        let health = job.downloader.client.health(&origin);
        let refusal = Refusal {
            kind: &failed.error.kind,
            asked: failed.asked,
            answers: health.answers(),
            had_others,
            retry: &self.retry,
        };
        (job.manager.refused(job.order.id, &origin, &refusal), health)
    }

    /// Attributes a failure of the file's own origin. Silence is first attributed to the file. With
    /// a fallback, the whole origin is left alone instead: that costs no reader anything, and asking
    /// it again for the same file would cost each reader `--timeout`.
    fn attribute(&self, job: &FetchJob, error: &HttpError, permit: Permit) -> FailureAttribution {
        let is_silence = matches!(error.kind, HttpErrorKind::TimedOut(_) | HttpErrorKind::Unanswered);
        if is_silence && routes(job).has_fallback(&job.rest_from(self.at)) {
            permit.failed_altogether(error);
            return FailureAttribution::Origin;
        }
        permit.failed(error)
    }

    /// After a final failure of the file's own URL: returns true if tiers are asked now.
    fn try_tiers(&mut self, job: &FetchJob) -> bool {
        let is_first = !std::mem::replace(&mut self.is_detour, true);
        is_first && routes(job).has_fallback(&job.rest_from(self.at)) && job.is_wanted()
    }

    /// Pauses before the next request, to the origin or a tier.
    ///
    /// # Errors
    /// The same error, if the tries are used up.
    async fn pause(&mut self, job: &FetchJob, error: HttpError) -> Result<(), HttpError> {
        if error.kind == HttpErrorKind::NoDescriptors {
            job.downloader.shortage.on_exhausted();
        }
        self.pause_for(job, error, FailureAttribution::Resource).await
    }

    async fn pause_for(
        &mut self,
        job: &FetchJob,
        error: HttpError,
        attribution: FailureAttribution,
    ) -> Result<(), HttpError> {
        let Some(pause) = self.retry.after(&error.kind, attribution) else {
            return Err(error);
        };
        log::debug!("{error}; retrying in {pause:.1?}");
        Phase::BackingOff.enter();
        tokio::time::sleep(pause).await;
        go_on_if_wanted(job, error)
    }
}

/// Returns true if no server is at fault.
fn is_of_this_machine(kind: &HttpErrorKind) -> bool {
    matches!(kind, HttpErrorKind::NoDescriptors | HttpErrorKind::Offline)
}

/// The origin that a request has failed at: that of the file, or one that it redirects to.
fn origin_asked(job: &FetchJob, error: &HttpError) -> Origin {
    let origin = error.url.origin();
    origin.unwrap_or_else(|| job.order.entry.origin.clone())
}

/// The fetch ends, and its entry may be requested again at this time.
fn ask_again_at(job: &FetchJob, until: Instant, error: &HttpError) {
    log::debug!("{error}; next request in {:.1?}", until - Instant::now());
    let (manager, entry) = (Arc::clone(&job.manager), job.order.entry.id);
    job.downloader.runtime.spawn(async move {
        tokio::time::sleep_until(until.into()).await;
        manager.report(|scheduler| scheduler.rested(entry, until));
    });
}

fn go_on_if_wanted(job: &FetchJob, error: HttpError) -> Result<(), HttpError> {
    if job.is_wanted() { Ok(()) } else { Err(error) }
}
