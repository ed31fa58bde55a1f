//! `fetchfs prefetch`: fetches files into the cache before they are read.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use clap::{Args, Command, FromArgMatches};
use serde::Serialize;

use crate::cli::support::interrupt::Interrupt;
use crate::cli::support::output;
use crate::cli::support::progress::{Display, so_far};
use crate::cli::support::targets::{self, Failures, Target};
use crate::config::parse_size;
use crate::control::protocol::{ByteRange, JobState, Progress, Reply, Request, Wanted};
use crate::mount::mountpoint::InMount;

/// Fetch files into the cache before they are read
///
/// Takes files and directories in a fetchfs mount. Reads by programs have priority over a prefetch. What is cached
/// already is not fetched again, so an interrupted prefetch continues where it stopped when it is repeated. Ctrl-C
/// ends it and prints what was fetched. A prefetch of more than the cache holds (--cache-size of the mount) is refused.
///
/// The exit status is 1 if anything could not be fetched.
#[derive(Args)]
#[command(after_help = "\
Examples:
  fetchfs prefetch ~/pub/film.mkv
  fetchfs prefetch --recursive ~/pub/photos
  fetchfs prefetch --range 0-1M,-64K ~/pub/*.mp4
  fetchfs prefetch --background --recursive ~/pub/photos
  fetchfs prefetch --list")]
struct PrefetchArgs {
    /// Files and directories in a mount; with --list and --cancel its mountpoint
    #[arg(value_name = "PATH", required_unless_present_any = ["list", "cancel"])]
    paths: Vec<PathBuf>,

    /// Include sub-directories
    ///
    /// Without it, only the files directly in a directory are fetched.
    #[arg(long, short)]
    recursive: bool,

    /// Only these bytes of each file
    ///
    /// START-END is from byte START to END, exclusive; START- to the end; -LAST is that many bytes at the end. Sizes are
    /// written as 64K, 1MiB, 2G. Several are separated by commas.
    #[arg(
        long, value_name = "START-END", value_delimiter = ',', value_parser = parse_range, allow_hyphen_values = true,
        conflicts_with = "recursive"
    )]
    range: Vec<ByteRange>,

    /// Return at once; the mount fetches in the background
    ///
    /// If the mount ends first, the next mount of the same source over the same cache continues. Failures are retried
    /// until everything is fetched, or the server reports it as deleted.
    #[arg(long, short)]
    background: bool,

    /// List the background jobs of all mounts, or of those named
    #[arg(long, conflicts_with_all = ["recursive", "range", "background", "cancel"])]
    list: bool,

    /// Print the list as a JSON array with one object per job
    #[arg(long, requires = "list")]
    json: bool,

    /// Cancel the background job with this number
    #[arg(long, value_name = "JOB", conflicts_with_all = ["recursive", "range", "background"])]
    cancel: Option<u64>,
}

pub(in crate::cli) fn command() -> Command {
    PrefetchArgs::augment_args(Command::new("prefetch"))
}

pub(in crate::cli) fn run(matches: &clap::ArgMatches) -> anyhow::Result<()> {
    let args = PrefetchArgs::from_arg_matches(matches)?;
    if args.list {
        return list(&args.paths, args.json);
    }
    if let Some(job) = args.cancel {
        let mount = targets::the_mount(&args.paths)?;
        targets::ask_once(&mount, &Request::CancelJob { job })?;
        return Ok(());
    }
    let interrupt = Interrupt::watch().context("can't start a thread")?;
    let mut failures = Failures::default();
    for Target { mount, paths } in targets::in_mounts(&args.paths)? {
        let wanted = Wanted {
            paths,
            ranges: args.range.clone(),
            recursive: args.recursive,
        };
        if args.background {
            start(&mount, wanted)?;
        } else {
            fetch(&mount, wanted, &interrupt, &mut failures)?;
        }
    }
    failures.end("fetched")
}

fn start(mount: &InMount, wanted: Wanted) -> anyhow::Result<()> {
    let Reply::Started { job } = targets::ask_once(mount, &Request::PrefetchInBackground { wanted })? else {
        return Err(targets::unexpected(mount));
    };
    targets::say_started(mount, job)
}

fn fetch(mount: &InMount, wanted: Wanted, interrupt: &Interrupt, failures: &mut Failures) -> anyhow::Result<()> {
    let mut client = targets::ask(mount, &Request::Prefetch { wanted })?;
    interrupt.cancels(&client)?;
    let (mut display, mut last) = (Display::new(), Progress::default());
    let fetched = loop {
        let reply = client.reply();
        interrupt.end(|| {
            output::line(format_args!(
                "interrupted: {}; repeat it to go on",
                display.clear(&last)
            ))
        });
        match reply? {
            Reply::Progress(progress) => {
                display.show(&progress);
                last = progress;
            }
            Reply::Fetched(fetched) => break fetched,
            _ => return Err(targets::unexpected(mount)),
        }
    };
    output::line(display.finish(&fetched.progress))?;
    failures.add(mount, &fetched.failures, fetched.progress.failed);
    Ok(())
}

/// A job of one of several mounts.
#[derive(Serialize)]
struct ListedJob {
    mountpoint: String,
    #[serde(flatten)]
    job: JobState,
}

fn list(paths: &[PathBuf], is_json: bool) -> anyhow::Result<()> {
    let (mut text, mut listed) = (String::new(), Vec::new());
    targets::ask_all(paths, &Request::ListJobs, |mount, reply| {
        let Reply::Jobs { jobs } = reply else {
            return Err(targets::unexpected(mount));
        };
        jobs.iter().for_each(|job| text.push_str(&job_text(mount, job)));
        let mountpoint = mount.mountpoint.display().to_string();
        listed.extend(jobs.into_iter().map(|job| ListedJob {
            mountpoint: mountpoint.clone(),
            job,
        }));
        Ok(())
    })?;
    if is_json {
        output::json(&listed)
    } else {
        output::write(text)
    }
}

/// The description of a job: one or two lines.
fn job_text(mount: &InMount, job: &JobState) -> String {
    let paths: Vec<_> = job
        .wanted
        .paths
        .iter()
        .map(|path| targets::shown(mount, path))
        .collect();
    if let Some(seconds) = job.done_for {
        let time = humantime::format_duration(Duration::from_secs(seconds));
        let failed = match job.progress.failed {
            0 => String::new(),
            failed => format!(", {failed} failed"),
        };
        return format!(
            "done {time} ago: {}\n  {}{failed}\n",
            paths.join(" "),
            so_far(&job.progress)
        );
    }
    let mut text = format!(
        "job {} on {}: {}\n",
        job.job,
        mount.mountpoint.display(),
        paths.join(" ")
    );
    text.push_str(&format!("  {}\n", so_far(&job.progress)));
    if let Some(failure) = &job.waits_for {
        let path = targets::shown(mount, &failure.path);
        text.push_str(&format!("  waiting: {path}: {}\n", failure.reason));
    }
    text
}

/// Parses `START-END`, `START-` or `-LAST`.
fn parse_range(text: &str) -> Result<ByteRange, String> {
    let unclear = || format!("`{text}` is not a byte range; write START-END, START- or -LAST, for example 0-64K");
    let (start, end) = text.split_once('-').ok_or_else(unclear)?;
    match (start, end) {
        ("", "") => Err(unclear()),
        ("", last) => Ok(ByteRange::Last(parse_size(last)?)),
        (start, "") => Ok(ByteRange::From {
            start: parse_size(start)?,
            end: None,
        }),
        (start, end) => {
            let (start, end) = (parse_size(start)?, parse_size(end)?);
            if start >= end {
                return Err(format!("`{text}` is an empty range; END is the byte after the last"));
            }
            Ok(ByteRange::From { start, end: Some(end) })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_written_in_three_ways() {
        let from = |start, end| Ok(ByteRange::From { start, end });
        assert_eq!(parse_range("0-64K"), from(0, Some(65536)));
        assert_eq!(parse_range("1MiB-"), from(1 << 20, None));
        assert_eq!(parse_range("-1k"), Ok(ByteRange::Last(1024)));
        for text in ["", "-", "7", "a-b", "5-5", "9-3", "1--2"] {
            assert!(parse_range(text).is_err(), "{text}");
        }
    }

    #[test]
    fn what_can_t_be_meant_together_is_refused() {
        let parse = |words: &[&str]| command().no_binary_name(true).try_get_matches_from(words).map(|_| ());
        assert!(parse(&["--range", "-1k,0-5", "x"]).is_ok());
        assert!(parse(&["--list"]).is_ok() && parse(&["--cancel", "1", "x"]).is_ok());
        assert!(parse(&[]).is_err() && parse(&["--list", "-r"]).is_err());
        assert!(parse(&["--range", "0-5", "-r", "x"]).is_err());
    }
}
