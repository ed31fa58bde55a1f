//! A document that is being received, for parsers that read.

use std::io::{self, BufRead, Read};

use bytes::{Buf, Bytes};
use encoding_rs::{Decoder, Encoding};

use super::early_names::EarlyNames;
use super::pieces::{CutOff, Pieces};

/// Reads a document piece by piece: its bytes, or its text as UTF-8. One that is cut off is an error at its end.
pub(in crate::source) struct PiecesReader {
    pieces: Pieces,
    early: EarlyNames,
    decoder: Option<Decoder>,
    /// What was received and not read.
    current: Bytes,
    is_at_end: bool,
}

impl PiecesReader {
    /// Reads the bytes of a document whose names go to `early`.
    pub(in crate::source) fn of_bytes(pieces: Pieces, early: &EarlyNames) -> PiecesReader {
        PiecesReader {
            pieces,
            early: early.clone(),
            decoder: None,
            current: Bytes::new(),
            is_at_end: false,
        }
    }

    /// Reads the text of a document in this encoding, unless a byte order mark says another. Invalid bytes become U+FFFD.
    pub(in crate::source) fn of_text(pieces: Pieces, encoding: &'static Encoding, early: &EarlyNames) -> PiecesReader {
        PiecesReader {
            decoder: Some(encoding.new_decoder()),
            ..PiecesReader::of_bytes(pieces, early)
        }
    }

    /// Skips a byte order mark, if it is in the first piece.
    pub(in crate::source) fn without_mark(mut self) -> PiecesReader {
        // An error is one at the next reading, too.
        if self.fill_buf().is_ok_and(|start| start.starts_with(b"\xef\xbb\xbf")) {
            self.consume(3);
        }
        self
    }

    /// Reads what is left, so that the connection can be used again.
    pub(in crate::source) fn drain(&mut self) {
        while !self.is_at_end {
            match self.pieces.next(&self.early) {
                Ok(Some(_)) => {}
                Ok(None) | Err(CutOff) => self.is_at_end = true,
            }
        }
    }
}

impl BufRead for PiecesReader {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        while self.current.is_empty() && !self.is_at_end {
            let next = self.pieces.next(&self.early);
            let piece = next.map_err(|CutOff| io::Error::from(io::ErrorKind::UnexpectedEof))?;
            self.is_at_end = piece.is_none();
            let piece = piece.unwrap_or_default();
            self.current = match &mut self.decoder {
                None => piece,
                Some(decoder) => {
                    // A piece is short, so the length fits.
                    let most = decoder.max_utf8_buffer_length(piece.len()).unwrap_or(0);
                    let mut text = String::with_capacity(most);
                    let _ = decoder.decode_to_string(&piece, &mut text, self.is_at_end);
                    text.into()
                }
            };
        }
        Ok(&self.current)
    }

    fn consume(&mut self, bytes: usize) {
        self.current.advance(bytes);
    }
}

impl Read for PiecesReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let there = self.fill_buf()?;
        let length = there.len().min(buffer.len());
        buffer[..length].copy_from_slice(&there[..length]);
        self.consume(length);
        Ok(length)
    }
}
