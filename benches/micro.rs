//! What the decisions of a read cost, without a kernel, a network or a disk: `cargo bench --bench micro`.
//!
//! A read of 128 KiB that the kernel makes costs it some 20 µs, a request over HTTP some 100 µs of processor time. What is
//! measured here should be small beside that, and should not grow with the file, with the cache, or with what else is
//! wanted. Each figure is the median of several batches; the fastest batch says how much of it is noise.

use std::collections::VecDeque;
use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use fetchfs::internals::scheduler::{Action, FetchOrder, Limits, Scheduler, StreamId, WaiterId, WindowUpdate};
use fetchfs::internals::{
    Cache, CacheConfig, CacheEntry, ChunkSize, Client, Content, HttpConfig, ListedSize, ListingConfig, Origin,
    Priority, Validator, Version, index_page,
};
use url::Url;

/// How long a batch takes at least: long beside a reading of the clock, short beside a turn of the kernel's scheduler.
const BATCH: Duration = Duration::from_millis(10);

/// Batches of each case.
const BATCHES: usize = 21;

/// Bytes of a read, as the kernel's read-ahead makes them.
const READ: u64 = 128 << 10;

/// Bytes that a sequential reader is kept ahead of, and that one fetch brings.
const WINDOW: u64 = 32 << 20;
const FETCH: u64 = 4 << 20;

const GIB: u64 = 1 << 30;
const TIB: u64 = 1 << 40;

fn main() -> Result<()> {
    if !std::env::args().any(|argument| argument == "--bench") {
        eprintln!("this is measured by `cargo bench --bench micro`");
        return Ok(());
    }
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()?;
    let open = || -> Result<Arc<Cache>> {
        let client = Client::new(HttpConfig::default())?;
        let config = CacheConfig::in_folder(folder.path());
        Ok(Cache::open(config, client, runtime.handle())?)
    };
    let cache = open()?;
    println!("{:<66} {:>10} {:>10}", "ns for each", "median", "fastest");
    presence(&cache)?;
    reads(&cache)?;
    queue(&cache)?;
    names()?;
    cache.close();
    Ok(())
}

/// A file of this size of which all is here but its last chunk.
fn nearly_complete(cache: &Cache, size: u64) -> Result<Arc<CacheEntry>> {
    let entry = settled(cache, &format!("nearly-complete-{size}"), size)?;
    let present = &entry.settled().context("a settled entry")?.presence;
    for chunk in 0..entry.chunk.count(size) - 1 {
        present.insert(chunk);
    }
    Ok(entry)
}

fn settled(cache: &Cache, name: &str, size: u64) -> Result<Arc<CacheEntry>> {
    // Nobody listens there: a fetch that should not be made fails at once.
    let url = Url::parse(&format!("http://127.0.0.1:1/{name}"))?;
    let version = Version {
        size,
        validator: Validator::Strong(format!("\"{name}\"")),
    };
    let origin = Origin::of(&url).context("an origin")?;
    let held = cache.current(&url, version, None);
    Ok(cache.entry(Content::at(url, ListedSize::Exact(size)), origin, &held)?)
}

/// Is it here? Asked for each read.
fn presence(cache: &Cache) -> Result<()> {
    for (size, shown) in [(GIB, "1 GiB"), (TIB, "1 TiB")] {
        let entry = nearly_complete(cache, size)?;
        let mut at = scattered(size);
        time(&format!("present set: 128 KiB at random of {shown}"), || {
            let offset = at();
            black_box(entry.has_byte_range(&(offset..offset + READ)));
        });
    }
    let entry = nearly_complete(cache, GIB)?;
    time("present set: all of 1 GiB", || {
        black_box(entry.has_byte_range(&(0..GIB)));
    });
    Ok(())
}

/// The path of a read that finds its bytes: present set, cursors, and the copy out of the data file.
fn reads(cache: &Arc<Cache>) -> Result<()> {
    let (entry, mut at) = (nearly_complete(cache, TIB)?, 0);
    let reader = cache.reader(Arc::clone(&entry));
    let mut buffer = vec![0; READ as usize];
    let mut read = |offset| {
        let read = reader.read_at(&mut buffer, offset).expect("it is here");
        assert_eq!(read, buffer.len());
    };
    time("read-ahead: a read in sequence of a file that is not complete", || {
        read(at);
        at = (at + READ) % (TIB / 2);
    });
    let mut scattered = scattered(TIB / 2);
    time("read-ahead: a read at random of a file that is not complete", || {
        read(scattered())
    });

    let entry = settled(cache, "complete", 64 << 20)?;
    let present = &entry.settled().context("a settled entry")?.presence;
    (0..entry.chunk.count(64 << 20)).for_each(|chunk| {
        present.insert(chunk);
    });
    let (reader, mut at) = (cache.reader(entry), 0);
    time("read: 128 KiB of a complete file", || {
        reader.read_at(&mut buffer, at).expect("it is here");
        at = (at + READ) % (64 << 20);
    });
    Ok(())
}

