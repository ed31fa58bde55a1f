//! Standard output: the result of a command, and nothing else.
//!
//! A reader may close the pipe before the end (`fetchfs cache list | head`). The command then ends silently, as with
//! SIGPIPE. Rust's runtime ignores that signal, which a daemon needs, and `println!` would panic. So results are
//! written by the functions below, and [`crate::cli::run`] handles [`NobodyReads`]. A full disk is an error.

use std::fmt::Display;
use std::io::{ErrorKind, Write};

use anyhow::Context;
use serde::Serialize;

pub(in crate::cli) use crate::util::plural::count;

/// The exit status after a closed pipe: what a shell shows for a program that SIGPIPE ended. Not 0, because that
/// would mean success of `fetchfs cache verify`.
pub(in crate::cli) const NOBODY_READS: u8 = 141;

/// The reader of standard output has closed the pipe.
#[derive(Debug, thiserror::Error)]
#[error("the reader of standard output has closed the pipe")]
pub(in crate::cli) struct NobodyReads;

/// Writes `text` unchanged.
///
/// # Errors
/// [`NobodyReads`] after a closed pipe, or the write error.
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

/// A share in percent, rounded down: 100 is all of it.
pub(in crate::cli) fn percent(part: u64, whole: u64) -> u128 {
    u128::from(part) * 100 / u128::from(whole.max(1))
}

/// Writes a value as JSON, for programs.
///
/// # Errors
/// As [`write`].
pub(in crate::cli) fn json(value: &impl Serialize) -> anyhow::Result<()> {
    write(serde_json::to_string_pretty(value)? + "\n")
}

/// A number of bytes for people.
pub(in crate::cli) fn size(bytes: u64) -> String {
    bytesize::ByteSize(bytes).display().iec().to_string()
}
