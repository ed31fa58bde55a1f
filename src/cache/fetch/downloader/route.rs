//! Routes: whether a fetch asks the file's own URL or a [tier](ChunkTier).
//!
//! - Tiers that are asked first are asked before the file's own URL, the others after it.
//! - Of these places, the first whose origin is well is asked. So no fetch waits for a server that
//!   is known to be down while another one has the bytes.
//! - At the end of each pause a separate probe finds out whether the origin is back ([`Health`]). A
//!   server that never answers would otherwise delay the reader by `--timeout` each time.
//! - A URL whose bytes contradicted the published hash of the file is left out for a while. If no other is left, the
//!   fetch fails.
//! - If no origin is well, the fetch asks the first one that may be asked.

use std::future::poll_fn;
use std::ops::Range;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;

use url::Url;

use super::fetch_job::ChunkDownloader;
use crate::cache::error::ReadError;
use crate::http::Version;
use crate::origin::{ChunkTier, Content, Health, Permit};

/// Permission to ask for a file at one place.
pub(super) struct RoutePermit {
    /// The permit of that origin. It must receive the outcome of the request.
    pub(super) permit: Permit,
    /// What to ask; `None` is the file's own URL.
    pub(super) tier: Option<TierUrl>,
}

/// A URL at which a tier may have a range.
#[derive(Clone)]
pub(super) struct TierUrl {
    pub(super) tier: Arc<dyn ChunkTier>,
    pub(super) url: Url,
}

/// The places that may have a file.
pub(super) struct Routes<'a> {
    pub(super) downloader: &'a ChunkDownloader,
    pub(super) content: &'a Content,
    /// The file's version, once it is known.
    pub(super) version: Option<&'a Version>,
}

/// A place to ask, and the health of its origin.
struct RouteOption {
    health: Arc<Health>,
    tier: Option<TierUrl>,
}

impl RouteOption {
    fn with(&self, permit: Permit) -> RoutePermit {
        let tier = self.tier.clone();
        RoutePermit { permit, tier }
    }
}

impl Routes<'_> {
    /// Returns true if a tier may have these bytes, in case the file's own URL fails.
    pub(super) fn has_fallback(&self, bytes: &Range<u64>) -> bool {
        let tiers = self.tiers(bytes);
        tiers.iter().any(|tier| !tier.tier.is_asked_first())
    }

    /// Where else these bytes may be, in the order in which to ask.
    fn tiers(&self, bytes: &Range<u64>) -> Vec<TierUrl> {
        let urls_of = |tier: &Arc<dyn ChunkTier>| {
            let tier = Arc::clone(tier);
            let urls = tier.candidates(self.content, bytes, self.version).into_iter();
            urls.map(move |url| TierUrl {
                tier: Arc::clone(&tier),
                url,
            })
        };
        let mut tiers: Vec<_> = self.downloader.tiers.iter().flat_map(urls_of).collect();
        tiers.sort_by_key(|tier| !tier.tier.is_asked_first());
        tiers
    }

    /// Waits until these bytes may be asked for: at the file's own URL, where `own` is the health of
    /// the origin that it leads to, or of a tier. A `detour` asks all tiers first.
    ///
    /// # Errors
    /// [`ReadError::Rejected`] if all URLs have sent wrong bytes.
    pub(super) async fn permit_to_ask(
        &self,
        bytes: &Range<u64>,
        own: Arc<Health>,
        is_detour: bool,
    ) -> Result<RoutePermit, ReadError> {
        let tiers = self.tiers(bytes);
        let is_before = |tier: &&TierUrl| is_detour || tier.tier.is_asked_first();
        let at = tiers.iter().take_while(is_before).count();
        let option = |tier: TierUrl| RouteOption {
            health: self.downloader.client.health_of(&tier.url),
            tier: Some(tier),
        };
        let mut options: Vec<_> = tiers.into_iter().map(option).collect();
        if !self.is_own_left_out() {
            let own = RouteOption {
                health: own,
                tier: None,
            };
            options.insert(at, own);
        } else if options.is_empty() {
            return Err(ReadError::Rejected);
        }

        let mut probes = Vec::new();
        for option in &options {
            match option.health.permit_now() {
                Some(permit) if permit.is_probe() => probes.push(option.with(permit)),
                Some(permit) => {
                    probes.into_iter().for_each(|probe| self.find_out(probe));
                    return Ok(option.with(permit));
                }
                None => {}
            }
        }
        if !probes.is_empty() {
            // The other permits are left to later fetches.
            return Ok(probes.swap_remove(0));
        }
        Ok(first_of(&options).await)
    }

    /// Returns true if the file's own URL has sent wrong bytes.
    fn is_own_left_out(&self) -> bool {
        self.downloader.client.is_left_out(self.content.url())
    }

    /// Probes whether an origin that has the file is back, in a task beside the readers.
    fn find_out(&self, probe: RoutePermit) {
        let url = probe.tier.map_or_else(|| self.content.url().clone(), |tier| tier.url);
        let ChunkDownloader { client, runtime, .. } = self.downloader;
        client.find_out(runtime, url, probe.permit);
    }
}

/// The first permit that one of these places gives.
async fn first_of(options: &[RouteOption]) -> RoutePermit {
    let mut permits: Vec<Pin<Box<dyn Future<Output = Permit> + Send + '_>>> = Vec::with_capacity(options.len());
    permits.extend(options.iter().map(|option| Box::pin(option.health.permit()) as _));
    poll_fn(|context| {
        for (option, permit) in options.iter().zip(&mut permits) {
            if let Poll::Ready(permit) = permit.as_mut().poll(context) {
                return Poll::Ready(option.with(permit));
            }
        }
        Poll::Pending
    })
    .await
}
