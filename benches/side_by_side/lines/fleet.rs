//! Many machines, each with a mount and a cache of its own, and a tier that they share (docs/fleet.md).
//!
//! All of it runs on this machine, so with many mounts its processor is the limit. What the origin has sent does not depend
//! on that.

use std::cell::OnceCell;
use std::path::PathBuf;

use anyhow::{Context, Result};

use super::super::aim::Aim::{AtMost, WithinLimit};
use super::super::bench::{Bench, CacheDir, Trial};
use super::super::corpus::Sizes;
use super::super::mounted::Mounted;
use super::super::origin::{Address, Profile};
use super::super::read::{self, Piece};
use super::super::sample::Measure::{Amplification, Cpu, Duration, Latency, Memory};
use super::super::sample::{Measure, Sample};
use super::super::tier::Tier;
use super::super::tool::Tool;
use super::places::latency_of;
use super::{Experiment, Limit, Line, Table, size};

/// What all mounts read.
const FILE: &str = "fleet/file";

/// Where mounts find the corpus, and the options by which they read it.
type Way = (Address, Vec<String>);

/// Something that is done in a mount.
type Work = fn(&Trial<'_>, &Mounted) -> Result<Sample>;

/// So many mounts read one file at once: without a tier, through one that is empty, and through one that has the file.
pub fn mounts(count: usize, sizes: &Sizes) -> Experiment {
    let what = match (count, size(sizes.fleet_len)) {
        (1, len) => format!("1 mount reads {len}"),
        (_, len) => format!("{count} mounts read the same {len} at once"),
    };
    let line = |state: &str, how: &str, aims| Line {
        id: id(count, state),
        title: format!("{what}{how}"),
        profile: Some(Profile::Wan),
        shown: &[Duration, Amplification],
        limit: Limit::None,
        aims,
        table: Table::SideBySide,
    };
    Experiment {
        lines: vec![
            line("direct", "", Vec::new()),
            line("empty", ", through an empty tier", vec![AtMost(Amplification, 1.05)]),
            line("warm", ", through a tier that has it", Vec::new()),
        ],
        tools: &[Tool::Fetchfs, Tool::Rclone],
        run: Box::new(move |trial| run_mounts(trial, count)),
    }
}

/// What a tier costs that has the bytes, where the origin is as near as the tier.
pub fn warm(sizes: &Sizes) -> Experiment {
    let line = |id: &str, what: String, shown: &'static [Measure], direct| Line {
        id: format!("fleet-{id}"),
        title: format!("{what}, through a tier that has it"),
        profile: Some(Profile::Lan),
        shown,
        limit: Limit::Measured(direct, "without a tier"),
        aims: vec![WithinLimit(shown[0], 1.2)],
        table: Table::SideBySide,
    };
    Experiment {
        lines: vec![
            line(
                "sequential",
                format!("{} in sequence", size(sizes.big)),
                &[Duration, Memory, Cpu],
                |bench| direct(bench, sequential),
            ),
            line(
                "random",
                "64 KiB at random places, the median".into(),
                &[Latency, Cpu],
                |bench| direct(bench, random),
            ),
            line(
                "readers",
                format!("{} readers, a file of {} each", sizes.streams, size(sizes.stream_len)),
                &[Duration, Memory, Cpu],
                |bench| direct(bench, readers),
            ),
        ],
        tools: &[Tool::Fetchfs],
        run: Box::new({
            let filled = OnceCell::new();
            move |trial| run_warm(trial, &filled)
        }),
    }
}

fn id(count: usize, state: &str) -> String {
    format!("fleet-{count}-{state}")
}

fn run_mounts(trial: &Trial<'_>, count: usize) -> Result<Vec<Sample>> {
    let origin = &trial.bench.origin;
    let mark = origin.mark()?;
    let direct = (origin.address(Profile::Wan.into()), Vec::new());
    let sample = read_by_all(trial, count, &direct)?;
    let mut samples = vec![trial.with_traffic_since(mark, &id(count, "direct"), sample)?];
    let tier = Tier::new(trial.bench, Profile::Wan)?;
    for state in ["empty", "warm"] {
        let mark = origin.mark()?;
        let running = tier.start()?;
        let sample = read_by_all(trial, count, &running.way_for(trial.tool)?)?;
        // It keeps connections to the origin.
        drop(running);
        samples.push(trial.with_traffic_since(mark, &id(count, state), sample)?);
    }
    Ok(samples)
}

