//! `fetchfs status`: the mounts and their current activity.

use std::path::PathBuf;
use std::time::Duration;

use bytesize::ByteSize;
use clap::{Args, Command, FromArgMatches};

use super::support::{output, targets};
use crate::control::protocol::{Reply, Request};
use crate::control::status::{Origin, Source, SourceState, Status, Totals};
use crate::stats::Phase;

/// Show the mounts and their current activity
///
/// Cache sizes include all mounts that share the cache. Rates are current.
#[derive(Args)]
pub(super) struct StatusArgs {
    /// The mount; all of this user's mounts if none is named
    #[arg(value_name = "MOUNTPOINT")]
    mountpoints: Vec<PathBuf>,

    /// Print a JSON array with one object per mount
    #[arg(long)]
    json: bool,
}

pub(super) fn command() -> Command {
    StatusArgs::augment_args(Command::new("status"))
}

pub(super) fn run(matches: &clap::ArgMatches) -> anyhow::Result<()> {
    let args = StatusArgs::from_arg_matches(matches)?;
    let mut found = Vec::new();
    targets::ask_all(
        &args.mountpoints,
        &Request::Status { at_once: false },
        |mount, reply| match reply {
            Reply::Status(status) => {
                // The mount may have been moved since it began.
                let mut status = *status;
                status.mountpoint = mount.mountpoint.display().to_string();
                status.elsewhere = mount.elsewhere.iter().map(|path| path.display().to_string()).collect();
                found.push(status);
                Ok(())
            }
            _ => Err(targets::unexpected(mount)),
        },
    )?;
    let text = if args.json {
        serde_json::to_string_pretty(&found)? + "\n"
    } else if found.is_empty() {
        "nothing is mounted\n".to_owned()
    } else {
        found.iter().map(text).collect::<Vec<_>>().join("\n")
    };
    output::write(text)
}

/// A mount's state in a few lines for people.
fn text(status: &Status) -> String {
    let jobs = match status.jobs {
        0 => String::new(),
        1 => ", 1 prefetch in the background".to_owned(),
        jobs => format!(", {jobs} prefetches in the background"),
    };
    let trouble = match &status.cache_trouble {
        None => String::new(),
        Some(why) => format!("\n            {why}; reads bypass the cache"),
    };
    let elsewhere: String = status.elsewhere.iter().map(|path| format!(" and {path}")).collect();
    let left_out = match &status.left_out {
        None => String::new(),
        Some(what) => format!("\n            {what}"),
    };
    let mut text = format!(
        "{} on {}{elsewhere}\n  type      {}\n  process   {}, fetchfs {}, for {}\n  cache     {} of {} in {}{trouble}\n  known     {}, {}{left_out}\n  fetching  {}/s, {} \
         since it was mounted{jobs}\n",
        status.source,
        status.mountpoint,
        kinds(status),
        status.pid,
        status.version,
        humantime::format_duration(Duration::from_secs(status.mounted_for)),
        ByteSize(status.cached_bytes),
        ByteSize(status.cache_limit),
        status.cache_dir,
        output::count(status.known_files, "file"),
        ByteSize(status.known_bytes),
        ByteSize(status.fetching_rate.unwrap_or_default()),
        ByteSize(status.fetched_bytes),
    );
    status
        .sources
        .iter()
        .for_each(|source| text.push_str(&source_text(source)));
    status
        .origins
        .iter()
        .for_each(|origin| text.push_str(&origin_text(origin)));
    text.push_str(&activity_text(status));
    for down in &status.down {
        let time = humantime::format_duration(Duration::from_secs(down.seconds));
        text.push_str(&format!(
            "  {} has been down for {time}: {}\n",
            down.origin, down.reason
        ));
    }
    text
}

/// What programs have read, what they wait for, and which failures they saw.
fn activity_text(status: &Status) -> String {
    let Totals {
        hit_reads,
        hit_bytes,
        miss_reads,
        miss_bytes,
        evicted_bytes,
        ..
    } = status.totals;
    let mut text = format!(
        "  reads     {hit_reads} cached ({}), {miss_reads} fetched ({}), {} fetched and not read, {} evicted\n",
        ByteSize(hit_bytes),
        ByteSize(miss_bytes),
        ByteSize(status.totals.over_fetched_bytes()),
        ByteSize(evicted_bytes),
    );
    for (phase, reads) in &status.waiting.reads {
        text.push_str(&format!(
            "  waiting   {}: {}\n",
            output::count(*reads, "read"),
            phase_text(*phase)
        ));
    }
    if status.waiting.names > 0 {
        let names = output::count(status.waiting.names, "look-up or listing");
        text.push_str(&format!("  waiting   {names}\n"));
    }
    for seen in &status.failures {
        text.push_str(&format!(
            "  failed    {} ({}, {}): {}\n",
            seen.url,
            seen.errno,
            output::count(seen.count, "time"),
            seen.reason
        ));
    }
    text
}

