//! The files that the origin serves: made once in the work folder, the same for every tool.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::process;

/// Raised when what is made here changes, so that an older corpus is made again.
const EDITION: u32 = 2;

/// Bytes written at once.
const BLOCK: usize = 1 << 20;

/// How long ffmpeg may take over a film.
const FILMING: Duration = Duration::from_secs(600);

/// Pictures a second in the film, and between two that can be decoded on their own.
const FRAME_RATE: u32 = 25;
const KEY_FRAMES: u32 = 2 * FRAME_RATE;

/// How big everything is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sizes {
    /// Bytes of the file that is read in sequence.
    pub big: u64,
    /// Bytes of the file that is read here and there. Never small: a tool that fetches much around each place would
    /// soon have all of it.
    pub wide: u64,
    /// Reads at random places, and jumps at most beside a stream.
    pub reads: usize,
    pub jumps: usize,
    /// Files that are read at once, and the bytes of each.
    pub streams: u64,
    pub stream_len: u64,
    /// Mounts that read one file at once, and the bytes of it.
    pub fleet: &'static [usize],
    pub fleet_len: u64,
    /// Bytes of each file of [`CROWD`].
    pub crowd_len: u64,
    /// Files in one directory.
    pub names: u64,
    /// A tree of three levels: directories below its root, in each of these, and files in each of all those.
    pub branches: u64,
    pub leaves: u64,
    pub files_in_each: u64,
    /// Small files to copy, and the bytes of each.
    pub small: u64,
    pub small_len: u64,
    /// Seconds of film, about 1.3 MB each.
    pub film: u64,
    /// Whether it is measured how cost grows.
    pub growth: bool,
    /// Entries of a large cache, and chunks in each.
    pub entries: u64,
    pub chunks: u64,
}

/// Files of growing size, all but their beginning a hole.
pub const GROWTH_FILES: [(&str, u64); 3] = [("16-mib", 16 << 20), ("1-gib", 1 << 30), ("1-tib", 1 << 40)];

/// Files for many more readers than connections.
pub const CROWD: u64 = 64;

/// How many of these are read at once to see how cost grows.
pub const GROWTH_READERS: [u64; 4] = [1, 4, 16, CROWD];

/// What the table in docs/performance.md is measured with.
pub const FULL: Sizes = Sizes {
    big: 1 << 30,
    wide: 1 << 30,
    reads: 40,
    jumps: 20,
    streams: 16,
    stream_len: 64 << 20,
    fleet: &[1, 4, 16],
    fleet_len: 128 << 20,
    crowd_len: 16 << 20,
    names: 10_000,
    branches: 20,
    leaves: 14,
    files_in_each: 10,
    small: 1_000,
    small_len: 16 << 10,
    film: 150,
    growth: true,
    entries: 10_000,
    chunks: 100,
};

/// A tenth of it or less, for two minutes.
pub const QUICK: Sizes = Sizes {
    big: 128 << 20,
    wide: 1 << 30,
    reads: 15,
    jumps: 10,
    streams: 16,
    stream_len: 8 << 20,
    fleet: &[1, 4],
    fleet_len: 16 << 20,
    crowd_len: 1 << 20,
    names: 200,
    branches: 4,
    leaves: 3,
    files_in_each: 10,
    small: 32,
    small_len: 16 << 10,
    film: 30,
    growth: false,
    entries: 1_000,
    chunks: 100,
};

/// The folders of the corpus, and what is in them.
pub struct Corpus {
    root: PathBuf,
    /// How big everything is.
    pub sizes: Sizes,
}

impl Corpus {
    /// The corpus in `root`, made if it is not there as it should be.
    ///
    /// # Errors
    /// When it can't be written, or ffmpeg fails.
    pub fn make(root: &Path, sizes: Sizes) -> Result<Corpus> {
        let corpus = Corpus {
            root: root.to_owned(),
            sizes,
        };
        let stamp = root.join(".complete");
        let wanted = format!("edition {EDITION}, {sizes:?}");
        if fs::read_to_string(&stamp).is_ok_and(|found| found == wanted) {
            return Ok(corpus);
        }
        eprintln!("making files for the origin in {}", root.display());
        if root.exists() {
            fs::remove_dir_all(root)?;
        }
        corpus.write()?;
        fs::write(stamp, wanted)?;
        Ok(corpus)
    }

