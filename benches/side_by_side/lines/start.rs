//! Starting over a large cache: what is recorded must not be read before it is asked for.
//!
//! Only fetchfs takes part. The other tools keep what they know of each file in a file of its own, which would have to
//! be made in their formats.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use fetchfs::internals::{ChunkIndex, ChunkSize, ChunkStore, EntryKey, EntryRow, Record, UrlKey, Validator, Version};
use url::Url;

use super::super::aim::Aim::AtMost;
use super::super::bench::Trial;
use super::super::corpus::Sizes;
use super::super::mounted::Mounted;
use super::super::origin::Profile;
use super::super::sample::Measure::{Cpu, Latency, Memory};
use super::super::sample::{Sample, count};
use super::super::tool::Tool;
use super::{Experiment, Limit, Line, Table};

/// Bytes of a chunk.
const CHUNK: u64 = 256 << 10;

/// From the start of the program to a mount that answers.
pub fn large_cache(sizes: &Sizes) -> Experiment {
    Experiment {
        lines: vec![Line {
            id: "start".into(),
            title: format!(
                "start over a cache of {} chunks in {} files",
                count(sizes.entries * sizes.chunks),
                count(sizes.entries)
            ),
            profile: Some(Profile::Lan),
            shown: &[Latency, Memory, Cpu],
            limit: Limit::Measured(
                |bench| {
                    start(
                        &Trial {
                            bench,
                            tool: Tool::Fetchfs,
                            line: "start",
                            number: 0,
                        },
                        &bench.home()?.cache(),
                    )
                },
                "over an empty cache",
            ),
            aims: vec![AtMost(Latency, 50.0)],
            table: Table::SideBySide,
        }],
        tools: &[Tool::Fetchfs],
        run: {
            let entries = sizes.entries;
            Box::new(move |trial| over_large_cache(trial, entries))
        },
    }
}

/// From the start of the program to a mount that answers, over a cache of so many entries.
pub fn over_large_cache(trial: &Trial<'_>, entries: u64) -> Result<Vec<Sample>> {
    Ok(vec![start(trial, &large(trial, entries)?)?])
}

fn start(trial: &Trial<'_>, cache: &Path) -> Result<Sample> {
    let home = trial.bench.home()?;
    trial.on_mount(&home, cache, Profile::Lan, &[], |mounted: &Mounted| {
        Ok(Sample::latency(mounted.took).with_usage(mounted.usage()?))
    })
}

/// The large cache; made by the parts of fetchfs that make every cache, so that it has their present form.
fn large(trial: &Trial<'_>, entries: u64) -> Result<std::path::PathBuf> {
    let sizes = &trial.bench.corpus.sizes;
    let (cache, making) = (
        trial.bench.work.join(format!("cache-of-{entries}")),
        trial.bench.work.join("cache-in-the-making"),
    );
    let stamp = cache.join("made-of");
    let wanted = format!("{entries} {} {:?}", sizes.chunks, trial.bench.programs.fetchfs);
    if fs::read_to_string(&stamp).is_ok_and(|found| found == wanted) {
        return Ok(cache);
    }
    for folder in [&cache, &making] {
        if folder.exists() {
            fs::remove_dir_all(folder)?;
        }
    }
    fs::create_dir_all(&making)?;
    fill(&making, entries, sizes.chunks)?;
    fs::rename(&making, &cache)?;
    fs::write(stamp, wanted)?;
    Ok(cache)
}

fn fill(folder: &Path, entries: u64, chunks: u64) -> Result<()> {
    let (index, store) = (ChunkIndex::open(folder)?, ChunkStore::open(folder)?);
    let chunk = ChunkSize::new(CHUNK).context("a chunk size")?;
    for number in 0..entries {
        let url = Url::parse(&format!("http://origin.invalid/file-{number}"))?;
        let version = Version {
            size: chunks * CHUNK,
            validator: Validator::Strong(format!("\"{number}\"")),
        };
        let key = EntryKey::new(&url, &version, chunk);
        let data = store.open_file(&key, version.size, || true)?;
        index.record(Record::Entry {
            row: EntryRow {
                key: key.clone(),
                version,
                modified: None,
                chunk,
            },
            url_key: UrlKey::new(&url),
            url: url.to_string(),
            inode: data.inode()?,
            is_suspect: false,
            rank: 0,
        });
        for index_in_file in 0..chunks {
            index.record(Record::Chunk {
                key: key.clone(),
                index: index_in_file,
                checksum: index_in_file,
            });
        }
    }
    index.sync();
    Ok(())
}
