//! A request to a tier, and its race with the file's own URL.
//!
//! A tier that is down shows at once, and the fetch asks the next place. One that is silent does not: a stopped process
//! and a machine without power look like a slow one. So after the tier's [`patience`](crate::origin::ChunkTier::patience)
//! the same range is asked of the file's own URL too, and the first answer counts. The other request is dropped.

use std::time::{Duration, Instant, SystemTime};

use super::answers::RangeRequests;
use super::fetch_job::FetchJob;
use super::route::TierUrl;
use super::settling::Settling;
use crate::cache::entry::position::Position;
use crate::cache::error::ReadError;
use crate::http::{HttpError, Version};
use crate::origin::tier::TierRange;
use crate::origin::{Body, Expected};

/// Longest wait for a tier that answers others meanwhile.
const LONGEST_WAIT: Duration = Duration::from_secs(5);

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
        let (expected, asked) = (self.expected(job), Instant::now());
        let TierUrl { tier, url } = place;
        let answering = tier.range(url, want, expected.borrowed());
        tokio::pin!(answering);
        let early = match tier.patience(url).filter(|_| may_be_raced(job)) {
            Some(patience) => loop {
                let answer = tokio::time::timeout(patience, &mut answering).await.ok();
                if answer.is_some() || tier.is_silent(url) || asked.elapsed() >= LONGEST_WAIT {
                    break answer;
                }
            },
            None => Some(answering.as_mut().await),
        };
        let answer = match early {
            Some(answer) => answer,
            None => {
                tier.is_raced(url);
                let own = Box::pin(self.ask(job, position));
                tokio::pin!(own);
                let first = tokio::select! {
                    biased;
                    answer = &mut answering => First::Tier(answer),
                    answer = &mut own => First::Own(answer),
                };
                match first {
                    First::Own(Ok(body)) => {
                        tier.was_late(url, asked);
                        return (Ok(body), true);
                    }
                    // A failure of one does not end the other. That of the file's own URL shows again if the tier fails too.
                    First::Own(Err(_)) => answering.await,
                    First::Tier(Ok(found)) => Ok(found),
                    First::Tier(Err(error)) => match own.await {
                        Ok(body) => return (Ok(body), true),
                        Err(_) => Err(error),
                    },
                }
            }
        };
        let is_first = matches!(expected, ExpectedOfTier::Listed(_));
        (accept(job, answer, is_first).await, false)
    }
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
