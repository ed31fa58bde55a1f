//! Slow reads for people: a head line, a bar whose letters stand for what the read waited for, and a sentence.

use std::io::{IsTerminal, stdout};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::cli::observing::status::wrapped;
use crate::cli::support::output::{count, size};
use crate::cli::support::targets;
use crate::control::explain::{Explained, ReadState, ReadSums, SlowRead};
use crate::mount::mountpoint::InMount;
use crate::stats::{MissReason, Phase};

/// Columns before the lines of a read.
const MARGIN: usize = 2;

/// Fewest columns that lines are made for; a narrower terminal wraps them.
const NARROWEST: usize = 40;

/// Stands for a space at which no line ends.
const NO_BREAK: &str = "\u{a0}";

/// Columns of the output: those of the terminal, or 80.
pub(super) fn width() -> usize {
    terminal_size::terminal_size()
        .filter(|_| stdout().is_terminal())
        .map_or(80, |(width, _)| usize::from(width.0))
        .max(NARROWEST)
}

/// How the reads of a path went, with at most `number` slow ones, in lines of at most `width` columns.
pub(super) fn of(mount: &InMount, explained: &Explained, number: usize, now: SystemTime, width: usize) -> String {
    let shown = |path| targets::shown(mount, path);
    let mut text = format!("{}\n", shown(&explained.path));
    if let Some(reads) = &explained.reads {
        paragraph(&mut text, &summary(reads, !explained.slow.is_empty()), width);
    } else if explained.slow.is_empty() {
        paragraph(&mut text, "No slow reads are remembered of the files in it.", width);
    }
    for read in explained.slow.iter().take(number) {
        text.push('\n');
        if explained.is_directory {
            let name = read.path.as_ref().map_or_else(|| read.url.clone(), shown);
            paragraph(&mut text, &name, width);
        }
        paragraph(&mut text, &head(read, now), width);
        paragraph(&mut text, &bar(read, width - MARGIN), width);
        paragraph(&mut text, &legend(read), width);
        paragraph(&mut text, &read.advice, width);
    }
    let more = explained.slow.len().saturating_sub(number);
    if more > 0 {
        let more = format!(
            "and {} (-n {} shows them)",
            count(more as u64, "faster read"),
            explained.slow.len()
        );
        text.push('\n');
        paragraph(&mut text, &more, width);
    }
    text
}

fn paragraph(text: &mut String, words: &str, width: usize) {
    for line in wrapped(words, width - MARGIN) {
        text.push_str(&format!("{:MARGIN$}{}\n", "", line.replace(NO_BREAK, " ")));
    }
}

fn summary(reads: &ReadSums, has_slow: bool) -> String {
    let ended = reads.cached + reads.waited + reads.failed;
    let unseen = match reads.is_passthrough {
        true => " The kernel reads it by itself, because all of it is cached: such reads are not seen here.",
        false => "",
    };
    if ended == 0 && !has_slow {
        return format!("No read is remembered.{unseen}");
    }
    let mut parts = Vec::new();
    let mut part = |number: u64, time: u64, what: &str| {
        if let Some(average) = time.checked_div(number) {
            parts.push(format!("{number} {what} ({} on average)", spent(average)));
        }
    };
    part(reads.cached, reads.cached_us, "from the cache");
    part(reads.waited, reads.waited_us, "after a wait");
    if reads.failed > 0 {
        parts.push(format!("{} failed", reads.failed));
    }
    let longest = match reads.longest_us {
        0 => String::new(),
        time => format!("; the longest took {}", spent(time)),
    };
    let parts = if parts.is_empty() {
        "none has ended".to_owned()
    } else {
        parts.join(", ")
    };
    let slow = if has_slow { "" } else { " None of them was slow." };
    format!("{}: {parts}{longest}.{slow}{unseen}", count(ended, "read"))
}

