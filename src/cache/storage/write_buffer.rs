//! The write buffer: received bytes of a body that are not being written yet, and when to write
//! them.
//!
//! A file system lays out the pages of a file by what each write brings: aligned runs of pages end
//! up in large folios. Reads of a file in large folios are faster by a third than of one that was
//! written as it came from a socket (19 instead of 14 GB/s on ext4, Linux 6.18). So the bytes of a
//! body are written in aligned [`RUN`]s.
//!
//! A waiting reader limits this. The first bytes of a fetch are written as they come, and no byte
//! waits for the rest of its run for longer than [`PATIENCE`].

use std::collections::VecDeque;
use std::ops::ControlFlow;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

/// Bytes of an aligned run. Twice as many made no difference beyond the noise of three runs.
const RUN: u64 = 256 << 10;

/// Bytes at the beginning of a body that are written as they come. A fetch begins where a reader
/// waits; one request of a reader, and of the kernel for it, ends within two chunks.
const EAGER: u64 = 512 << 10;

/// Maximum time that bytes wait for the rest of their run. A connection of 20 MB/s brings a run in
/// 13 ms; a sequential reader of a slower one does not notice a fiftieth of a second.
const PATIENCE: Duration = Duration::from_millis(20);

/// Bytes in the buffer from which on the socket is not read until some are written. More than a
/// run, so that the next one fills while one is written. With as much being written, sixteen
/// connections hold 16 MiB.
const FULL: u64 = 512 << 10;

/// The write buffer of one body.
pub(crate) struct WriteBuffer {
    pieces: VecDeque<Bytes>,
    /// Bytes in `pieces`.
    len: u64,
    /// Byte offset in the file at which the body begins.
    began: u64,
    /// Byte offset in the file of the next byte to receive. **The last one in `pieces` is before
    /// it.**
    pub received: u64,
    /// When the first of `pieces` was received, or split off from a written one.
    since: Instant,
}

impl WriteBuffer {
    /// For a body whose first byte is at `offset` in the file.
    pub(crate) fn from(offset: u64) -> WriteBuffer {
        WriteBuffer {
            pieces: VecDeque::new(),
            len: 0,
            began: offset,
            received: offset,
            since: Instant::now(),
        }
    }

    /// Adds a piece, cut off at `end`. `Break` if nothing after it is wanted.
    pub(crate) fn take(&mut self, mut piece: Bytes, end: u64) -> ControlFlow<()> {
        let left = usize::try_from(end.saturating_sub(self.received)).unwrap_or(usize::MAX);
        piece.truncate(left);
        if !piece.is_empty() {
            if self.pieces.is_empty() {
                self.since = Instant::now();
            }
            self.received += piece.len() as u64;
            self.len += piece.len() as u64;
            self.pieces.push_back(piece);
        }
        if self.received < end {
            ControlFlow::Continue(())
        } else {
            ControlFlow::Break(())
        }
    }

    /// Returns true if the buffer is full: the socket is not read until some is written.
    pub(crate) fn is_full(&self) -> bool {
        self.len >= FULL
    }

    /// Returns true if the buffer is empty.
    pub(crate) fn is_empty(&self) -> bool {
        self.pieces.is_empty()
    }

    /// When everything in the buffer is due to be written, even incomplete runs.
    pub(crate) fn ripe_at(&self) -> Instant {
        self.since + PATIENCE
    }

    /// Bytes to write now, if no write is in progress. `is_last` means that no more will come.
    pub(crate) fn ripe(&self, now: Instant, is_last: bool) -> u64 {
        if is_last || self.received - self.began <= EAGER || now >= self.ripe_at() {
            return self.len;
        }
        let edge = self.received - self.received % RUN;
        edge.saturating_sub(self.received - self.len)
    }

