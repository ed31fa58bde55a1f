//! Names as the last segments of URLs' paths.
//!
//! [`decode`] is percent-decoding, with an exception for one server. Python's `http.server` writes a byte that is not UTF-8
//! in its own way: the byte `E9` becomes the lone surrogate U+DCE9 (PEP 383), and that is encoded like a character, as
//! `%ED%B3%A9`. UTF-8 has no surrogates, so those three bytes can mean nothing else and are decoded to the single one.
//! Only the name is: the URL keeps what the server wrote, and answers to.

use percent_encoding::{AsciiSet, CONTROLS, percent_decode_str, percent_encode};

/// Bytes that are escaped in every path of a URL: the path percent-encode set of the WHATWG URL standard. Text that is not
/// escaped yet has `%` in addition.
pub(in crate::source) const IN_PATHS: &AsciiSet = &CONTROLS
    .add(b' ')
    .add(b'"')
    .add(b'#')
    .add(b'<')
    .add(b'>')
    .add(b'?')
    .add(b'^')
    .add(b'`')
    .add(b'{')
    .add(b'}');

/// Bytes of a name that must be escaped to be one segment: also what separates segments (`/`, and `\\`, which is the same in
/// URLs of HTTP).
const ESCAPED: &AsciiSet = &IN_PATHS.add(b'%').add(b'/').add(b'\\');

/// The segment for a name, which [`decode`] gives back. `.` and `..` are not escaped: they are no names.
pub(in crate::source) fn encode(name: &[u8]) -> String {
    percent_encode(name, ESCAPED).to_string()
}

/// The bytes of the name in `segment`. Any bytes: the caller decides whether to show them.
pub(in crate::source) fn decode(segment: &str) -> Vec<u8> {
    let bytes: Vec<u8> = percent_decode_str(segment).collect();
    if !bytes.contains(&0xed) {
        return bytes;
    }
    let mut name = Vec::with_capacity(bytes.len());
    let mut rest = bytes.as_slice();
    while let Some((&first, others)) = rest.split_first() {
        let (byte, after) = match rest {
            // U+DC80 ..= U+DCBF stand for 80 ..= BF, and U+DCC0 ..= U+DCFF for C0 ..= FF.
            [0xed, 0xb2, low @ 0x80..=0xbf, after @ ..] => (*low, after),
            [0xed, 0xb3, low @ 0x80..=0xbf, after @ ..] => (low + 0x40, after),
            _ => (first, others),
        };
        name.push(byte);
        rest = after;
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_decoded_once() {
        for (segment, name) in [
            ("a%2520b", "a%20b"),
            ("100%", "100%"),
            ("a+b", "a+b"),
            ("%C3%A9", "é"),
            ("", ""),
        ] {
            assert_eq!(decode(segment), name.as_bytes(), "{segment}");
        }
    }

    #[test]
    fn pythons_way_to_write_a_byte_is_undone() {
        assert_eq!(decode("latin1-%ED%B3%A9"), b"latin1-\xe9");
        assert_eq!(decode("%ED%B2%80%ED%B2%BF%ED%B3%80%ED%B3%BF"), b"\x80\xbf\xc0\xff");
    }

    #[test]
    fn what_only_begins_like_it_is_left_alone() {
        assert_eq!(decode("%ED%95%9C%ED%B2"), b"\xed\x95\x9c\xed\xb2");
    }
}
