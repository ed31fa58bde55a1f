//! Films: what a scanner asks for, and what a player needs to show a picture.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

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
        run: Box::new(|trial| run(trial, ffprobe, "media/film.mp4", described)),
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
        run: Box::new(|trial| run(trial, mpv, "film/film.mkv", pictured)),
    }
}

/// Measures a command. What it makes of the file is compared in a mount of its own, the first time: there it may write.
fn run(
    trial: &Trial<'_>,
    command: fn(&Path) -> Command,
    name: &str,
    outcome: fn(&Path, &Path) -> Result<Vec<u8>>,
) -> Result<Vec<Sample>> {
    if trial.number == 0 {
        let home = trial.bench.home()?;
        let expected = outcome(&trial.bench.corpus.path(name), home.path())?;
        trial.on_mount(&home, &home.cache(), Profile::Lan, &[], |mounted| {
            let got = outcome(&mounted.path(name), home.path())?;
            ensure!(got == expected, "{name}: not what comes of the local file");
            Ok(Sample::default())
        })?;
    }
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
    command.stdout(Stdio::null());
    command
}

/// What ffprobe says of a film, but for its name.
fn described(film: &Path, _: &Path) -> Result<Vec<u8>> {
    let output = ffprobe(film).stdout(Stdio::piped()).output()?;
    let text = String::from_utf8(output.stdout)?;
    ensure!(
        output.status.success() && text.contains("duration="),
        "ffprobe fails on {}",
        film.display()
    );
    let lines = text.lines().filter(|line| !line.starts_with("filename="));
    Ok(lines.collect::<Vec<_>>().join("\n").into_bytes())
}

fn mpv(film: &Path) -> Command {
    let mut command = Command::new("mpv");
    command.args(["--no-config", "--vo=null", "--ao=null", "--really-quiet"]);
    command.args(["--start=75%", "--frames=1"]).arg(film);
    command.stdout(Stdio::null());
    command
}

/// The picture that mpv shows, as a file.
fn pictured(film: &Path, folder: &Path) -> Result<Vec<u8>> {
    let pictures = tempfile::tempdir_in(folder)?;
    let mut command = mpv(film);
    // The last of an option counts.
    command.args(["--vo=image", "--vo-image-format=png"]);
    command.arg(format!("--vo-image-outdir={}", pictures.path().display()));
    ensure!(command.status()?.success(), "mpv fails on {}", film.display());
    let picture = fs::read_dir(pictures.path())?
        .next()
        .context("mpv shows no picture")??;
    Ok(fs::read(picture.path())?)
}