/// When it was, and what it read.
fn head(read: &SlowRead, now: SystemTime) -> String {
    let now = now.duration_since(UNIX_EPOCH).unwrap_or_default();
    let ago = now.saturating_sub(Duration::from_millis(read.at_ms)).as_secs();
    let ago = match ago {
        0 => "just now".to_owned(),
        _ => format!("{} ago", humantime::format_duration(Duration::from_secs(ago))),
    };
    let took = spent(read.took_us);
    let took = match read.state {
        ReadState::Waiting => format!("{took} so far:"),
        ReadState::Done => format!("{took}:"),
        ReadState::Failed => format!("{took}, failed:"),
    };
    let mut head = format!("{took} {} at {}, {ago}", size(read.length), size(read.offset));
    if let Some(process) = &read.process {
        head.push_str(&format!(", by {} (pid {})", process.name, process.pid));
    }
    if let Some(server) = &read.server {
        head.push_str(&format!(", from {server}"));
    }
    match (read.state, read.miss) {
        (ReadState::Failed, _) => {
            let error = read.error.as_deref().unwrap_or("for an unknown reason");
            head.push_str(&format!(": {error}"));
        }
        (ReadState::Done, None) => head.push_str("; cached"),
        (_, Some(reason)) => head.push_str(&format!("; {}", of_reason(reason))),
        (ReadState::Waiting, None) => {}
    }
    head
}

fn of_reason(reason: MissReason) -> &'static str {
    match reason {
        MissReason::NotCached => "not cached",
        MissReason::VersionChanged => "not cached in this version of the file",
        MissReason::Evicted => "evicted from the cache",
        MissReason::InFlight => "on its way when it was read",
        MissReason::Unconfirmed => "cached, but the server had to confirm its version",
        MissReason::Unverified => "cached, but unverified since a crash",
        MissReason::Lost => "lost from the cache",
        MissReason::Bypass => "the cache can't hold it",
    }
}

/// The letter of a phase in the bar, and its name.
fn of_phase(phase: Phase) -> (char, &'static str) {
    match phase {
        Phase::Queued => ('q', "queue"),
        Phase::Connecting => ('c', "connect"),
        Phase::Tls => ('t', "TLS"),
        Phase::FirstByte => ('f', "first byte"),
        Phase::Transferring => ('x', "transfer"),
        Phase::Throttled => ('l', "limit"),
        Phase::BackingOff => ('b', "back-off"),
        Phase::Disk => ('d', "disk"),
    }
}

/// The phases that took a hundredth of the time at least, and how long.
fn notable(read: &SlowRead) -> Vec<(Phase, u64)> {
    let times = read.times_us.iter().map(|(&phase, &time)| (phase, time));
    times.filter(|(_, time)| *time >= read.took_us / 100).collect()
}

/// One letter for each share of the time, in the order of a read.
fn bar(read: &SlowRead, width: usize) -> String {
    let notable = notable(read);
    let all: u64 = notable.iter().map(|(_, time)| time).sum::<u64>().max(1);
    // Room for a letter that each takes beyond its share.
    let room = (width - notable.len().min(width)) as u128;
    let share = |time: u64| (u128::from(time) * room / u128::from(all)) as usize + 1;
    let letters = notable
        .iter()
        .map(|&(phase, time)| of_phase(phase).0.to_string().repeat(share(time)));
    letters.collect()
}

/// The letters of the bar with their times.
fn legend(read: &SlowRead) -> String {
    let parts = notable(read).into_iter().map(|(phase, time)| {
        let (letter, name) = of_phase(phase);
        // A part is not wrapped within.
        format!("{letter} {name} {}", spent(time)).replace(' ', NO_BREAK)
    });
    let parts: Vec<_> = parts.collect();
    parts.join(", ")
}

