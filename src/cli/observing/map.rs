//! `fetchfs map`: which parts of files are cached, in flight and waited for.

pub(in crate::cli) mod chart;

use std::io::{IsTerminal, stdout};
use std::path::PathBuf;

use clap::{ArgMatches, Args, Command, FromArgMatches};

use crate::cli::support::output;
use crate::cli::support::targets::{self, Failures, Target};
use crate::control::protocol::{FileMap, Reply, Request};
use chart::{Chart, Symbols};

/// Show which parts of files are cached
///
/// Also shows what is being fetched now, what is wanted next, and where reads wait. Each character stands for some
/// chunks of the file. No server is asked.
#[derive(Args)]
struct MapArgs {
    /// Files in a mount
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,

    /// Print a JSON array with one object per file: byte ranges that are cached, in flight and wanted
    #[arg(long)]
    json: bool,
}

pub(in crate::cli) fn command() -> Command {
    MapArgs::augment_args(Command::new("map"))
}

pub(in crate::cli) fn run(matches: &ArgMatches) -> anyhow::Result<()> {
    let args = MapArgs::from_arg_matches(matches)?;
    let mut failed = Failures::default();
    let mut maps = Vec::new();
    for Target { mount, paths } in targets::in_mounts(&args.files)? {
        let Reply::Maps { files, failures } = targets::ask_once(&mount, &Request::Map { paths })? else {
            return Err(targets::unexpected(&mount));
        };
        failed.add(&mount, &failures, failures.len() as u64);
        maps.extend(files.into_iter().map(|map| (targets::shown(&mount, &map.path), map)));
    }
    if args.json {
        output::write(json(maps)? + "\n")?;
    } else if !maps.is_empty() {
        output::write(text(&maps))?;
    }
    failed.end("mapped")
}

/// The maps as JSON, each with its path as the user sees it.
fn json(maps: Vec<(String, FileMap)>) -> serde_json::Result<String> {
    let named = maps.into_iter().map(|(path, map)| {
        let mut value = serde_json::to_value(map)?;
        value["path"] = path.into();
        Ok(value)
    });
    serde_json::to_string_pretty(&named.collect::<serde_json::Result<Vec<_>>>()?)
}

/// The maps for people, and the meaning of the symbols they use.
fn text(maps: &[(String, FileMap)]) -> String {
    let symbols = Symbols::of_locale();
    let columns = terminal_size::terminal_size()
        .filter(|_| stdout().is_terminal())
        .map_or(80, |(width, _)| usize::from(width.0));
    let charts: Vec<_> = maps.iter().map(|(_, map)| Chart::new(map, columns)).collect();
    let mut text = String::new();
    for ((path, map), chart) in maps.iter().zip(&charts) {
        text.push_str(&headline(path, map));
        text.push_str(&chart.lines(symbols));
        text.push('\n');
    }
    text.push_str(&chart::legend(&charts, symbols));
    text
}

/// How much of a file is here, and what goes on in it.
fn headline(path: &str, map: &FileMap) -> String {
    let bytes = |ranges: &[std::ops::Range<u64>]| ranges.iter().map(|range| range.end - range.start).sum::<u64>();
    let cached = bytes(&map.cached);
    // Rounded down: 100 % is all of it.
    let percent = u128::from(cached) * 100 / u128::from(map.size.max(1));
    let percent = if map.size == 0 { 100 } else { percent };
    let mut line = format!(
        "{path}: {} of {} cached ({percent} %)",
        output::size(cached),
        output::size(map.size)
    );
    if !map.in_flight.is_empty() {
        line.push_str(&format!(", {} in flight", output::size(bytes(&map.in_flight))));
    }
    match map.waiting.len() {
        0 => {}
        1 => line.push_str(", 1 read waiting"),
        reads => line.push_str(&format!(", {reads} reads waiting")),
    }
    line + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::protocol::TreePath;

    #[test]
    fn headline_says_how_much_is_here() {
        let mut map = FileMap {
            path: TreePath::new("f".into()).unwrap(),
            url: "http://h/f".into(),
            size: 1 << 20,
            chunk_size: 256 << 10,
            cached: vec![0..256 << 10, 512 << 10..(1 << 20) - 1],
            in_flight: Vec::new(),
            wanted: Vec::new(),
            waiting: Vec::new(),
        };
        assert_eq!(headline("/m/f", &map), "/m/f: 768.0 KiB of 1.0 MiB cached (74 %)\n");
        map.in_flight = std::iter::once(256 << 10..512 << 10).collect();
        map.waiting = vec![300_000];
        assert_eq!(
            headline("/m/f", &map),
            "/m/f: 768.0 KiB of 1.0 MiB cached (74 %), 256.0 KiB in flight, 1 read waiting\n"
        );
        (map.size, map.cached) = (0, Vec::new());
        assert!(headline("/m/f", &map).contains("(100 %)"), "an empty file is here");
    }
}
