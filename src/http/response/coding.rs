//! Content codings (RFC 9110 §8.4.1): which of them compress, and how to decode compressed documents.
//!
//! Files are never decoded: their bytes are used as they are, or the response is refused
//! ([`AnswerHead::refuse_coding`](super::head::AnswerHead::refuse_coding)). A document may arrive compressed although
//! the request asked for `identity`. It is text for this program, so it is decoded as in a browser, up to the maximum
//! size of a document.

use std::io::{self, Read};

/// Codings that servers apply on the fly.
const COMPRESSING: [&str; 7] = ["gzip", "x-gzip", "deflate", "br", "zstd", "compress", "x-compress"];

/// Suffixes of entity tags of compressed forms: of Apache, Jetty and some others.
const TAG_ENDINGS: [&str; 6] = ["-gzip", ";gzip", "--gzip", "-br", ";br", "-zstd"];

/// Maximum number of nested codings that are decoded.
const MOST_LAYERS: usize = 4;

/// Why a document could not be decoded.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Unpacking {
    /// It is longer than the maximum.
    TooLong,
    /// It does not match its coding, or the coding is not supported.
    Damaged,
}

/// Returns true if one of the codings in a Content-Encoding compresses. Any other value is not a coding that a server
/// applies: `utf-8`, `none`, `binary`, `aws-chunked` (a remnant of an upload), or a description of the file.
pub(crate) fn compresses(codings: &str) -> bool {
    layers(codings).any(|coding| COMPRESSING.contains(&coding.as_str()))
}

/// Returns true if an entity tag is that of a compressed form, in the notation of servers that derive it from the
/// file's own.
pub(crate) fn names_a_coding(tag: &str) -> bool {
    let inner = tag.trim_end_matches('"').to_ascii_lowercase();
    TAG_ENDINGS.iter().any(|ending| inner.ends_with(ending))
}

/// Decodes a document, the last coding first. The result has at most `most` bytes.
pub(crate) async fn unpack(codings: &str, packed: Vec<u8>, most: u64) -> Result<Vec<u8>, Unpacking> {
    let codings: Vec<String> = layers(codings).collect();
    // A large document takes a second: too long for a thread that other requests need.
    let unpacking = tokio::task::spawn_blocking(move || {
        if codings.len() > MOST_LAYERS {
            return Err(Unpacking::Damaged);
        }
        codings
            .iter()
            .rev()
            .try_fold(packed, |bytes, coding| take_off(coding, bytes, most))
    });
    // An error means a panic, or a runtime that is shutting down.
    unpacking.await.unwrap_or(Err(Unpacking::Damaged))
}

fn layers(codings: &str) -> impl Iterator<Item = String> {
    let names = codings.split(',').map(|name| name.trim().to_ascii_lowercase());
    names.filter(|name| !name.is_empty())
}

/// Decodes one coding. Bytes without the coding's magic number are returned unchanged: the label is wrong.
fn take_off(coding: &str, packed: Vec<u8>, most: u64) -> Result<Vec<u8>, Unpacking> {
    let bytes = packed.as_slice();
    match coding {
        "gzip" | "x-gzip" if bytes.starts_with(b"\x1f\x8b") => read(flate2::read::MultiGzDecoder::new(bytes), most),
        // With a zlib header (RFC 9110 §8.4.1.2). Some servers omit it.
        "deflate" if has_zlib_head(bytes) => read(flate2::read::ZlibDecoder::new(bytes), most),
        "deflate" if !looks_like_text(bytes) => read(flate2::read::DeflateDecoder::new(bytes), most),
        "br" if !looks_like_text(bytes) => read(brotli_decompressor::Decompressor::new(bytes, 4096), most),
        "zstd" if bytes.starts_with(b"\x28\xb5\x2f\xfd") => read(
            ruzstd::decoding::StreamingDecoder::new(bytes).map_err(|_| Unpacking::Damaged)?,
            most,
        ),
        "compress" | "x-compress" if bytes.starts_with(b"\x1f\x9d") => Err(Unpacking::Damaged),
        _ => Ok(packed),
    }
}

fn read(from: impl Read, most: u64) -> Result<Vec<u8>, Unpacking> {
    let mut bytes = Vec::new();
    let read = io::Read::take(from, most.saturating_add(1)).read_to_end(&mut bytes);
    match read {
        _ if bytes.len() as u64 > most => Err(Unpacking::TooLong),
        Ok(_) => Ok(bytes),
        Err(_) => Err(Unpacking::Damaged),
    }
}

/// The zlib header of RFC 1950 §2.2.
fn has_zlib_head(bytes: &[u8]) -> bool {
    let [method, flags, ..] = *bytes else { return false };
    method & 0x0f == 8 && (u16::from(method) << 8 | u16::from(flags)) % 31 == 0
}

/// Returns true if it begins like an uncompressed document.
fn looks_like_text(bytes: &[u8]) -> bool {
    let text = bytes.trim_ascii_start();
    text.is_empty() || text.starts_with(b"<") || text.starts_with(b"\xef\xbb\xbf<")
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    const PAGE: &[u8] = b"<title>Index of /</title><a href=\"f\">f</a>";

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn zlib(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::best());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    #[tokio::test]
    async fn a_page_is_unpacked_whatever_it_is_packed_with() {
        let deflate = zlib(PAGE);
        // Stored in a block of its own, as `brotli` and `zstd` write it.
        let last = PAGE.len() as u8 - 1;
        let brotli = [&[0x0b | (last & 1) << 7, last >> 1, 0x80][..], PAGE, &[0x03]].concat();
        let zstd = {
            let block = ((PAGE.len() as u32) << 3 | 1).to_le_bytes();
            let frame = [0x28, 0xb5, 0x2f, 0xfd, 0x20, PAGE.len() as u8];
            [&frame[..], &block[..3], PAGE].concat()
        };
        for (coding, packed) in [
            ("gzip", gzip(PAGE)),
            ("X-Gzip", gzip(PAGE)),
            ("gzip, gzip", gzip(&gzip(PAGE))),
            ("deflate", deflate.clone()),
            ("deflate", deflate[2..deflate.len() - 4].to_vec()),
            ("br", brotli),
            ("zstd", zstd),
            ("gzip", PAGE.to_vec()),
            ("br", PAGE.to_vec()),
            ("utf-8, gzip", gzip(PAGE)),
        ] {
            assert_eq!(unpack(coding, packed, 1000).await.as_deref(), Ok(PAGE), "{coding}");
        }
    }

    #[tokio::test]
    async fn oversized_decoded_page_is_rejected() {
        let bomb = gzip(&vec![0; 10 << 20]);
        assert_eq!(unpack("gzip", bomb, 1 << 20).await, Err(Unpacking::TooLong));
        assert_eq!(unpack("gzip", gzip(PAGE), PAGE.len() as u64).await.as_deref(), Ok(PAGE));
        assert!(unpack("gzip", gzip(PAGE)[..30].to_vec(), 1000).await.is_err());
    }
}
