//! How cost grows: with the size of a file, with the number of readers, with the size of the cache.
//!
//! fetchfs alone: the question is whether a figure stays what it is while something grows.

use std::time::Instant;

use anyhow::Result;

use super::super::bench::Trial;
use super::super::corpus::{FULL, GROWTH_FILES, GROWTH_READERS};
use super::super::origin::Profile;
use super::super::read::{self, Piece};
use super::super::sample::Measure::{Connections, Cpu, Latency, Memory, Rate};
use super::super::sample::{Measure, Sample, count as number};
use super::super::tool::Tool;
use super::{Experiment, Limit, Line, Table, size, start, streams};

/// Entries of caches, with a hundred chunks each.
const CACHES: [u64; 3] = [100, 1_000, 10_000];

/// All experiments.
pub fn all() -> Vec<Experiment> {
    let files = GROWTH_FILES.into_iter().map(open_a_file);
    let readers = GROWTH_READERS.into_iter().map(many_readers);
    files.chain(readers).chain(CACHES.into_iter().map(start_over)).collect()
}

fn experiment(
    id: String,
    title: String,
    profile: Profile,
    shown: &'static [Measure],
    run: impl Fn(&Trial<'_>) -> Result<Vec<Sample>> + 'static,
) -> Experiment {
    Experiment {
        lines: vec![Line {
            id,
            title,
            profile: Some(profile),
            shown,
            limit: Limit::None,
            aims: Vec::new(),
            table: Table::Growth,
        }],
        tools: &[Tool::Fetchfs],
        run: Box::new(run),
    }
}

fn open_a_file((name, len): (&'static str, u64)) -> Experiment {
    let title = format!("first 64 KiB of a file of {}", size(len));
    let shown = &[Latency, Memory, Cpu];
    experiment(
        format!("growth-file-{name}"),
        title,
        Profile::Lan,
        shown,
        move |trial| {
            let sample = trial.on_fresh_mount(Profile::Lan, |mounted| {
                let name = format!("sizes/{name}");
                let begun = Instant::now();
                let piece = Piece::read(&read::open(&mounted.path(&name))?, 0)?;
                let took = begun.elapsed();
                piece.verify(&read::open(&trial.bench.corpus.path(&name))?)?;
                Ok(Sample::latency(took).with_usage(mounted.usage()?))
            })?;
            Ok(vec![sample])
        },
    )
}

fn many_readers(count: u64) -> Experiment {
    let who = if count == 1 { "reader" } else { "readers" };
    let title = format!("{count} {who}, a file of {} each", size(FULL.crowd_len));
    let shown = &[Rate, Memory, Cpu, Connections];
    experiment(
        format!("growth-readers-{count}"),
        title,
        Profile::Wan,
        shown,
        move |trial| streams::readers(trial, "readers", count),
    )
}

fn start_over(entries: u64) -> Experiment {
    let title = format!(
        "start over a cache of {} chunks in {} files",
        number(entries * 100),
        number(entries)
    );
    let shown = &[Latency, Memory, Cpu];
    experiment(
        format!("growth-cache-{entries}"),
        title,
        Profile::Lan,
        shown,
        move |trial| start::over_large_cache(trial, entries),
    )
}
