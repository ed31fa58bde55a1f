//! Measures the state of a mount.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::activity::{MOST_OPEN, MOST_WAITING, seconds};
use super::{
    Down, ErrorCount, OpenFile, Origin, Process, ProgramTraffic, Reads, SeenFailure, Source, Status, Tier, Totals,
    Waiting, WaitingRead,
};
use crate::cache::{OpenReader, OpenReaders};
use crate::control::context::Control;
use crate::control::protocol::{OptionShown, TreePath};
use crate::http::redact;
use crate::vfs::Tree;

/// Time over which the rate is measured. Long enough for several buffers of a body, which arrive some ten times a
/// second at 1 MB/s. Short enough for a person who waits for the output.
const SAMPLE: Duration = Duration::from_millis(400);

/// The state of the mount. Takes the time of one sample, unless it is wanted `at_once`.
pub(in crate::control) async fn measure(control: &Control, at_once: bool) -> Status {
    let rate = if at_once { None } else { Some(rate(control).await) };
    let (tree, readers) = (Arc::clone(&control.tree), Arc::clone(&control.readers));
    let options = Arc::clone(&control.options);
    let blocking = control.with_cache(move |cache| {
        let options = options.get(None).unwrap_or_default();
        (cache.cached_bytes(), open_files(&tree, &readers), given(&options))
    });
    let (cached_bytes, (open_file_count, open_files), options) = blocking.await.unwrap_or_default();
    let (known_files, known_bytes) = control.tree.known();
    let sources = control
        .library
        .as_ref()
        .map(|control| control.library.status())
        .unwrap_or_default();
    let (totals, requests) = (totals(control), control.client.requests());
    let all_received = requests.iter().map(|(_, requests)| requests.received_bytes).sum();
    let tier = control
        .client
        .tier_totals()
        .map(|totals| Tier::of(totals, all_received));
    Status {
        source: control.about.source.clone(),
        kinds: control.about.kinds.iter().map(|&kind| kind.to_owned()).collect(),
        sources: sources.into_iter().map(Source::from).collect(),
        mountpoint: control.about.mountpoint.display().to_string(),
        // The client reads its own mount table.
        elsewhere: Vec::new(),
        pid: std::process::id(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        mounted_for: control.about.since.elapsed().as_secs(),
        mounted_at: seconds(SystemTime::now()).saturating_sub(control.about.since.elapsed().as_secs()),
        log: control.about.log.clone(),
        http: control.about.http.clone(),
        options,
        cache_dir: control.about.cache_dir.display().to_string(),
        cached_bytes,
        cache_limit: control.cache.limit(),
        cache_trouble: control.cache.disk_failure(),
        known_files,
        known_bytes,
        left_out: Some(control.tree.left_out())
            .filter(|left_out| !left_out.is_nothing())
            .map(|left_out| left_out.to_string()),
        fetched_bytes: totals.fetched_bytes,
        totals,
        reads: Reads::of(&control.readers),
        waiting: waiting(control),
        open_file_count,
        open_files,
        programs: ProgramTraffic::all(&control.stats, &control.readers),
        errors: ErrorCount::all(control.stats.failures.counts()),
        failures: control
            .stats
            .failures
            .list()
            .into_iter()
            .map(SeenFailure::from)
            .collect(),
        fetching_rate: rate,
        jobs: control.jobs.count(),
        origins: Origin::all(control.cache.manager().status(), requests, tier.as_ref()),
        down: control.tree.servers_down().into_iter().map(Down::from).collect(),
        tier,
    }
}

/// The options that are set, as flags.
fn given(options: &[OptionShown]) -> Vec<String> {
    let is_given = |option: &&OptionShown| !matches!(option.from.as_str(), "default" | "program");
    let flag = |option: &OptionShown| {
        let name = option.key.replace('_', "-");
        match option.value.as_deref()? {
            "false" => None,
            "true" => Some(format!("--{name}")),
            value if value.contains(char::is_whitespace) => Some(format!("--{name}='{value}'")),
            value => Some(format!("--{name}={value}")),
        }
    };
    options.iter().filter(is_given).filter_map(flag).collect()
}

async fn rate(control: &Control) -> u64 {
    let fetched = || control.cache.counters().fetched_bytes.get();
    let (before, began) = (fetched(), tokio::time::Instant::now());
    tokio::time::sleep(SAMPLE).await;
    ((fetched() - before) as f64 / began.elapsed().as_secs_f64()) as u64
}

fn totals(control: &Control) -> Totals {
    let (reads, cache) = (control.readers.totals(), control.cache.counters());
    // Read first: what is used was fetched before.
    let used_bytes = cache.used_bytes.get();
    Totals {
        hit_reads: reads.hit_reads,
        hit_bytes: reads.hit_bytes,
        miss_reads: reads.miss_reads,
        miss_bytes: reads.miss_bytes,
        failed_reads: reads.failed_reads,
        fetched_bytes: cache.fetched_bytes.get(),
        used_bytes,
        evicted_files: cache.evicted_files.get(),
        evicted_bytes: cache.evicted_bytes.get(),
    }
}

fn waiting(control: &Control) -> Waiting {
    let mut waiting = Waiting {
        names: control.stats.waiting_names.get(),
        ..Waiting::default()
    };
    let reads = control.cache.manager().waiting_reads();
    for read in &reads {
        *waiting.reads.entry(read.phase).or_default() += 1;
    }
    waiting.longest = reads.iter().take(MOST_WAITING).map(WaitingRead::from).collect();
    waiting
}

/// The number of open files, and the first of them. Looks at `/proc`.
fn open_files(tree: &Tree, readers: &OpenReaders) -> (u64, Vec<OpenFile>) {
    let open = readers.open();
    let shown = open.iter().take(MOST_OPEN).filter_map(|reader| open_file(tree, reader));
    (open.len() as u64, shown.collect())
}

/// `None` if it was closed a moment ago.
fn open_file(tree: &Tree, reader: &OpenReader) -> Option<OpenFile> {
    let entry = reader.entry.upgrade()?;
    let (size, totals) = (entry.size(), reader.counts.totals());
    let chunks = entry.settled().map_or(0, |settled| settled.presence.len());
    Some(OpenFile {
        path: tree.path_of(reader.ino).and_then(TreePath::new),
        url: redact(entry.url()).to_string(),
        size,
        cached_bytes: (chunks * entry.chunk.bytes()).min(size),
        position: reader.counts.position(),
        read_bytes: totals.hit_bytes + totals.miss_bytes,
        is_passthrough: reader.is_passthrough(),
        process: Process::of_thread(reader.counts.thread()),
    })
}
