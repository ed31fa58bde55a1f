//! `fetchfs cache verify --against-source`: compares complete files with the hashes that their sources publish.
//!
//! What is published was recorded when a mount opened the file, so no server is asked.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use indicatif::ProgressBar;
use serde::Serialize;

use super::pattern::matches;
use super::verify::{progress_bar, said_of};
use crate::cache::index::EntryInfo;
use crate::cache::lifecycle::fsck::{Dropped, Fsck};
use crate::cli::support::targets::{self, Target};
use crate::cli::support::{output, targets::Failures};
use crate::control::protocol::{Reply, Request};
use crate::origin::Hash;
use crate::util::plural::verb;

/// One file of the result, as `--json` prints it.
#[derive(Debug, Serialize)]
struct Compared {
    /// Its URL, as `list` shows it.
    url: String,
    /// Bytes.
    size: u64,
    result: Outcome,
    /// The hash function, if a hash is published.
    #[serde(skip_serializing_if = "Option::is_none")]
    algorithm: Option<String>,
    /// The published hash, in hexadecimal digits.
    #[serde(skip_serializing_if = "Option::is_none")]
    published: Option<String>,
    /// The hash of what is cached, if the file was read.
    #[serde(skip_serializing_if = "Option::is_none")]
    computed: Option<String>,
    /// True if `--repair` has dropped the file.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    dropped: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Outcome {
    /// It has the published hash.
    Match,
    /// It has another one.
    Mismatch,
    /// Its source publishes none, as far as it was opened since.
    Unpublished,
    /// Not all of it is cached.
    Incomplete,
}

/// Compares the files that `chosen` names, by URLs or by paths in mounts; all if it is empty.
///
/// # Errors
/// One sentence if any differs.
pub(super) fn run(folder: &Path, chosen: &[String], repair: bool, is_json: bool) -> anyhow::Result<()> {
    let fsck = Fsck::open(folder)?;
    let patterns = patterns(chosen)?;
    let is_chosen =
        |entry: &EntryInfo| patterns.is_empty() || patterns.iter().any(|pattern| matches(pattern, &entry.url));
    let all = fsck.index().entries().context("the cache index can't be read")?;
    let entries: Vec<EntryInfo> = all.into_iter().filter(is_chosen).collect();
    if entries.is_empty() && !patterns.is_empty() {
        bail!("nothing in the cache matches; `fetchfs cache list` shows what there is");
    }
    let to_read = |entry: &&EntryInfo| entry.is_complete() && entry.published.is_some();
    let bar = progress_bar(entries.iter().filter(to_read).map(|entry| entry.size).sum())?;
    let mut all = Vec::new();
    for entry in &entries {
        let mut compared = compare(&fsck, entry, &bar).with_context(|| entry.url.clone())?;
        let outcome = (compared.result == Outcome::Mismatch && repair).then(|| fsck.clear(&entry.key));
        compared.dropped = outcome == Some(Dropped::Yes);
        if !is_json && compared.result == Outcome::Mismatch {
            bar.suspend(|| output::line(line(&compared) + said_of(outcome)))?;
        }
        all.push(compared);
    }
    bar.finish_and_clear();
    if repair {
        fsck.close();
    }
    if is_json {
        output::json(&all)?;
    } else {
        output::line(summary(&all))?;
    }
    match count(&all, Outcome::Mismatch) {
        0 => Ok(()),
        wrong if repair => bail!(
            "{} {} not what {} published; what no mount uses was dropped",
            output::count(wrong, "cached file"),
            verb(wrong, "is", "are"),
            verb(wrong, "is", "are")
        ),
        wrong => bail!(
            "{} {} not what {} published; --repair drops them, so that they are fetched again",
            output::count(wrong, "cached file"),
            verb(wrong, "is", "are"),
            verb(wrong, "is", "are")
        ),
    }
}

/// The patterns of URLs that were given, and the URLs of the paths.
fn patterns(chosen: &[String]) -> anyhow::Result<HashSet<String>> {
    let (paths, mut patterns): (Vec<PathBuf>, HashSet<String>) =
        chosen.iter().fold(Default::default(), |mut all, one| {
            match one.contains("://") || one.contains('*') {
                true => _ = all.1.insert(one.clone()),
                false => all.0.push(PathBuf::from(one)),
            }
            all
        });
    let mut failed = Failures::default();
    for Target { mount, paths } in targets::in_mounts(&paths)? {
        let Reply::Maps { files, failures } = targets::ask_once(&mount, &Request::Map { paths })? else {
            return Err(targets::unexpected(&mount));
        };
        failed.add(&mount, &failures, failures.len() as u64);
        patterns.extend(files.into_iter().map(|file| file.url));
    }
    failed.end("found")?;
    Ok(patterns)
}

fn compare(fsck: &Fsck, entry: &EntryInfo, bar: &ProgressBar) -> anyhow::Result<Compared> {
    let published = entry.published.as_ref();
    let computed = match published {
        Some(hash) if entry.is_complete() => fsck.hash_of(entry, hash.algorithm, |bytes| bar.inc(bytes))?,
        _ => None,
    };
    Ok(Compared {
        url: entry.url.clone(),
        size: entry.size,
        result: match (published, &computed) {
            (None, _) => Outcome::Unpublished,
            (Some(_), None) => Outcome::Incomplete,
            (Some(hash), Some(computed)) if hash == computed => Outcome::Match,
            (Some(_), Some(_)) => Outcome::Mismatch,
        },
        algorithm: published.map(|hash| hash.algorithm.to_string()),
        published: published.map(Hash::to_string),
        computed: computed.as_ref().map(Hash::to_string),
        dropped: false,
    })
}

fn line(compared: &Compared) -> String {
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    format!(
        "{}: its {} hash is {}, but {} is published",
        compared.url,
        text(&compared.algorithm),
        text(&compared.computed),
        text(&compared.published)
    )
}

fn count(all: &[Compared], outcome: Outcome) -> u64 {
    all.iter().filter(|compared| compared.result == outcome).count() as u64
}

fn summary(all: &[Compared]) -> String {
    format!(
        "{} as published, {} not; {} without a published hash, {} not complete",
        output::count(count(all, Outcome::Match), "file"),
        count(all, Outcome::Mismatch),
        count(all, Outcome::Unpublished),
        count(all, Outcome::Incomplete)
    )
}
