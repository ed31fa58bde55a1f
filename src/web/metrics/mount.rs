//! The metrics of a mount. docs/monitoring.md has the table for users.

use std::collections::BTreeMap;
use std::iter;

use http::StatusCode;
use serde::Serialize;

use super::encode::{Buckets, Metrics, Value};
use super::{MOST_ORIGINS, programs, tier};
use crate::control::status::{Latency, Origin, Reads, SourceState, Status};
use crate::stats::Phase;

/// Writes all of them.
pub(super) fn encode(metrics: &mut Metrics<'_>, status: &Status) -> std::fmt::Result {
    about(metrics, status)?;
    reads(metrics, status)?;
    cache(metrics, status)?;
    waiting(metrics, status)?;
    programs::encode(metrics, &status.programs)?;
    let origins = shown(&status.origins);
    requests(metrics, &origins)?;
    health(metrics, status, &origins)?;
    sources(metrics, status)?;
    status.tier.as_ref().map_or(Ok(()), |tier| tier::encode(metrics, tier))
}

fn about(metrics: &mut Metrics<'_>, status: &Status) -> std::fmt::Result {
    metrics.gauges(
        "fetchfs_build_info",
        "Version of the mount's program; always 1",
        [([("version", Value(&status.version))], 1.0)],
    )?;
    metrics.gauges(
        "fetchfs_mount_info",
        "Where it is mounted; always 1",
        [([("mountpoint", Value(&status.mountpoint))], 1.0)],
    )?;
    metrics.gauge(
        "fetchfs_mount_start_time_seconds",
        "When it was mounted, in seconds since 1970",
        status.mounted_at,
    )
}

fn reads(metrics: &mut Metrics<'_>, status: &Status) -> std::fmt::Result {
    let totals = &status.totals;
    let by = |result| [("result", Value(result))];
    metrics.counters(
        "fetchfs_reads",
        "Reads of programs: hit without a wait for the network, miss after one, error",
        [
            (by("hit"), totals.hit_reads),
            (by("miss"), totals.miss_reads),
            (by("error"), totals.failed_reads),
        ],
    )?;
    metrics.counters(
        "fetchfs_read_bytes",
        "Bytes that these reads got",
        [(by("hit"), totals.hit_bytes), (by("miss"), totals.miss_bytes)],
    )?;
    let misses: Vec<_> = status
        .reads
        .misses
        .iter()
        .map(|(reason, count)| (name(reason), *count))
        .collect();
    metrics.counters(
        "fetchfs_read_misses",
        "Reads that waited, by why their bytes could not be used",
        misses
            .iter()
            .map(|(reason, count)| ([("reason", Value(reason))], *count)),
    )?;
    latency(metrics, &status.reads)?;
    let errors: Vec<_> = status
        .errors
        .iter()
        .map(|error| (name(error.operation), error))
        .collect();
    metrics.counters(
        "fetchfs_errors",
        "Errors that programs got, by what they did and by errno",
        errors.iter().map(|(operation, error)| {
            let labels = [("operation", Value(operation)), ("errno", Value(&error.errno))];
            (labels, error.count)
        }),
    )?;
    metrics.gauge(
        "fetchfs_open_files",
        "Files that programs have open",
        status.open_file_count,
    )
}

/// Reads that did not wait have the cause `cached`, the others what they waited for longest.
fn latency(metrics: &mut Metrics<'_>, reads: &Reads) -> std::fmt::Result {
    let waited = reads.waited.iter().map(|(phase, latency)| (name(phase), latency));
    let all: Vec<_> = iter::once(("cached".to_owned(), &reads.cached)).chain(waited).collect();
    metrics.histograms(
        "fetchfs_read_duration_seconds",
        "Time of reads from the request to the bytes, by what they waited for longest; cached: they did not wait",
        all.iter()
            .map(|(cause, latency)| ([("cause", Value(cause))], histogram(&reads.bounds_us, latency))),
    )
}

fn histogram(bounds_us: &[u64], latency: &Latency) -> Buckets {
    let bounds = bounds_us.iter().map(|&bound| bound as f64 / 1e6).chain([f64::MAX]);
    Buckets {
        sum: latency.sum_us as f64 / 1e6,
        count: latency.count,
        counts: bounds.zip(latency.buckets.iter().copied()).collect(),
    }
}

fn cache(metrics: &mut Metrics<'_>, status: &Status) -> std::fmt::Result {
    let totals = &status.totals;
    metrics.counter(
        "fetchfs_fetched_bytes",
        "Bytes of files that servers have sent",
        totals.fetched_bytes,
    )?;
    metrics.counter(
        "fetchfs_fetched_read_bytes",
        "Those of the fetched bytes that a program has read since, each once",
        totals.used_bytes,
    )?;
    metrics.counter(
        "fetchfs_evicted_bytes",
        "Bytes that this mount's process has evicted from the cache",
        totals.evicted_bytes,
    )?;
    metrics.counter(
        "fetchfs_evicted_files",
        "Files of which it has evicted the last chunk",
        totals.evicted_files,
    )?;
    metrics.gauge(
        "fetchfs_cache_used_bytes",
        "Size of the cache, over all mounts that share it",
        status.cached_bytes,
    )?;
    metrics.gauge(
        "fetchfs_cache_limit_bytes",
        "Maximum size of the cache",
        status.cache_limit,
    )?;
    metrics.gauge(
        "fetchfs_cache_bypassed",
        "1 while the cache's disk fails and reads bypass it, else 0",
        status.cache_trouble.is_some().into(),
    )?;
    metrics.gauge(
        "fetchfs_known_files",
        "Files in the listings fetched so far",
        status.known_files,
    )?;
    metrics.gauge("fetchfs_known_bytes", "Sum of their sizes", status.known_bytes)?;
    metrics.gauge(
        "fetchfs_prefetch_jobs",
        "Prefetch jobs in the background",
        status.jobs as u64,
    )
}

