//! A request to a tier, and its race with the file's own URL.
//!
//! When a tier is [late](crate::origin::ChunkTier::is_late), the same range is asked of the file's own URL too, and the first
//! answer counts. The other request is dropped.

use std::pin::Pin;
use std::time::SystemTime;

use super::answers::RangeRequests;
use super::fetch_job::FetchJob;
use super::route::TierUrl;
use super::settling::Settling;
use crate::cache::entry::position::Position;
use crate::cache::error::ReadError;
use crate::http::{HttpError, HttpErrorKind, Version, redact};
use crate::origin::tier::TierRange;
use crate::origin::{Body, Expected, Hedge};

/// What is expected of a tier's answer. Its own, so that the request outlives a change of the entry.
pub(super) enum ExpectedOfTier {
    Version(Version, Option<SystemTime>),
    Hashed(Version),
    Listed(Option<u64>),
}

impl ExpectedOfTier {
    fn borrowed(&self) -> Expected<'_> {
        match self {
            ExpectedOfTier::Version(version, modified) => Expected::Version(version, *modified),
            ExpectedOfTier::Hashed(version) => Expected::Hashed(version),
            ExpectedOfTier::Listed(size) => Expected::Listed(*size),
        }
    }
}

/// Who answered first.
enum First {
    Tier(Result<TierRange, HttpError>),
    Own(Result<Option<Body>, ReadError>),
}

impl RangeRequests {
    /// Asks a tier for what is left, and the file's own URL too if the tier is late. `None` if nothing is left. Returns
    /// true with an answer of the file's own URL.
    ///
    /// Tiers are asked for bytes of the known version. If a file's version is unknown, the first tier
    /// that answers settles it, as the file's own URL would. Other answers of a tier say nothing about
    /// the file, and its failures are not attributed to the file's origin.
    pub(super) async fn ask_tier(
        &mut self,
        job: &mut FetchJob,
        place: &TierUrl,
        position: &mut Box<Position>,
    ) -> (Result<Option<Body>, ReadError>, bool) {
        let want = job.request_from(position.offset());
        if want.is_empty() {
            return (Ok(None), false);
        }
        let expected = self.expected(job);
        let TierUrl { tier, url } = place;
        let answering = tier.range(url, want, expected.borrowed());
        tokio::pin!(answering);
        let early = tokio::select! {
            biased;
            answer = &mut answering => Ok(answer),
            hedge = tier.is_late(url) => Err(hedge),
        };
        let answer = match early {
            Ok(answer) => answer,
            Err(hedge) if may_be_raced(job) => {
                hedge.begin();
                let own = Box::pin(self.ask(job, position));
                tokio::pin!(own);
                let first = tokio::select! {
                    biased;
                    answer = &mut answering => First::Tier(answer),
                    answer = &mut own => First::Own(answer),
                };
                match first {
                    First::Own(Ok(body)) => return (Ok(body), true),
                    // A failure of one does not end the other. That of the file's own URL shows again if the tier fails too.
                    First::Own(Err(_)) => answer_or_silence(place, answering, hedge).await,
                    First::Tier(Ok(found)) => Ok(found),
                    First::Tier(Err(error)) => match own.await {
                        Ok(body) => return (Ok(body), true),
                        Err(_) => Err(error),
                    },
                }
            }
            Err(hedge) => answer_or_silence(place, answering, hedge).await,
        };
        let is_first = matches!(expected, ExpectedOfTier::Listed(_));
        (accept(job, answer, is_first).await, false)
    }
}

/// Waits for a tier while the file's own URL can't be asked, until there is no point in it. Then the next place is asked.
async fn answer_or_silence(
    TierUrl { tier, url }: &TierUrl,
    mut answering: Pin<&mut impl Future<Output = Result<TierRange, HttpError>>>,
    mut hedge: Hedge,
) -> Result<TierRange, HttpError> {
    while !hedge.is_for_good() {
        hedge = tokio::select! {
            biased;
            answer = &mut answering => return answer,
            later = tier.is_late(url) => later,
        };
    }
    Err(HttpError {
        kind: HttpErrorKind::BadAnswer("it does not answer".to_owned()),
        url: redact(url),
    })
}

/// Returns true if the file's own URL may be asked now.
fn may_be_raced(job: &FetchJob) -> bool {
    let (client, url) = (&job.downloader.client, job.order.entry.url());
    !client.is_left_out(url) && !client.health_of(url).is_down()
}

/// The body of a tier's answer. `is_first`: the version was unknown, so the answer settles the entry.
async fn accept(
    job: &FetchJob,
    answer: Result<TierRange, HttpError>,
    is_first: bool,
) -> Result<Option<Body>, ReadError> {
    let (found, entry) = (answer?, &job.order.entry);
    if is_first {
        // Another fetch may have settled the entry meanwhile, to another version.
        if entry.settled().is_some_and(|settled| settled.version != found.version) {
            return Err(job.bad_answer("it has a different version of the file").into());
        }
        Settling { job }.settle(found.version, found.modified).await?;
    }
    Ok(Some(found.body))
}
