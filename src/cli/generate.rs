//! `fetchfs completions` and `fetchfs man`: the files that `make install` installs beside the program. Both are
//! generated from the one table of options, so they match the program. The commands are hidden, because only the
//! installation needs them.

use std::path::PathBuf;

use anyhow::Context;
use clap::{Arg, ArgMatches, Command, value_parser};
use clap_complete::Shell;
use clap_mangen::Man;

use super::support::output;
use super::support::program::program;

pub(super) fn completions_command() -> Command {
    Command::new("completions")
        .about("Print a completion script for a shell")
        .hide(true)
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
        .about("Write the manual pages into a directory: fetchfs(1) and one for each command")
        .hide(true)
        .arg(into.value_parser(value_parser!(PathBuf)))
}

pub(super) fn run_completions(matches: &ArgMatches, all: &Command) -> anyhow::Result<()> {
    let shell = *matches.get_one::<Shell>("shell").expect("it is required");
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut shown_commands(all), "fetchfs", &mut script);
    output::write(script)
}

pub(super) fn run_man(matches: &ArgMatches, all: &Command) -> anyhow::Result<()> {
    let directory: &PathBuf = matches.get_one("directory").expect("it is required");
    let mut all = without_help(shown_commands(all));
    all.build();
    write_pages(directory, &all, "fetchfs")
}

/// Removes the `help` commands, which have no man pages.
fn without_help(command: Command) -> Command {
    command.disable_help_subcommand(true).mut_subcommands(without_help)
}

/// Writes the man pages of a command and its subcommands.
fn write_pages(directory: &std::path::Path, command: &Command, name: &str) -> anyhow::Result<()> {
    write_page(directory, command, name)?;
    for inner in command.get_subcommands() {
        write_pages(directory, inner, &format!("{name}-{}", inner.get_name()))?;
    }
    Ok(())
}

/// The commands that help and man pages show.
fn shown_commands(all: &Command) -> Command {
    let shown: Vec<Command> = all
        .get_subcommands()
        .filter(|command| !command.is_hide_set())
        .cloned()
        .collect();
    program().subcommands(shown)
}

fn write_page(directory: &std::path::Path, command: &Command, name: &str) -> anyhow::Result<()> {
    let path = directory.join(format!("{name}.1"));
    // clap needs names with a static lifetime.
    let named = command.clone().name(name.to_owned());
    let mut page = Vec::new();
    Man::new(named)
        .source(concat!("fetchfs ", env!("CARGO_PKG_VERSION")))
        .render(&mut page)?;
    std::fs::write(&path, page).with_context(|| path.display().to_string())
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
            let mut names = page.lines().filter_map(|line| line.strip_suffix("(1)")).peekable();
            assert!(names.peek().is_some(), "{page}");
            names.for_each(|name| {
                let name = name.replace('\\', "");
                assert!(directory.path().join(format!("{name}.1")).is_file(), "{name}");
            });
        }
        assert!(!directory.path().join("fetchfs-man.1").exists());
    }

    #[test]
    fn every_shell_has_its_script() {
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut shown_commands(&command()), "fetchfs", &mut script);
            let script = String::from_utf8(script).unwrap();
            assert!(script.contains("cache-size") && script.contains("prefetch"), "{shell}");
        }
    }
}
