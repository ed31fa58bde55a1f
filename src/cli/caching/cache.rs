//! `fetchfs cache`: lists, verifies and clears a cache directory.
//!
//! All commands work beside running mounts. They read what a mount uses but never change it.

mod against_source;
mod pattern;
mod verify;

use std::collections::HashSet;
use std::io::IsTerminal;
use std::path::PathBuf;

use anyhow::Context;
use clap::{ArgMatches, Args, Command, FromArgMatches, Subcommand};
use serde::Serialize;

use crate::cache::index::{EntryInfo, FILE};
use crate::cache::lifecycle::fsck::{Dropped, Fsck};
use crate::cli::support::output;
use crate::config;
use pattern::matches;

/// The arguments of `fetchfs cache`.
#[derive(Args)]
struct CacheArgs {
    #[command(subcommand)]
    action: Action,

    /// The cache directory
    ///
    /// Default: the value in the config file; else $XDG_CACHE_HOME/fetchfs, or ~/.cache/fetchfs; /var/cache/fetchfs for root.
    #[arg(long, value_name = "DIR", global = true, env = "FETCHFS_CACHE_DIR", hide_env = true)]
    cache_dir: Option<PathBuf>,
}

#[derive(Subcommand)]
enum Action {
    /// List the cached files, most recently opened first
    List {
        /// Print a JSON array with one object per file
        #[arg(long)]
        json: bool,
    },
    /// Check every chunk against its checksum, and the index against the files on disk
    ///
    /// Nothing is locked: mounts can continue. The exit status is 1 if anything is damaged.
    Verify {
        /// Drop what is wrong, so that it is fetched again; what a mount uses stays
        #[arg(long)]
        repair: bool,

        /// Compare complete files with the hashes that their sources publish instead; no server is asked
        #[arg(long)]
        against_source: bool,

        /// Print a JSON array with one object per file
        #[arg(long, requires = "against_source")]
        json: bool,

        /// Only these files: paths in a mount, or URLs as `list` shows them; * stands for anything
        #[arg(value_name = "FILE", requires = "against_source")]
        files: Vec<String>,
    },
    /// List the pins, also without a mount
    Pins {
        /// Print a JSON array of URLs
        #[arg(long)]
        json: bool,
    },
    /// Remove pins, also without a mount; the files stay until space is needed
    Unpin {
        /// URLs of pins, as `pins` shows them
        #[arg(value_name = "URL", required = true)]
        urls: Vec<String>,
    },
    /// Delete cached files, except those that are pinned or in use
    ///
    /// On a terminal it asks first.
    Clear {
        /// Do not ask
        #[arg(long, short)]
        yes: bool,

        /// Delete what is pinned as well; the pins stay, for what is fetched later
        #[arg(long)]
        pinned: bool,

        /// Only files with these URLs, as `list` shows them; * stands for anything, and a URL that ends in / for all below
        #[arg(value_name = "URL")]
        patterns: Vec<String>,
    },
    /// Show the totals of the cache: files, chunks, bytes, disk usage
    Stats {
        /// Print a JSON object; sizes are bytes
        #[arg(long)]
        json: bool,
    },
}

pub(in crate::cli) fn command() -> Command {
    CacheArgs::augment_args(Command::new("cache")).about("Look at a cache, check it, or clear it")
}

pub(in crate::cli) fn run(arguments: &ArgMatches) -> anyhow::Result<()> {
    let arguments = CacheArgs::from_arg_matches(arguments)?;
    let folder = config::cache_dir_beside_mounts(arguments.cache_dir)?;
    let open = || Fsck::open(&folder);
    match arguments.action {
        Action::List { json } => list(&open()?, json),
        Action::Verify {
            repair,
            against_source: true,
            json,
            files,
        } => against_source::run(&folder, &files, repair, json),
        Action::Verify { repair, .. } => verify::run(&folder, repair),
        Action::Pins { json } => pins(&open()?, json),
        Action::Unpin { urls } => unpin(open()?, &urls),
        Action::Clear { yes, pinned, patterns } => clear(open()?, yes, pinned, &patterns),
        Action::Stats { json } => stats(&open()?, &folder.join(FILE), json),
    }
}

fn entries(upkeep: &Fsck) -> anyhow::Result<Vec<EntryInfo>> {
    upkeep.index().entries().context("the cache index can't be read")
}

fn pins(upkeep: &Fsck, is_json: bool) -> anyhow::Result<()> {
    let pins = upkeep.index().pins();
    if is_json {
        return output::json(&pins);
    }
    output::write(pins.into_iter().map(|url| url + "\n").collect::<String>())
}

/// A file in `fetchfs cache list --json`.
#[derive(Serialize)]
struct ListedFile {
    /// Without secrets.
    url: String,
    /// Bytes.
    size: u64,
    cached_bytes: u64,
    is_complete: bool,
    /// RFC 3339.
    last_used: String,
}

impl From<EntryInfo> for ListedFile {
    fn from(entry: EntryInfo) -> ListedFile {
        ListedFile {
            size: entry.size,
            cached_bytes: entry.cached(),
            is_complete: entry.is_complete(),
            last_used: humantime::format_rfc3339_seconds(entry.last_used).to_string(),
            url: entry.url,
        }
    }
}

