//! Streaming a body to the data file: received bytes are written while more are received, and no
//! more than that is held.

use std::ops::ControlFlow;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::oneshot;

use super::fetch_job::FetchJob;
use crate::cache::entry::position::Position;
use crate::cache::error::ReadError;
use crate::cache::fetch::file_writer::WriteJob;
use crate::cache::integrity::pieces::{PieceFilter, WrongPiece};
use crate::cache::storage::write_buffer::WriteBuffer;
use crate::http::HttpError;
use crate::origin::Body;
use crate::stats::Phase;

/// Streams a body to the data file until it ends, breaks, or is no longer wanted. Whenever no
/// write is in progress, the position is back in `idle`, also when this future is dropped.
///
/// Of a file with hashes of its pieces, the body passes through `filter`, and only whole pieces are written.
pub(super) async fn stream(
    job: &FetchJob,
    body: Body,
    idle: &mut Option<Box<Position>>,
    filter: &mut Option<PieceFilter>,
) -> Result<(), BodyError> {
    let from = idle.as_ref().map_or(0, |position| position.offset());
    let mut buffer = WriteBuffer::from(from);
    let mut writing: Option<oneshot::Receiver<Written>> = None;
    let mut receiving = Some(receive(job, body));
    let mut result = Ok(());
    loop {
        // A body that is not read is not waited for either, but for the disk.
        let is_receiving = receiving.is_some() && !buffer.is_full();
        match is_receiving {
            true => Phase::Transferring.enter_from(Phase::Disk),
            false => Phase::Disk.enter(),
        }
        tokio::select! {
            (body, piece) = async { receiving.as_mut().expect("guarded by the condition").await },
                if is_receiving =>
            {
                receiving = None;
                match piece {
                    Ok(Some(piece)) => match take(job, &mut buffer, piece, filter) {
                        Ok(ControlFlow::Continue(())) => receiving = Some(receive(job, body)),
                        Ok(ControlFlow::Break(())) => {}
                        Err(wrong) => result = Err(BodyError::WrongPiece(wrong)),
                    },
                    Ok(None) => {}
                    Err(error) => result = Err(BodyError::Read(error.into())),
                }
            }
            written = async { writing.as_mut().expect("guarded by the condition").await }, if writing.is_some() => {
                writing = None;
                // The writer answers every job, unless its thread has died with it.
                let (position, outcome) = written.unwrap_or_else(|_| {
                    (Position::at_chunk_edge(u64::MAX), Err(ReadError::Store("the writing thread has died".into())))
                });
                *idle = Some(position);
                outcome.map_err(BodyError::Read)?;
            }
            () = tokio::time::sleep_until(buffer.ripe_at()), if idle.is_some() && !buffer.is_empty() => {}
        }
        let Some(position) = idle.take() else { continue };
        // A fetch that was cut short may be at its end before the body yields anything more.
        let is_last = receiving.is_none() || buffer.received >= job.request_end();
        let ripe = buffer.ripe(tokio::time::Instant::now(), is_last);
        if ripe > 0 {
            writing = Some(write(job, buffer.cut(ripe), position));
        } else {
            *idle = Some(position);
            if is_last {
                return result;
            }
        }
    }
}

/// Adds received bytes to the buffer, or what they complete of pieces with hashes. `Break` if nothing after them is
/// wanted.
///
/// # Errors
/// The piece that does not have its hash.
fn take(
    job: &FetchJob,
    buffer: &mut WriteBuffer,
    bytes: Bytes,
    filter: &mut Option<PieceFilter>,
) -> Result<ControlFlow<()>, Box<WrongPiece>> {
    let Some(filter) = filter else {
        return Ok(buffer.take(bytes, job.request_end()));
    };
    let fed = filter.feed(bytes, job.order.entry.size());
    let mut is_over = ControlFlow::Continue(());
    while let Some(bytes) = filter.take() {
        is_over = buffer.take(bytes, job.request_end());
    }
    if filter.held() > 0 {
        let (entry, fetch, received) = (job.order.entry.id, job.order.id, filter.at().min(job.request_end()));
        job.manager
            .report(|scheduler| scheduler.received(entry, fetch, received));
    }
    fed.map(|()| is_over)
}

/// Waits for the next piece of a body, and for the throttle to let it through.
fn receive(job: &FetchJob, mut body: Body) -> Receiving {
    let (downloader, entry) = (Arc::clone(&job.downloader), Arc::clone(&job.order.entry));
    Box::pin(async move {
        let piece = downloader.next_piece(&mut body, Some(&entry)).await;
        if let Ok(Some(piece)) = &piece {
            downloader.throttle.take(piece.len()).await;
        }
        (body, piece)
    })
}

fn write(job: &FetchJob, pieces: Vec<Bytes>, position: Box<Position>) -> oneshot::Receiver<Written> {
    let (done, writing) = oneshot::channel();
    let write = WriteJob {
        entry: Arc::clone(&job.order.entry),
        fetch: job.order.id,
        manager: Arc::clone(&job.manager),
        pieces,
        position,
        done,
    };
    // The channel has room for one job of each fetch, so it is never full in practice. If the
    // threads are gone, dropping the job drops `done`, which reports their death.
    let _ = job.downloader.writers.send(write);
    writing
}

/// Why a body was not streamed to its end.
pub(super) enum BodyError {
    /// It broke off, or can't be written.
    Read(ReadError),
    /// A piece of it does not have its hash.
    WrongPiece(Box<WrongPiece>),
}

/// The result of a write: the position reached, and the error.
type Written = (Box<Position>, Result<(), ReadError>);

type Receiving = Pin<Box<dyn Future<Output = (Body, Result<Option<Bytes>, HttpError>)> + Send>>;
