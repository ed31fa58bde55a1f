//! Standard output: what a command was asked for goes there, and nothing else.
//!
//! Whoever reads it may have had enough before the end (`fetchfs cache list | head`). The command then ends without a word,
//! as SIGPIPE ends others. Here that signal is ignored, which is Rust's way and what a daemon needs, and `println!` would panic;
//! so results are written by the functions below, and [`crate::cli::run`] knows [`NobodyReads`]. A disk that is full is an error.

use std::fmt::Display;
use std::io::{ErrorKind, Write};

use anyhow::Context;

pub(in crate::cli) use crate::util::plural::count;

/// The exit status then: what a shell shows for a program that SIGPIPE has ended. Not 0, which would say of `fetchfs cache
/// verify` that all is right.
pub(in crate::cli) const NOBODY_READS: u8 = 141;

/// Standard output is a pipe that nobody reads any more.
#[derive(Debug, thiserror::Error)]
#[error("nobody reads the output any more")]
pub(in crate::cli) struct NobodyReads;

/// Writes it as it is.
///
/// # Errors
/// [`NobodyReads`], or when it can't be written.
pub(in crate::cli) fn write(text: impl AsRef<[u8]>) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_ref()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Err(NobodyReads.into()),
        written => written.context("can't write to standard output"),
    }
}

/// Writes a line.
///
/// # Errors
/// As [`write`].
pub(in crate::cli) fn line(text: impl Display) -> anyhow::Result<()> {
    write(format!("{text}\n"))
}
