//! The requests of a fetch, and whether the body of an answer is what was requested.

use std::sync::Arc;

use bytes::Buf;

use super::fetch_job::FetchJob;
use super::race::ExpectedOfTier;
use super::settling::Settling;
use crate::cache::entry::position::Position;
use crate::cache::error::ReadError;
use crate::http::{Validator, Version, redact};
use crate::origin::{Body, RangeAnswer};
use crate::util::events;

/// Maximum bytes of an answer that is read once only to learn its length. Answers that servers
/// generate while sending are shorter. A file that is listed as longer is believed to be as long as
/// listed; it must end exactly there.
const MOST_COUNTED: u64 = 64 << 20;

/// Maximum bytes of such an answer that is kept in memory meanwhile. Each fetch may hold one, and
/// pages are shorter.
const MOST_KEPT: u64 = 1 << 20;

/// The requests of one fetch.
#[derive(Default)]
pub(super) struct RangeRequests {
    /// An answer has contradicted the size that the listing gave.
    hint_is_wrong: bool,
}

impl RangeRequests {
    /// Requests what is left of the file's own URL and validates the answer. `None` if there is nothing
    /// left: the file ends before the position.
    pub(super) async fn ask(
        &mut self,
        job: &mut FetchJob,
        position: &mut Box<Position>,
    ) -> Result<Option<Body>, ReadError> {
        let entry = Arc::clone(&job.order.entry);
        let settled = entry.settled().map(|settled| settled.version.clone());
        // A listing's size is no version, but it tells a file from a login page.
        let is_hint = settled.is_none() && !self.hint_is_wrong;
        let known = settled.or(is_hint.then(|| Version {
            size: entry.size_hint(),
            validator: Validator::None,
        }));
        let want = job.request_from(position.offset());
        if want.is_empty() {
            return Ok(None);
        }
        let client = &job.downloader.client;
        let answer = client.range_by(Some(&*job), entry.url(), want.clone(), known.as_ref());
        let settling = Settling { job };
        let Some(answer) = settling.resolve(answer.await?).await? else {
            return Box::pin(self.ask(job, position)).await;
        };
        match answer {
            RangeAnswer::Partial {
                version,
                modified,
                body,
                ..
            } => {
                if settling.settle_by_head(&version).await? {
                    // The data that came may be of an older version than that of the HEAD answer.
                    drop(body);
                    return Box::pin(self.ask(job, position)).await;
                }
                settling.settle(version, modified).await?;
                Ok(Some(body))
            }
            RangeAnswer::Whole {
                size,
                validator,
                modified,
                mut body,
            } => {
                let (size, body) = match (size, known) {
                    (Some(size), _) => (size, body),
                    // Only a listing gives the length, perhaps of another representation: a body
                    // generated while sending may be longer or shorter than the listed file.
                    (None, known)
                        if entry.settled().is_none()
                            && known.as_ref().is_none_or(|known| known.size <= MOST_COUNTED) =>
                    {
                        let (size, counted) = count(job, body).await?;
                        let Some(counted) = counted else {
                            settling.settle(Version { size, validator }, modified).await?;
                            return Box::pin(self.ask(job, position)).await;
                        };
                        (size, counted)
                    }
                    (None, Some(known)) => {
                        body.expect(known.size);
                        (known.size, body)
                    }
                    (None, None) => return Err(job.bad_answer("its length is unknown").into()),
                };
                settling.settle(Version { size, validator }, modified).await?;
                let is_all_we_asked_for = want.start == 0 && want.end >= size;
                if is_all_we_asked_for {
                    return Ok(Some(body));
                }
                // The whole file is more than the memory has room for.
                if entry.settled().is_some_and(|settled| settled.memory.is_some()) {
                    return skip(job, body, want.start).await.map(Some);
                }
                go_linear(job, position)?;
                Ok(Some(body))
            }
            RangeAnswer::PastEnd { size } => {
                settling.settle_by_size(size).await?;
                Ok(None)
            }
            RangeAnswer::Changed(_) if is_hint => {
                // The listing was wrong, or old. What the server says of the file itself counts.
                log::debug!("{}: its size differs from the size in the listing", redact(entry.url()));
                self.hint_is_wrong = true;
                Box::pin(self.ask(job, position)).await
            }
            RangeAnswer::Changed(_) | RangeAnswer::Doubtful { .. } => settling.expect_same(false).map(|()| None),
        }
    }

    /// What is expected of a tier.
    pub(super) fn expected(&self, job: &FetchJob) -> ExpectedOfTier {
        let entry = &job.order.entry;
        match entry.settled() {
            Some(settled) if entry.content.is_hashed() => ExpectedOfTier::Hashed(settled.version.clone()),
            Some(settled) => ExpectedOfTier::Version(settled.version.clone(), settled.modified),
            None => ExpectedOfTier::Listed((!self.hint_is_wrong).then_some(entry.size_hint())),
        }
    }
}

/// Reads over the first bytes of a body.
async fn skip(job: &FetchJob, mut body: Body, bytes: u64) -> Result<Body, ReadError> {
    let mut left = bytes;
    while left > 0
        && let Some(mut piece) = job.next_piece(&mut body).await?
    {
        job.downloader.throttle.take(piece.len()).await;
        let skipped = left.min(piece.len() as u64);
        left -= skipped;
        piece.advance(skipped as usize);
        body.put_back(piece);
    }
    Ok(body)
}

/// Measures the length of a body that does not state it, and returns the body too if it is
/// short. A generated body may have another length the next time.
async fn count(job: &FetchJob, mut body: Body) -> Result<(u64, Option<Body>), ReadError> {
    let (mut size, mut pieces) = (0, Vec::new());
    while let Some(piece) = job.next_piece(&mut body).await? {
        job.downloader.throttle.take(piece.len()).await;
        size += piece.len() as u64;
        if size > MOST_COUNTED {
            return Err(job.bad_answer("its length is unknown").into());
        }
        if size <= MOST_KEPT {
            pieces.push(piece);
        } else {
            pieces.clear();
        }
    }
    Ok((size, (size <= MOST_KEPT).then(|| body.again(pieces))))
}

/// From now on this fetch brings the whole file from its first byte, for all of the entry's
/// waiters.
fn go_linear(job: &mut FetchJob, position: &mut Box<Position>) -> Result<(), ReadError> {
    let (entry, fetch) = (&job.order.entry, job.order.id);
    if !entry.ignores_range() {
        log::info!(
            event = events::RANGE_IGNORED;
            "{}: the server ignores Range, so the file is downloaded from its beginning",
            redact(entry.url())
        );
        entry.mark_ignores_range();
    }
    job.linear = true;
    // What was written up to the old position is kept until no waiter is woken for it any more.
    let before = std::mem::replace(position, Position::at_chunk_edge(0));
    let is_wanted = job.manager.report(|scheduler| scheduler.goes_linear(fetch));
    drop(before);
    if is_wanted {
        Ok(())
    } else {
        Err(ReadError::ShuttingDown)
    }
}
