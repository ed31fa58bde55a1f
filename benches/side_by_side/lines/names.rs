//! Many names and small files: listing, walking, copying.

use std::collections::HashMap;
use std::fs::{self, File};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use super::super::aim::Aim::{self, AtMost, Faster};
use super::super::bench::Trial;
use super::super::corpus::{Corpus, Sizes};
use super::super::origin::{Profile, Protocol, ROUND_TRIP, Way};
use super::super::sample::Measure::{Cpu, Duration, Requests};
use super::super::sample::{Sample, count};
use super::super::tool::{ALL, Tool};
use super::super::{process, read};
use super::{Experiment, Limit, Line, Table, size};

/// A protocol but HTTP: its name in the ids of lines, and in their titles.
pub const OTHERS: [(Protocol, &str, &str); 3] = [
    (Protocol::NginxDav, "dav", "WebDAV by nginx"),
    (Protocol::RcloneDav, "dav-rclone", "WebDAV by `rclone serve`"),
    (Protocol::RcloneS3, "s3", "S3 by `rclone serve`"),
];

/// The tools that speak WebDAV and S3.
const ABLE: [Tool; 2] = [Tool::Fetchfs, Tool::Rclone];

/// `ls -l` of a large directory.
pub fn list(sizes: &Sizes) -> Experiment {
    list_by(Protocol::Http, sizes)
}

/// The same by another protocol.
pub fn list_by(protocol: Protocol, sizes: &Sizes) -> Experiment {
    let by_http = vec![AtMost(Duration, 0.5), AtMost(Requests, 3.0)];
    let (id, title) = (
        id_of("ls", protocol),
        format!("`ls -l` of {} files", count(sizes.names)),
    );
    let way = Way {
        profile: Profile::Wan,
        protocol,
    };
    Experiment {
        lines: vec![Line {
            id,
            title: title_of(title, protocol),
            profile: Some(Profile::Wan),
            shown: &[Duration, Requests, Cpu],
            limit: Limit::Known(ROUND_TRIP, "one round trip"),
            aims: aims_of(by_http, 1.0, protocol),
            table: Table::SideBySide,
        }],
        tools: tools_of(protocol),
        run: Box::new(move |trial| {
            let home = trial.bench.home()?;
            let listing = home.path().join("listing");
            let sample = trial.on_fresh_mount(way, |mounted| {
                let mut command = Command::new("ls");
                command
                    .arg("-l")
                    .arg(mounted.path("names"))
                    .env("LC_ALL", "C")
                    .stdout(File::create(&listing)?);
                let took = process::run(&mut command, trial.bench.patience)?;
                Ok(Sample::duration(took).with_usage(mounted.usage()?))
            })?;
            verify_listing(&fs::read_to_string(&listing)?, trial)?;
            Ok(vec![sample])
        }),
    }
}

/// `find` over a tree.
pub fn find(corpus: &Corpus) -> Experiment {
    find_by(Protocol::Http, corpus)
}

/// The same by another protocol.
pub fn find_by(protocol: Protocol, corpus: &Corpus) -> Experiment {
    let (directories, files) = (corpus.tree_directories(), corpus.tree_files());
    let title = format!("`find` over {directories} directories, {} files", count(files));
    let way = Way {
        profile: Profile::Wan,
        protocol,
    };
    Experiment {
        lines: vec![Line {
            id: id_of("find", protocol),
            title: title_of(title, protocol),
            profile: Some(Profile::Wan),
            shown: &[Duration, Requests, Cpu],
            limit: Limit::Known(3.0 * ROUND_TRIP, "three levels"),
            aims: aims_of(vec![AtMost(Duration, 3.0)], 10.0, protocol),
            table: Table::SideBySide,
        }],
        tools: tools_of(protocol),
        run: Box::new(move |trial| {
            let home = trial.bench.home()?;
            let found = home.path().join("found");
            let sample = trial.on_fresh_mount(way, |mounted| {
                let mut command = Command::new("find");
                command.arg(mounted.path("tree")).stdout(File::create(&found)?);
                let took = process::run(&mut command, trial.bench.patience)?;
                Ok(Sample::duration(took).with_usage(mounted.usage()?))
            })?;
            let (names, corpus) = (fs::read_to_string(&found)?.lines().count() as u64, &trial.bench.corpus);
            ensure!(
                names == corpus.tree_directories() + corpus.tree_files(),
                "{names} names were found"
            );
            Ok(vec![sample])
        }),
    }
}

