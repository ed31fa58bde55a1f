//! A request to a tier, and its race with the file's own URL.
//!
//! A tier that is down shows at once, and the fetch asks the next place. One that is silent does not: a stopped process
//! and a machine without power look like a slow one. So after the tier's [`patience`](crate::origin::ChunkTier::patience)
//! the same range is asked of the file's own URL too, and the first answer counts. The other request is dropped.
//!
//! Where the patience is long, because the tier waits for the file's origin, the tier is asked for a sign of life first. If
//! there is none, the file's own URL is asked at once. If there is one, the request goes on: an origin that is slow must
//! not get the same request of each machine.

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

/// After this silence, a tier that often takes longer is asked for a sign of life. Together with the wait for that, it is
/// what a reader waits for a machine that is gone.
const SOON: Duration = Duration::from_millis(400);

/// Longest wait for a tier that answers others meanwhile, or gives signs of life.
const LONGEST_WAIT: Duration = Duration::from_secs(5);

/// The same in patiences. It may wait for the origin on behalf of several clients. But one of its processes may also hang,
/// at a disk, and then each request that meets this process would wait.
const MOST_PATIENCES: u32 = 4;

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
            Some(patience) => tokio::select! {
                biased;
                answer = &mut answering => Some(answer),
                () = is_late(place, patience) => None,
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

/// Returns when the file's own URL has to be asked too, after a request to a tier that is sent now.
async fn is_late(TierUrl { tier, url }: &TierUrl, patience: Duration) {
    let asked = tokio::time::Instant::now();
    let longest = LONGEST_WAIT.min(patience * MOST_PATIENCES);
    let step = patience.min(SOON);
    loop {
        tokio::time::sleep(step).await;
        // Where it answers within a moment as a rule, its silence is enough.
        if tier.is_silent(url, step) && (patience <= SOON || !tier.is_alive(url).await) {
            return;
        }
        if asked.elapsed() >= longest {
            return;
        }
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

#[cfg(test)]
mod tests {
    use std::{ops::Range, pin::Pin, sync::Arc};

    use url::Url;

    use super::*;
    use crate::origin::{ChunkTier, Content, tier::TierAnswer};

    #[derive(Debug)]
    struct Tier {
        is_silent: bool,
        is_alive: bool,
    }

    impl ChunkTier for Tier {
        fn candidates(&self, _: &Content, _: &Range<u64>, _: Option<&Version>) -> Vec<Url> {
            Vec::new()
        }

        fn range<'a>(&'a self, _: &'a Url, _: Range<u64>, _: Expected<'a>) -> TierAnswer<'a> {
            Box::pin(std::future::pending())
        }

        fn is_silent(&self, _: &Url, _: Duration) -> bool {
            self.is_silent
        }

        fn is_alive<'a>(&'a self, _: &'a Url) -> Pin<Box<dyn Future<Output = bool> + Send + 'a>> {
            Box::pin(std::future::ready(self.is_alive))
        }
    }

    #[tokio::test(start_paused = true)]
    async fn tier_without_a_sign_of_life_is_late_soon() {
        for (is_silent, is_alive, patience, late_after) in [
            (true, false, 250, 250),
            (true, true, 250, 250),
            (false, false, 250, 1000),
            (true, false, 2000, 400),
            (true, true, 2000, 5200),
            (false, false, 900, 3600),
        ] {
            let place = TierUrl {
                tier: Arc::new(Tier { is_silent, is_alive }),
                url: Url::parse("http://tier/").unwrap(),
            };
            let asked = tokio::time::Instant::now();
            is_late(&place, Duration::from_millis(patience)).await;
            let after = asked.elapsed().as_millis();
            assert_eq!(after, late_after, "{is_silent} {is_alive} {patience}");
        }
    }
}
