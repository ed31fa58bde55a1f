//! What all lines share: the origin, its files, the tools; and a run of one tool from its mount to its end.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use nix::mount::{MntFlags, umount2};
use tempfile::TempDir;

use super::corpus::Corpus;
use super::mounted::Mounted;
use super::origin::{Address, Mark, Origin, Way};
use super::sample::Sample;
use super::tool::{Programs, Tool};

/// How the names of run folders begin.
const RUN: &str = "run-";

/// The mountpoint in a run folder.
const MOUNTPOINT: &str = "mnt";

/// What all lines share.
pub struct Bench {
    /// Where the programs are.
    pub programs: Programs,
    /// The files that are served.
    pub corpus: Corpus,
    /// Who serves them.
    pub origin: Origin,
    /// For mountpoints and caches: on the disk that the corpus is on.
    pub work: PathBuf,
    /// Where logs of the origin go, if they are wanted.
    pub logs: Option<PathBuf>,
    /// The longest that one run may take.
    pub patience: Duration,
}

/// One run of one tool on one line.
pub struct Trial<'a> {
    /// What all lines share.
    pub bench: &'a Bench,
    /// Whose turn it is.
    pub tool: Tool,
    /// The line, for the names of logs.
    pub line: &'a str,
    /// Which run it is, from 0: all tools get the same random places in the same run.
    pub number: u64,
}

/// A mountpoint and a cache of one's own; deleted when dropped.
pub struct CacheDir {
    folder: TempDir,
}

impl CacheDir {
    /// The folder of the cache.
    pub fn cache(&self) -> PathBuf {
        self.folder.path().join("cache")
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Where to mount.
    pub fn mountpoint(&self) -> PathBuf {
        self.folder.path().join(MOUNTPOINT)
    }

    /// Where what the tool says goes.
    pub fn output(&self) -> PathBuf {
        self.folder.path().join("output")
    }
}

/// Takes a work folder for this process, and removes what a benchmark has left there that was killed. The folder is
/// free again when what this returns is dropped.
///
/// # Errors
/// When another benchmark uses it, or it can't be made.
pub fn take_folder(work: &Path) -> Result<File> {
    fs::create_dir_all(work)?;
    let lock = File::create(work.join("lock"))?;
    lock.try_lock()
        .with_context(|| format!("{} is in use by another benchmark", work.display()))?;
    for entry in fs::read_dir(work)? {
        let run = entry?.path();
        if !run
            .file_name()
            .is_some_and(|name| name.to_string_lossy().starts_with(RUN))
        {
            continue;
        }
        let mountpoint = run.join(MOUNTPOINT);
        let _ = umount2(&mountpoint, MntFlags::MNT_DETACH);
        // Nothing is deleted through a mount that stays.
        let stays = fs::metadata(&mountpoint).is_ok_and(|inside| Some(inside.dev()) != device(&run));
        if !stays {
            fs::remove_dir_all(&run)?;
        }
    }
    Ok(lock)
}

fn device(path: &Path) -> Option<u64> {
    fs::metadata(path).ok().map(|metadata| metadata.dev())
}

impl Bench {
    /// A folder for one run, when the disk has nothing left to do from the one before.
    ///
    /// # Errors
    /// When it can't be made.
    pub fn home(&self) -> Result<CacheDir> {
        let folder = self.folder()?;
        let descriptor = File::open(folder.path())?;
        // SAFETY: the descriptor is open.
        unsafe { libc::syncfs(descriptor.as_raw_fd()) };
        Ok(CacheDir { folder })
    }

    /// A folder that is deleted with its guard, or by the next benchmark.
    ///
    /// # Errors
    /// When it can't be made.
    pub fn folder(&self) -> Result<TempDir> {
        Ok(tempfile::Builder::new().prefix(RUN).tempdir_in(&self.work)?)
    }
}

impl Trial<'_> {
    /// Mounts the corpus on an empty cache, runs `work` in it, unmounts, and adds what the origin saw.
    ///
    /// Every line works in a folder below the root: some tools read the root before the mount is up, others later, and
    /// that would be compared.
    ///
    /// # Errors
    /// When anything of it fails.
    pub fn on_fresh_mount(&self, way: impl Into<Way>, work: impl FnOnce(&Mounted) -> Result<Sample>) -> Result<Sample> {
        let home = self.bench.home()?;
        self.on_mount(&home, &home.cache(), way, &[], work)
    }

    /// The same, on a cache that may be warm, and with options of the tool besides those that it always gets.
    ///
    /// # Errors
    /// When anything of it fails.
    pub fn on_mount(
        &self,
        home: &CacheDir,
        cache: &Path,
        way: impl Into<Way>,
        options: &[&str],
        work: impl FnOnce(&Mounted) -> Result<Sample>,
    ) -> Result<Sample> {
        let mark = self.bench.origin.mark()?;
        let address = self.bench.origin.address(way.into());
        let mounted = self.mount(home, cache, &address, options)?;
        let worked = work(&mounted);
        let ended = mounted.end();
        let sample = worked?;
        ended.context("at its end")?;
        self.with_traffic_since(mark, self.line, sample)
    }

    /// Mounts what is at an address, with options of the tool besides those that it always gets.
    ///
    /// # Errors
    /// When the mount does not come to answer.
    pub fn mount(
        &self,
        home: &CacheDir,
        cache: &Path,
        address: &Address,
        options: &[impl AsRef<OsStr>],
    ) -> Result<Mounted> {
        fs::create_dir_all(cache)?;
        let mountpoint = home.mountpoint();
        let mut command = self.bench.programs.mount(self.tool, address, &mountpoint, cache);
        command.args(options);
        Mounted::start(self.tool, command, mountpoint, &home.output(), self.bench.patience)
    }

    /// Adds what the origin saw since a mark, and keeps its log under the name of a line, if logs are wanted. All clients must
    /// have left.
    ///
    /// # Errors
    /// When a client stays connected.
    pub fn with_traffic_since(&self, mark: Mark, line: &str, sample: Sample) -> Result<Sample> {
        let origin = &self.bench.origin;
        if let Some(logs) = &self.bench.logs {
            let name = format!("{line}.{}.{}.log", self.tool.id(), self.number);
            origin.save_log_since(mark, &logs.join(name))?;
        }
        Ok(sample.with_traffic(origin.traffic_since(mark)?))
    }

    /// Random numbers: the same for all tools, others in each run.
    pub fn random(&self) -> fastrand::Rng {
        fastrand::Rng::with_seed(self.number)
    }
}
