//! A mount's status for people: one block of at most 80 columns.

use std::collections::BTreeSet;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::block::Block;
use super::{programs, tier};
use crate::cli::support::output::{self, count, size};
use crate::control::status::{OpenFile, Origin, SeenFailure, Source, SourceState, Status, Waiting};
use crate::stats::{Operation, Phase};

/// Most failures, open files and sources that are shown; the others are counted.
const MOST_FAILURES: usize = 5;
const MOST_OPEN: usize = 5;

/// The block of a mount.
pub(super) fn of(status: &Status, now: SystemTime) -> String {
    let elsewhere: String = status
        .elsewhere
        .iter()
        .map(|path| format!(", also on {path}"))
        .collect();
    let mut block = Block::new(&format!("{}{elsewhere}", status.mountpoint));
    sources(&mut block, status);
    block.add(
        "mounted",
        &format!(
            "since {}, {} ago; pid {}, fetchfs {}",
            humantime::format_rfc3339_seconds(UNIX_EPOCH + Duration::from_secs(status.mounted_at)),
            duration(status.mounted_for),
            status.pid,
            status.version
        ),
    );
    cache(&mut block, status);
    reads(&mut block, status);
    network(&mut block, status);
    block.add(
        "names",
        &format!(
            "{}, {} known so far",
            count(status.known_files, "file"),
            size(status.known_bytes)
        ),
    );
    if let Some(left_out) = &status.left_out {
        block.add("names", left_out);
    }
    waiting(&mut block, &status.waiting);
    open(&mut block, status);
    programs::add(&mut block, &status.programs);
    status
        .servers()
        .for_each(|origin| block.add("servers", &server(origin)));
    if let Some(tier) = &status.tier {
        tier::add(&mut block, tier);
    }
    for down in &status.down {
        let time = duration(down.seconds);
        block.add("down", &format!("{} for {time}: {}", down.origin, down.reason));
    }
    failures(&mut block, &status.failures, now);
    if !status.options.is_empty() {
        block.add("options", &status.options.join(" "));
    }
    if let Some(http) = &status.http {
        block.add("http", http);
    }
    if !status.log.is_empty() {
        block.add("log", &status.log);
    }
    block.text()
}

/// The sources, with their kinds and whether they can be reached.
fn sources(block: &mut Block, status: &Status) {
    if status.sources.is_empty() {
        let kinds = status.kinds.join(", ");
        block.add("sources", &format!("{} ({kinds})", status.source));
        return;
    }
    block.add(
        "sources",
        &format!("{} ({})", status.source, count(status.sources.len() as u64, "source")),
    );
    for source in &status.sources {
        block.add("sources", &of_library(source));
    }
}

/// A source of a library: its place, its URL, and whether it can be listed.
fn of_library(source: &Source) -> String {
    let state = match (source.state, &source.reason) {
        (SourceState::Unasked, _) => "not asked yet".to_owned(),
        (SourceState::Up, _) => source.kind.clone().unwrap_or_else(|| "up".to_owned()),
        (SourceState::Down, reason) => {
            let reason = reason.as_deref().unwrap_or("it can't be listed");
            format!("down for {}: {reason}", duration(source.seconds.unwrap_or_default()))
        }
    };
    format!("/{}: {} ({state})", source.at, source.url)
}

fn cache(block: &mut Block, status: &Status) {
    block.add(
        "cache",
        &format!(
            "{} of {} ({}) in {}",
            size(status.cached_bytes),
            size(status.cache_limit),
            percent(status.cached_bytes, status.cache_limit),
            status.cache_dir
        ),
    );
    if let Some(why) = &status.cache_trouble {
        block.add("cache", &format!("{why}; reads bypass the cache"));
    }
    let totals = &status.totals;
    if totals.evicted_bytes > 0 {
        let files = count(totals.evicted_files, "file");
        block.add(
            "cache",
            &format!("evicted {} and {files} as a whole", size(totals.evicted_bytes)),
        );
    }
}

fn reads(block: &mut Block, status: &Status) {
    let totals = &status.totals;
    let (reads, bytes) = (
        totals.hit_reads + totals.miss_reads,
        totals.hit_bytes + totals.miss_bytes,
    );
    let failed = match totals.failed_reads {
        0 => String::new(),
        failed => format!("; {failed} failed"),
    };
    let value = match reads {
        0 => "none".to_owned(),
        _ => format!(
            "{} of {}; without a wait: {} of them, {} of the bytes",
            reads,
            size(bytes),
            percent(totals.hit_reads, reads),
            percent(totals.hit_bytes, bytes)
        ),
    };
    block.add("reads", &format!("{value}{failed}"));
}

fn network(block: &mut Block, status: &Status) {
    let totals = &status.totals;
    let unread = totals.over_fetched_bytes();
    let unread = match unread {
        0 => String::new(),
        _ => format!(
            ", of that not read so far: {} ({})",
            size(unread),
            percent(unread, totals.fetched_bytes)
        ),
    };
    let rate = size(status.fetching_rate.unwrap_or_default());
    block.add(
        "network",
        &format!("{rate}/s now; fetched {}{unread}", size(totals.fetched_bytes)),
    );
    if status.jobs > 0 {
        block.add(
            "network",
            &format!("{} in the background", count(status.jobs as u64, "prefetch job")),
        );
    }
}

