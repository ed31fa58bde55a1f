//! `Content-Disposition`: the file name that a server gives a download (RFC 6266).

use percent_encoding::percent_decode_str;

/// The file name as bytes: `filename*` if present and valid, else `filename`. Without directories, which a server must
/// not choose (§4.3). The caller checks whether the name is valid here.
pub(crate) fn file_name(header: &[u8]) -> Option<Vec<u8>> {
    let params = params(header);
    let value = |wanted: &str| {
        params
            .iter()
            .find(|(name, _)| name == wanted)
            .map(|(_, value)| value.clone())
    };
    let name = value("filename*")
        .and_then(|value| extended(&value))
        .or_else(|| value("filename"))?;
    let start = name
        .iter()
        .rposition(|byte| matches!(byte, b'/' | b'\\'))
        .map_or(0, |at| at + 1);
    Some(name[start..].to_vec()).filter(|name| !name.is_empty())
}

/// The parameters: names in lower case, values unquoted.
fn params(header: &[u8]) -> Vec<(String, Vec<u8>)> {
    let mut params = Vec::new();
    // The first part is the type: `attachment` or `inline`.
    for part in split(header).into_iter().skip(1) {
        let Some(at) = part.iter().position(|&byte| byte == b'=') else {
            continue;
        };
        let name = String::from_utf8_lossy(&part[..at]).trim().to_ascii_lowercase();
        params.push((name, unquote(part[at + 1..].trim_ascii())));
    }
    params
}

/// Splits at semicolons outside quotes.
fn split(header: &[u8]) -> Vec<&[u8]> {
    let (mut is_quoted, mut is_escaped) = (false, false);
    let is_end = |&byte: &u8| {
        let escapes = is_quoted && byte == b'\\' && !is_escaped;
        if byte == b'"' && !is_escaped {
            is_quoted = !is_quoted;
        }
        is_escaped = escapes;
        byte == b';' && !is_quoted
    };
    header.split(is_end).collect()
}

/// The content of a quoted string (RFC 9110 §5.6.4); a token is returned as it is.
fn unquote(value: &[u8]) -> Vec<u8> {
    let Some(inner) = value.strip_prefix(b"\"").and_then(|rest| rest.strip_suffix(b"\"")) else {
        return value.to_vec();
    };
    let mut text = Vec::with_capacity(inner.len());
    let mut bytes = inner.iter();
    while let Some(&byte) = bytes.next() {
        text.extend(if byte == b'\\' {
            bytes.next().copied()
        } else {
            Some(byte)
        });
    }
    text
}

/// `UTF-8'en'percent%20encoded` (RFC 8187 §3.2). Other charsets than UTF-8 are obsolete.
fn extended(value: &[u8]) -> Option<Vec<u8>> {
    let text = std::str::from_utf8(value).ok()?;
    let mut parts = text.splitn(3, '\'');
    let charset = parts.next().filter(|charset| charset.eq_ignore_ascii_case("utf-8"));
    let encoded = charset.and(parts.nth(1))?;
    Some(percent_decode_str(encoded).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_name_is_found_in_each_form_that_servers_write() {
        for (header, name) in [
            ("attachment; filename=a.bin", "a.bin"),
            (
                "attachment;filename=\"two words; and \\\"more\\\".pdf\"",
                "two words; and \"more\".pdf",
            ),
            ("inline; FileName = \"größe.txt\"", "größe.txt"),
            (
                "attachment; filename=\"fallback\"; filename*=UTF-8''%e2%82%ac%20rates",
                "€ rates",
            ),
            ("attachment; filename*=utf-8'en'a%2Bb; filename=c", "a+b"),
            ("attachment; filename*=latin1''%e9; filename=plain", "plain"),
            ("attachment; filename=\"../../etc/passwd\"", "passwd"),
            ("attachment; filename=\"C:\\\\Temp\\\\x.doc\"", "x.doc"),
        ] {
            let found = file_name(header.as_bytes());
            assert_eq!(found.as_deref(), Some(name.as_bytes()), "{header}");
        }
        for header in [
            "attachment",
            "filename=a",
            "attachment; filename=\"\"",
            "attachment; filename=\"a/\"",
            "",
        ] {
            assert_eq!(file_name(header.as_bytes()), None, "{header}");
        }
    }

    proptest! {
        #[test]
        fn nothing_that_a_server_can_say_panics(header: Vec<u8>, text in "x; filename\\*?=[a\"'\\\\;%/]{0,12}") {
            file_name(&header);
            file_name(text.as_bytes());
        }
    }
}
