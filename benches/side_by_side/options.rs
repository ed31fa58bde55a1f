//! What can be asked for.

use std::path::{Path, PathBuf};

use clap::Parser;

use super::corpus::{FULL, QUICK, Sizes};
use super::tool::{Programs, Tool};

/// Measures fetchfs side by side with rclone and httpdirfs.
#[derive(Debug, Parser)]
#[command(name = "side_by_side", bin_name = "cargo bench --bench side_by_side --")]
pub struct Options {
    /// A tenth of everything, one run of each: two minutes.
    #[arg(long)]
    pub quick: bool,
    /// Only the lines whose names begin so, for example `sequential,random`.
    #[arg(long, value_delimiter = ',')]
    lines: Vec<String>,
    /// Only these tools: fetchfs, rclone, rclone-tuned, httpdirfs.
    #[arg(long, value_delimiter = ',', value_parser = tool, default_value = "fetchfs,rclone,rclone-tuned,httpdirfs")]
    pub tools: Vec<Tool>,
    /// How often each is measured; the median counts. [default: 3, quick: 1]
    #[arg(long)]
    runs: Option<u64>,
    /// Where the table and the values are written. [default: `results` or `results-quick` in the work folder]
    #[arg(long)]
    output: Option<PathBuf>,
    /// For the origin's files, mounts and caches; 10 GB. [default: `bench` in cargo's target folder]
    #[arg(long, env = "BENCH_DIR")]
    work: Option<PathBuf>,
    /// The longest that one run may take, in seconds.
    #[arg(long, default_value_t = 400)]
    pub patience: u64,
    /// Keep the origin's log of each run beside the results.
    #[arg(long)]
    pub logs: bool,
    /// Put the table into this document.
    #[arg(long, value_name = "FILE")]
    pub update: Option<PathBuf>,
    /// The program to measure. [default: the one that cargo has built]
    #[arg(long, env = "FETCHFS_BIN")]
    fetchfs: Option<PathBuf>,
    /// [default: the one that scripts/install-deps.sh has put into the work folder, else from PATH]
    #[arg(long, env = "RCLONE_BIN")]
    rclone: Option<PathBuf>,
    /// [default: from PATH]
    #[arg(long, env = "HTTPDIRFS_BIN")]
    httpdirfs: Option<PathBuf>,
    /// Cargo says so.
    #[arg(long, hide = true)]
    pub bench: bool,
}

fn tool(id: &str) -> Result<Tool, String> {
    Tool::from_id(id).ok_or_else(|| format!("there is no tool {id}"))
}

impl Options {
    /// For the origin's files, mounts and caches.
    pub fn work(&self) -> PathBuf {
        let beside = Path::new(env!("CARGO_TARGET_TMPDIR"))
            .parent()
            .unwrap_or(Path::new("target"));
        self.work.clone().unwrap_or_else(|| beside.join("bench"))
    }

    /// Where the table and the values are written.
    pub fn output(&self) -> PathBuf {
        self.output.clone().unwrap_or_else(|| {
            let name = if self.quick { "results-quick" } else { "results" };
            self.work().join(name)
        })
    }

    /// The folder of the corpus, and how big everything in it is.
    pub fn sizes(&self) -> (&'static str, Sizes) {
        if self.quick {
            ("corpus-quick", QUICK)
        } else {
            ("corpus", FULL)
        }
    }

    /// How often each is measured.
    pub fn runs(&self) -> u64 {
        self.runs.unwrap_or(if self.quick { 1 } else { 3 }).max(1)
    }

    /// Whether a line is asked for.
    pub fn wants(&self, line: &str) -> bool {
        self.lines.is_empty() || self.lines.iter().any(|begin| line.starts_with(begin.as_str()))
    }

    /// Where the programs are.
    pub fn programs(&self) -> Programs {
        let installed = self.work().join("peers/bin/rclone");
        let rclone = if installed.is_file() {
            installed
        } else {
            "rclone".into()
        };
        Programs {
            fetchfs: self
                .fetchfs
                .clone()
                .unwrap_or_else(|| env!("CARGO_BIN_EXE_fetchfs").into()),
            rclone: self.rclone.clone().unwrap_or(rclone),
            httpdirfs: self.httpdirfs.clone().unwrap_or_else(|| "httpdirfs".into()),
        }
    }
}