fn waiting(metrics: &mut Metrics<'_>, status: &Status) -> std::fmt::Result {
    let reads = Phase::ALL.map(|phase| {
        (
            name(phase),
            status.waiting.reads.get(&phase).copied().unwrap_or_default(),
        )
    });
    metrics.gauges(
        "fetchfs_waiting_reads",
        "Reads that wait now, by what they wait for",
        reads
            .iter()
            .map(|(phase, count)| ([("reason", Value(phase))], *count as f64)),
    )?;
    metrics.gauge(
        "fetchfs_waiting_names",
        "Look-ups, listings and opens that wait for a server now",
        status.waiting.names,
    )
}

fn requests(metrics: &mut Metrics<'_>, origins: &[&Origin]) -> std::fmt::Result {
    let of = |origin: &'_ Origin| {
        let mut by_code: BTreeMap<String, u64> = BTreeMap::new();
        for (code, count) in &origin.responses {
            *by_code.entry(label(code)).or_default() += count;
        }
        if origin.unanswered_requests > 0 {
            by_code.insert("none".to_owned(), origin.unanswered_requests);
        }
        by_code
    };
    let counted: Vec<_> = origins.iter().map(|origin| (&*origin.origin, of(origin))).collect();
    let series = counted.iter().flat_map(|(origin, by_code)| {
        let labels = |code| [("origin", Value(origin)), ("code", Value(code))];
        by_code.iter().map(move |(code, count)| (labels(code), *count))
    });
    metrics.counters(
        "fetchfs_requests",
        "Requests to an origin by the status of the response, redirects included; code none: no response",
        series,
    )?;
    metrics.counters(
        "fetchfs_received_bytes",
        "Bytes of the bodies of an origin's responses: listings and data",
        origins.iter().map(|origin| ([by(origin)], origin.received_bytes)),
    )
}

fn health(metrics: &mut Metrics<'_>, status: &Status, origins: &[&Origin]) -> std::fmt::Result {
    let is_up = |origin: &Origin| !status.down.iter().any(|down| down.origin == origin.origin);
    let mut each = |name, help, value: &dyn Fn(&Origin) -> Option<f64>| {
        let values = origins.iter().filter_map(|origin| Some(([by(origin)], value(origin)?)));
        metrics.gauges(name, help, values)
    };
    each(
        "fetchfs_origin_up",
        "0 while an origin is paused after failures, else 1",
        &|origin| Some(f64::from(u8::from(is_up(origin)))),
    )?;
    each(
        "fetchfs_origin_fetches",
        "Data requests to an origin in flight",
        &|origin| Some(origin.fetches as f64),
    )?;
    each(
        "fetchfs_origin_connection_limit",
        "Most data requests in flight: --max-connections, or what the origin allows",
        &|origin| (origin.connections > 0).then_some(origin.connections as f64),
    )?;
    each(
        "fetchfs_origin_waiting_reads",
        "Reads and prefetches that wait for bytes of an origin",
        &|origin| Some(origin.waiters as f64),
    )?;
    each(
        "fetchfs_origin_queued_bytes",
        "Bytes that are wanted of an origin and not requested yet",
        &|origin| Some(origin.wanted_bytes as f64),
    )?;
    each(
        "fetchfs_origin_latency_seconds",
        "Measured time from a request to its response",
        &|origin| origin.latency_ms.map(|milliseconds| milliseconds / 1e3),
    )?;
    each(
        "fetchfs_origin_connection_bytes_per_second",
        "Measured rate of one connection",
        &|origin| origin.connection_rate.map(|rate| rate as f64),
    )
}

fn sources(metrics: &mut Metrics<'_>, status: &Status) -> std::fmt::Result {
    if status.sources.is_empty() {
        return Ok(());
    }
    let values = status.sources.iter().filter_map(|source| {
        let is_up = match source.state {
            SourceState::Unasked => return None,
            SourceState::Up => 1.0,
            SourceState::Down => 0.0,
        };
        Some(([("place", Value(&source.at)), ("url", Value(&source.url))], is_up))
    });
    metrics.gauges(
        "fetchfs_source_up",
        "1 if a source of the library gave its names when it was last asked, 0 if not",
        values,
    )
}

fn by(origin: &Origin) -> (&'static str, Value<'_>) {
    ("origin", Value(&origin.origin))
}

/// The origins that have metrics, ordered by name.
fn shown(all: &[Origin]) -> Vec<&Origin> {
    let requests = |origin: &&Origin| origin.responses.values().sum::<u64>() + origin.unanswered_requests;
    let mut shown: Vec<&Origin> = all.iter().collect();
    shown.sort_by_key(|origin| std::cmp::Reverse(requests(origin)));
    shown.truncate(MOST_ORIGINS);
    shown.sort_by(|one, other| one.origin.cmp(&other.origin));
    shown
}

/// The name of a case, as JSON has it.
fn name(case: impl Serialize) -> String {
    let name = serde_json::to_value(case).ok();
    name.as_ref()
        .and_then(|name| name.as_str())
        .unwrap_or_default()
        .to_owned()
}

/// The label of a status. A hostile server can send any of nine hundred, so those without a name are counted by their
/// class.
fn label(code: &str) -> String {
    let known = code
        .parse::<u16>()
        .ok()
        .and_then(|code| StatusCode::from_u16(code).ok());
    match known {
        Some(known) if known.canonical_reason().is_some() => code.to_owned(),
        _ => format!("{}xx", code.get(..1).unwrap_or("0")),
    }
}
