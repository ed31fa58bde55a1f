//! Where a fetch asks: at the file's own URL, or at a mirror ([`crate::http::MirrorConfig`]).
//!
//! The file's own URL is asked while its origin is well. While it is not, the first mirror is whose origin is; so no
//! fetch waits for a server that is known to be away while another one has the bytes. Whether the one that is away is back is found out
//! beside the fetch, by a question of its own at the end of each pause ([`Health`]): a server that swallows
//! requests would hold the reader up for as long as `--timeout` each time. Only if nobody is well does the fetch
//! ask where it may, and finds out itself.
//!
//! Mirrors are asked for bytes of the version that is known; of a file of which nobody has told a version yet, the first that answers
//! tells it, as the file's own URL would. What they answer otherwise is no word about the file, and what
//! they fail with is not laid to the file's origin.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;

use url::Url;

use super::failures::Failures;
use super::{ChunkDownloader, Fetch, Position, ReadError};
use crate::http::{HttpError, HttpErrorKind};
use crate::origin::{Body, Health, Permit};

/// Leave to ask for a file somewhere.
pub struct RoutePermit {
    /// Tell by it what became of the question.
    pub turn: Permit,
    /// The mirror that is to be asked; `None` is the file's own URL.
    pub mirror: Option<Url>,
}

/// A place to ask, and how its origin is doing.
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
    /// Waits until the file at `url` may be asked for somewhere: there, where `own` is the health of the origin that it leads to, or at
    /// one of these mirrors; at those first if it is a `detour`.
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
            // The others that might be asked as well are left to who comes next.
            return probes.swap_remove(0);
        }
        first_of(&places).await
    }

    /// Asks an origin that has the file at `url`, beside whoever reads, whether it is back.
    fn find_out(&self, url: &Url, probe: RoutePermit) {
        let url = probe.mirror.unwrap_or_else(|| url.clone());
        self.client.find_out(&self.runtime, url, probe.turn);
    }
}

impl Fetch {
    /// Waits until the file may be asked for somewhere. `own` is the health of the origin that its own URL leads to.
    pub(super) async fn leave_to_ask(&self, own: Arc<Health>, is_detour: bool) -> RoutePermit {
        let url = &self.order.entry.url;
        self.downloader.leave_to_ask(url, own, self.mirrors(), is_detour).await
    }

    /// Other URLs at which the file may be asked for now.
    pub(super) fn mirrors(&self) -> Vec<Url> {
        self.downloader.client.mirrors_of(&self.order.entry.url)
    }

    /// Asks a mirror for what is left. `None` when nothing is.
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
        // Somebody else may have told it meanwhile, and it may be another one.
        if entry.settled().is_some_and(|settled| settled.version != first.version) {
            return Err(self.bad_answer("it has another version of the file").into());
        }
        self.settle(first.version, first.modified).await?;
        Ok(Some(first.body))
    }

    /// After a failure of a mirror: returns when it is time to ask, here or elsewhere. `turn` is what the request was made by, if
    /// the mirror's origin has not answered.
    ///
    /// # Errors
    /// The same error, if this fetch does not go on.
    pub(super) async fn retry_after_mirror(
        &self,
        mirror: &Url,
        error: HttpError,
        turn: Option<Permit>,
        failures: &mut Failures,
    ) -> Result<(), HttpError> {
        match (&error.kind, turn) {
            // It is left alone for a while, and this fetch is not kept from the others.
            (_, Some(turn)) if self.downloader.retries > 0 => {
                turn.failed_altogether(&error);
                log::debug!("{error}; it is a mirror, another URL is asked");
                self.go_on_if_wanted(error)
            }
            (_, Some(turn)) => {
                turn.failed_altogether(&error);
                Err(error)
            }
            // In the middle of the answer, or by a lack of this machine.
            (HttpErrorKind::Interrupted | HttpErrorKind::NoDescriptors, None) => self.pause(error, failures).await,
            (HttpErrorKind::Offline, None) => Err(error),
            (kind, None) => {
                self.downloader.client.leave_mirror_out(mirror, kind);
                Ok(())
            }
        }
    }

    /// After a failure of the file's own URL that this fetch would end with: whether mirrors are asked now.
    pub(super) fn try_mirrors(&self, failures: &mut Failures) -> bool {
        let is_first = !failures.is_detour;
        failures.is_detour = true;
        // Whoever has lost its slot is to end, and what is missing is asked for anew.
        is_first && !self.mirrors().is_empty() && self.manager.is_wanted(self.order.id)
    }
}

/// Leave to ask where it is given first.
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
