//! What is in the cache already: how near a read comes to a local file.
//!
//! The file is read through the mount once. Then the kernel is asked to forget its pages (`posix_fadvise`,
//! POSIX_FADV_DONTNEED), so that the next read asks the daemon; the pages of the daemon's own file stay in memory, as after
//! any download. The mount stays, because rclone forgets what it has cached when it is unmounted soon after.

use std::fs::{self, File};
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use nix::sys::stat;

use super::super::aim::Aim::{AtLeast, OfLimit};
use super::super::bench::{Bench, Trial};
use super::super::corpus::Sizes;
use super::super::mounted::Mounted;
use super::super::origin::Profile;
use super::super::read;
use super::super::sample::Measure::{Cpu, Iops, Rate};
use super::super::sample::Sample;
use super::super::tool::{ALL, Tool};
use super::{Experiment, Limit, Line, Table, size};

/// Programs that read at random places at once.
const JOBS: usize = 4;

/// Bytes of each such read.
const PAGE: usize = 4096;

/// How long they go on at most. Each page is read once, so that the kernel can answer none from its memory of the mount;
/// a fast tool is through with the file sooner.
const LONGEST: Duration = Duration::from_secs(5);

/// In sequence, again, and at random.
pub fn cached(sizes: &Sizes) -> Experiment {
    let big = size(sizes.big);
    // Passthrough is for root: the kernel lets nobody else register a backing file.
    let is_root = nix::unistd::geteuid().is_root();
    let cold = if is_root {
        OfLimit(Rate, 0.8)
    } else {
        AtLeast(Rate, 2_500.0)
    };
    let local = Limit::Measured;
    Experiment {
        lines: vec![
            Line {
                id: "cached-sequential".into(),
                title: format!("cached: {big} in sequence, the mount's pages dropped"),
                profile: None,
                shown: &[Rate, Cpu],
                limit: local(local_sequential, "the local file"),
                aims: vec![cold],
                table: Table::SideBySide,
            },
            Line {
                id: "cached-again".into(),
                title: "cached: read again".into(),
                profile: None,
                shown: &[Rate, Cpu],
                limit: local(local_sequential, "the local file"),
                aims: vec![OfLimit(Rate, 0.8)],
                table: Table::SideBySide,
            },
            Line {
                id: "cached-random".into(),
                title: format!("cached: 4 KiB at random, {JOBS} jobs, the mount's pages dropped"),
                profile: None,
                shown: &[Iops, Cpu],
                limit: local(local_random, "the local file"),
                aims: if is_root { vec![OfLimit(Iops, 0.8)] } else { vec![] },
                table: Table::SideBySide,
            },
        ],
        tools: &ALL,
        run: Box::new(run),
    }
}

/// In sequence, with every byte answered by the daemon: as root's mount has it, and as an ordinary user's.
pub fn served(sizes: &Sizes) -> Experiment {
    let line = |id: &str, who: &str| Line {
        id: id.into(),
        title: format!(
            "cached: {} in sequence, without passthrough, as {who} has it",
            size(sizes.big)
        ),
        profile: None,
        shown: &[Rate, Cpu],
        limit: Limit::Measured(local_sequential, "the local file"),
        aims: vec![AtLeast(Rate, 2_500.0)],
        table: Table::SideBySide,
    };
    Experiment {
        lines: vec![
            line("cached-served", "the user who runs this"),
            line("cached-served-user", "an ordinary user"),
        ],
        tools: &[Tool::Fetchfs],
        run: Box::new(run_served),
    }
}

/// Only root's mount can have a longer read-ahead of the kernel than mounts begin with: that is the difference to an ordinary user's.
fn run_served(trial: &Trial<'_>) -> Result<Vec<Sample>> {
    let home = trial.bench.home()?;
    let options = ["--no-passthrough"];
    let mut samples = Vec::new();
    trial.on_mount(&home, &home.cache(), Profile::Lan, &options, |mounted| {
        let path = mounted.path("big/file");
        read::whole(&path)?;
        let sequential = || read::whole(&path).map(|(bytes, took)| Sample::rate(bytes, took));
        read::drop_pages(&path)?;
        samples.push(with_cpu_of(mounted, sequential)?);
        leave_read_ahead_as_it_begins(&path)?;
        read::drop_pages(&path)?;
        samples.push(with_cpu_of(mounted, sequential)?);
        read::drop_pages(&path)?;
        read::verify(&path, &trial.bench.corpus.path("big/file"))?;
        Ok(Sample::default())
    })?;
    Ok(samples)
}

/// Sets the read-ahead of this file's mount to what FUSE mounts begin with, where it is another.
fn leave_read_ahead_as_it_begins(path: &Path) -> Result<()> {
    const BEGINNING: &str = "128";
    let device = path.metadata()?.dev();
    let (major, minor) = (stat::major(device), stat::minor(device));
    let setting = format!("/sys/class/bdi/{major}:{minor}/read_ahead_kb");
    let now = fs::read_to_string(&setting).with_context(|| setting.clone())?;
    if now.trim() != BEGINNING {
        fs::write(&setting, BEGINNING).with_context(|| setting.clone())?;
    }
    Ok(())
}

