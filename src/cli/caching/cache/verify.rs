//! `fetchfs cache verify`: reports damage, and drops it with `--repair`.

use std::path::Path;

use anyhow::{Context, bail};
use indicatif::{ProgressBar, ProgressStyle};

use crate::cache::CacheError;
use crate::cache::index::EntryInfo;
use crate::cache::lifecycle::fsck::{Dropped, Fsck};
use crate::cli::support::output;
use crate::util::plural::verb;

/// Counts of what was found.
#[derive(Default)]
struct Tally {
    /// Damaged items.
    wrong: u64,
    /// Damaged items that stay because a mount uses them.
    in_use: u64,
}

/// Checks the whole cache and prints each damaged item.
///
/// # Errors
/// One sentence if anything is damaged.
pub(super) fn run(folder: &Path, repair: bool) -> anyhow::Result<()> {
    let upkeep = match Fsck::open(folder) {
        Err(CacheError::Index {
            reason,
            is_damaged: true,
            ..
        }) => return damaged_index(folder, &reason, repair),
        opened => opened?,
    };
    if let Some(what) = upkeep.index().integrity().context("the cache index can't be read")? {
        drop(upkeep);
        return damaged_index(folder, &what, repair);
    }
    verify(upkeep, repair)
}

/// A damaged index can't be trusted, so nothing else is checked.
fn damaged_index(folder: &Path, what: &str, repair: bool) -> anyhow::Result<()> {
    let outcome = if repair { Some(Fsck::begin_anew(folder)?) } else { None };
    let done = match outcome {
        None => "",
        Some(Dropped::Yes) => "; moved to index.db.damaged, and its records dropped",
        Some(Dropped::InUse) => "; kept, because it is in use",
    };
    output::line(format_args!("the index is damaged: {what}{done}"))?;
    match outcome {
        None => bail!(
            "the cache index is damaged; `fetchfs cache verify --repair` moves it aside and starts with an empty \
             cache"
        ),
        Some(Dropped::Yes) => bail!("the cache index was damaged; the cache starts empty"),
        Some(Dropped::InUse) => bail!("the cache index is damaged, and a mount uses it; unmount, then try again"),
    }
}

fn verify(upkeep: Fsck, repair: bool) -> anyhow::Result<()> {
    let entries = upkeep.index().entries().context("the cache index can't be read")?;
    let bytes: u64 = entries.iter().map(EntryInfo::cached).sum();
    let chunks: u64 = entries.iter().map(|entry| entry.chunks_present).sum();
    let bar = progress_bar(bytes)?;
    let mut tally = Tally::default();
    for entry in &entries {
        check(&upkeep, entry, repair, &bar, &mut tally).with_context(|| entry.url.clone())?;
    }
    for (key, bytes) in upkeep.orphans() {
        let what = format!("a data file of {} has no record in the index", output::size(bytes));
        let outcome = repair.then(|| upkeep.clear(&key));
        // A mount creates a data file a moment before it records it.
        if outcome != Some(Dropped::InUse) {
            bar.suspend(|| output::line(format_args!("{what}{}", said_of(outcome))))?;
            tally.wrong += 1;
        }
    }
    bar.finish_and_clear();
    if repair {
        upkeep.close();
    }
    output::line(format_args!(
        "{} with {} of {} {} checked",
        output::count(chunks, "chunk"),
        output::size(bytes),
        output::count(entries.len() as u64, "file"),
        verb(chunks, "was", "were")
    ))?;
    match tally {
        Tally { wrong: 0, .. } => Ok(()),
        Tally { wrong, .. } if !repair => {
            bail!(
                "{} found in the cache; `fetchfs cache verify --repair` drops the damaged chunks",
                output::count(wrong, "problem")
            )
        }
        Tally { wrong, in_use: 0 } => bail!(
            "{} found in the cache; the damaged chunks were dropped",
            output::count(wrong, "problem")
        ),
        Tally { wrong, in_use } => bail!(
            "{} found in the cache, {in_use} of them in use and kept until the mount has ended",
            output::count(wrong, "problem")
        ),
    }
}

fn check(upkeep: &Fsck, entry: &EntryInfo, repair: bool, bar: &ProgressBar, tally: &mut Tally) -> anyhow::Result<()> {
    let findings = upkeep.verify(entry, |bytes| bar.inc(bytes))?;
    if findings.is_empty() {
        return Ok(());
    }
    let outcome = if repair {
        Some(upkeep.repair(entry, &findings)?)
    } else {
        None
    };
    tally.wrong += findings.len() as u64;
    if outcome == Some(Dropped::InUse) {
        tally.in_use += findings.len() as u64;
    }
    bar.suspend(|| {
        findings
            .iter()
            .try_for_each(|finding| output::line(format_args!("{}: {finding}{}", entry.url, said_of(outcome))))
    })
}

pub(super) fn said_of(outcome: Option<Dropped>) -> &'static str {
    match outcome {
        None => "",
        Some(Dropped::Yes) => "; dropped",
        Some(Dropped::InUse) => "; kept, because it is in use",
    }
}

/// A progress bar on standard error, if that is a terminal.
pub(super) fn progress_bar(bytes: u64) -> anyhow::Result<ProgressBar> {
    let style = ProgressStyle::with_template(
        "{bar:40} {binary_bytes} of {binary_total_bytes}, {binary_bytes_per_sec}, {eta} left",
    )?;
    Ok(ProgressBar::new(bytes).with_style(style))
}
