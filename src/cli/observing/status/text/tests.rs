use super::*;
use crate::control::protocol::TreePath;
use crate::control::status::{Down, Process, ProgramTraffic, Reads, Tier, TierName, TierNode, Totals, WaitingRead};
use crate::stats::ScanClass;

/// A program that has read so many MiB, and so many were fetched for it.
fn program(name: &str, read: u64, fetched: u64, scanner: Option<ScanClass>, refused_reads: u64) -> ProgramTraffic {
    ProgramTraffic {
        name: Some(name.into()),
        read_bytes: read << 20,
        fetched_bytes: fetched << 20,
        scanner,
        refused_reads,
    }
}

/// A mount in which a lot goes on.
pub(in crate::cli) fn busy() -> Status {
    Status {
        source: "https://example.org/pub/".into(),
        kinds: vec!["index".into()],
        sources: Vec::new(),
        mountpoint: "/mnt/pub".into(),
        elsewhere: vec!["/srv/pub".into()],
        pid: 4711,
        version: "0.1.0".into(),
        mounted_for: 7384,
        mounted_at: 1_700_000_000,
        options: vec!["--bwlimit=2MB".into(), "--allow-other".into()],
        log: "the system log; `journalctl -t fetchfs` shows it".into(),
        http: Some("http://127.0.0.1:9090/".into()),
        cache_dir: "/var/cache/fetchfs".into(),
        cached_bytes: 3 << 30,
        cache_limit: 20 << 30,
        cache_trouble: Some("it can't be written (No space left on device)".into()),
        known_files: 1234,
        known_bytes: 5 << 40,
        left_out: Some("2 links with a query are not shown (use --query-links)".into()),
        fetched_bytes: 1 << 30,
        fetching_rate: Some(12 << 20),
        totals: Totals {
            hit_reads: 900,
            hit_bytes: 95 << 20,
            miss_reads: 100,
            miss_bytes: 10 << 20,
            failed_reads: 3,
            fetched_bytes: 1 << 30,
            used_bytes: 1000 << 20,
            evicted_files: 2,
            evicted_bytes: 3 << 20,
        },
        reads: Reads::default(),
        waiting: Waiting {
            reads: [(Phase::FirstByte, 2), (Phase::BackingOff, 1)].into(),
            longest: vec![WaitingRead {
                url: "https://example.org/pub/a%20film.mkv".into(),
                offset: 5 << 20,
                phase: Phase::BackingOff,
                waited_ms: 12_345,
            }],
            names: 1,
        },
        open_file_count: 7,
        open_files: vec![OpenFile {
            path: TreePath::new("films/a film.mkv".into()),
            url: "https://example.org/pub/films/a%20film.mkv".into(),
            size: 100 << 20,
            cached_bytes: 25 << 20,
            position: 12 << 20,
            read_bytes: 12 << 20,
            is_passthrough: false,
            process: Some(Process {
                pid: 99,
                name: "mpv".into(),
            }),
        }],
        programs: vec![
            program("mpv", 80, 95, None, 0),
            program("tumblerd", 12, 16, Some(ScanClass::Limited), 3),
            program("ffprobe", 2, 4, Some(ScanClass::Gentle), 0),
        ],
        errors: Vec::new(),
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
            responses: [("206".to_owned(), 120), ("500".to_owned(), 3)].into(),
            ..Origin::default()
        }],
        down: vec![Down {
            origin: "https://mirror.example.org:443".into(),
            seconds: 95,
            reason: "the server refused the connection".into(),
        }],
        tier: None,
    }
}

/// A node that has served bytes, and why it is not used.
pub(in crate::cli) fn tier_node(url: &str, unused: Option<&str>) -> TierNode {
    TierNode {
        url: url.into(),
        group: 0,
        name: None,
        unused: unused.map(str::to_owned),
        p99_ms: Some(4.2),
        requests: 1200,
        hits: 1176,
        misses: 24,
        hedged_requests: 0,
        failed_requests: 0,
        received_bytes: 1 << 30,
    }
}

/// A DNS name of a tier that is looked up again by the next read, and why its last look-up failed.
pub(in crate::cli) fn tier_name(name: &str, nodes: usize, error: Option<&str>) -> TierName {
    TierName {
        name: name.into(),
        nodes,
        next_lookup_seconds: 0,
        error: error.map(str::to_owned),
        lookups: 9,
        failed_lookups: 0,
    }
}

#[test]
fn busy_mount_is_one_aligned_block() {
    let text = of(&busy(), UNIX_EPOCH + Duration::from_secs(1_700_007_384));
    assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
    insta::assert_snapshot!(text);
}

#[test]
fn idle_mount_is_short() {
    let status = Status {
        elsewhere: Vec::new(),
        cache_trouble: None,
        left_out: None,
        totals: Totals::default(),
        waiting: Waiting::default(),
        open_file_count: 0,
        open_files: Vec::new(),
        programs: Vec::new(),
        failures: Vec::new(),
        jobs: 0,
        origins: Vec::new(),
        down: Vec::new(),
        ..busy()
    };
    insta::assert_snapshot!(of(&status, UNIX_EPOCH));
}

#[test]
fn tier_shows_its_nodes() {
    let tier = Tier {
        nodes: vec![
            tier_node("http://10.0.0.5:8080", None),
            TierNode {
                hedged_requests: 1,
                ..tier_node("http://10.0.0.6:8080", Some("it does not answer"))
            },
            TierNode {
                name: Some("dns:tier.example.org".into()),
                ..tier_node("http://10.0.0.7:8080", None)
            },
        ],
        names: vec![
            TierName {
                next_lookup_seconds: 25,
                ..tier_name("dns:tier.example.org", 1, None)
            },
            tier_name("dns:a", 0, Some("DNS has no such name")),
        ],
        received_bytes: 2 << 30,
        other_received_bytes: 3 << 20,
    };
    let status = Status {
        tier: Some(tier),
        ..busy()
    };
    let text = of(&status, UNIX_EPOCH);
    let shown: Vec<_> = text
        .lines()
        .skip_while(|line| !line.trim_start().starts_with("tier"))
        .take(9)
        .collect();
    insta::assert_snapshot!(shown.join("\n"));
}

#[test]
fn library_shows_its_sources() {
    let source = |at: &str, state, reason: Option<&str>| Source {
        at: at.into(),
        url: format!("https://example.org/{at}/"),
        kind: Some("index".into()),
        state,
        reason: reason.map(str::to_owned),
        seconds: reason.map(|_| 60),
    };
    let status = Status {
        sources: vec![
            source("films", SourceState::Up, None),
            source("music", SourceState::Down, Some("the server refused the connection")),
            source("books", SourceState::Unasked, None),
        ],
        ..busy()
    };
    let text = of(&status, UNIX_EPOCH);
    let shown: Vec<_> = text.lines().skip(1).take(5).collect();
    insta::assert_snapshot!(shown.join("\n"));
}