    /// A folder of the corpus, or a file in one.
    pub fn path(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    /// The folder itself.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Directories of the tree, its root among them.
    pub fn tree_directories(&self) -> u64 {
        1 + self.sizes.branches * (1 + self.sizes.leaves)
    }

    /// Files of the tree.
    pub fn tree_files(&self) -> u64 {
        (self.tree_directories() - 1) * self.sizes.files_in_each
    }

    fn write(&self) -> Result<()> {
        let sizes = self.sizes;
        self.file("big/file", sizes.big)?;
        self.file("wide/file", sizes.wide)?;
        for number in 0..sizes.streams {
            self.file(&format!("streams/{number:02}"), sizes.stream_len)?;
        }
        self.file("fleet/file", sizes.fleet_len)?;
        for number in 0..CROWD {
            self.file(&format!("readers/{number:02}"), sizes.crowd_len)?;
        }
        for number in 0..sizes.names {
            // Of different sizes, so that a listing that mixes them up is noticed; none empty, which httpdirfs leaves
            // out.
            self.file(&format!("names/file-{number:05}.txt"), 1 + number % 100)?;
        }
        for branch in 0..sizes.branches {
            self.leaf(&format!("tree/branch-{branch:02}"))?;
            for leaf in 0..sizes.leaves {
                self.leaf(&format!("tree/branch-{branch:02}/leaf-{leaf:02}"))?;
            }
        }
        for number in 0..sizes.small {
            self.file(&format!("small/file-{number:04}"), sizes.small_len)?;
        }
        if sizes.growth {
            self.growth()?;
        }
        self.film()
    }

    fn growth(&self) -> Result<()> {
        for (name, len) in GROWTH_FILES {
            let name = format!("sizes/{name}");
            self.file(&name, BLOCK as u64)?;
            File::options().write(true).open(self.path(&name))?.set_len(len)?;
        }
        Ok(())
    }

    fn leaf(&self, folder: &str) -> Result<()> {
        (0..self.sizes.files_in_each)
            .try_for_each(|number| self.file(&format!("{folder}/file-{number:02}"), 1 + number))
    }

    /// A file of random bytes, the same each time.
    fn file(&self, name: &str, len: u64) -> Result<()> {
        let path = self.path(name);
        fs::create_dir_all(path.parent().context("a file is in a folder")?)?;
        let seed = name
            .bytes()
            .fold(len, |seed, byte| seed.wrapping_mul(31) + u64::from(byte));
        let (mut random, mut file) = (fastrand::Rng::with_seed(seed), File::create(path)?);
        let (mut block, mut left) = (vec![0; BLOCK], len);
        while left > 0 {
            let next = left.min(BLOCK as u64) as usize;
            random.fill(&mut block[..next]);
            file.write_all(&block[..next])?;
            left -= next as u64;
        }
        Ok(())
    }

    /// Moving noise, as hard to compress as a real film: an mp4 with its index at the end, where ffmpeg and cameras
    /// put it, and the same in Matroska.
    fn film(&self) -> Result<()> {
        let [mp4, mkv] = ["media/film.mp4", "film/film.mkv"].map(|name| self.path(name));
        for path in [&mp4, &mkv] {
            fs::create_dir_all(path.parent().context("a file is in a folder")?)?;
        }
        let picture = format!("testsrc2=size=640x360:rate={FRAME_RATE},noise=alls=40:allf=t");
        let mut command = Command::new("ffmpeg");
        command.args(["-v", "error", "-y", "-f", "lavfi", "-i", &picture]);
        command.args(["-f", "lavfi", "-i", "sine=frequency=440"]);
        command.args(["-t", &self.sizes.film.to_string(), "-g", &KEY_FRAMES.to_string()]);
        command.args([
            "-c:v", "mpeg4", "-b:v", "10M", "-maxrate", "10M", "-bufsize", "5M", "-c:a", "aac",
        ]);
        command.arg(&mp4);
        process::run(&mut command, FILMING)?;
        let mut command = Command::new("ffmpeg");
        command.args(["-v", "error", "-y", "-i"]).arg(&mp4);
        process::run(command.args(["-c", "copy"]).arg(&mkv), FILMING)?;
        for path in [mp4, mkv] {
            if fs::metadata(&path)?.len() < self.sizes.film * 500_000 {
                bail!("{} is no film", path.display());
            }
        }
        Ok(())
    }
}
