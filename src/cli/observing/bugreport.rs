//! `fetchfs bugreport`: what a developer needs to know of this machine and its mounts, in one text without secrets.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command as Program, Stdio};

use anyhow::Context;
use clap::{Args, Command, FromArgMatches};

use super::doctor;
use crate::cli::support;
use crate::cli::support::failure::sentence;
use crate::cli::support::{output, targets};
use crate::config::log_dir;
use crate::control::protocol::{Reply, Request};

/// Lines of the system log in a report.
const LOG_LINES: usize = 200;

/// Write a report for the developers: one text without secrets
///
/// It has the version, the system, what `fetchfs doctor` says of this machine, the state of the mounts, and the last lines
/// of the system log about fetchfs. Passwords, tokens and queries are left out wherever fetchfs shows a URL. Names of hosts,
/// files and directories are in it: **read it before you pass it on**.
#[derive(Args)]
struct BugreportArgs {
    /// Write to this file instead of standard output; it must not exist yet
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

pub(in crate::cli) fn command() -> Command {
    BugreportArgs::augment_args(Command::new("bugreport"))
}

pub(in crate::cli) fn run(matches: &clap::ArgMatches) -> anyhow::Result<()> {
    let args = BugreportArgs::from_arg_matches(matches)?;
    let text = report();
    match args.output {
        None => output::write(text),
        Some(path) => {
            write_anew(&path, &text).with_context(|| format!("can't write {}", path.display()))?;
            eprintln!(
                "fetchfs: the report is in {}; read it before you pass it on",
                path.display()
            );
            Ok(())
        }
    }
}

/// Writes a file for its owner only.
fn write_anew(path: &Path, text: &str) -> std::io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(text.as_bytes())
}

/// The whole report. What can't be had is said in its place.
fn report() -> String {
    let sections = [
        ("fetchfs", support::program::program().render_version()),
        ("system", system()),
        ("doctor", doctor::report().unwrap_or_else(|error| sentence(&error))),
        ("mounts", mounts()),
        ("mount table", mount_table()),
        ("settings", settings()),
        ("log", log()),
    ];
    let mut text = String::new();
    for (title, content) in sections {
        text.push_str(&format!("== {title}\n{}\n\n", content.trim_end()));
    }
    text
}

fn system() -> String {
    let release = fs::read_to_string("/etc/os-release").unwrap_or_default();
    let name = release
        .lines()
        .find_map(|line| line.strip_prefix("PRETTY_NAME="))
        .unwrap_or("unknown");
    let kernel = fs::read_to_string("/proc/version").unwrap_or_default();
    let memory = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let memory = memory.lines().next().unwrap_or_default();
    let processors = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
    format!(
        "{}\n{}\n{memory}\n{processors} processors\n",
        name.trim_matches('"'),
        kernel.trim_end()
    )
}

/// The state of each mount, as `fetchfs status --json` has it.
fn mounts() -> String {
    let mut found = Vec::new();
    let asked = targets::ask_all(&[], &Request::Status { at_once: false }, |mount, reply| match reply {
        Reply::Status(status) => {
            found.push(serde_json::to_string_pretty(&status)?);
            Ok(())
        }
        _ => Err(targets::unexpected(mount)),
    });
    match asked {
        Err(error) => sentence(&error),
        Ok(()) if found.is_empty() => "none that answers".to_owned(),
        Ok(()) => found.join("\n"),
    }
}

fn mount_table() -> String {
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let ours: Vec<&str> = table.lines().filter(|line| line.contains(" fuse.fetchfs ")).collect();
    ours.join("\n")
}

/// The names of the environment variables that are set. Their values may be secrets.
fn settings() -> String {
    let mut names: Vec<String> = std::env::vars_os()
        .filter_map(|(name, _)| name.into_string().ok())
        .filter(|name| name.starts_with("FETCHFS_") || name.to_ascii_lowercase().ends_with("_proxy"))
        .collect();
    names.sort_unstable();
    format!(
        "variables that are set: {}",
        if names.is_empty() {
            "none".to_owned()
        } else {
            names.join(" ")
        }
    )
}

/// The last lines about fetchfs in the system log, where this user may read it.
fn log() -> String {
    let journal = Program::new("journalctl")
        .args([
            "--identifier=fetchfs",
            "--no-pager",
            "--quiet",
            "--lines",
            &LOG_LINES.to_string(),
        ])
        .stdin(Stdio::null())
        .output();
    match journal {
        Ok(ran) if ran.status.success() && !ran.stdout.is_empty() => String::from_utf8_lossy(&ran.stdout).into_owned(),
        // Without a journal, or without one that this user may read.
        _ => log_files(),
    }
}

/// The last lines of the log files of this user's mounts, which a machine without a system log has.
fn log_files() -> String {
    let entries = log_dir().and_then(|dir| fs::read_dir(dir).ok());
    let paths = entries.into_iter().flatten().flatten().map(|entry| entry.path());
    let mut paths: Vec<_> = paths
        .filter(|path| path.extension().is_some_and(|end| end == "log"))
        .collect();
    paths.sort_unstable();
    let shown = paths.iter().map(|path| {
        let text = fs::read_to_string(path).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        let last = &lines[lines.len().saturating_sub(LOG_LINES)..];
        format!("{}\n{}", path.display(), last.join("\n"))
    });
    let shown: Vec<String> = shown.collect();
    match shown.is_empty() {
        true => "neither the journal nor a log file has a line; see --log-file of the mount".to_owned(),
        false => shown.join("\n"),
    }
}