/// So many mounts read the file, each from its beginning to its end.
fn read_by_all(trial: &Trial<'_>, count: usize, way: &Way) -> Result<Sample> {
    let mounts: Vec<_> = (0..count).map(|_| mount(trial, way)).collect::<Result<_>>()?;
    let files: Vec<PathBuf> = mounts.iter().map(|(mounted, _)| mounted.path(FILE)).collect();
    let (_, took) = read::at_once(&files)?;
    let original = trial.bench.corpus.path(FILE);
    files.iter().try_for_each(|file| read::verify(file, &original))?;
    for (mounted, _home) in mounts {
        mounted.end().context("at its end")?;
    }
    Ok(Sample::duration(took).with_asked(trial.bench.corpus.sizes.fleet_len))
}

/// A mount with an empty cache, which is deleted after it.
fn mount(trial: &Trial<'_>, (address, options): &Way) -> Result<(Mounted, CacheDir)> {
    let home = trial.bench.home()?;
    let mounted = trial.mount(&home, &home.cache(), address, options)?;
    Ok((mounted, home))
}

/// `filled` is the tier, from the first run on: the disk is busy for a while with what has filled it.
fn run_warm(trial: &Trial<'_>, filled: &OnceCell<Tier>) -> Result<Vec<Sample>> {
    let tier = match filled.get() {
        Some(tier) => tier,
        None => {
            let tier = Tier::new(trial.bench, Profile::Lan)?;
            let running = tier.start()?;
            let way = running.way_for(trial.tool)?;
            in_mount(trial, &way, sequential)?;
            in_mount(trial, &way, readers)?;
            drop(running);
            filled.get_or_init(|| tier)
        }
    };
    let running = tier.start()?;
    let way = running.way_for(trial.tool)?;
    let all: [Work; 3] = [sequential, random, readers];
    all.into_iter().map(|work| in_mount(trial, &way, work)).collect()
}

/// The same without a tier.
fn direct(bench: &Bench, work: Work) -> Result<Sample> {
    let trial = Trial {
        bench,
        tool: Tool::Fetchfs,
        line: "fleet-direct",
        number: 0,
    };
    in_mount(&trial, &(bench.origin.address(Profile::Lan.into()), Vec::new()), work)
}

fn in_mount(trial: &Trial<'_>, way: &Way, work: Work) -> Result<Sample> {
    let (mounted, _home) = mount(trial, way)?;
    let sample = work(trial, &mounted)?;
    mounted.end().context("at its end")?;
    Ok(sample)
}

fn sequential(trial: &Trial<'_>, mounted: &Mounted) -> Result<Sample> {
    let path = mounted.path("big/file");
    let (_, took) = read::whole(&path)?;
    let sample = Sample::duration(took).with_usage(mounted.usage()?);
    read::verify(&path, &trial.bench.corpus.path("big/file"))?;
    Ok(sample)
}

fn random(trial: &Trial<'_>, mounted: &Mounted) -> Result<Sample> {
    let sizes = &trial.bench.corpus.sizes;
    let file = read::open(&mounted.path("big/file"))?;
    let places = read::places(&mut trial.random(), 0..sizes.big, sizes.reads);
    let pieces: Vec<Piece> = places
        .into_iter()
        .map(|at| Piece::read(&file, at))
        .collect::<Result<_>>()?;
    let usage = mounted.usage()?;
    Ok(latency_of(trial, "big/file", &pieces)?.with_usage(usage))
}

fn readers(trial: &Trial<'_>, mounted: &Mounted) -> Result<Sample> {
    let corpus = &trial.bench.corpus;
    let names: Vec<String> = (0..corpus.sizes.streams)
        .map(|number| format!("streams/{number:02}"))
        .collect();
    let files: Vec<PathBuf> = names.iter().map(|name| mounted.path(name)).collect();
    let (_, took) = read::at_once(&files)?;
    let sample = Sample::duration(took).with_usage(mounted.usage()?);
    for (file, name) in files.iter().zip(&names) {
        read::verify(file, &corpus.path(name))?;
    }
    Ok(sample)
}
