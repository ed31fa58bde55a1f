//! `fetchfs config check`: all mistakes in a library's file or a config file.

use std::path::PathBuf;

use clap::{ArgMatches, Args, Command, FromArgMatches, Subcommand};

use crate::cli::support::failure::FAILED;
use crate::cli::support::output;
use crate::config::{Checked, check_config};

/// The arguments of `fetchfs config`.
#[derive(Args)]
struct ConfigArgs {
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand)]
enum Action {
    /// Say all mistakes in a library's file or a config file, each with its line and column
    ///
    /// Nothing is mounted and no server is asked. The exit status is 1 if there is a mistake.
    Check {
        /// The file: a library if it has a [[source]], else a config file
        #[arg(value_name = "FILE")]
        file: PathBuf,
    },
}

pub(in crate::cli) fn command() -> Command {
    ConfigArgs::augment_args(Command::new("config")).about("Check a library's file or a config file")
}

pub(in crate::cli) fn run(matches: &ArgMatches) -> anyhow::Result<()> {
    let ConfigArgs {
        action: Action::Check { file },
    } = ConfigArgs::from_arg_matches(matches)?;
    match check_config(&file) {
        Ok(checked) => output::write(text(&checked)),
        Err(error) => {
            let mistakes = error.mistakes();
            if mistakes.is_empty() {
                return Err(error.into());
            }
            for mistake in mistakes {
                eprintln!("{mistake}");
            }
            std::process::exit(FAILED.into());
        }
    }
}

fn text(checked: &Checked) -> String {
    match checked {
        Checked::Config { options } => format!("a config file with {}\n", output::count(*options as u64, "option")),
        Checked::Library { sources } => {
            let mut text = format!("a library of {}\n", output::count(sources.len() as u64, "source"));
            for (place, url) in sources {
                text.push_str(&format!("  /{place}  {url}\n"));
            }
            text
        }
    }
}
