//! Sends a request for names or metadata, within the limits of its origin and until its caller's deadline.
//!
//! **Every wait here ends at the caller's deadline**: in the health's pause, for a slot, or in the middle of a page
//! that arrives byte by byte. A request that is unanswered yields to others, and one that the origin leaves
//! unanswered alone ends.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::time::{sleep, timeout_at};
use url::Url;

use super::mirror_lookup::{Answer, Authority, MirrorLookup};
use super::tries::{Beside, Tries, is_of_another, is_of_this_request};
use super::urgency::Urgency;
use crate::cache::Cache;
use crate::http::{HttpError, HttpErrorKind, Origin, redact};
use crate::origin::{Client, Health, NameSlot, NameSlots, Permit};
use crate::source::SourceError;
use crate::vfs::error::TreeError;

/// How long a request may be unanswered before it yields its slot to a waiting one. Doubles each time.
const BEFORE_GIVING_WAY: Duration = Duration::from_secs(1);

/// How long a request may be unanswered before a second URL is requested, to find out whether the whole origin is
/// silent.
const BEFORE_DOUBT: Duration = Duration::from_secs(2);

/// How long a request may stay unanswered while the origin answers another one.
const IN_DOUBT: Duration = Duration::from_secs(8);

/// The requests of one mount for names and metadata.
pub(in crate::vfs) struct Requests {
    client: Client,
    /// Its fetches are other requests of their origins.
    cache: Arc<Cache>,
    /// Retries of one request.
    retries: u32,
    /// Maximum time that a caller waits for an answer.
    patience: Duration,
    runtime: Handle,
}

impl Requests {
    pub(in crate::vfs) fn new(
        client: Client,
        cache: Arc<Cache>,
        retries: u32,
        patience: Duration,
        runtime: Handle,
    ) -> Requests {
        Requests {
            client,
            cache,
            retries,
            patience,
            runtime,
        }
    }

    /// The urgency of a caller that begins to wait now.
    pub(in crate::vfs) fn waiting(&self) -> Urgency {
        Urgency::waiting(self.patience)
    }

    /// The result of `work`, or an error at the caller's deadline. For locks that other requests hold while they run.
    pub(in crate::vfs) async fn in_time<T>(
        &self,
        url: &Url,
        urgency: Urgency,
        work: impl Future<Output = T>,
    ) -> Result<T, TreeError> {
        let done = timeout_at(urgency.deadline(self.patience), work).await;
        done.map_err(|_| self.took_too_long(url, None))
    }