/// What waits, the longest wait first.
fn waiting(block: &mut Block, waiting: &Waiting) {
    let mut parts: Vec<String> = Vec::new();
    for (&phase, &reads) in &waiting.reads {
        parts.push(format!("{} {}", count(reads, "read"), of_phase(phase)));
    }
    if waiting.names > 0 {
        parts.push(format!(
            "{} for a listing or an answer about a name",
            count(waiting.names, "request")
        ));
    }
    if parts.is_empty() {
        return;
    }
    block.add("waiting", &parts.join(", "));
    if let Some(longest) = waiting.longest.first() {
        let time = duration(longest.waited_ms / 1000);
        block.add(
            "waiting",
            &format!("longest: {time}, at {} of {}", size(longest.offset), longest.url),
        );
    }
}

/// What a read waits for.
fn of_phase(phase: Phase) -> &'static str {
    match phase {
        Phase::Queued => "queued",
        Phase::Connecting => "connecting",
        Phase::Tls => "in the TLS handshake",
        Phase::FirstByte => "waiting for the first byte",
        Phase::Transferring => "transferring",
        Phase::Throttled => "throttled",
        Phase::BackingOff => "backing off after a failure",
        Phase::Disk => "waiting for the cache's disk",
    }
}

/// The open files, with the processes that read them.
fn open(block: &mut Block, status: &Status) {
    if status.open_file_count == 0 {
        return;
    }
    block.add("open", &count(status.open_file_count, "file"));
    for file in status.open_files.iter().take(MOST_OPEN) {
        block.add("open", &of_open(file));
    }
    more(block, "open", status.open_file_count as usize, MOST_OPEN);
}

fn of_open(file: &OpenFile) -> String {
    let name = match &file.path {
        Some(path) => path.as_path().display().to_string(),
        None => file.url.clone(),
    };
    let cached = percent(file.cached_bytes, file.size);
    let at = match file.is_passthrough {
        true => "read by the kernel".to_owned(),
        false => format!("at {}", percent(file.position, file.size)),
    };
    let process = file.process.as_ref();
    let process = process.map_or(String::new(), |process| {
        format!(", {} (pid {})", process.name, process.pid)
    });
    format!("{name}: {at}, {cached} cached{process}")
}

fn server(origin: &Origin) -> String {
    let mut parts = Vec::new();
    if origin.connections > 0 {
        parts.push(format!("{} of {} connections busy", origin.fetches, origin.connections));
    }
    if let (Some(latency), Some(rate)) = (origin.latency_ms, origin.connection_rate) {
        parts.push(format!("latency {latency} ms"));
        parts.push(format!("{}/s on each", size(rate)));
    }
    if origin.waiters > 0 {
        parts.push(format!("{} waiting", count(origin.waiters as u64, "read")));
    }
    if origin.wanted_bytes > 0 {
        parts.push(format!("{} queued", size(origin.wanted_bytes)));
    }
    let failed = |status: &&String| status.starts_with(['4', '5']);
    let statuses: BTreeSet<&String> = origin.responses.keys().filter(failed).collect();
    for status in statuses {
        let times = count(origin.responses[status], "time");
        parts.push(format!("{times} {status}"));
    }
    if origin.unanswered_requests > 0 {
        parts.push(format!("{} unanswered", count(origin.unanswered_requests, "request")));
    }
    if parts.is_empty() {
        parts.push("no request for data yet".to_owned());
    }
    format!("{}: {}", origin.origin, parts.join(", "))
}

fn failures(block: &mut Block, failures: &[SeenFailure], now: SystemTime) {
    let now = now.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    for seen in failures.iter().take(MOST_FAILURES) {
        let operation = match seen.operation {
            Operation::Lookup => "look-up",
            Operation::List => "listing",
            Operation::Open => "open",
            Operation::Read => "read",
        };
        block.add(
            "failed",
            &format!(
                "{} {operation}, {}, last {} ago: {}: {}",
                seen.errno,
                count(seen.count, "time"),
                duration(now.saturating_sub(seen.last)),
                if seen.url.is_empty() { "(no server)" } else { &seen.url },
                seen.reason
            ),
        );
    }
    more(block, "failed", failures.len(), MOST_FAILURES);
}

/// How many were not shown.
fn more(block: &mut Block, name: &'static str, all: usize, shown: usize) {
    if all > shown {
        block.add(name, &format!("and {} more (--json shows them)", all - shown));
    }
}

/// Rounded down: 100 % is all of it.
pub(super) fn percent(part: u64, whole: u64) -> String {
    match whole {
        0 => "100 %".to_owned(),
        _ => format!("{} %", output::percent(part, whole)),
    }
}

pub(super) fn duration(seconds: u64) -> String {
    humantime::format_duration(Duration::from_secs(seconds)).to_string()
}

#[cfg(test)]
pub(super) mod tests;
