use super::*;
use crate::control::status::{Down, Origin, ProgramTraffic, Tier, TierName, TierNode};
use crate::stats::ScanClass;

fn with_origins(origins: Vec<Origin>) -> Status {
    Status {
        origins,
        ..Status::default()
    }
}

fn origin(number: usize, responses: &[(&str, u64)]) -> Origin {
    Origin {
        origin: format!("https://h{number}:443"),
        responses: responses
            .iter()
            .map(|&(code, count)| (code.to_owned(), count))
            .collect(),
        ..Origin::default()
    }
}

fn lines_of<'a>(text: &'a str, name: &str) -> Vec<&'a str> {
    let is_of = |line: &&str| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' ']));
    text.lines().filter(is_of).collect()
}

#[test]
fn formats_differ_in_their_descriptions_alone() {
    let status = Status {
        fetched_bytes: 7,
        totals: crate::control::status::Totals {
            fetched_bytes: 7,
            ..Default::default()
        },
        ..Status::default()
    };
    let (classic, open) = (of(&status, Format::Classic), of(&status, Format::OpenMetrics));
    assert!(classic.contains("\n# TYPE fetchfs_fetched_bytes_total counter\nfetchfs_fetched_bytes_total 7\n"));
    assert!(open.contains("\n# TYPE fetchfs_fetched_bytes counter\nfetchfs_fetched_bytes_total 7\n"));
    assert!(open.ends_with("\n# EOF\n") && !classic.contains("# EOF"));
    // What is measured of the process differs from one moment to the next.
    let samples = |text: &str| {
        let samples = text.lines().filter(|line| line.starts_with("fetchfs_"));
        samples.map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(samples(&classic), samples(&open));
}

#[test]
fn format_is_the_one_that_is_asked_for() {
    let wanted = |accept: &'static str| {
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT, accept.parse().unwrap());
        Format::wanted(&headers)
    };
    let prometheus = "application/openmetrics-text;version=1.0.0;q=0.8,text/plain;version=0.0.4;q=0.5,*/*;q=0.1";
    assert_eq!(wanted(prometheus), Format::OpenMetrics);
    assert_eq!(wanted("*/*"), Format::Classic);
    assert_eq!(Format::wanted(&HeaderMap::new()), Format::Classic);
}

#[test]
fn values_of_labels_are_escaped() {
    let status = Status {
        mountpoint: "/mnt/a\"} 1\nb\\".to_owned(),
        ..Status::default()
    };
    let text = of(&status, Format::Classic);
    assert_eq!(
        lines_of(&text, "fetchfs_mount_info"),
        [r#"fetchfs_mount_info{mountpoint="/mnt/a\"} 1\nb\\"} 1.0"#]
    );
}

#[test]
fn statuses_without_a_name_are_one_series_a_class() {
    let status = with_origins(vec![origin(1, &[("200", 3), ("593", 1), ("594", 2), ("999", 4)])]);
    let text = of(&status, Format::Classic);
    assert_eq!(
        lines_of(&text, "fetchfs_requests_total"),
        [
            r#"fetchfs_requests_total{origin="https://h1:443",code="200"} 3"#,
            r#"fetchfs_requests_total{origin="https://h1:443",code="5xx"} 3"#,
            r#"fetchfs_requests_total{origin="https://h1:443",code="9xx"} 4"#,
        ]
    );
}

#[test]
fn origins_with_the_most_requests_are_shown() {
    let mut status = with_origins(
        (0..3 * MOST_ORIGINS)
            .map(|number| origin(number, &[("200", number as u64)]))
            .collect(),
    );
    status.down.push(Down {
        origin: "https://h299:443".to_owned(),
        seconds: 1,
        reason: "no route".to_owned(),
    });
    let text = of(&status, Format::Classic);
    let up = lines_of(&text, "fetchfs_origin_up");
    assert_eq!(up.len(), MOST_ORIGINS);
    assert!(
        up.contains(&r#"fetchfs_origin_up{origin="https://h299:443"} 0.0"#),
        "{up:?}"
    );
    assert!(
        up.contains(&r#"fetchfs_origin_up{origin="https://h200:443"} 1.0"#),
        "{up:?}"
    );
}

#[test]
fn nodes_of_a_tier_have_metrics_of_their_own() {
    let node = |url: &str, unused: Option<&str>| TierNode {
        url: url.to_owned(),
        group: 0,
        name: None,
        unused: unused.map(str::to_owned),
        p99_ms: None,
        requests: 9,
        hits: 5,
        misses: 2,
        hedged_requests: 1,
        failed_requests: 2,
        received_bytes: 4096,
    };
    let tier = Tier {
        nodes: vec![node("http://a/", None), node("http://b/", Some("it is left out"))],
        names: vec![TierName {
            name: "dns:tier.example.org".to_owned(),
            nodes: 2,
            next_lookup_seconds: 0,
            error: None,
            lookups: 7,
            failed_lookups: 3,
        }],
        received_bytes: 8192,
        other_received_bytes: 0,
    };
    let with_tier = Status {
        tier: Some(tier),
        ..Status::default()
    };
    let text = of(&with_tier, Format::Classic);
    let of_b = |name: &str| lines_of(&text, name)[1].to_owned();
    assert_eq!(
        of_b("fetchfs_tier_hits_total"),
        r#"fetchfs_tier_hits_total{node="http://b/"} 5"#
    );
    assert_eq!(
        of_b("fetchfs_tier_received_bytes_total"),
        r#"fetchfs_tier_received_bytes_total{node="http://b/"} 4096"#
    );
    assert_eq!(
        of_b("fetchfs_tier_node_used"),
        r#"fetchfs_tier_node_used{node="http://b/"} 0.0"#
    );
    for (metric, value) in [("nodes", "2.0"), ("lookups_total", "7"), ("failed_lookups_total", "3")] {
        let name = format!("fetchfs_tier_name_{metric}");
        let expected = format!(r#"{name}{{name="dns:tier.example.org"}} {value}"#);
        assert_eq!(lines_of(&text, &name), [expected]);
    }
    assert!(!of(&Status::default(), Format::Classic).contains("fetchfs_tier"));
}

#[test]
fn programs_are_summed_by_class() {
    let program = |name: Option<&str>, scanner, fetched_bytes| ProgramTraffic {
        name: name.map(str::to_owned),
        read_bytes: 1,
        fetched_bytes,
        scanner,
        refused_reads: u64::from(scanner == Some(ScanClass::Limited)),
    };
    let status = Status {
        programs: vec![
            program(Some("mpv"), None, 100),
            program(Some("tumblerd"), Some(ScanClass::Limited), 20),
            program(None, None, 3),
            program(None, Some(ScanClass::Limited), 4),
        ],
        ..Status::default()
    };
    let text = of(&status, Format::Classic);
    assert_eq!(
        lines_of(&text, "fetchfs_program_fetched_bytes_total"),
        [
            r#"fetchfs_program_fetched_bytes_total{class="ordinary"} 103"#,
            r#"fetchfs_program_fetched_bytes_total{class="limited"} 24"#,
            r#"fetchfs_program_fetched_bytes_total{class="gentle"} 0"#,
        ]
    );
    assert_eq!(
        lines_of(&text, "fetchfs_scanner_refused_reads_total"),
        ["fetchfs_scanner_refused_reads_total 2"]
    );
}
