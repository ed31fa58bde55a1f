//! `fetchfs completions` and `fetchfs man`: the files that `make install` installs beside the program. Both are
//! generated from the one table of options, so they match the program.

mod completion;
mod manual;

use std::path::PathBuf;

use anyhow::Context;
use clap::{Arg, ArgMatches, Command, value_parser};
use clap_complete::Shell;

use super::support::output;
use super::support::program::program;

pub(super) fn completions_command() -> Command {
    Command::new("completions")
        .about("Print a completion script for a shell")
        .after_help("Example:\n  fetchfs completions bash >~/.local/share/bash-completion/completions/fetchfs")
        .arg(
            Arg::new("shell")
                .value_name("SHELL")
                .required(true)
                .value_parser(value_parser!(Shell)),
        )
}

pub(super) fn man_command() -> Command {
    let into = Arg::new("directory").value_name("DIR").required(true);
    Command::new("man")
        .about("Write the manual pages into a directory")
        .after_help("Example:\n  fetchfs man /tmp && man /tmp/fetchfs-mount.1")
        .arg(into.value_parser(value_parser!(PathBuf)))
}

pub(super) fn run_completions(matches: &ArgMatches, all: &Command) -> anyhow::Result<()> {
    let shell = *matches.get_one::<Shell>("shell").expect("it is required");
    output::write(completion::script(shell, shown_commands(all)))
}

pub(super) fn run_man(matches: &ArgMatches, all: &Command) -> anyhow::Result<()> {
    let directory: &PathBuf = matches.get_one("directory").expect("it is required");
    for page in manual::pages(shown_commands(all))? {
        let path = directory.join(page.file);
        std::fs::write(&path, page.text).with_context(|| format!("can't write {}", path.display()))?;
    }
    Ok(())
}

/// The commands that completions and man pages have.
fn shown_commands(all: &Command) -> Command {
    let shown: Vec<Command> = all
        .get_subcommands()
        .filter(|command| !command.is_hide_set())
        .cloned()
        .collect();
    program().subcommands(shown)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::command;

    #[test]
    fn manual_lists_every_mount_option() {
        let directory = tempfile::tempdir().unwrap();
        let typed = ["man".as_ref(), directory.path().as_os_str()];
        run_man(&man_command().get_matches_from(typed), &command()).unwrap();
        let page = std::fs::read_to_string(directory.path().join("fetchfs-mount.1")).unwrap();
        for arg in crate::config::mount_command().get_arguments() {
            let Some(long) = arg.get_long() else { continue };
            assert!(page.contains(&long.replace('-', "\\-")), "{long}");
        }
        assert!(directory.path().join("fetchfs.1").is_file());
        let page = |name: &str| std::fs::read_to_string(directory.path().join(name)).unwrap();
        assert!(page("fetchfs-cache-verify.1").contains("repair"));
        // Every page that another page refers to exists.
        for page in ["fetchfs.1", "fetchfs-cache.1"].map(page) {
            let lines = page.lines().filter(|line| !line.starts_with("\\fB"));
            let mut names = lines.filter_map(|line| line.strip_suffix("(1)")).peekable();
            assert!(names.peek().is_some(), "{page}");
            names.for_each(|name| {
                let name = name.replace('\\', "");
                assert!(directory.path().join(format!("{name}.1")).is_file(), "{name}");
            });
        }
        // What a reader looks for at the end of a page.
        let mount = page("fetchfs-mount.1");
        for section in ["EXAMPLES", "EXIT STATUS", "ENVIRONMENT", "FILES", "SEE ALSO"] {
            assert!(
                mount.contains(&format!(".SH \"{section}\"")) || mount.contains(&format!(".SH {section}")),
                "{section}"
            );
        }
        assert!(page("mount.fetchfs.8").contains("semanage"));
        let file = page("fetchfs.toml.5");
        for key in ["cache_size", "include", "password_file"] {
            assert!(file.contains(key), "{key}");
        }
    }

    #[test]
    fn manual_pages_have_no_fault() {
        let directory = tempfile::tempdir().unwrap();
        let typed = ["man".as_ref(), directory.path().as_os_str()];
        run_man(&man_command().get_matches_from(typed), &command()).unwrap();
        for page in std::fs::read_dir(directory.path()).unwrap() {
            let path = page.unwrap().path();
            // A line that begins with a control character and is no macro is dropped by man(1) without a word.
            for line in std::fs::read_to_string(&path).unwrap().lines() {
                let is_macro = |rest: &str| rest.starts_with(|first: char| first.is_ascii_alphabetic());
                let is_fine = line.strip_prefix('.').is_none_or(is_macro) && !line.starts_with('\'');
                assert!(is_fine || line.starts_with("'\\\""), "{}: {line}", path.display());
            }
        }
    }

    #[test]
    fn every_shell_has_its_script() {
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
            let script = completion::script(shell, shown_commands(&command()));
            assert!(script.contains("cache-size") && script.contains("prefetch"), "{shell}");
        }
    }
}