/// What a read waits for.
fn phase_text(phase: Phase) -> &'static str {
    match phase {
        Phase::Queued => "queued",
        Phase::Connecting => "connecting",
        Phase::FirstByte => "waiting for the first byte",
        Phase::Transferring => "transferring",
        Phase::Throttled => "throttled",
        Phase::BackingOff => "backing off after a failure",
    }
}

/// The kinds of the sources; how many sources there are, for a library.
fn kinds(status: &Status) -> String {
    let kinds = status.kinds.join(", ");
    match status.sources.len() {
        0 => kinds,
        sources => format!("{kinds}, {}", output::count(sources as u64, "source")),
    }
}

/// A source of a library: its place, its URL, and whether it can be listed.
fn source_text(source: &Source) -> String {
    let state = match (source.state, &source.reason) {
        (SourceState::Unasked, _) => "not asked yet".to_owned(),
        (SourceState::Up, _) => source.kind.clone().unwrap_or_else(|| "up".to_owned()),
        (SourceState::Down, reason) => {
            let time = humantime::format_duration(Duration::from_secs(source.seconds.unwrap_or_default()));
            let reason = reason.as_deref().unwrap_or("it can't be listed");
            format!("down for {time}: {reason}")
        }
    };
    format!("  /{}  {}  {state}\n", source.at, source.url)
}

fn origin_text(origin: &Origin) -> String {
    let mut text = format!(
        "  {}: {} of {} connections in use, {} reads waiting, {} queued",
        origin.origin,
        origin.fetches,
        origin.connections,
        origin.waiters,
        ByteSize(origin.wanted_bytes)
    );
    if let (Some(latency), Some(rate)) = (origin.latency_ms, origin.connection_rate) {
        text.push_str(&format!("; latency {latency} ms, {}/s per connection", ByteSize(rate)));
    }
    text.push('\n');
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::status::{Down, SeenFailure, Waiting};
    use crate::stats::Operation;

    #[test]
    fn a_mount_is_some_lines() {
        let status = Status {
            source: "https://example.org/pub/".into(),
            kinds: vec!["index".into()],
            sources: Vec::new(),
            mountpoint: "/mnt/pub".into(),
            elsewhere: vec!["/srv/pub".into()],
            pid: 4711,
            version: "0.1.0".into(),
            mounted_for: 7384,
            cache_dir: "/var/cache/fetchfs".into(),
            cached_bytes: 3 << 30,
            cache_limit: 20 << 30,
            cache_trouble: Some("it can't be written (No space left on device (os error 28))".into()),
            known_files: 1234,
            known_bytes: 5 << 40,
            left_out: Some("2 links with a query are not shown (use --query-links)".into()),
            fetched_bytes: 1 << 30,
            fetching_rate: Some(12 << 20),
            totals: Totals {
                hit_reads: 900,
                hit_bytes: 90 << 20,
                miss_reads: 100,
                miss_bytes: 10 << 20,
                fetched_bytes: 1 << 30,
                used_bytes: 1000 << 20,
                evicted_files: 2,
                evicted_bytes: 3 << 20,
                ..Totals::default()
            },
            waiting: Waiting {
                reads: [(Phase::FirstByte, 2), (Phase::BackingOff, 1)].into(),
                ..Waiting::default()
            },
            open_file_count: 0,
            open_files: Vec::new(),
            failures: vec![SeenFailure {
                operation: Operation::Read,
                url: "https://example.org/pub/a".into(),
                errno: "EIO".into(),
                http_status: Some(500),
                reason: "the server answered 500".into(),
                count: 3,
                first: 1_700_000_000,
                last: 1_700_000_100,
            }],
            jobs: 1,
            origins: vec![Origin {
                origin: "https://example.org:443".into(),
                fetches: 3,
                connections: 16,
                waiters: 2,
                wanted_bytes: 8 << 20,
                latency_ms: Some(52.3),
                connection_rate: Some(20 << 20),
                ..Origin::default()
            }],
            down: vec![Down {
                origin: "https://mirror.example.org:443".into(),
                seconds: 95,
                reason: "the server refused the connection".into(),
            }],
        };
        insta::assert_snapshot!(text(&status), @"
        https://example.org/pub/ on /mnt/pub and /srv/pub
          type      index
          process   4711, fetchfs 0.1.0, for 2h 3m 4s
          cache     3.0 GiB of 20.0 GiB in /var/cache/fetchfs
                    it can't be written (No space left on device (os error 28)); reads bypass the cache
          known     1234 files, 5.0 TiB
                    2 links with a query are not shown (use --query-links)
          fetching  12.0 MiB/s, 1.0 GiB since it was mounted, 1 prefetch in the background
          https://example.org:443: 3 of 16 connections in use, 2 reads waiting, 8.0 MiB queued; latency 52.3 ms, 20.0 MiB/s per connection
          reads     900 cached (90.0 MiB), 100 fetched (10.0 MiB), 24.0 MiB fetched and not read, 3.0 MiB evicted
          waiting   2 reads: waiting for the first byte
          waiting   1 read: backing off after a failure
          failed    https://example.org/pub/a (EIO, 3 times): the server answered 500
          https://mirror.example.org:443 has been down for 1m 35s: the server refused the connection
        ");
    }
}
