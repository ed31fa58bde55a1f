//! The measured cost of recording: the figures of docs/performance.md, and the bound on the index's
//! size.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use url::Url;

use super::*;
use crate::cache::ROWS_OF_FILE;
use crate::cache::chunk::ChunkSize;
use crate::cache::index::EntryRow;
use crate::cache::key::{EntryKey, UrlKey};
use crate::http::{Validator, Version};

const GIB: u64 = 1 << 30;
const CHUNK: u64 = 256 << 10;

/// An index that counts its transactions.
struct Counting {
    tables: Tables,
    transactions: Arc<AtomicU64>,
}

impl Commit for Counting {
    fn commit(&mut self, batch: &[Record]) -> rusqlite::Result<()> {
        self.transactions.fetch_add(1, Ordering::Relaxed);
        self.tables.commit(batch)
    }
}

fn open(dir: &Path) -> (ChunkIndex, Arc<AtomicU64>) {
    let transactions = Arc::new(AtomicU64::new(0));
    let counter = Arc::clone(&transactions);
    let index = ChunkIndex::open_with(dir, "boot", |tables| Counting {
        tables,
        transactions: counter,
    });
    (index.unwrap(), transactions)
}

/// Records the entry of a file of `size` bytes.
fn record_file(index: &ChunkIndex, number: u64, size: u64) -> EntryKey {
    let url = Url::parse(&format!("https://example.org/pub/films/{number}.mkv")).unwrap();
    let version = Version {
        size,
        validator: Validator::Strong(format!("\"65f0c2a1-{number:x}\"")),
    };
    let chunk = ChunkSize::new(CHUNK).unwrap();
    let key = EntryKey::new(&url, &version, chunk);
    index.record(Record::Entry {
        row: EntryRow {
            key: key.clone(),
            version,
            modified: Some(SystemTime::now()),
            chunk,
        },
        url_key: UrlKey::new(&url),
        url: url.to_string(),
        inode: number,
        is_suspect: false,
        rank: number,
    });
    key
}

fn record_chunk(index: &ChunkIndex, key: &EntryKey, chunk: u64, random: &mut fastrand::Rng) {
    index.record(Record::Chunk {
        key: key.clone(),
        index: chunk,
        checksum: random.u64(..),
    });
}

/// Bytes of the database without its log, after all records are committed.
fn database_bytes(dir: &Path, index: ChunkIndex) -> u64 {
    index.sync();
    drop(index);
    let connection = Connection::open(dir.join(FILE)).unwrap();
    let _: i64 = connection
        .query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get(0))
        .unwrap();
    std::fs::metadata(dir.join(FILE)).unwrap().len()
}

#[test]
fn index_is_at_most_0_02_percent_of_the_cache() {
    // Files of 64 MiB, whose chunks come in random order.
    const FILES: u64 = 256;
    let dir = tempfile::tempdir().unwrap();
    let (index, _) = open(dir.path());
    let mut random = fastrand::Rng::with_seed(7);
    for number in 0..FILES {
        let key = record_file(&index, number, 64 << 20);
        let mut chunks: Vec<u64> = (0..(64 << 20) / CHUNK).collect();
        random.shuffle(&mut chunks);
        chunks
            .iter()
            .for_each(|&chunk| record_chunk(&index, &key, chunk, &mut random));
    }
    let (database, cached) = (database_bytes(dir.path(), index), FILES * (64 << 20));
    assert!(database * 5000 <= cached, "{database} bytes for {cached}");
    println!("{} KiB of database for each GiB", (database * GIB / cached) >> 10);
}

#[test]
fn index_growth_per_file_is_within_its_estimate() {
    const FILES: u64 = 10_000;
    let dir = tempfile::tempdir().unwrap();
    let (index, _) = open(dir.path());
    let mut random = fastrand::Rng::with_seed(7);
    for number in 0..FILES {
        let key = record_file(&index, number, 1);
        record_chunk(&index, &key, 0, &mut random);
    }
    let bytes = database_bytes(dir.path(), index) / FILES;
    assert!(bytes <= ROWS_OF_FILE, "{bytes} bytes for each file");
    println!("{bytes} bytes for each file of one chunk");
}

/// Bytes that this process has passed to write(2) and similar calls (proc_pid_io(5)).
fn written() -> u64 {
    procfs::process::Process::myself().unwrap().io().unwrap().wchar
}

#[test]
#[ignore = "takes a minute and has to be alone: prints the table of docs/performance.md"]
fn the_table_of_what_recording_costs() {
    println!("| download | transactions | written to the index and its log | database |\n|---|---|---|---|");
    for (rate, bytes) in [
        (20_000_000, GIB / 2),
        (100_000_000, GIB),
        (350_000_000, 4 * GIB),
        (1_000_000_000, 8 * GIB),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let (index, transactions) = open(dir.path());
        let empty = {
            let dir = tempfile::tempdir().unwrap();
            database_bytes(dir.path(), open(dir.path()).0)
        };
        let mut random = fastrand::Rng::with_seed(7);
        let (before, begun) = (written(), Instant::now());
        let key = record_file(&index, 0, bytes);
        for chunk in 0..bytes / CHUNK {
            let due = Duration::from_secs_f64((chunk * CHUNK) as f64 / f64::from(rate));
            std::thread::sleep(due.saturating_sub(begun.elapsed()));
            record_chunk(&index, &key, chunk, &mut random);
        }
        index.sync();
        let (count, wrote) = (transactions.load(Ordering::Relaxed), written() - before);
        let database = database_bytes(dir.path(), index) - empty;
        let for_a_gib = |count: u64| count as f64 * GIB as f64 / bytes as f64;
        println!(
            "| {} MB/s | {:.0} | {:.2} MB | {:.0} KiB |",
            rate / 1_000_000,
            for_a_gib(count),
            for_a_gib(wrote) / 1e6,
            for_a_gib(database) / 1024.0
        );
    }
}
