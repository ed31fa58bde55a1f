//! Routes: whether a fetch asks the file's own URL or a [tier](ChunkTier).
//!
//! - Tiers that are asked first are asked before the file's own URL, the others after it.
//! - Of these places, the first whose origin is well is asked. So no fetch waits for a server that
//!   is known to be down while another one has the bytes.
//! - At the end of each pause a separate probe finds out whether the origin is back ([`Health`]). A
//!   server that never answers would otherwise delay the reader by `--timeout` each time.
//! - If no origin is well, the fetch asks the first one that may be asked.
//!
//! Tiers are asked for bytes of the known version. If a file's version is unknown, the first tier
//! that answers settles it, as the file's own URL would. Other answers of a tier say nothing about
//! the file, and its failures are not attributed to the file's origin.

use std::future::poll_fn;
use std::ops::Range;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;

use url::Url;

use super::failures::Failures;
use super::{ChunkDownloader, Fetch, Position, ReadError};
use crate::http::{HttpError, HttpErrorKind};
use crate::origin::{Body, ChunkTier, Content, Expected, Health, Permit};

/// Permission to ask for a file at one place.
pub(super) struct RoutePermit {
    /// The permit of that origin. It must receive the outcome of the request.
    pub(super) permit: Permit,
    /// What to ask; `None` is the file's own URL.
    pub(super) elsewhere: Option<Candidate>,
}

/// A URL at which a tier may have a range.
#[derive(Clone)]
pub(super) struct Candidate {
    pub(super) tier: Arc<dyn ChunkTier>,
    pub(super) url: Url,
}

/// A URL to ask, and the health of its origin.
struct Place {
    health: Arc<Health>,
    elsewhere: Option<Candidate>,
}

impl Place {
    fn with(&self, permit: Permit) -> RoutePermit {
        let elsewhere = self.elsewhere.clone();
        RoutePermit { permit, elsewhere }
    }
}

impl ChunkDownloader {
    /// Where else `bytes` of a file may be, in the order in which to ask.
    fn candidates(&self, content: &Content, bytes: &Range<u64>) -> Vec<Candidate> {
        let of_tier = |tier: &Arc<dyn ChunkTier>| {
            let tier = Arc::clone(tier);
            let urls = tier.candidates(content, bytes).into_iter();
            urls.map(move |url| Candidate {
                tier: Arc::clone(&tier),
                url,
            })
        };
        let mut candidates: Vec<_> = self.tiers.iter().flat_map(of_tier).collect();
        candidates.sort_by_key(|candidate| !candidate.tier.is_asked_first());
        candidates
    }

    /// Waits until `bytes` of a file may be asked for: at its own URL, where `own` is the health of
    /// the origin that it leads to, or of a tier. A `detour` asks all tiers first.
    pub(super) async fn permit_to_ask(
        &self,
        content: &Content,
        bytes: &Range<u64>,
        own: Arc<Health>,
        is_detour: bool,
    ) -> RoutePermit {
        let candidates = self.candidates(content, bytes);
        if candidates.is_empty() {
            let (permit, elsewhere) = (own.permit().await, None);
            return RoutePermit { permit, elsewhere };
        }
        let is_before = |candidate: &&Candidate| is_detour || candidate.tier.is_asked_first();
        let at = candidates.iter().take_while(is_before).count();
        let place = |candidate: Candidate| Place {
            health: self.client.health_of(&candidate.url),
            elsewhere: Some(candidate),
        };
        let mut places: Vec<_> = candidates.into_iter().map(place).collect();
        let elsewhere = None;
        places.insert(at, Place { health: own, elsewhere });

        let mut probes = Vec::new();
        for place in &places {
            match place.health.permit_now() {
                Some(permit) if permit.is_probe() => probes.push(place.with(permit)),
                Some(permit) => {
                    for probe in probes {
                        self.find_out(content.url(), probe);
                    }
                    return place.with(permit);
                }
                None => {}
            }
        }
        if !probes.is_empty() {
            // The other permits are left to later fetches.
            return probes.swap_remove(0);
        }
        first_of(&places).await
    }

