//! Films: what a scanner asks for, and what a player needs to show a picture.

use std::path::Path;
use std::process::Command;

use anyhow::Result;

use super::super::aim::Aim::AtMost;
use super::super::bench::{Bench, Trial};
use super::super::origin::{Profile, ROUND_TRIP};
use super::super::process;
use super::super::sample::Measure::{Duration, Requests, Wire};
use super::super::sample::Sample;
use super::super::tool::ALL;
use super::{Experiment, Limit, Line, Table};

/// ffprobe of a file that has its index at the end.
pub fn probe() -> Experiment {
    Experiment {
        lines: vec![Line {
            id: "ffprobe".into(),
            title: "`ffprobe` of an mp4 with its index at the end".into(),
            profile: Some(Profile::Wan),
            shown: &[Duration, Wire, Requests],
            limit: Limit::Measured(
                |bench| with_round_trips(bench, ffprobe, "media/film.mp4", 4.0),
                "the local file and four round trips",
            ),
            aims: vec![AtMost(Duration, 0.35), AtMost(Wire, 2.0)],
            table: Table::SideBySide,
        }],
        tools: &ALL,
        run: Box::new(|trial| run(trial, ffprobe, "media/film.mp4")),
    }
}

/// mpv, until it has shown one picture.
pub fn frame() -> Experiment {
    Experiment {
        lines: vec![Line {
            id: "mpv".into(),
            title: "`mpv` shows the frame at 75 % of a film".into(),
            profile: Some(Profile::Wan),
            shown: &[Duration, Wire, Requests],
            limit: Limit::Measured(
                |bench| with_round_trips(bench, mpv, "film/film.mkv", 4.0),
                "the local file and four round trips",
            ),
            aims: vec![AtMost(Duration, 0.6), AtMost(Wire, 10.0)],
            table: Table::SideBySide,
        }],
        tools: &ALL,
        run: Box::new(|trial| run(trial, mpv, "film/film.mkv")),
    }
}

fn run(trial: &Trial<'_>, command: fn(&Path) -> Command, name: &str) -> Result<Vec<Sample>> {
    let sample = trial.on_fresh_mount(Profile::Wan, |mounted| {
        let took = process::run(&mut command(&mounted.path(name)), trial.bench.patience)?;
        Ok(Sample::duration(took).with_usage(mounted.usage()?))
    })?;
    Ok(vec![sample])
}

fn with_round_trips(bench: &Bench, command: fn(&Path) -> Command, name: &str, count: f64) -> Result<Sample> {
    let took = process::run(&mut command(&bench.corpus.path(name)), bench.patience)?;
    Ok(Sample::of(Duration, took.as_secs_f64() + count * ROUND_TRIP))
}

fn ffprobe(film: &Path) -> Command {
    let mut command = Command::new("ffprobe");
    command.args(["-v", "error", "-show_format", "-show_streams"]).arg(film);
    command.stdout(std::process::Stdio::null());
    command
}

fn mpv(film: &Path) -> Command {
    let mut command = Command::new("mpv");
    command.args(["--no-config", "--vo=null", "--ao=null", "--really-quiet"]);
    command.args(["--start=75%", "--frames=1"]).arg(film);
    command.stdout(std::process::Stdio::null());
    command
}