    /// Runs `ask`, which asks for something newer than a known answer; see
    /// [`Responsiveness::ask`](crate::origin::failures::responsiveness::Responsiveness::ask). `None` if the known answer shall be
    /// used, and always when offline. A URL that is none of HTTP is asked without a limit.
    pub(in crate::vfs) async fn ask_for_newer<T: Send + 'static>(
        &self,
        url: &Url,
        ask: impl Future<Output = T> + Send + 'static,
    ) -> Option<T> {
        if self.client.is_offline() {
            return None;
        }
        match Origin::of(url) {
            Some(origin) => self.client.responsiveness(&origin).ask(&self.runtime, ask).await,
            None => Some(ask.await),
        }
    }

    /// [`Self::ask_for_newer`] for an answer that an earlier mount stored; see
    /// [`Responsiveness::ask_in_passing`](crate::origin::failures::responsiveness::Responsiveness::ask_in_passing).
    pub(in crate::vfs) async fn ask_in_passing<T: Send + 'static>(
        &self,
        url: &Url,
        ask: impl Future<Output = T> + Send + 'static,
    ) -> Option<T> {
        if self.client.is_offline() {
            return None;
        }
        match Origin::of(url) {
            Some(origin) => {
                let responsiveness = self.client.responsiveness(&origin);
                responsiveness.ask_in_passing(&self.runtime, ask).await
            }
            None => Some(ask.await),
        }
    }

    /// Sends a request to the origin of `url` within its limit of such requests. While the origin can't be asked, a mirror
    /// is asked if `authority` allows it; `request` gets the mirror's URL then. Only failed HTTP requests are repeated,
    /// and a URL that is none of HTTP is asked once and without a limit.
    ///
    /// # Errors
    /// - The last failure.
    /// - [`TreeError::DeadlinePassed`] at the caller's deadline.
    /// - [`TreeError::NotAsked`] if the origin is unhealthy and the urgency is not `Waiting`.
    pub(in crate::vfs) async fn ask<T, F>(
        &self,
        url: &Url,
        authority: Authority<'_>,
        urgency: Urgency,
        mut request: impl FnMut(Option<Url>) -> F,
    ) -> Result<Answer<T>, TreeError>
    where
        F: Future<Output = Result<T, SourceError>>,
    {
        let of_source = |value| Answer {
            value,
            is_by_mirror: false,
        };
        let Some(origin) = Origin::of(url) else {
            return Ok(of_source(request(None).await?));
        };
        let lookup = MirrorLookup {
            client: &self.client,
            url,
            mirrors: match authority {
                // A prefetch can wait for the source.
                Authority::OrElsewhere(urls) if !urgency.is_prefetch() => urls,
                Authority::OrElsewhere(_) | Authority::Source => &[],
            },
        };
        let health = self.client.health(&origin);
        let (slots, responsiveness) = (self.client.name_slots(&origin), self.client.responsiveness(&origin));
        let (mut tries, mut last) = (Tries::new(self.retries), None);
        let is_under_way = AtomicBool::new(false);
        let mut gave_way = 0_u32;
        let asking = async {
            loop {
                if let Some(answer) = lookup.ask_instead(&health, &self.runtime, &mut request).await {
                    return Ok(answer);
                }
                let (permit, slot) = permit_to_ask(&health, &slots, urgency, gave_way > 0)
                    .await
                    .ok_or(TreeError::NotAsked)?;
                let (answers, traffic) = (health.answers(), health.traffic());
                is_under_way.store(true, Ordering::Relaxed);
                let patience = BEFORE_GIVING_WAY.saturating_mul(1 << gave_way.saturating_sub(1).min(10));
                let answer = tokio::select! {
                    biased;
                    answer = request(None) => answer,
                    () = given_way(slot.as_ref(), patience) => {
                        is_under_way.store(false, Ordering::Relaxed);
                        gave_way += 1;
                        drop((permit, slot));
                        if urgency.is_prefetch() {
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
                if is_of_this_request(failure, health.answers() - answers) {
                    drop(permit);
                } else {
                    permit.ended(error);
                }
                responsiveness.note(failure);
                if let Some(slot) = slot {
                    slot.ended(failure);
                }
                let error = match answer {
                    Ok(value) => return Ok(of_source(value)),
                    Err(error) => error,
                };
                let Some(HttpError { kind, .. }) = error.http() else {
                    return Err(error.into());
                };
                if kind.may_be_had_elsewhere()
                    && let Some(answer) = lookup.ask(&mut request).await
                {
                    return Ok(answer);
                }
                let beside = Beside {
                    answers: health.answers(),
                    has_others,
                };
                if kind.is_of_the_origin() && !kind.is_connect_failure() {
                    self.client
                        .ask_for_something_else(&self.runtime, url, Arc::clone(&health));
                }
                let Some(pause) = tries.after(kind, urgency, beside) else {
                    return Err(error.into());
                };
                log::debug!("{error}; retrying in {pause:.1?}");
                last = Some(error);
                sleep(pause).await;
            }
        };
        match timeout_at(urgency.deadline(self.patience), asking).await {
            Ok(answer) => answer,
            Err(_) => {
                if is_under_way.load(Ordering::Relaxed) {
                    responsiveness.note(Some(&HttpErrorKind::TimedOut(self.patience)));
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

/// Returns when the request has to yield its slot. A request without one never does.
async fn given_way(slot: Option<&NameSlot<'_>>, after: Duration) {
    match slot {
        Some(slot) => slot.given_way(after).await,
        None => std::future::pending().await,
    }
}

/// Waits for the origin's health and for a slot. `None` if a request that is not `Waiting` must not be sent now.
async fn permit_to_ask<'a>(
    health: &Arc<Health>,
    slots: &'a NameSlots,
    urgency: Urgency,
    had_slot: bool,
) -> Option<(Permit, Option<NameSlot<'a>>)> {
    loop {
        let permit = match urgency {
            Urgency::Waiting(_) => health.permit().await,
            Urgency::Refreshing | Urgency::Prefetching => health.permit_now()?,
        };
        if permit.is_probe() {
            // All other requests wait for this probe, so it does not queue behind slow pages.
            return Some((permit, None));
        }
        let slot = match urgency {
            Urgency::Prefetching => slots.slot_for_prefetch().await?,
            Urgency::Waiting(_) | Urgency::Refreshing if had_slot => slots.slot_behind_others().await,
            Urgency::Waiting(_) | Urgency::Refreshing => slots.slot().await,
        };
        if permit.is_good() {
            return Some((permit, Some(slot)));
        }
    }
}
