//! Reads here and there: at random places, away from a stream, and the first one of all.

use std::fs;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use super::super::aim::Aim::{AtLeast, AtMost};
use super::super::bench::Trial;
use super::super::mounted::Mounted;
use super::super::origin::{Profile, ROUND_TRIP};
use super::super::process;
use super::super::read::{self, PIECE, Piece};
use super::super::sample::Measure::{Amplification, Latency, Rate};
use super::super::sample::{MEGA, Sample, median};
use super::super::tool::ALL;
use super::{Experiment, Limit, Line, Table};

/// Jumps that a median can be made of.
const ENOUGH: usize = 5;

/// From one jump to the next: longer than what the one before may have begun.
const PAUSE: Duration = Duration::from_millis(50);

/// What the stream must have read before the first jump: it has got into its stride.
const STRIDE: u64 = 16 << 20;

/// How long it may take for that.
const WARMING: Duration = Duration::from_secs(20);

/// 64 KiB at random places of one file, one after another.
pub fn random() -> Experiment {
    Experiment {
        lines: vec![Line {
            id: "random".into(),
            title: "64 KiB at random places, the median".into(),
            profile: Some(Profile::Wan),
            shown: &[Latency, Amplification],
            limit: Limit::Known(ROUND_TRIP * 1e3, "one round trip"),
            aims: vec![AtMost(Latency, 54.0), AtMost(Amplification, 6.0)],
            table: Table::SideBySide,
        }],
        tools: &ALL,
        run: Box::new(|trial| {
            let sample = trial.on_fresh_mount(Profile::Wan, |mounted| {
                let file = read::open(&mounted.path("wide/file"))?;
                let sizes = &trial.bench.corpus.sizes;
                let places = read::places(&mut trial.random(), 0..sizes.wide, sizes.reads);
                let pieces: Vec<Piece> = places
                    .into_iter()
                    .map(|at| Piece::read(&file, at))
                    .collect::<Result<_>>()?;
                let usage = mounted.usage()?;
                Ok(latency_of(trial, "wide/file", &pieces)?
                    .with_usage(usage)
                    .with_asked(sizes.reads as u64 * PIECE))
            })?;
            Ok(vec![sample])
        }),
    }
}

/// One handle reads on and on, another jumps about in the rest of the same file.
pub fn jump() -> Experiment {
    Experiment {
        lines: vec![Line {
            id: "jump".into(),
            title: "jump to a new place while another reader streams".into(),
            profile: Some(Profile::Wan),
            shown: &[Latency, Rate],
            limit: Limit::Known(ROUND_TRIP * 1e3, "one round trip"),
            aims: vec![AtMost(Latency, 60.0), AtLeast(Rate, 230.0)],
            table: Table::SideBySide,
        }],
        tools: &ALL,
        run: Box::new(|trial| {
            Ok(vec![
                trial.on_fresh_mount(Profile::Wan, |mounted| jumps(trial, mounted))?,
            ])
        }),
    }
}

/// From a mount that is up to the first bytes of a file.
pub fn first_read() -> Experiment {
    Experiment {
        lines: vec![Line {
            id: "first-read".into(),
            title: "mount is up → stat, open, first 64 KiB".into(),
            profile: Some(Profile::Wan),
            shown: &[Latency],
            limit: Limit::Known(2.0 * ROUND_TRIP * 1e3, "two round trips"),
            aims: vec![AtMost(Latency, 115.0)],
            table: Table::SideBySide,
        }],
        tools: &ALL,
        run: Box::new(|trial| {
            let sample = trial.on_fresh_mount(Profile::Wan, |mounted| {
                let path = mounted.path("big/file");
                let begun = Instant::now();
                let size = fs::metadata(&path)?.len();
                let piece = Piece::read(&read::open(&path)?, 0)?;
                let took = begun.elapsed();
                ensure!(size == trial.bench.corpus.sizes.big, "a file of {size} bytes");
                piece.verify(&read::open(&trial.bench.corpus.path("big/file"))?)?;
                Ok(Sample::latency(took))
            })?;
            Ok(vec![sample])
        }),
    }
}

fn jumps(trial: &Trial<'_>, mounted: &Mounted) -> Result<Sample> {
    let path = mounted.path("wide/file");
    // The stream has the first three quarters to itself, so that no place is there already.
    let sizes = &trial.bench.corpus.sizes;
    let streamed = sizes.wide / 4 * 3;
    let places = read::places(&mut trial.random(), streamed..sizes.wide, sizes.jumps);
    let (position, over) = (AtomicU64::new(0), AtomicBool::new(false));
    thread::scope(|scope| {
        let stream = scope.spawn(|| stream(&path, streamed, &position, &over));
        let jumped = jump_beside(&path, &places, &position, &over);
        over.store(true, Ordering::Relaxed);
        let ended = stream.join();
        let (pieces, rate) = jumped?;
        match ended {
            Ok(outcome) => outcome?,
            Err(_) => bail!("the stream panicked"),
        }
        let usage = mounted.usage()?;
        Ok(latency_of(trial, "wide/file", &pieces)?
            .with(Rate, rate)
            .with_usage(usage))
    })
}

/// Reads from the beginning, and tells how far it is, until it has come to `end` or is told that it is over.
fn stream(path: &std::path::Path, end: u64, position: &AtomicU64, over: &AtomicBool) -> Result<()> {
    use std::io::Read;
    let read_on = || -> Result<()> {
        let (mut file, mut buffer) = (read::open(path)?, vec![0; 1 << 20]);
        while position.load(Ordering::Relaxed) < end && !over.load(Ordering::Relaxed) {
            file.read_exact(&mut buffer)?;
            position.fetch_add(buffer.len() as u64, Ordering::Relaxed);
        }
        Ok(())
    };
    let outcome = read_on();
    over.store(true, Ordering::Relaxed);
    outcome
}

/// The pieces, and the stream's rate from the first jump to the last.
fn jump_beside(
    path: &std::path::Path,
    places: &[u64],
    position: &AtomicU64,
    over: &AtomicBool,
) -> Result<(Vec<Piece>, f64)> {
    let file = read::open(path)?;
    let in_stride = || (position.load(Ordering::Relaxed) >= STRIDE || over.load(Ordering::Relaxed)).then_some(());
    process::poll_until(WARMING, || Ok(in_stride()))?.context("the stream does not get going")?;
    let (begun, from) = (Instant::now(), position.load(Ordering::Relaxed));
    let (mut pieces, mut rate) = (Vec::new(), 0.0);
    for &place in places {
        let piece = Piece::read(&file, place)?;
        if over.load(Ordering::Relaxed) {
            break;
        }
        pieces.push(piece);
        thread::sleep(PAUSE);
        if !over.load(Ordering::Relaxed) {
            rate = (position.load(Ordering::Relaxed) - from) as f64 / MEGA / begun.elapsed().as_secs_f64();
        }
    }
    ensure!(
        pieces.len() >= ENOUGH,
        "the stream was over after {} jumps",
        pieces.len()
    );
    Ok((pieces, rate))
}

/// Compares what was read of a file, and gives the median of the times.
pub fn latency_of(trial: &Trial<'_>, file: &str, pieces: &[Piece]) -> Result<Sample> {
    let original = read::open(&trial.bench.corpus.path(file))?;
    pieces.iter().try_for_each(|piece| piece.verify(&original))?;
    let mut millis: Vec<f64> = pieces.iter().map(|piece| piece.took.as_secs_f64() * 1e3).collect();
    Ok(Sample::of(Latency, median(&mut millis).context("no read")?))
}