fn list(upkeep: &Fsck, is_json: bool) -> anyhow::Result<()> {
    let entries = entries(upkeep)?;
    if is_json {
        return output::json(&entries.into_iter().map(ListedFile::from).collect::<Vec<_>>());
    }
    let mut text = String::new();
    for entry in entries {
        let share = match entry.size {
            0 => 100,
            size => u128::from(entry.cached()) * 100 / u128::from(size),
        };
        text.push_str(&format!(
            "{:>10} of {:>10} {share:>4}%  {}  {}\n",
            output::size(entry.cached()),
            output::size(entry.size),
            humantime::format_rfc3339_seconds(entry.last_used),
            entry.url
        ));
    }
    output::write(text)
}

/// `fetchfs cache stats --json`.
#[derive(Serialize)]
struct Totals {
    files: usize,
    complete_files: usize,
    chunks: u64,
    cached_bytes: u64,
    /// What the data files take on the disk.
    data_bytes: u64,
    index_bytes: u64,
}

fn stats(upkeep: &Fsck, index: &std::path::Path, is_json: bool) -> anyhow::Result<()> {
    let entries = entries(upkeep)?;
    let complete = entries.iter().filter(|entry| entry.is_complete()).count();
    let chunks: u64 = entries.iter().map(|entry| entry.chunks_present).sum();
    let cached: u64 = entries.iter().map(EntryInfo::cached).sum();
    let on_disk: u64 = upkeep.store().files().iter().map(|(_, _, bytes)| bytes).sum();
    let of_index: u64 = ["", "-wal"]
        .iter()
        .filter_map(|end| std::fs::metadata(format!("{}{end}", index.display())).ok())
        .map(|metadata| metadata.len())
        .sum();
    if is_json {
        return output::json(&Totals {
            files: entries.len(),
            complete_files: complete,
            chunks,
            cached_bytes: cached,
            data_bytes: on_disk,
            index_bytes: of_index,
        });
    }
    output::write(format!(
        "files     {} ({complete} complete)\nchunks    {chunks}\ncached    {}\non disk   {} and {} of index\n",
        entries.len(),
        output::size(cached),
        output::size(on_disk),
        output::size(of_index)
    ))
}

/// Removes pins by their URLs.
fn unpin(upkeep: Fsck, urls: &[String]) -> anyhow::Result<()> {
    let mut failed = Vec::new();
    for url in urls {
        let above = upkeep.index().pins_above(url);
        match (upkeep.index().unpin_shown(url), above.first()) {
            (true, _) => {}
            (false, Some(above)) => failed.push(format!("{url} is pinned through {above}; unpin that directory")),
            (false, None) => failed.push(format!("{url} is not pinned; `fetchfs cache pins` lists the pins")),
        }
    }
    upkeep.close();
    let last = failed.pop();
    failed.iter().for_each(|failure| eprintln!("fetchfs: {failure}"));
    last.map_or(Ok(()), |last| Err(anyhow::anyhow!(last)))
}

/// Asks on a terminal; returns true if there is none.
fn is_confirmed(question: std::fmt::Arguments<'_>) -> anyhow::Result<bool> {
    let is_asked = std::io::stdin().is_terminal() && std::io::stderr().is_terminal();
    if !is_asked {
        return Ok(true);
    }
    eprint!("{question} [y/N] ");
    let mut answer = String::new();
    std::io::stdin()
        .read_line(&mut answer)
        .context("can't read the answer")?;
    Ok(matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes"))
}

fn clear(upkeep: Fsck, is_sure: bool, even_pinned: bool, patterns: &[String]) -> anyhow::Result<()> {
    let is_meant =
        |entry: &EntryInfo| patterns.is_empty() || patterns.iter().any(|pattern| matches(pattern, &entry.url));
    let meant: Vec<_> = entries(&upkeep)?.into_iter().filter(is_meant).collect();
    if meant.is_empty() && !patterns.is_empty() {
        anyhow::bail!("nothing in the cache matches; `fetchfs cache list` shows what there is");
    }
    let pinned = match even_pinned {
        true => HashSet::new(),
        false => upkeep.index().pinned(),
    };
    let (stays, meant): (Vec<_>, Vec<_>) = meant.into_iter().partition(|entry| pinned.contains(&entry.key));
    let bytes = output::size(meant.iter().map(EntryInfo::cached).sum());
    let files = output::count(meant.len() as u64, "cached file");
    if !is_sure && !meant.is_empty() && !is_confirmed(format_args!("Delete {files} with {bytes}?"))? {
        upkeep.close();
        anyhow::bail!("nothing was deleted");
    }
    let (gone, in_use): (Vec<_>, Vec<_>) = meant.iter().partition(|entry| upkeep.clear(&entry.key) == Dropped::Yes);
    if patterns.is_empty() {
        // Orphans have no entry, so they can't be pinned.
        upkeep.orphans().iter().for_each(|(key, _)| {
            upkeep.clear(key);
        });
        // Pinned files must stay reachable by name when the server is offline.
        if stays.is_empty() {
            upkeep.clear_names();
        }
    }
    upkeep.close();
    for entry in &in_use {
        output::line(format_args!("{}: kept, because a mount uses it", entry.url))?;
    }
    if !stays.is_empty() {
        let count = output::count(stays.len() as u64, "pinned file");
        output::line(format_args!("{count} kept; --pinned deletes them as well"))?;
    }
    let bytes: u64 = gone.iter().map(|entry| entry.cached()).sum();
    let hint = match in_use.len() {
        0 => "",
        _ => "; `fetchfs evict` deletes what a mount uses",
    };
    output::line(format_args!(
        "{} with {} deleted, {} in use{hint}",
        output::count(gone.len() as u64, "file"),
        output::size(bytes),
        in_use.len()
    ))
}
