//! `fetchfs doctor`: what would keep a mount from working, or makes it slow, each with what to do.
//!
//! It takes the arguments of `fetchfs mount`, so that the very mount that a user has trouble with can be examined. Nothing
//! is mounted, and nothing is changed.

mod finding;
mod machine;
mod mounted;
mod servers;

use std::ffi::OsString;
use std::path::Path;

use clap::{Arg, ArgAction, ArgMatches, Command};
use serde::Serialize;

use crate::cli::mounting::mount::understand;
use crate::cli::support::failure::FAILED;
use crate::cli::support::output;
use crate::config::{self, cache_dir_beside_mounts, mount_command};
use finding::{Finding, State};

const LONG_ABOUT: &str = "\
Find out what keeps a mount from working, or makes it slow

Without an argument, this machine is examined: the kernel, /dev/fuse, the helper for ordinary users, limits, the \
directory of the cache, and the mounts of this user. With a source, also the way to its server and what the server \
offers: names, ranges, versions. With a mountpoint of fetchfs, that mount.

Takes all options of `fetchfs mount`, and a library (FILE.toml). Nothing is mounted, and nothing is changed. The exit \
status is 1 if something must be done.";

const EXAMPLES: &str = "\
Examples:
  fetchfs doctor
  fetchfs doctor https://example.org/pub/
  fetchfs doctor --login ann --password-file secret davs://cloud.example.org/dav/
  fetchfs doctor /mnt/pub";

/// What was found out about one thing.
#[derive(Debug, Serialize)]
struct Section {
    /// This machine, a source without secrets, or a mountpoint.
    of: String,
    findings: Vec<Finding>,
}

pub(in crate::cli) fn command() -> Command {
    mount_command()
        .name("doctor")
        .about("Find out what keeps a mount from working, or makes it slow")
        .long_about(LONG_ABOUT)
        .override_usage("fetchfs doctor [OPTIONS OF MOUNT] [SOURCE...|MOUNTPOINT]")
        .after_help(EXAMPLES)
        .after_long_help(EXAMPLES)
        .mut_args(|arg| arg.hide(true))
        .mut_arg("sources", |arg| {
            arg.hide(false)
                .value_name("SOURCE")
                .help("A source as for `fetchfs mount`, or a mountpoint of fetchfs")
                .long_help(None::<&str>)
        })
        // What a mount needs and this command does not.
        .mut_arg("mountpoint", |arg| {
            arg.long("mountpoint").required(false).default_value("/")
        })
        .arg(
            Arg::new("json")
                .long("json")
                .action(ArgAction::SetTrue)
                .help("Print a JSON array: this machine, and each source or mount"),
        )
}

pub(in crate::cli) fn run(matches: &ArgMatches, typed: &[OsString], program: &Command) -> anyhow::Result<()> {
    let named: Vec<&String> = matches.get_many("sources").into_iter().flatten().collect();
    let mount = match named.as_slice() {
        [only] if !only.contains("://") => mounted::at(Path::new(only)),
        _ => None,
    };
    let mut sections = Vec::new();
    if let Some(mount) = mount {
        sections.push(mount);
    } else if named.is_empty() {
        let cache_dir = cache_dir_beside_mounts(matches.get_one("cache_dir").cloned())?;
        sections.push(this_machine(&cache_dir, matches.get_flag("unshared_cache")));
        sections.extend(mounted::all()?);
    } else {
        let (args, options) = understand(matches, typed, program)?;
        let config = config::resolve(args, options.sources.library().cloned())?;
        sections.push(this_machine(&config.engine.cache_dir, config.engine.unshared_cache));
        sections.extend(servers::all(&config)?);
    }
    if matches.get_flag("json") {
        output::json(&sections)?;
    } else {
        output::write(text(&sections))?;
    }
    if sections
        .iter()
        .flat_map(|section| &section.findings)
        .any(Finding::is_bad)
    {
        std::process::exit(FAILED.into());
    }
    Ok(())
}

/// What `fetchfs doctor` says of this machine and of the mounts, for a report.
pub(in crate::cli) fn report() -> anyhow::Result<String> {
    let mut sections = vec![this_machine(&cache_dir_beside_mounts(None)?, false)];
    sections.extend(mounted::all()?);
    Ok(text(&sections))
}

fn this_machine(cache_dir: &Path, is_unshared: bool) -> Section {
    Section {
        of: "this machine".to_owned(),
        findings: machine::all(cache_dir, is_unshared),
    }
}

/// For people: a line for each finding, and below it what to do.
fn text(sections: &[Section]) -> String {
    let width = sections
        .iter()
        .flat_map(|section| &section.findings)
        .map(|finding| finding.subject.len())
        .max()
        .unwrap_or_default();
    let mut text = String::new();
    for (number, Section { of, findings }) in sections.iter().enumerate() {
        let gap = if number == 0 { "" } else { "\n" };
        text.push_str(&format!("{gap}{of}\n"));
        for finding in findings {
            let state = match finding.state {
                State::Good => "ok",
                State::Note => "note",
                State::Bad => "BAD",
            };
            text.push_str(&format!(
                "  {state:<4}  {:<width$}  {}\n",
                finding.subject, finding.text
            ));
            if let Some(advice) = &finding.advice {
                text.push_str(&format!("  {:<4}  {:<width$}  -> {advice}\n", "", ""));
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn findings_are_aligned_lines() {
        let sections = [
            Section {
                of: "this machine".to_owned(),
                findings: vec![
                    Finding::good("kernel", "Linux 6.12.0"),
                    Finding::bad("/dev/fuse", "it can't be opened", "load it: modprobe fuse"),
                ],
            },
            Section {
                of: "https://example.org/".to_owned(),
                findings: vec![Finding::note(
                    "ranges",
                    "the server ignores them",
                    "ask its administrator",
                )],
            },
        ];
        insta::assert_snapshot!(text(&sections), @"
        this machine
          ok    kernel     Linux 6.12.0
          BAD   /dev/fuse  it can't be opened
                           -> load it: modprobe fuse

        https://example.org/
          note  ranges     the server ignores them
                           -> ask its administrator
        ");
    }
}
