//! The body of an answer from this machine: a part of a file, read on the runtime's blocking threads, one block at a
//! time.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::task::JoinHandle;

use super::Stamp;

/// Bytes that are read at a time: long enough that the change of threads costs nothing, short enough that a reader's
/// first bytes do not wait.
const BLOCK: u64 = 256 << 10;

/// The unread part of a range of a file.
pub(super) struct FileBody {
    file: Arc<File>,
    /// The version that was announced.
    stamp: Stamp,
    next: u64,
    end: u64,
    reading: Option<JoinHandle<io::Result<Bytes>>>,
}

impl FileBody {
    /// The bytes from `next` to `end` (exclusive) of this version of a file.
    pub(super) fn new(file: File, stamp: Stamp, next: u64, end: u64) -> FileBody {
        FileBody {
            file: Arc::new(file),
            stamp,
            next,
            end,
            reading: None,
        }
    }
}

/// Reads one block. **No bytes of another version are returned**: the file is looked at after they were read.
fn read(file: &File, stamp: Stamp, at: u64, length: u64) -> io::Result<Bytes> {
    // At most BLOCK.
    let mut block = vec![0; length as usize];
    file.read_exact_at(&mut block, at)?;
    if Stamp::of(&file.metadata()?) != stamp {
        return Err(io::Error::other("the file has changed"));
    }
    Ok(block.into())
}

impl Body for FileBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let this = self.get_mut();
        if this.next >= this.end {
            return Poll::Ready(None);
        }
        let reading = this.reading.get_or_insert_with(|| {
            let (file, stamp, at) = (Arc::clone(&this.file), this.stamp, this.next);
            let length = (this.end - at).min(BLOCK);
            tokio::task::spawn_blocking(move || read(&file, stamp, at, length))
        });
        let read = ready!(Pin::new(reading).poll(context));
        this.reading = None;
        Poll::Ready(Some(read.map_err(io::Error::other).flatten().map(|block| {
            this.next += block.len() as u64;
            Frame::data(block)
        })))
    }

    fn is_end_stream(&self) -> bool {
        self.next >= self.end
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.end - self.next)
    }
}
