//! What is measured, in which units, and what becomes of several runs.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use super::origin::Traffic;
use super::process::Usage;

/// Something that a run tells of a tool.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Measure {
    /// Megabytes (10⁶ bytes) per second that a reader got.
    Rate,
    /// Milliseconds until something small was there; the median, where a run has several.
    Latency,
    /// Seconds until something large was done.
    Duration,
    /// Reads per second.
    Iops,
    /// The daemon's resident memory at its highest, in megabytes.
    Memory,
    /// The daemon's processor time, in seconds.
    Cpu,
    /// Requests that the origin got, over the whole mount.
    Requests,
    /// Connections that these came over.
    Connections,
    /// Megabytes that the origin sent, over the whole mount.
    Wire,
    /// Bytes that the origin sent for each one that was asked for, by however many mounts.
    Amplification,
}

use Measure::{Amplification, Connections, Cpu, Duration as Seconds, Iops, Latency, Memory, Rate, Requests, Wire};

/// Bytes of a megabyte, as networks and disks are sold.
pub const MEGA: f64 = 1e6;

impl Measure {
    /// As files name it.
    pub fn id(self) -> &'static str {
        match self {
            Rate => "rate_mb_per_s",
            Latency => "latency_ms",
            Seconds => "duration_s",
            Iops => "iops",
            Memory => "memory_mb",
            Cpu => "cpu_s",
            Requests => "requests",
            Connections => "connections",
            Wire => "wire_mb",
            Amplification => "wire_bytes_per_byte_asked",
        }
    }

    /// Whether a higher value is the better one.
    pub fn more_is_better(self) -> bool {
        matches!(self, Rate | Iops)
    }

    /// A value with its unit, in as many digits as it is good for.
    pub fn shown(self, value: f64) -> String {
        let number = digits(value);
        match self {
            Rate => format!("{number} MB/s"),
            Latency => format!("{number} ms"),
            Seconds => format!("{number} s"),
            Iops if value >= 10_000.0 => format!("{} k IOPS", digits(value / 1e3)),
            Iops => format!("{number} IOPS"),
            Memory => format!("{number} MB memory"),
            Cpu => format!("{number} s CPU"),
            Requests => format!("{} requests", count(value as u64)),
            Connections => format!("{} connections", count(value as u64)),
            Wire => format!("{number} MB sent"),
            Amplification => format!("× {number} sent"),
        }
    }
}

/// A number to about three digits.
pub fn digits(value: f64) -> String {
    match value.abs() {
        tiny if tiny < 0.1 => format!("{value:.3}"),
        small if small < 10.0 => format!("{value:.2}"),
        middle if middle < 100.0 => format!("{value:.1}"),
        _ => count(value.round() as u64),
    }
}

/// A whole number in groups of thousands.
pub fn count(value: u64) -> String {
    let plain = value.to_string();
    let mut text = String::new();
    for (index, digit) in plain.chars().enumerate() {
        if index > 0 && (plain.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        let _ = write!(text, "{digit}");
    }
    text
}

/// What one run has told.
#[derive(Debug, Clone, Default)]
pub struct Sample {
    values: BTreeMap<Measure, f64>,
    /// Bytes that programs asked for; for [`Measure::Amplification`].
    asked: u64,
}

impl Sample {
    /// A sample with one value.
    pub fn of(measure: Measure, value: f64) -> Sample {
        Sample::default().with(measure, value)
    }

    /// How fast so many bytes came.
    pub fn rate(bytes: u64, took: Duration) -> Sample {
        Sample::of(Rate, bytes as f64 / MEGA / took.as_secs_f64())
    }

    /// How long something small took.
    pub fn latency(took: Duration) -> Sample {
        Sample::of(Latency, took.as_secs_f64() * 1e3)
    }

    /// How long something large took.
    pub fn duration(took: Duration) -> Sample {
        Sample::of(Seconds, took.as_secs_f64())
    }

    /// One more value.
    pub fn with(mut self, measure: Measure, value: f64) -> Sample {
        self.values.insert(measure, value);
        self
    }

    /// What the daemon has used.
    pub fn with_usage(self, usage: Usage) -> Sample {
        self.with(Memory, usage.memory as f64 / MEGA).with(Cpu, usage.cpu)
    }

    /// How many bytes were asked for.
    pub fn with_asked(mut self, bytes: u64) -> Sample {
        self.asked = bytes;
        self
    }

    /// What the origin had to do for it.
    pub fn with_traffic(self, traffic: Traffic) -> Sample {
        let (bytes, asked) = (traffic.bytes as f64, self.asked as f64);
        let sample = self
            .with(Requests, traffic.requests as f64)
            .with(Connections, traffic.connections as f64)
            .with(Wire, bytes / MEGA);
        if asked > 0.0 {
            sample.with(Amplification, bytes / asked)
        } else {
            sample
        }
    }

    /// A value.
    pub fn get(&self, measure: Measure) -> Option<f64> {
        self.values.get(&measure).copied()
    }
}

/// What several runs of the same have told.
#[derive(Debug, Clone, Default)]
pub struct Runs {
    samples: Vec<Sample>,
    failure: Option<Failure>,
}

/// Why the runs of a tool ended early.
#[derive(Debug, Clone)]
pub struct Failure {
    /// In a few words.
    pub short: String,
    /// All that is known.
    pub long: String,
}

impl Runs {
    /// Adds a run.
    pub fn add(&mut self, sample: Sample) {
        self.samples.push(sample);
    }

    /// Notes that a run failed.
    pub fn fail(&mut self, error: &anyhow::Error) {
        self.failure = Some(Failure {
            short: error.root_cause().to_string(),
            long: format!("{error:#}"),
        });
    }

    /// Why the runs ended early, if one failed.
    pub fn failure(&self) -> Option<&Failure> {
        self.failure.as_ref()
    }

    /// How many runs there were.
    pub fn len(&self) -> usize {
        self.samples.len()
    }

    /// The median of a value.
    pub fn median(&self, measure: Measure) -> Option<f64> {
        median(&mut self.values(measure))
    }

    /// A value of each run, in their order.
    pub fn values(&self, measure: Measure) -> Vec<f64> {
        self.samples.iter().filter_map(|sample| sample.get(measure)).collect()
    }

    /// What the runs have told anything of.
    pub fn measures(&self) -> Vec<Measure> {
        let first = self.samples.first();
        first.map_or_else(Vec::new, |sample| sample.values.keys().copied().collect())
    }
}

/// The median; the mean of the middle two when their number is even. Sorts the values.
pub fn median(values: &mut [f64]) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let upper = *values.get(values.len() / 2)?;
    let lower = values[(values.len() - 1) / 2];
    Some(f64::midpoint(lower, upper))
}