/// A time for people, from microseconds.
fn spent(time: u64) -> String {
    let seconds = time as f64 / 1e6;
    match time {
        0..1000 => format!("{:.2} ms", seconds * 1e3),
        1000..10_000 => format!("{:.1} ms", seconds * 1e3),
        10_000..1_000_000 => format!("{:.0} ms", seconds * 1e3),
        1_000_000..100_000_000 => format!("{seconds:.1} s"),
        _ => format!("{seconds:.0} s"),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::stats::Process;

    fn read(times_us: &[(Phase, u64)]) -> SlowRead {
        let times_us: BTreeMap<_, _> = times_us.iter().copied().collect();
        SlowRead {
            path: None,
            url: "http://h/f".to_owned(),
            state: ReadState::Done,
            error: None,
            at_ms: 1_700_000_000_000,
            offset: 3 << 30,
            length: 128 << 10,
            took_us: times_us.values().sum(),
            miss: Some(MissReason::NotCached),
            process: Some(Process {
                pid: 4711,
                name: "mpv".to_owned(),
            }),
            server: Some("https://example.org".to_owned()),
            times_us,
            mostly: Phase::FirstByte,
            advice: String::new(),
        }
    }

    #[test]
    fn bar_has_the_shares_of_the_phases() {
        let bar = bar(
            &read(&[(Phase::FirstByte, 750_000), (Phase::Transferring, 250_000)]),
            42,
        );
        assert_eq!(bar, format!("{}{}", "f".repeat(31), "x".repeat(11)));
    }

    #[test]
    fn bar_fits_and_has_no_phase_of_less_than_a_hundredth() {
        let mut times: Vec<_> = Phase::ALL.into_iter().map(|phase| (phase, 1)).collect();
        times[3].1 = 90;
        let bar = bar(&read(&times), 58);
        assert!(
            bar.starts_with("qctff") && bar.ends_with("ffxlbd") && bar.len() <= 58,
            "{bar}"
        );
        times[3].1 = 120_000_000;
        assert_eq!(
            super::bar(&read(&times), 58),
            "f".repeat(58),
            "the others took next to nothing"
        );
        assert_eq!(super::bar(&read(&[]), 58), "");
    }

    #[test]
    fn head_says_what_when_who_and_where_from() {
        let now = UNIX_EPOCH + Duration::from_secs(1_700_000_190);
        let mut read = read(&[(Phase::FirstByte, 1_940_000)]);
        assert_eq!(
            head(&read, now),
            "1.9 s: 128.0 KiB at 3.0 GiB, 3m 10s ago, by mpv (pid 4711), from https://example.org; not cached"
        );
        (read.state, read.miss, read.error) = (ReadState::Failed, None, Some("it timed out".to_owned()));
        assert!(head(&read, now).ends_with("from https://example.org: it timed out"));
        (read.state, read.error) = (ReadState::Waiting, None);
        assert!(head(&read, now).starts_with("1.9 s so far: "));
    }

    #[test]
    fn legend_names_each_letter_of_the_bar() {
        let read = read(&[(Phase::Queued, 12), (Phase::Tls, 25_000), (Phase::FirstByte, 1_940_000)]);
        let legend = legend(&read).replace(NO_BREAK, " ");
        assert_eq!(legend, "t TLS 25 ms, f first byte 1.9 s");
    }

    #[test]
    fn summary_says_how_reads_went() {
        let mut reads = ReadSums {
            cached: 1180,
            cached_us: 1180 * 25,
            waited: 24,
            waited_us: 24 * 5000,
            failed: 1,
            longest_us: 15_000,
            is_passthrough: false,
        };
        assert_eq!(
            summary(&reads, false),
            "1205 reads: 1180 from the cache (0.03 ms on average), 24 after a wait (5.0 ms on average), 1 failed; the \
             longest took 15 ms. None of them was slow."
        );
        assert!(!summary(&reads, true).contains("None"));
        reads = ReadSums::default();
        assert_eq!(summary(&reads, false), "No read is remembered.");
        reads.is_passthrough = true;
        assert!(summary(&reads, false).contains("by itself"));
    }
}
