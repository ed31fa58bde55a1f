//! Reading in the ways that programs read, and comparing what was read with what the origin has.

use std::fs::File;
use std::io::Read;
use std::ops::Range;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail, ensure};

/// Bytes that a program reads at once that reads a file from its beginning to its end.
const BLOCK: usize = 1 << 20;

/// Bytes that a program reads at a place where it jumps to.
pub const PIECE: u64 = 64 << 10;

/// Reads a file from its beginning to its end; says how many bytes it had and how long that took, opening included.
///
/// # Errors
/// What reading says.
pub fn whole(path: &Path) -> Result<(u64, Duration)> {
    let mut buffer = vec![0; BLOCK];
    let begun = Instant::now();
    let mut file = open(path)?;
    let mut total = 0;
    loop {
        match file.read(&mut buffer).with_context(|| path.display().to_string())? {
            0 => return Ok((total, begun.elapsed())),
            read => total += read as u64,
        }
    }
}

/// Reads files from their beginnings to their ends, all at once; says how many bytes they have together and how long that
/// took.
///
/// # Errors
/// What reading says.
pub fn at_once(paths: &[PathBuf]) -> Result<(u64, Duration)> {
    let begun = Instant::now();
    let results: Vec<Result<_>> = thread::scope(|scope| {
        let readers: Vec<_> = paths.iter().map(|path| scope.spawn(move || whole(path))).collect();
        let end =
            |reader: thread::ScopedJoinHandle<'_, _>| reader.join().unwrap_or_else(|_| Err(anyhow!("it panicked")));
        readers.into_iter().map(end).collect()
    });
    let took = begun.elapsed();
    let total = results
        .into_iter()
        .try_fold(0, |total, read| anyhow::Ok(total + read?.0))?;
    Ok((total, took))
}

/// Opens a file.
///
/// # Errors
/// What opening says, with the file's name.
pub fn open(path: &Path) -> Result<File> {
    File::open(path).with_context(|| path.display().to_string())
}

/// One piece, and how long it took to come.
pub struct Piece {
    offset: u64,
    bytes: Vec<u8>,
    /// How long it took.
    pub took: Duration,
}

impl Piece {
    /// Reads [`PIECE`] bytes.
    ///
    /// # Errors
    /// What reading says.
    pub fn read(file: &File, offset: u64) -> Result<Piece> {
        let mut bytes = vec![0; PIECE as usize];
        let begun = Instant::now();
        file.read_exact_at(&mut bytes, offset)?;
        let took = begun.elapsed();
        Ok(Piece { offset, bytes, took })
    }

    /// Compares it with the origin's file.
    ///
    /// # Errors
    /// When it differs.
    pub fn verify(&self, original: &File) -> Result<()> {
        let mut expected = vec![0; self.bytes.len()];
        original.read_exact_at(&mut expected, self.offset)?;
        ensure!(self.bytes == expected, "wrong bytes at {}", self.offset);
        Ok(())
    }
}

/// Places for pieces in this range of a file, on page boundaries, in no order.
///
/// None is near the end of a segment of httpdirfs: version 1.2.5 answers a request that goes over it with wrong bytes,
/// and then there would be nothing to compare.
pub fn places(random: &mut fastrand::Rng, within: Range<u64>, count: usize) -> Vec<u64> {
    /// Bytes of a page.
    const PAGE: u64 = 4096;
    /// Bytes of httpdirfs's segments.
    const SEGMENT: u64 = 8 << 20;
    /// Bytes that the kernel may ask for when a program asks for a piece: its read-ahead makes more of it.
    const ASKED: u64 = 256 << 10;
    let mut segment_and_page = || {
        let segment = random.u64(within.start / SEGMENT..within.end / SEGMENT);
        segment * SEGMENT + random.u64(0..(SEGMENT - ASKED) / PAGE) * PAGE
    };
    (0..count).map(|_| segment_and_page()).collect()
}

/// Makes the kernel forget the pages of a file, so that the next read asks who serves it.
///
/// # Errors
/// When the kernel won't.
pub fn drop_pages(path: &Path) -> Result<()> {
    let file = open(path)?;
    // SAFETY: the descriptor is open; the call only gives advice.
    let result = unsafe { libc::posix_fadvise(file.as_raw_fd(), 0, 0, libc::POSIX_FADV_DONTNEED) };
    ensure!(result == 0, "posix_fadvise: error {result}");
    Ok(())
}

/// Compares two files.
///
/// # Errors
/// When they differ, with the place.
pub fn verify(path: &Path, original: &Path) -> Result<()> {
    let (mut file, mut expected) = (open(path)?, open(original)?);
    let (mut got, mut want) = (vec![0; BLOCK], vec![0; BLOCK]);
    let mut offset = 0;
    loop {
        let (have, should) = (fill(&mut file, &mut got)?, fill(&mut expected, &mut want)?);
        if got[..have] != want[..should] {
            bail!("{}: wrong bytes in the megabyte at {offset}", path.display());
        }
        if have == 0 {
            return Ok(());
        }
        offset += have;
    }
}

fn fill(file: &mut File, buffer: &mut [u8]) -> Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match file.read(&mut buffer[filled..])? {
            0 => break,
            read => filled += read,
        }
    }
    Ok(filled)
}
