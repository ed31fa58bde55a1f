//! Sequential files: a file of unknown size, read from its beginning to its end.
//!
//! Some servers generate a file while they send it (an archive of a repository, a report). There is
//! no Content-Length, and no answer to a Range request gives the total. A chunk cache has no place
//! for a file without a size, so such a file is not cached: each open handle has one download of
//! its own, which is read in sequence. One download is one version by nature. Its size is shown as
//! 0, as for the kernel's own files in /proc.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, BytesMut};
use tokio::sync::Mutex;
use url::Url;

use crate::cache::error::ReadError;
use crate::cache::facade::Cache;
use crate::cache::fetch::downloader::ChunkDownloader;
use crate::origin::Body;

/// An open file that can be read in sequence only.
pub struct Sequential {
    /// The downloader whose throttle it shares.
    downloader: Arc<ChunkDownloader>,
    /// Maximum time that one read waits.
    patience: Duration,
    /// Held by the current read, across the wait for its bytes: a second read's offset can be
    /// checked only then.
    state: Mutex<State>,
}

struct State {
    body: Body,
    /// Byte offset in the file of the first byte of `pending`.
    position: u64,
    /// Received bytes that were not read yet. They stay if a read is dropped while it waits.
    pending: BytesMut,
    has_ended: bool,
}

impl Cache {
    /// Opens a file of unknown size. It is not cached.
    ///
    /// # Errors
    /// As the server's answer or its absence requires.
    pub async fn sequential(&self, url: &Url) -> Result<Sequential, ReadError> {
        let body = self.downloader.client.whole(url).await?;
        Ok(Sequential {
            downloader: Arc::clone(&self.downloader),
            patience: self.patience,
            state: Mutex::new(State {
                body,
                position: 0,
                pending: BytesMut::new(),
                has_ended: false,
            }),
        })
    }
}

impl Sequential {
    /// The next `size` bytes, or fewer before the end; `None` if `offset` is not where the last
    /// read ended.
    ///
    /// # Errors
    /// If the download breaks, or the bytes do not come within the cache's patience.
    pub async fn read(&self, offset: u64, size: usize) -> Result<Option<Vec<u8>>, ReadError> {
        let reading = async {
            let mut state = self.state.lock().await;
            if offset != state.position {
                return Ok(None);
            }
            while state.pending.len() < size && !state.has_ended {
                match self.downloader.next_piece(&mut state.body, None).await? {
                    Some(piece) => {
                        self.downloader.counters.used_bytes.add(piece.len() as u64);
                        state.pending.extend_from_slice(&piece);
                        self.downloader.throttle.take(piece.len()).await;
                    }
                    None => state.has_ended = true,
                }
            }
            let len = size.min(state.pending.len());
            let bytes = state.pending[..len].to_vec();
            state.pending.advance(len);
            state.position += len as u64;
            Ok(Some(bytes))
        };
        let read = tokio::time::timeout(self.patience, reading).await;
        read.unwrap_or(Err(ReadError::DeadlinePassed(self.patience)))
    }
}
