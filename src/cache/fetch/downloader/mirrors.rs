//! Routes: whether a fetch asks the file's own URL or a mirror ([`crate::http::MirrorConfig`]).
//!
//! - While the origin of the file's own URL is well, that URL is asked.
//! - While it is not, the first mirror whose origin is well is asked. So no fetch waits for a
//!   server that is known to be down while another one has the bytes.
//! - At the end of each pause a separate probe finds out whether the origin is back ([`Health`]). A
//!   server that never answers would otherwise delay the reader by `--timeout` each time.
//! - If no origin is well, the fetch asks the first one that may be asked.
//!
//! Mirrors are asked for bytes of the known version. If a file's version is unknown, the first
//! mirror that answers settles it, as the file's own URL would. Other answers of a mirror say
//! nothing about the file, and its failures are not attributed to the file's origin.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;

use url::Url;

use super::failures::Failures;
use super::{ChunkDownloader, Fetch, Position, ReadError};
use crate::http::{HttpError, HttpErrorKind};
use crate::origin::{Body, Health, Permit};

/// Permission to ask for a file at one place.
pub struct RoutePermit {
    /// The permit of that origin. It must receive the outcome of the request.
    pub turn: Permit,
    /// The mirror to ask; `None` is the file's own URL.
    pub mirror: Option<Url>,
}

/// A URL to ask, and the health of its origin.
struct Place {
    health: Arc<Health>,
    mirror: Option<Url>,
}

impl Place {
    fn leave(&self, turn: Permit) -> RoutePermit {
        let mirror = self.mirror.clone();
        RoutePermit { turn, mirror }
    }
}

impl ChunkDownloader {
    /// Waits until the file at `url` may be asked for: at `url` itself, where `own` is the health
    /// of the origin that it leads to, or at one of these mirrors. A `detour` asks the mirrors
    /// first.
    pub async fn leave_to_ask(&self, url: &Url, own: Arc<Health>, mirrors: Vec<Url>, is_detour: bool) -> RoutePermit {
        if mirrors.is_empty() {
            let (turn, mirror) = (own.turn().await, None);
            return RoutePermit { turn, mirror };
        }
        let of_mirror = |url: Url| Place {
            health: self.client.health_of(&url),
            mirror: Some(url),
        };
        let mut places: Vec<_> = mirrors.into_iter().map(of_mirror).collect();
        let at = if is_detour { places.len() } else { 0 };
        let mirror = None;
        places.insert(at, Place { health: own, mirror });

        let mut probes = Vec::new();
        for place in &places {
            match place.health.turn_now() {
                Some(turn) if turn.is_probe() => probes.push(place.leave(turn)),
                Some(turn) => {
                    for probe in probes {
                        self.find_out(url, probe);
                    }
                    return place.leave(turn);
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
        let url = probe.mirror.unwrap_or_else(|| url.clone());
        self.client.find_out(&self.runtime, url, probe.turn);
    }
}

impl Fetch {
    /// Waits until the file may be asked for somewhere. `own` is the health of the origin that its
    /// own URL leads to.
    pub(super) async fn leave_to_ask(&self, own: Arc<Health>, is_detour: bool) -> RoutePermit {
        let url = &self.order.entry.url;
        self.downloader.leave_to_ask(url, own, self.mirrors(), is_detour).await
    }

    /// Other URLs at which the file may be asked for now.
    pub(super) fn mirrors(&self) -> Vec<Url> {
        self.downloader.client.mirrors_of(&self.order.entry.url)
    }

    /// Asks a mirror for what is left. `None` if nothing is left.
    pub(super) async fn ask_mirror(&self, mirror: &Url, position: &Position) -> Result<Option<Body>, ReadError> {
        let want = position.offset()..self.request_end();
        if want.is_empty() {
            return Ok(None);
        }
        let (entry, client) = (&self.order.entry, &self.downloader.client);
        if let Some(settled) = entry.settled() {
            let body = client.range_of_mirror(mirror, want, &settled.version, settled.modified);
            return Ok(Some(body.await?));
        }
        let size = self.hint_is_good.then_some(entry.size_hint);
        let first = client.first_range_of_mirror(mirror, want, size).await?;
        // Another fetch may have settled the entry meanwhile, to another version.
        if entry.settled().is_some_and(|settled| settled.version != first.version) {
            return Err(self.bad_answer("it has another version of the file").into());
        }
        self.settle(first.version, first.modified).await?;
        Ok(Some(first.body))
    }

    /// After a failure of a mirror: returns when it is time to ask again, here or elsewhere. `turn`
    /// is the request's permit, if the mirror's origin has not answered.
    ///
    /// # Errors The same error, if this fetch does not continue.
    pub(super) async fn retry_after_mirror(
        &self,
        mirror: &Url,
        error: HttpError,
        turn: Option<Permit>,
        failures: &mut Failures,
    ) -> Result<(), HttpError> {
        match (&error.kind, turn) {
            // The mirror is left alone for a while; the fetch may ask the others at once.
            (_, Some(turn)) if self.downloader.retries > 0 => {
                turn.failed_altogether(&error);
                log::debug!("{error}; it is a mirror, another URL is asked");
                self.go_on_if_wanted(error)
            }
            (_, Some(turn)) => {
                turn.failed_altogether(&error);
                Err(error)
            }
            // Failed in the middle of the answer, or for lack of local resources.
            (HttpErrorKind::Interrupted | HttpErrorKind::NoDescriptors, None) => self.pause(error, failures).await,
            (HttpErrorKind::Offline, None) => Err(error),
            (kind, None) => {
                self.downloader.client.leave_mirror_out(mirror, kind);
                Ok(())
            }
        }
    }

    /// After a final failure of the file's own URL: returns true if mirrors are asked now.
    pub(super) fn try_mirrors(&self, failures: &mut Failures) -> bool {
        let is_first = !failures.is_detour;
        failures.is_detour = true;
        // A fetch that has lost its slot must end; what is missing is requested anew.
        is_first && !self.mirrors().is_empty() && self.manager.is_wanted(self.order.id)
    }
}

/// The first permit that one of these places gives.
async fn first_of(places: &[Place]) -> RoutePermit {
    let mut turns: Vec<Pin<Box<dyn Future<Output = Permit> + Send + '_>>> = Vec::with_capacity(places.len());
    turns.extend(places.iter().map(|place| Box::pin(place.health.turn()) as _));
    poll_fn(|context| {
        for (place, turn) in places.iter().zip(&mut turns) {
            if let Poll::Ready(turn) = turn.as_mut().poll(context) {
                return Poll::Ready(place.leave(turn));
            }
        }
        Poll::Pending
    })
    .await
}
