//! Listings that are read while they are received.
//!
//! A directory of a million names takes seconds to transfer, and a program that lists it wants the first names at once. So a
//! long document is parsed while it arrives ([`read_long`]), on a thread that may wait, and names that are certain are passed
//! on before the document ends ([`EarlyNames`], to a [`NameSink`] of the vfs). Those of a listing in several answers are passed on
//! after each ([`EarlyPages`]).
//!
//! **A name is certain if whatever may still follow leaves it in the listing**, with the same URL, size and date. Each parser
//! says which names are. Two things are not foreseen: that a later row has the same name with other facts (a directory wins
//! over a file, and of two sizes neither counts), and that the document turns out to be no listing after all or is not
//! received to its end. The complete listing decides then; no caller keeps names without one.
//!
//! A document that is short, or complete soon, is parsed when it is complete ([`begin`]). Nothing is gained there.

mod early_names;
mod early_pages;
mod pace;
mod pieces;
mod reader;

use std::time::Duration;

use bytes::Bytes;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};

use crate::http::HttpError;
use crate::origin::{Document, IncomingDocument};
#[cfg(test)]
pub(in crate::source) use early_names::Collected;
pub(crate) use early_names::NameSink;
pub(in crate::source) use early_names::{EarlyNames, NamesTo};
pub(in crate::source) use early_pages::EarlyPages;
pub(in crate::source) use pieces::{CutOff, Pieces};
pub(in crate::source) use reader::PiecesReader;

/// Size in bytes from which a document is read while it is received: an index of some 600 names, which takes milliseconds to
/// parse.
const LONG: usize = 64 << 10;

/// A document that takes longer than this after its first bytes is read while it is received, however short.
const SLOW: Duration = Duration::from_millis(300);

/// Bytes that show what a document is.
const TELLING: usize = 1 << 10;

/// Pieces that are received before the parser needs them. Each has some 16 KiB.
const AHEAD: usize = 16;

/// A document whose beginning was received.
pub(in crate::source) enum Beginning {
    /// It was all of it.
    Whole(Box<Document>),
    /// More follows. The document holds the beginning.
    Long(Box<IncomingDocument>),
}

/// Receives the beginning of a document: all of a short one.
///
/// # Errors
/// If the transfer fails.
pub(in crate::source) async fn begin(document: IncomingDocument) -> Result<Beginning, HttpError> {
    let mut document = Box::new(document);
    if document.is_coded() {
        return document.whole().await.map(|whole| Beginning::Whole(Box::new(whole)));
    }
    let mut slow_at: Option<Instant> = None;
    loop {
        let next = match slow_at {
            None => document.next().await?,
            Some(until) => match timeout_at(until, document.next()).await {
                Ok(next) => next?,
                Err(_) if document.document().body.trim_ascii_start().len() >= TELLING => {
                    return Ok(Beginning::Long(document));
                }
                Err(_) => {
                    slow_at = None;
                    continue;
                }
            },
        };
        let Some(piece) = next else {
            return document.whole().await.map(|whole| Beginning::Whole(Box::new(whole)));
        };
        document.hold(&piece);
        slow_at.get_or_insert_with(|| Instant::now() + SLOW);
        if document.document().body.len() >= LONG {
            return Ok(Beginning::Long(document));
        }
    }
}

/// What was read of a long document.
pub(in crate::source) struct ReadLong<T> {
    /// The result of the parser; an error if it panicked, or the runtime is shutting down.
    pub(in crate::source) result: Result<T, tokio::task::JoinError>,
    /// Bytes received.
    pub(in crate::source) length: u64,
}

/// Lets `read` parse a document whose beginning is held, while the rest of it is received. If it returns before the end, the rest
/// is not received.
///
/// # Errors
/// If the transfer fails, whatever `read` makes of the part that was received.
pub(in crate::source) async fn read_long<T: Send + 'static>(
    mut document: Box<IncomingDocument>,
    read: impl FnOnce(Pieces) -> T + Send + 'static,
) -> Result<ReadLong<T>, HttpError> {
    let (sender, receiver) = mpsc::channel(AHEAD);
    let beginning = Bytes::copy_from_slice(&document.document().body);
    let mut length = beginning.len() as u64;
    let pieces = Pieces::new(beginning, receiver);
    let reading = tokio::task::spawn_blocking(move || read(pieces));
    let failure = loop {
        let next = match document.next().await {
            Ok(next) => next,
            Err(error) => break Some(error),
        };
        let is_last = next.is_none();
        length += next.as_ref().map_or(0, |piece| piece.len() as u64);
        // An error means that the parser needs no more.
        if sender.send(next).await.is_err() || is_last {
            break None;
        }
    };
    drop(sender);
    // After a failure too: a later attempt begins when no parser is at work any more.
    let result = reading.await;
    match failure {
        Some(error) => Err(error),
        None => Ok(ReadLong { result, length }),
    }
}