    /// Removes the first `len` bytes. No byte is copied.
    pub(crate) fn cut(&mut self, len: u64) -> Vec<Bytes> {
        let (mut cut, mut left) = (Vec::with_capacity(self.pieces.len()), len.min(self.len));
        self.len -= left;
        self.since = Instant::now();
        while left > 0
            && let Some(mut piece) = self.pieces.pop_front()
        {
            let first = piece.split_to(piece.len().min(usize::try_from(left).unwrap_or(usize::MAX)));
            left -= first.len() as u64;
            cut.push(first);
            if !piece.is_empty() {
                self.pieces.push_front(piece);
            }
        }
        cut
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const KIB: u64 = 1 << 10;
    const MIB: u64 = 1 << 20;

    fn gather(buffer: &mut WriteBuffer, len: u64) {
        let _ = buffer.take(Bytes::from(vec![0; len as usize]), u64::MAX);
    }

    /// Long past its beginning, with an empty buffer.
    fn at(offset: u64) -> WriteBuffer {
        let mut buffer = WriteBuffer::from(offset - MIB);
        gather(&mut buffer, MIB);
        buffer.cut(MIB);
        buffer
    }

    #[test]
    fn what_comes_first_is_written_as_it_comes() {
        let mut buffer = WriteBuffer::from(10 * MIB);
        for len in [1, 4 * KIB, 100 * KIB, 300 * KIB] {
            gather(&mut buffer, len);
            assert_eq!(buffer.ripe(buffer.since, false), len);
            buffer.cut(len);
        }
    }

    #[test]
    fn later_whole_runs_are_written_and_the_rest_waits() {
        let mut buffer = at(10 * MIB);
        gather(&mut buffer, 200 * KIB);
        assert_eq!(buffer.ripe(buffer.since, false), 0);
        gather(&mut buffer, 400 * KIB);
        assert_eq!(buffer.ripe(buffer.since, false), 512 * KIB);
        buffer.cut(512 * KIB);
        assert_eq!((buffer.len, buffer.ripe(buffer.since, false)), (88 * KIB, 0));
    }

    #[test]
    fn what_began_within_a_run_is_written_to_its_edge() {
        let mut buffer = at(10 * MIB + 100 * KIB);
        gather(&mut buffer, 300 * KIB);
        assert_eq!(buffer.ripe(buffer.since, false), 156 * KIB);
    }

    #[test]
    fn nothing_waits_for_long_nor_for_what_will_not_come() {
        let mut buffer = at(10 * MIB);
        gather(&mut buffer, 10);
        assert_eq!(buffer.ripe(buffer.ripe_at(), false), 10);
        assert_eq!(buffer.ripe(buffer.since, true), 10);
    }

    #[test]
    fn a_piece_is_cut_off_where_the_fetch_ends() {
        let mut buffer = WriteBuffer::from(100);
        assert!(buffer.take(Bytes::from_static(&[1; 50]), 120).is_break());
        assert_eq!((buffer.received, buffer.len), (120, 20));
        assert!(buffer.take(Bytes::from_static(&[1; 50]), 120).is_break());
        assert_eq!(buffer.cut(u64::MAX).concat(), [1; 20]);
        assert!(buffer.is_empty());
    }

    proptest! {
        #[test]
        fn every_byte_is_emitted_once_in_order(
            began in 0..MIB,
            lens in prop::collection::vec(1..600 * KIB, 1..8),
        ) {
            let (mut buffer, mut sent, mut written) = (WriteBuffer::from(began), Vec::new(), Vec::new());
            for len in lens {
                let piece: Vec<u8> = (0..len).map(|at| (sent.len() as u64 + at) as u8 ^ (at >> 8) as u8).collect();
                sent.extend_from_slice(&piece);
                let _ = buffer.take(piece.into(), u64::MAX);
                let ripe = buffer.ripe(buffer.since, false);
                prop_assert!(!buffer.is_full() || ripe > 0);
                written.extend(buffer.cut(ripe).concat());
                prop_assert!(buffer.len < RUN || buffer.received - began <= EAGER);
            }
            let rest = buffer.ripe(buffer.since, true);
            written.extend(buffer.cut(rest).concat());
            prop_assert!(written == sent && buffer.is_empty());
        }
    }
}