/// `cp -r` of small files.
pub fn copy(sizes: &Sizes) -> Experiment {
    Experiment {
        lines: vec![Line {
            id: "copy".into(),
            title: format!("`cp -r` of {} files of {}", count(sizes.small), size(sizes.small_len)),
            profile: Some(Profile::Wan),
            shown: &[Duration, Requests, Cpu],
            limit: Limit::Known(
                // Sixteen at a time, each one round trip.
                (sizes.small as f64 / 16.0).ceil() * ROUND_TRIP,
                "a round trip each, 16 at a time",
            ),
            aims: vec![AtMost(Duration, 6.0)],
            table: Table::SideBySide,
        }],
        tools: &ALL,
        run: Box::new(|trial| {
            let home = trial.bench.home()?;
            let copied = home.path().join("copied");
            let sample = trial.on_fresh_mount(Profile::Wan, |mounted| {
                let mut command = Command::new("cp");
                command.arg("-r").arg(mounted.path("small")).arg(&copied);
                let took = process::run(&mut command, trial.bench.patience)?;
                Ok(Sample::duration(took).with_usage(mounted.usage()?))
            })?;
            let originals = trial.bench.corpus.path("small");
            for original in fs::read_dir(originals)? {
                let original = original?;
                read::verify(&copied.join(original.file_name()), &original.path())?;
            }
            Ok(vec![sample])
        }),
    }
}

fn other(protocol: Protocol) -> Option<(&'static str, &'static str)> {
    let (_, id, title) = OTHERS.into_iter().find(|(other, ..)| *other == protocol)?;
    Some((id, title))
}

fn id_of(line: &str, protocol: Protocol) -> String {
    other(protocol).map_or_else(|| line.to_owned(), |(id, _)| format!("{line}-{id}"))
}

fn title_of(work: String, protocol: Protocol) -> String {
    match other(protocol) {
        Some((_, title)) => format!("{work}; {title}"),
        None => work,
    }
}

fn aims_of(by_http: Vec<Aim>, faster: f64, protocol: Protocol) -> Vec<Aim> {
    match other(protocol) {
        Some(_) => vec![Faster(faster, Tool::Rclone)],
        None => by_http,
    }
}

fn tools_of(protocol: Protocol) -> &'static [Tool] {
    if other(protocol).is_some() { &ABLE } else { &ALL }
}

/// Whether each name stands there with its size.
fn verify_listing(listing: &str, trial: &Trial<'_>) -> Result<()> {
    let fields = |line: &str| -> Option<(String, u64)> {
        let fields: Vec<&str> = line.split_whitespace().collect();
        Some(((*fields.get(8)?).to_owned(), fields.get(4)?.parse().ok()?))
    };
    let listed: HashMap<String, u64> = listing.lines().filter_map(fields).collect();
    let originals: Vec<_> = fs::read_dir(trial.bench.corpus.path("names"))?.collect::<Result<_, _>>()?;
    ensure!(listed.len() == originals.len(), "{} names were listed", listed.len());
    for original in originals {
        let name = original.file_name().into_string().ok().context("a name of ours")?;
        let (size, shown) = (original.metadata()?.len(), listed.get(&name));
        ensure!(
            shown == Some(&size),
            "{name} has {size} bytes and is listed with {shown:?}"
        );
    }
    Ok(())
}