/// The scheduler: what a missing read, a fetch and a byte's progress cost, alone and among others.
fn queue(cache: &Cache) -> Result<()> {
    let stream = settled(cache, "stream", TIB)?;
    let mut simulation = Simulation::new();
    let mut at = 0;
    time("queue: a missing read in sequence, its share of the fetches", || {
        simulation.read(&stream, at);
        at = (at + READ) % (TIB / 2);
    });
    for others in [1, 100, 1_000] {
        let mut simulation = Simulation::new();
        for number in 0..others {
            let other = unsettled(cache, &format!("other-{others}-{number}"))?;
            simulation.scheduler.request(&other, 0..4_096, Priority::Low);
        }
        simulation.start();
        let entry = settled(cache, &format!("among-{others}"), TIB)?;
        let mut scattered = scattered(TIB);
        time(
            &format!("queue: a missing read at random while {others} files are filled"),
            || {
                simulation.read_alone(&entry, scattered());
            },
        );
    }
    Ok(())
}

fn unsettled(cache: &Cache, name: &str) -> Result<Arc<CacheEntry>> {
    let url = Url::parse(&format!("http://127.0.0.1:1/{name}"))?;
    let origin = Origin::of(&url).context("an origin")?;
    let content = Content::at(url, ListedSize::Exact(GIB));
    Ok(cache.unsettled(content, origin, Box::new(|| {})))
}

/// A scheduler whose fetches bring their bytes at once, the oldest first.
struct Simulation {
    scheduler: Scheduler,
    running: VecDeque<FetchOrder>,
    waiters: u64,
}

impl Simulation {
    fn new() -> Simulation {
        let limits = Limits {
            fetches_per_origin: 16,
            fetch_len: FETCH,
            split_distance: 1 << 20,
            slice: None,
            is_throttled: false,
        };
        Simulation {
            scheduler: Scheduler::new(limits),
            running: VecDeque::new(),
            waiters: 0,
        }
    }

    /// Notes what has been started.
    fn start(&mut self) -> Option<WaiterId> {
        let mut woken = None;
        for action in self.scheduler.take_actions() {
            match action {
                Action::Start(order) => self.running.push_back(order),
                Action::Stop(id) => self.running.retain(|order| order.id != id),
                Action::Wake(waiter, _) => woken = Some(waiter),
                Action::Trim { .. } => {}
            }
        }
        woken
    }

    /// A read with a window before it.
    fn read(&mut self, entry: &Arc<CacheEntry>, offset: u64) {
        let ahead = WindowUpdate::Move {
            stream: StreamId { reader: 1, stream: 1 },
            keep: offset..offset + WINDOW,
            ask: offset..offset + WINDOW,
        };
        self.wait(entry, offset..offset + READ, &[ahead]);
    }

    /// A read with nothing before it.
    fn read_alone(&mut self, entry: &Arc<CacheEntry>, offset: u64) {
        self.wait(entry, offset..offset + READ, &[]);
    }

    fn wait(&mut self, entry: &Arc<CacheEntry>, bytes: std::ops::Range<u64>, shifts: &[WindowUpdate]) {
        self.waiters += 1;
        let waiter = WaiterId(self.waiters);
        self.scheduler.wait(entry, bytes, Priority::Critical, shifts, waiter);
        while self.start() != Some(waiter) {
            // The reader's own: others bring nothing that anybody waits for.
            let own = self.running.iter().position(|order| order.entry.id == entry.id);
            let order = own
                .and_then(|index| self.running.remove(index))
                .expect("a fetch for the reader");
            self.bring(&order);
        }
    }

    fn bring(&mut self, order: &FetchOrder) {
        let FetchOrder { id, entry, bytes } = order;
        let present = &entry.settled().expect("a settled entry").presence;
        for chunk in entry.chunk.touched(bytes) {
            present.insert(chunk);
            self.scheduler
                .progress(entry.id, *id, (chunk + 1) * entry.chunk.bytes());
        }
        self.scheduler.ended(*id, Ok(()));
    }
}

/// Reading an index page, as nginx writes it.
fn names() -> Result<()> {
    let page = Url::parse("http://bench.test/")?;
    let config = ListingConfig::default();
    for count in [100, 10_000] {
        let row = |n| format!("<a href=\"f{n}\">f{n}</a>  22-Nov-2026 12:00  {n}\r\n");
        let rows: String = (0..count).map(row).collect();
        let body = format!("<h1>Index of /</h1><pre>{rows}</pre>");
        time(&format!("an index page of {count} names"), || {
            black_box(index_page::parse(&page, body.as_bytes(), None, &config).is_ok());
        });
    }
    Ok(())
}

/// Offsets of reads in no order, the same each time.
fn scattered(size: u64) -> impl FnMut() -> u64 {
    let mut random = fastrand::Rng::with_seed(1);
    let chunk = ChunkSize::new(256 << 10).map_or(READ, ChunkSize::bytes);
    move || random.u64(0..(size / chunk) - 2) * chunk
}

/// Prints what one call costs.
fn time(name: &str, mut work: impl FnMut()) {
    let mut batch = |calls: u64| {
        let begun = Instant::now();
        (0..calls).for_each(|_| work());
        begun.elapsed()
    };
    let mut calls = 1;
    while batch(calls) < BATCH && calls < 1 << 30 {
        calls *= 2;
    }
    let mut costs: Vec<f64> = (0..BATCHES)
        .map(|_| batch(calls).as_nanos() as f64 / calls as f64)
        .collect();
    costs.sort_by(f64::total_cmp);
    println!("{name:<66} {:>10.1} {:>10.1}", costs[BATCHES / 2], costs[0]);
}