    /// Probes whether an origin that has the file at `url` is back, in a task beside the readers.
    fn find_out(&self, url: &Url, probe: RoutePermit) {
        let url = probe.elsewhere.map_or_else(|| url.clone(), |candidate| candidate.url);
        self.client.find_out(&self.runtime, url, probe.permit);
    }
}

impl Fetch {
    /// Returns true if a tier may have the bytes from `offset` on, in case the file's own URL fails.
    pub(super) fn has_fallback(&self, offset: u64) -> bool {
        let bytes = offset..self.request_end();
        let candidates = self.downloader.candidates(&self.order.entry.content, &bytes);
        candidates.iter().any(|candidate| !candidate.tier.is_asked_first())
    }

    /// Asks a tier for what is left. `None` if nothing is left.
    pub(super) async fn ask_tier(&self, candidate: &Candidate, position: &Position) -> Result<Option<Body>, ReadError> {
        let want = position.offset()..self.request_end();
        if want.is_empty() {
            return Ok(None);
        }
        let entry = &self.order.entry;
        let settled = entry.settled();
        let expected = match settled {
            Some(settled) => Expected::Version(&settled.version, settled.modified),
            None => Expected::Listed(self.hint_is_good.then_some(entry.size_hint())),
        };
        let found = candidate.tier.range(&candidate.url, want, expected).await?;
        if settled.is_none() {
            // Another fetch may have settled the entry meanwhile, to another version.
            if entry.settled().is_some_and(|settled| settled.version != found.version) {
                return Err(self.bad_answer("it has a different version of the file").into());
            }
            self.settle(found.version, found.modified).await?;
        }
        Ok(Some(found.body))
    }

    /// After a failure of a tier: returns when it is time to ask again, here or elsewhere. `permit`
    /// is the request's permit, if the candidate's origin has not answered.
    ///
    /// # Errors
    /// The same error, if this fetch does not continue.
    pub(super) async fn retry_after_tier(
        &self,
        candidate: &Candidate,
        error: HttpError,
        permit: Option<Permit>,
        failures: &mut Failures,
    ) -> Result<(), HttpError> {
        match (&error.kind, permit) {
            (_, Some(permit)) => {
                // It is left alone for a while; the fetch may ask the others at once.
                permit.failed_altogether(&error);
                if self.downloader.retries == 0 && !candidate.tier.is_asked_first() {
                    return Err(error);
                }
                log::debug!("{error}; trying another URL");
                self.go_on_if_wanted(error)
            }
            // Failed in the middle of the answer, or for lack of local resources.
            (HttpErrorKind::Interrupted | HttpErrorKind::NoDescriptors, None) => self.pause(error, failures).await,
            (HttpErrorKind::Offline, None) => Err(error),
            // The tier does not name this candidate again.
            (_, None) => Ok(()),
        }
    }

    /// After a final failure of the file's own URL: returns true if tiers are asked now.
    pub(super) fn try_tiers(&self, failures: &mut Failures) -> bool {
        let is_first = !failures.is_detour;
        failures.is_detour = true;
        // A fetch that has lost its slot must end; what is missing is requested anew.
        is_first && self.has_fallback(failures.at) && self.manager.is_wanted(self.order.id)
    }
}

/// The first permit that one of these places gives.
async fn first_of(places: &[Place]) -> RoutePermit {
    let mut permits: Vec<Pin<Box<dyn Future<Output = Permit> + Send + '_>>> = Vec::with_capacity(places.len());
    permits.extend(places.iter().map(|place| Box::pin(place.health.permit()) as _));
    poll_fn(|context| {
        for (place, permit) in places.iter().zip(&mut permits) {
            if let Poll::Ready(permit) = permit.as_mut().poll(context) {
                return Poll::Ready(place.with(permit));
            }
        }
        Poll::Pending
    })
    .await
}
