//! The program as a clap command, without its commands.

use clap::Command;

const ABOUT: &str = "Mount remote files as a local directory; bytes are fetched when they are read, and kept on disk";

pub(in crate::cli) fn program() -> Command {
    Command::new("fetchfs")
        .version(env!("CARGO_PKG_VERSION"))
        .about(ABOUT)
        .subcommand_required(true)
        .arg_required_else_help(true)
        .max_term_width(120)
}
