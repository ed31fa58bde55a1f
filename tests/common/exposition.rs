//! The text format of Prometheus (version 0.0.4), read strictly: whatever a scraper might stumble over fails the test.

use std::collections::{BTreeMap, BTreeSet};

/// The labels of a series.
type Labels = BTreeMap<String, String>;

/// The metrics of one answer.
pub struct Exposition {
    series: BTreeMap<(String, Labels), f64>,
    /// The kinds of the metrics, by their names.
    pub kinds: BTreeMap<String, String>,
}

impl Exposition {
    /// Reads it.
    #[track_caller]
    pub fn read(text: &str) -> Exposition {
        assert!(text.ends_with('\n'), "the last line has an end");
        let mut read = Exposition {
            series: BTreeMap::new(),
            kinds: BTreeMap::new(),
        };
        let mut lines = text.lines().peekable();
        while let Some(line) = lines.next() {
            let help = line
                .strip_prefix("# HELP ")
                .unwrap_or_else(|| panic!("no HELP: {line}"));
            let (name, said) = help.split_once(' ').expect("a help");
            assert!(is_name(name) && !said.trim().is_empty(), "{line}");
            let kind = lines.next().expect("a TYPE");
            let kind = kind
                .strip_prefix(&format!("# TYPE {name} "))
                .unwrap_or_else(|| panic!("no TYPE of {name}: {kind}"));
            assert!(["counter", "gauge", "histogram"].contains(&kind), "{name}: {kind}");
            assert_eq!(kind == "counter", name.ends_with("_total"), "{name}: {kind}");
            assert!(
                read.kinds.insert(name.to_owned(), kind.to_owned()).is_none(),
                "{name} is there twice"
            );
            while let Some(sample) = lines.next_if(|line| !line.starts_with('#')) {
                read.add(name, kind, sample);
            }
            if kind == "histogram" {
                read.check_histogram(name);
            }
        }
        read
    }

    #[track_caller]
    fn add(&mut self, of: &str, kind: &str, sample: &str) {
        let (name, labels, value) = split(sample).unwrap_or_else(|| panic!("malformed: {sample}"));
        let suffix = name
            .strip_prefix(of)
            .unwrap_or_else(|| panic!("{name} stands below {of}"));
        let is_right = match kind {
            "histogram" => ["_bucket", "_sum", "_count"].contains(&suffix),
            _ => suffix.is_empty(),
        };
        assert!(is_right, "{name} stands below {of}");
        let value: f64 = value.parse().unwrap_or_else(|_| panic!("no number: {sample}"));
        assert!(kind == "gauge" || value >= 0.0, "{sample}");
        assert!(
            self.series.insert((name.to_owned(), labels), value).is_none(),
            "twice: {sample}"
        );
    }

    /// The buckets of each series grow, and the last one has all.
    #[track_caller]
    fn check_histogram(&self, name: &str) {
        let of = |suffix: &str| {
            let name = format!("{name}_{suffix}");
            self.series.iter().filter(move |((series, _), _)| *series == name)
        };
        let mut seen = BTreeSet::new();
        for ((_, labels), count) in of("count") {
            seen.insert(labels.clone());
            let mut buckets: Vec<(f64, f64)> = of("bucket")
                .filter_map(|((_, own), value)| {
                    let mut own = own.clone();
                    let bound = own.remove("le").expect("an upper bound");
                    (own == *labels).then(|| (bound.parse().expect("a number"), *value))
                })
                .collect();
            buckets.sort_by(|one, other| one.0.total_cmp(&other.0));
            assert!(
                buckets.is_sorted_by(|one, other| one.1 <= other.1),
                "{name}: {buckets:?}"
            );
            assert_eq!(buckets.last(), Some(&(f64::INFINITY, *count)), "{name}");
        }
        assert_eq!(
            seen,
            of("sum").map(|((_, labels), _)| labels.clone()).collect(),
            "{name}"
        );
    }

    /// The value of a series.
    #[track_caller]
    pub fn value(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let value = self.find(name, labels);
        value.unwrap_or_else(|| panic!("no {name} {labels:?}: {:?}", self.series.keys().collect::<Vec<_>>()))
    }

    /// The value of a series, if it is there.
    pub fn find(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        let labels = labels.iter().map(|&(key, value)| (key.to_owned(), value.to_owned()));
        self.series.get(&(name.to_owned(), labels.collect())).copied()
    }
}

fn is_name(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

/// `name{label="value"} number`.
fn split(sample: &str) -> Option<(&str, Labels, &str)> {
    let end = sample.find(['{', ' '])?;
    let (name, mut rest) = sample.split_at(end);
    let mut labels = Labels::new();
    if let Some(inside) = rest.strip_prefix('{') {
        rest = inside;
        while !rest.starts_with('}') {
            let (label, after) = rest.split_once("=\"")?;
            let (value, after) = quoted(after)?;
            let is_new = is_name(label) && labels.insert(label.to_owned(), value).is_none();
            if !is_new {
                return None;
            }
            rest = after.strip_prefix(',').unwrap_or(after);
        }
        rest = rest.strip_prefix('}')?;
    }
    let value = rest.strip_prefix(' ')?;
    (is_name(name) && !value.contains(' ')).then_some((name, labels, value))
}

/// The text up to its closing quote, and what comes after it.
fn quoted(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut characters = text.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return Some((value, &text[at + 1..])),
            '\\' => match characters.next()?.1 {
                'n' => value.push('\n'),
                escaped @ ('\\' | '"') => value.push(escaped),
                _ => return None,
            },
            other => value.push(other),
        }
    }
    None
}
