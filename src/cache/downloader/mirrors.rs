//! Where a fetch asks: at the file's own URL, or at a mirror ([`crate::http::MirrorConfig`]).
//!
//! The file's own URL is asked while its origin is well. While it is not, the first mirror is whose origin is; so no
//! fetch waits for a server that is known to be away while another one has the bytes. Whether the one that is away is back is found out
//! beside the fetch, by a question of its own at the end of each pause ([`Health`]): a server that swallows
//! requests would hold the reader up for as long as `--timeout` each time. Only if nobody is well does the fetch
//! ask where it may, and finds out itself.
//!
//! Mirrors are asked for bytes of a version that is known. What they answer otherwise is no word about the file, and what
//! they fail with is not laid to the file's origin.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;

use url::Url;

use super::failures::Failures;
use super::{Body, Fetch, Position, ReadError};
use crate::http::{Health, HttpError, HttpErrorKind, Turn};

/// Leave to ask for a file somewhere.
pub(super) struct Leave {
    /// Tell by it what became of the question.
    pub turn: Turn,
    /// The mirror that is to be asked; `None` is the file's own URL.
    pub mirror: Option<Url>,
}

/// A place to ask, and how its origin is doing.
struct Place {
    health: Arc<Health>,
    mirror: Option<Url>,
}

impl Place {
    fn leave(&self, turn: Turn) -> Leave {
        let mirror = self.mirror.clone();
        Leave { turn, mirror }
    }
}

impl Fetch {
    /// Waits until the file may be asked for somewhere. `own` is the health of the origin that its own URL leads to.
    pub(super) async fn leave_to_ask(&self, own: Arc<Health>, is_detour: bool) -> Leave {
        let mirrors = self.mirrors();
        if mirrors.is_empty() {
            let (turn, mirror) = (own.turn().await, None);
            return Leave { turn, mirror };
        }
        let client = &self.downloader.client;
        let of_mirror = |url: Url| Place {
            health: client.health_of(&url),
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
                    probes.into_iter().for_each(|probe| self.find_out(probe));
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

    /// Other URLs at which the file may be asked for now.
    fn mirrors(&self) -> Vec<Url> {
        let entry = &self.order.entry;
        match entry.settled() {
            Some(_) => self.downloader.client.mirrors_of(&entry.url),
            None => Vec::new(),
        }
    }

    /// Asks an origin, beside this fetch, whether it is back.
    fn find_out(&self, probe: Leave) {
        let client = self.downloader.client.clone();
        let url = probe.mirror.unwrap_or_else(|| self.order.entry.url.clone());
        self.downloader.runtime.spawn(async move {
            let answer = client.metadata(&url).await;
            probe.turn.ended(answer.err().as_ref().map(|error| &error.kind));
        });
    }

    /// Asks a mirror for what is left. `None` when nothing is.
    pub(super) async fn ask_mirror(&self, mirror: &Url, position: &Position) -> Result<Option<Body>, ReadError> {
        let want = position.offset()..self.request_end();
        let Some(settled) = self.order.entry.settled().filter(|_| !want.is_empty()) else {
            return Ok(None);
        };
        let client = &self.downloader.client;
        let body = client.range_of_mirror(mirror, want, &settled.version, settled.modified);
        Ok(Some(body.await?))
    }

    /// After a failure of a mirror: returns when it is time to ask, here or elsewhere. `turn` is what the request was made by, if
    /// the mirror's origin has not answered.
    ///
    /// # Errors
    /// The same error, if this fetch does not go on.
    pub(super) async fn outlive_mirror(
        &self,
        mirror: &Url,
        error: HttpError,
        turn: Option<Turn>,
        failures: &mut Failures,
    ) -> Result<(), HttpError> {
        match (&error.kind, turn) {
            // It is left alone for a while, and this fetch is not kept from the others.
            (kind, Some(turn)) if self.downloader.retries > 0 => {
                turn.failed(kind);
                log::debug!("{error}; it is a mirror, another URL is asked");
                self.go_on_if_wanted(error)
            }
            (kind, Some(turn)) => {
                turn.failed(kind);
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
    pub(super) fn takes_detour(&self, failures: &mut Failures) -> bool {
        let is_first = !failures.is_detour;
        failures.is_detour = true;
        // Whoever has lost its slot is to end, and what is missing is asked for anew.
        is_first && !self.mirrors().is_empty() && self.manager.is_wanted(self.order.id)
    }
}

/// Leave to ask where it is given first.
async fn first_of(places: &[Place]) -> Leave {
    let mut turns: Vec<Pin<Box<dyn Future<Output = Turn> + Send + '_>>> = Vec::with_capacity(places.len());
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
