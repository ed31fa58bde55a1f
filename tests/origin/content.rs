//! The bytes of a file, computed from their position.
//!
//! Generated content is cut from one table of noise in blocks of 4 KiB. Each block starts at another place in the
//! table, which depends on the file's seed and the block's number, and is stamped with both.
//!
//! - A block in the wrong file, version or place differs from the right one.
//! - A shift by one byte compares noise with noise.
//! - A debug build generates gigabytes a second, because it only copies.

use std::ops::Range;
use std::sync::{Arc, OnceLock};

/// Bytes with one stamp and one piece of the table.
const BLOCK: u64 = 4096;

/// Bytes of noise. Prime, so that no power of two (a chunk, a page) is a multiple of its period.
const TABLE: usize = 262_147;

/// The bytes of one version of a file. Cheap to clone.
#[derive(Debug, Clone)]
pub enum Content {
    /// These bytes.
    Literal(Arc<[u8]>),
    /// `size` bytes computed from `seed` and the position.
    Noise {
        /// Bytes.
        size: u64,
        /// Two seeds give two files that differ everywhere.
        seed: u64,
    },
}

impl Content {
    /// `size` bytes of noise.
    pub fn noise(size: u64, seed: u64) -> Content {
        Content::Noise { size, seed }
    }

    /// Size in bytes.
    pub fn size(&self) -> u64 {
        match self {
            Content::Literal(bytes) => bytes.len() as u64,
            Content::Noise { size, .. } => *size,
        }
    }

    /// Fills `buffer` with the bytes from `offset` on, which must all be inside the file.
    pub fn fill(&self, offset: u64, buffer: &mut [u8]) {
        assert!(
            offset + buffer.len() as u64 <= self.size(),
            "{offset}+{} is past the end",
            buffer.len()
        );
        match self {
            Content::Literal(bytes) => {
                let start = offset as usize;
                buffer.copy_from_slice(&bytes[start..start + buffer.len()]);
            }
            Content::Noise { seed, .. } => fill_noise(*seed, offset, buffer),
        }
    }

    /// The bytes of `range`, truncated at the end of the file, as `pread` returns them.
    pub fn read(&self, range: Range<u64>) -> Vec<u8> {
        let end = range.end.min(self.size());
        let mut bytes = vec![0; end.saturating_sub(range.start) as usize];
        if !bytes.is_empty() {
            self.fill(range.start, &mut bytes);
        }
        bytes
    }

    /// All bytes. For small files.
    pub fn whole(&self) -> Vec<u8> {
        self.read(0..self.size())
    }
}

impl From<&str> for Content {
    fn from(text: &str) -> Content {
        Content::Literal(text.as_bytes().into())
    }
}

impl From<Vec<u8>> for Content {
    fn from(bytes: Vec<u8>) -> Content {
        Content::Literal(bytes.into())
    }
}

fn fill_noise(seed: u64, offset: u64, buffer: &mut [u8]) {
    let table = table();
    let mut block_bytes = [0; BLOCK as usize];
    let mut done = 0;
    while done < buffer.len() {
        let at = offset + done as u64;
        let block = at / BLOCK;
        let from = (mix(seed) ^ mix(block)) as usize % (TABLE - BLOCK as usize);
        block_bytes.copy_from_slice(&table[from..from + BLOCK as usize]);
        block_bytes[..8].copy_from_slice(&block.to_le_bytes());
        block_bytes[8..16].copy_from_slice(&seed.to_le_bytes());
        let inside = (at % BLOCK) as usize;
        let take = (BLOCK as usize - inside).min(buffer.len() - done);
        buffer[done..done + take].copy_from_slice(&block_bytes[inside..inside + take]);
        done += take;
    }
}

fn table() -> &'static [u8] {
    static NOISE: OnceLock<Vec<u8>> = OnceLock::new();
    NOISE.get_or_init(|| (0..TABLE as u64).map(|at| (mix(at) >> 32) as u8).collect())
}

/// The finalizer of SplitMix64: neighbouring inputs give unrelated outputs.
fn mix(value: u64) -> u64 {
    let z = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
