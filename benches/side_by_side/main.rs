//! fetchfs side by side with the tools that users would take instead.
//!
//! `make bench` runs it. It starts nginx on loopback, with and without the delays of a long way; makes files for it;
//! and lets each tool do each work on an empty cache, a mount at a time: fetchfs with its defaults, rclone with its
//! defaults and tuned, httpdirfs. What was read is compared with what the origin has, outside of the time that is
//! measured. Requests and bytes are counted in the origin's log once the mount is gone, processor time and memory in the
//! daemon's `/proc`. The table on standard output, `table.md` and `results.json` in the output folder say the same.
//!
//! Everything ends: each command and each mount has a limit, each daemon ends with this process.

mod aim;
mod bench;
mod corpus;
mod lines;
mod machine;
mod mounted;
mod nginx;
mod options;
mod origin;
mod process;
mod read;
mod report;
mod sample;
mod tier;
mod tool;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Result;
use clap::Parser;

use bench::{Bench, Trial};
use corpus::Corpus;
use lines::{Experiment, Limit};
use machine::Machine;
use options::Options;
use origin::Origin;
use report::{Report, Row};
use sample::Runs;
use tool::{ALL, Programs, Tool};

/// A run that took longer than this for each of its lines is not repeated: the difference that it shows is no chance.
const LONG: Duration = Duration::from_secs(45);

fn main() -> ExitCode {
    let options = Options::parse();
    if !options.bench {
        // `cargo test --all-targets` starts benchmarks as well, and nobody would wait for this one.
        eprintln!("this is measured by `make bench`");
        return ExitCode::SUCCESS;
    }
    match run(&options) {
        Ok(report) if report.failures().is_empty() => ExitCode::SUCCESS,
        Ok(report) => {
            eprintln!("fetchfs failed: {}", report.failures().join(", "));
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> Result<Report> {
    let work = options.work();
    let runs = work.join(if options.quick { "quick" } else { "full" });
    let _taken = bench::take_folder(&runs)?;
    let output = options.output();
    fs::create_dir_all(&output)?;
    let (folder, sizes) = options.sizes();
    let corpus = Corpus::make(&work.join(folder), sizes)?;
    let logs = options.logs.then(|| output.join("logs"));
    if let Some(logs) = &logs {
        fs::create_dir_all(logs)?;
    }
    let programs = options.programs();
    let bench = Bench {
        origin: Origin::start(corpus.root(), programs.path(Tool::Rclone))?,
        programs,
        corpus,
        work: runs,
        logs,
        patience: Duration::from_secs(options.patience),
    };
    let mut report = Report {
        sizes: if options.quick { "quick" } else { "full" },
        machine: Machine::here(),
        versions: versions(options, &bench.programs)?,
        rows: Vec::new(),
    };
    for experiment in lines::all(&bench) {
        if experiment.lines.iter().any(|line| options.wants(&line.id)) {
            report
                .rows
                .extend(measure(experiment, &bench, &report.versions, options.runs()));
            // So that what was measured is there if somebody ends this early.
            fs::write(output.join("table.md"), report.markdown())?;
            fs::write(output.join("results.json"), report.json())?;
        }
    }
    println!("\n{}", report.markdown());
    if let Some(document) = &options.update {
        report.update(document)?;
    }
    eprintln!("this table and every value: {}", output.display());
    Ok(report)
}

/// The tools that take part, with their versions. A tool that is not there is left out, unless it is fetchfs.
fn versions(options: &Options, programs: &Programs) -> Result<BTreeMap<Tool, String>> {
    let mut versions = BTreeMap::new();
    for tool in ALL.into_iter().filter(|tool| options.tools.contains(tool)) {
        match programs.version(tool) {
            Some(version) => {
                versions.insert(tool, version);
            }
            None if tool == Tool::Fetchfs => {
                anyhow::bail!("{} can't be started", programs.path(tool).display())
            }
            None => eprintln!(
                "{} is not here and left out; scripts/install-deps.sh bench",
                tool.title()
            ),
        }
    }
    Ok(versions)
}

/// Lets each tool do the work of an experiment, so many times; a tool that fails is not asked again.
fn measure(experiment: Experiment, bench: &Bench, tools: &BTreeMap<Tool, String>, runs: u64) -> Vec<Row> {
    let Experiment {
        lines,
        tools: able,
        run,
    } = experiment;
    let row = |line| Row {
        line,
        tools: BTreeMap::new(),
        limit: Runs::default(),
    };
    let mut rows: Vec<Row> = lines.into_iter().map(row).collect();
    let tools: Vec<Tool> = able.iter().copied().filter(|tool| tools.contains_key(tool)).collect();
    let mut over = BTreeSet::new();
    // The limit, all tools in turn, and again: whoever else uses the machine for a while disturbs them all alike.
    for number in 0..runs {
        rows.iter_mut().for_each(|row| measure_limit(row, bench));
        for &tool in &tools {
            if over.contains(&tool) {
                continue;
            }
            let begun = Instant::now();
            let line = &rows[0].line.id.clone();
            let outcome = run(&Trial {
                bench,
                tool,
                line,
                number,
            });
            if outcome.is_err() || begun.elapsed() > LONG * rows.len() as u32 {
                over.insert(tool);
            }
            let results = rows.iter_mut().map(|row| row.tools.entry(tool).or_default());
            match outcome {
                Ok(samples) => results.zip(samples).for_each(|(runs, sample)| runs.add(sample)),
                Err(error) => results.for_each(|runs| runs.fail(&error)),
            }
        }
    }
    for tool in tools {
        rows.iter().for_each(|row| eprintln!("  {}", row.progress(tool)));
    }
    rows
}

fn measure_limit(row: &mut Row, bench: &Bench) {
    let Limit::Measured(measure, why) = row.line.limit else {
        return;
    };
    match measure(bench) {
        Ok(sample) => row.limit.add(sample),
        Err(error) => eprintln!("  {:<18} the limit, {why}: {error:#}", row.line.id),
    }
}