fn run(trial: &Trial<'_>) -> Result<Vec<Sample>> {
    let mut samples = Vec::new();
    trial.on_fresh_mount(Profile::Lan, |mounted| {
        let path = mounted.path("big/file");
        read::whole(&path)?;
        read::drop_pages(&path)?;
        let sequential = || read::whole(&path).map(|(bytes, took)| Sample::rate(bytes, took));
        samples.push(with_cpu_of(mounted, sequential)?);
        samples.push(with_cpu_of(mounted, sequential)?);
        read::verify(&path, &trial.bench.corpus.path("big/file"))?;
        read::drop_pages(&path)?;
        samples.push(with_cpu_of(mounted, || random_pages(&path, trial.number))?);
        read::drop_pages(&path)?;
        verify_pages(&path, &trial.bench.corpus.path("big/file"), trial.number)?;
        Ok(Sample::default())
    })?;
    Ok(samples)
}

/// Adds the processor time that the daemon has used for it.
fn with_cpu_of(mounted: &Mounted, work: impl FnOnce() -> Result<Sample>) -> Result<Sample> {
    let before = mounted.usage()?.cpu;
    let sample = work()?;
    Ok(sample.with(Cpu, mounted.usage()?.cpu - before))
}

/// Every page of a file once, in random order, by several threads.
fn random_pages(path: &Path, seed: u64) -> Result<Sample> {
    let len = read::open(path)?.metadata()?.len();
    let mut pages: Vec<u64> = (0..len / PAGE as u64).collect();
    fastrand::Rng::with_seed(seed).shuffle(&mut pages);
    let begun = Instant::now();
    let done: Vec<Result<usize>> = thread::scope(|scope| {
        let jobs: Vec<_> = pages
            .chunks(pages.len().div_ceil(JOBS))
            .map(|pages| scope.spawn(move || read_pages(path, pages, begun)))
            .collect();
        let end = |job: thread::ScopedJoinHandle<'_, _>| job.join().unwrap_or_else(|_| Err(anyhow!("it panicked")));
        jobs.into_iter().map(end).collect()
    });
    let took = begun.elapsed();
    let total = done.into_iter().try_fold(0, |total, done| anyhow::Ok(total + done?))?;
    Ok(Sample::of(Iops, total as f64 / took.as_secs_f64()))
}

/// Compares some pages, read in the way that was measured: comparing while the clock runs would be measured too.
fn verify_pages(path: &Path, original: &Path, seed: u64) -> Result<()> {
    use std::os::unix::fs::FileExt;
    const LOOKS: usize = 4096;
    let (file, expected) = (open_for_pages(path)?, read::open(original)?);
    let pages = file.metadata()?.len() / PAGE as u64;
    let mut random = fastrand::Rng::with_seed(seed);
    let (mut got, mut want) = ([0; PAGE], [0; PAGE]);
    for _ in 0..LOOKS {
        let offset = random.u64(0..pages) * PAGE as u64;
        file.read_exact_at(&mut got, offset)?;
        expected.read_exact_at(&mut want, offset)?;
        ensure!(got == want, "{}: wrong bytes at {offset}", path.display());
    }
    Ok(())
}

/// Databases and fio say that they read at random; without it the kernel reads 128 KiB around each place.
fn open_for_pages(path: &Path) -> Result<File> {
    let file = read::open(path)?;
    // SAFETY: the descriptor is open; the call only gives advice.
    unsafe { libc::posix_fadvise(file.as_raw_fd(), 0, 0, libc::POSIX_FADV_RANDOM) };
    Ok(file)
}

/// Reads these pages while there is time; says how many.
fn read_pages(path: &Path, pages: &[u64], begun: Instant) -> Result<usize> {
    use std::os::unix::fs::FileExt;
    /// Reads between two looks at the clock.
    const BATCH: usize = 64;
    let (file, mut buffer) = (open_for_pages(path)?, [0; PAGE]);
    let mut done = 0;
    for batch in pages.chunks(BATCH) {
        if begun.elapsed() > LONGEST {
            break;
        }
        for page in batch {
            file.read_exact_at(&mut buffer, page * PAGE as u64)?;
        }
        done += batch.len();
    }
    Ok(done)
}

fn local_sequential(bench: &Bench) -> Result<Sample> {
    let path = bench.corpus.path("big/file");
    // The first time brings it into memory.
    read::whole(&path).context("the local file")?;
    let (bytes, took) = read::whole(&path)?;
    Ok(Sample::rate(bytes, took))
}

fn local_random(bench: &Bench) -> Result<Sample> {
    let path = bench.corpus.path("big/file");
    read::whole(&path).context("the local file")?;
    random_pages(&path, 0)
}
