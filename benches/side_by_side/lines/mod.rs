//! The lines of the table: for each, what is done, what is shown, what limits it and what fetchfs aims at.
//!
//! The aims are the project's (docs/performance.md), for the full sizes. The quick ones have none: most of a short stream is
//! its beginning.

mod cached;
mod fleet;
mod growth;
mod media;
mod names;
mod places;
mod start;
mod streams;

use anyhow::Result;

use super::aim::Aim;
use super::bench::{Bench, Trial};
use super::corpus::FULL;
use super::origin::{Profile, Protocol};
use super::sample::{Measure, Sample};
use super::tool::Tool;

/// One row of the table.
pub struct Line {
    /// As options and files name it.
    pub id: String,
    /// As the table names it.
    pub title: String,
    /// The network, if it matters.
    pub profile: Option<Profile>,
    /// What the table shows, the measure that ratios are made of first.
    pub shown: &'static [Measure],
    /// What no tool can be better than.
    pub limit: Limit,
    /// What fetchfs aims at.
    pub aims: Vec<Aim>,
    /// In which table it stands.
    pub table: Table,
}

/// There are two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Table {
    /// fetchfs beside the other tools.
    SideBySide,
    /// How cost grows: the same work with more and more of something, by fetchfs alone.
    Growth,
}

/// What no tool can be better than, in the line's first measure.
pub enum Limit {
    /// It is known, and why.
    Known(f64, &'static str),
    /// It is measured beside the tools, and how.
    Measured(fn(&Bench) -> Result<Sample>, &'static str),
    /// Nobody knows, or it is not the question.
    None,
}

/// One run of one tool.
pub type Run = Box<dyn Fn(&Trial<'_>) -> Result<Vec<Sample>>>;

/// What is done with each tool in each run; gives one sample for each line.
pub struct Experiment {
    /// What it tells of.
    pub lines: Vec<Line>,
    /// Who takes part.
    pub tools: &'static [Tool],
    /// One run.
    pub run: Run,
}

/// All experiments, in the table's order.
pub fn all(bench: &Bench) -> Vec<Experiment> {
    let sizes = &bench.corpus.sizes;
    let mut all = vec![
        streams::sequential_lan(sizes),
        streams::sequential_wan(sizes),
        places::random(),
        places::jump(),
        places::first_read(),
        names::list(sizes),
        names::find(&bench.corpus),
        names::copy(sizes),
        streams::many(sizes),
        streams::crowd(sizes),
        cached::cached(sizes),
        cached::served(sizes),
        media::probe(),
        media::frame(),
        start::large_cache(sizes),
    ];
    all.extend(sizes.fleet.iter().map(|&count| fleet::mounts(count, sizes)));
    all.push(fleet::warm(sizes));
    for (protocol, ..) in names::OTHERS {
        if protocol == Protocol::NginxDav || bench.origin.has_rclone() {
            all.extend([names::list_by(protocol, sizes), names::find_by(protocol, &bench.corpus)]);
        }
    }
    if *sizes == FULL {
        all.extend(growth::all());
    } else {
        let lines = all.iter_mut().flat_map(|experiment| &mut experiment.lines);
        lines.for_each(|line| line.aims.clear());
    }
    all
}

/// A size as people say it.
fn size(bytes: u64) -> String {
    match bytes {
        whole if whole.is_multiple_of(1 << 40) => format!("{} TiB", whole >> 40),
        whole if whole.is_multiple_of(1 << 30) => format!("{} GiB", whole >> 30),
        whole if whole.is_multiple_of(1 << 20) => format!("{} MiB", whole >> 20),
        other => format!("{} KiB", other >> 10),
    }
}
