//! Whole files, from their beginning to their end: one, and many at once.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};

use super::super::aim::Aim::{AtLeast, AtMost, OfLimit, OfTool};
use super::super::bench::{Bench, Trial};
use super::super::corpus::{CROWD, Sizes};
use super::super::origin::Profile;
use super::super::sample::Measure::{Amplification, Connections, Cpu, Memory, Rate};
use super::super::sample::Sample;
use super::super::tool::{ALL, Tool};
use super::super::{process, read};
use super::{Experiment, Limit, Line, Table, size};

/// Connections to one origin that fetchfs makes by default, and that rclone is tuned to.
const CONNECTIONS: f64 = 16.0;

/// One file, nothing cached, where only the machine is slow.
pub fn sequential_lan(sizes: &Sizes) -> Experiment {
    Experiment {
        lines: vec![Line {
            id: "sequential-lan".into(),
            title: format!("{} in sequence", size(sizes.big)),
            profile: Some(Profile::Lan),
            shown: &[Rate, Memory, Cpu],
            limit: Limit::Measured(curl_to_file, "`curl -o file`"),
            aims: vec![OfLimit(Rate, 0.9)],
            table: Table::SideBySide,
        }],
        tools: &ALL,
        run: Box::new(|trial| sequential(trial, Profile::Lan)),
    }
}

/// The same where each connection is slow.
pub fn sequential_wan(sizes: &Sizes) -> Experiment {
    Experiment {
        lines: vec![Line {
            id: "sequential-wan".into(),
            title: format!("{} in sequence", size(sizes.big)),
            profile: Some(Profile::Wan),
            shown: &[Rate, Memory, Cpu],
            limit: Limit::Measured(connections, "16 × what `curl` gets through one connection"),
            aims: vec![OfTool(Rate, 1.0, Tool::RcloneTuned), AtMost(Memory, 64.0)],
            table: Table::SideBySide,
        }],
        tools: &ALL,
        run: Box::new(|trial| sequential(trial, Profile::Wan)),
    }
}

/// Many readers, each with a file of its own.
pub fn many(sizes: &Sizes) -> Experiment {
    let count = sizes.streams;
    Experiment {
        lines: vec![Line {
            id: "readers".into(),
            title: format!("{} readers, a file of {} each", sizes.streams, size(sizes.stream_len)),
            profile: Some(Profile::Wan),
            shown: &[Rate, Memory, Cpu, Connections],
            limit: Limit::Measured(connections, "16 × what `curl` gets through one connection"),
            aims: vec![AtLeast(Rate, 290.0), AtMost(Memory, 100.0)],
            table: Table::SideBySide,
        }],
        tools: &ALL,
        run: Box::new(move |trial| readers(trial, "streams", count)),
    }
}

/// Many more readers than connections.
pub fn crowd(sizes: &Sizes) -> Experiment {
    Experiment {
        lines: vec![Line {
            id: "crowd".into(),
            title: format!("{CROWD} readers, a file of {} each", size(sizes.crowd_len)),
            profile: Some(Profile::Wan),
            shown: &[Rate, Memory, Amplification, Connections],
            limit: Limit::Measured(connections, "16 × what `curl` gets through one connection"),
            aims: Vec::new(),
            table: Table::SideBySide,
        }],
        tools: &ALL,
        run: Box::new(|trial| readers(trial, "readers", CROWD)),
    }
}

fn sequential(trial: &Trial<'_>, profile: Profile) -> Result<Vec<Sample>> {
    let sample = trial.on_fresh_mount(profile, |mounted| {
        let path = mounted.path("big/file");
        let (bytes, took) = read::whole(&path)?;
        let sample = Sample::rate(bytes, took).with_usage(mounted.usage()?);
        read::verify(&path, &trial.bench.corpus.path("big/file"))?;
        Ok(sample.with_asked(bytes))
    })?;
    Ok(vec![sample])
}

/// So many files of a folder, each by a reader of its own, all at once.
pub fn readers(trial: &Trial<'_>, folder: &str, count: u64) -> Result<Vec<Sample>> {
    let corpus = &trial.bench.corpus;
    let names: Vec<String> = (0..count).map(|number| format!("{folder}/{number:02}")).collect();
    let sample = trial.on_fresh_mount(Profile::Wan, |mounted| {
        let paths: Vec<PathBuf> = names.iter().map(|name| mounted.path(name)).collect();
        let (total, took) = read::at_once(&paths)?;
        let sample = Sample::rate(total, took).with_usage(mounted.usage()?).with_asked(total);
        for (path, name) in paths.iter().zip(&names) {
            read::verify(path, &corpus.path(name))?;
        }
        Ok(sample)
    })?;
    Ok(vec![sample])
}

fn curl_to_file(bench: &Bench) -> Result<Sample> {
    let home = bench.home()?;
    let mut command = Command::new("curl");
    command
        .args(["--silent", "--fail", "--noproxy", "*", "--output"])
        .arg(home.path().join("file"));
    command.arg(format!("{}big/file", bench.origin.url(Profile::Lan)));
    let took = process::run(&mut command, bench.patience)?;
    Ok(Sample::rate(bench.corpus.sizes.big, took))
}

/// What the connections carry together when none waits for a round trip.
fn connections(bench: &Bench) -> Result<Sample> {
    let mut command = Command::new("curl");
    command.args(["--silent", "--fail", "--noproxy", "*", "--output", "/dev/null"]);
    command.arg(format!("{}streams/00", bench.origin.url(Profile::Wan)));
    let took = process::run(&mut command, bench.patience)?;
    let one = Sample::rate(bench.corpus.sizes.stream_len, took)
        .get(Rate)
        .context("a rate")?;
    Ok(Sample::of(Rate, one * CONNECTIONS))
}
