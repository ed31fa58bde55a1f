//! Parses lists of URLs; pure.

use url::Url;

use crate::origin::{Hash, HashAlgorithm};
use crate::source::Name;
use crate::source::document::{DocumentError, DocumentFile, FileUrl, LARGEST, Parsed, path_of, quote};

/// Parses a list of URLs that came from `document`.
///
/// # Errors
/// If a line is no URL, or one of its other fields is malformed; or if no line has a URL.
pub(super) fn parse(document: &Url, body: &[u8]) -> Result<Parsed, DocumentError> {
    let mut parsed = Parsed::default();
    let mut has_line = false;
    for (number, line) in lines(body) {
        has_line = true;
        read_line(document, number, line, &mut parsed)?;
    }
    if !has_line {
        return Err(DocumentError::new("the list has no URL in it; write one in each line"));
    }
    if parsed.files.is_empty() && parsed.left_out.unsupported > 0 {
        return Err(DocumentError::new("none of its lines is a URL of http or https"));
    }
    Ok(parsed)
}

/// Returns true if a document is a list by its content: each line begins with a whole URL of http or https.
pub(super) fn is_list(body: &[u8]) -> bool {
    let is_web = |line: &[u8]| {
        let url = line.split(|&byte| byte == b'\t').next().unwrap_or_default();
        let url = std::str::from_utf8(url).ok().map(str::trim);
        url.filter(|url| !url.contains(char::is_whitespace))
            .and_then(|url| Url::parse(url).ok())
            .is_some_and(|url| matches!(url.scheme(), "http" | "https"))
    };
    let mut has_line = false;
    lines(body).all(|(_, line)| {
        has_line = true;
        is_web(line)
    }) && has_line
}

/// The lines that are neither empty nor a comment, counted from 1.
fn lines(body: &[u8]) -> impl Iterator<Item = (usize, &[u8])> {
    let body = body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body);
    let lines = body.split(|&byte| byte == b'\n').map(<[u8]>::trim_ascii);
    (1..)
        .zip(lines)
        .filter(|(_, line)| !line.is_empty() && !line.starts_with(b"#"))
}

fn read_line(document: &Url, number: usize, line: &[u8], parsed: &mut Parsed) -> Result<(), DocumentError> {
    let fail = |why: String| DocumentError::in_line(number, why);
    let mut fields = line.split(|&byte| byte == b'\t').map(<[u8]>::trim_ascii);
    let text = fields.next().unwrap_or_default();
    let text = std::str::from_utf8(text).map_err(|_| fail("its URL is not UTF-8; percent-encode it".to_owned()))?;
    if text.contains('#') {
        let why = format!(
            "{} has a `#`, which is never sent to a server; write %23 for one in a name",
            quote(text)
        );
        return Err(fail(why));
    }
    let url = match FileUrl::read(document, text) {
        FileUrl::Web(url) => Some(url),
        FileUrl::Unsupported if is_relative(text) => {
            let why = format!(
                "{} is not a whole URL, and this list is not on a server that it could belong to",
                quote(text)
            );
            return Err(fail(why));
        }
        FileUrl::Unsupported => None,
        FileUrl::Malformed(why) => return Err(fail(format!("{} is not a URL: {why}", quote(text)))),
    };
    let mut next = || fields.next().filter(|field| !field.is_empty() && *field != b"-");
    let (name, size, digest) = (next(), next(), next());
    if fields.next().is_some() {
        let why = "it has more than four fields; they are URL, name, size and SHA-256, with a tab between them";
        return Err(fail(why.to_owned()));
    }
    let shown = |field: &[u8]| quote(&String::from_utf8_lossy(field));
    let size = size
        .map(|field| size_of(field).ok_or_else(|| fail(format!("{} is not a size in bytes", shown(field)))))
        .transpose()?;
    let digest = digest
        .map(|field| digest_of(field).ok_or_else(|| fail(format!("{} is not a SHA-256 in 64 digits", shown(field)))))
        .transpose()?;
    if name.is_some_and(|name| name.starts_with(b"http://") || name.starts_with(b"https://")) {
        return Err(fail("it has two URLs; write each in a line of its own".to_owned()));
    }
    let Some(url) = url else {
        parsed.left_out.unsupported += 1;
        return Ok(());
    };
    let Some(path) = path(name, &url) else {
        parsed.left_out.refused += 1;
        return Ok(());
    };
    let mut file = DocumentFile::at(path, url);
    file.size = size;
    file.published.hashes.extend(digest);
    parsed.files.push(file);
    Ok(())
}

/// Folders and name of a file, from its name in the list and its URL.
pub(super) fn path(name: Option<&[u8]>, url: &Url) -> Option<Vec<Name>> {
    match name {
        None => Some(vec![Name::of_url(url)?]),
        Some(folder) if folder.ends_with(b"/") => {
            let mut path = if folder.iter().all(|&byte| byte == b'/') {
                Vec::new()
            } else {
                path_of(folder)?
            };
            path.push(Name::of_url(url)?);
            Some(path)
        }
        Some(name) => path_of(name),
    }
}

/// Returns true if a text has no scheme.
fn is_relative(text: &str) -> bool {
    Url::parse(text) == Err(url::ParseError::RelativeUrlWithoutBase)
}

fn size_of(field: &[u8]) -> Option<u64> {
    let digits = std::str::from_utf8(field)
        .ok()
        .filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()))?;
    digits.parse().ok().filter(|&size| size <= LARGEST)
}

fn digest_of(field: &[u8]) -> Option<Hash> {
    Hash::from_hex(HashAlgorithm::Sha256, std::str::from_utf8(field).ok()?)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn document() -> Url {
        Url::parse("https://host/pub/list.txt").unwrap()
    }

    fn shown(body: &str) -> Result<Vec<String>, String> {
        let parsed = parse(&document(), body.as_bytes()).map_err(|error| error.to_string())?;
        let files = parsed.files.into_iter().map(|file| {
            let path: Vec<_> = file
                .path
                .iter()
                .map(|name| name.as_os_str().to_string_lossy())
                .collect();
            let size = file.size.map_or("-".to_owned(), |size| size.to_string());
            format!("{} {} {size} {}", path.join("/"), file.url, file.published.hashes.len())
        });
        Ok(files.collect())
    }

    #[test]
    fn line_has_up_to_four_fields() {
        let digest = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852B855";
        let body = format!(
            "\u{feff}# films\r\n\r\n  https://h/a%20b.iso \r\nhttps://h/get?id=7\tfilms/b.mkv\t700\t{digest}\n\
             c.iso\t\t5\nhttps://h/d\t-\t-\t{digest}\nhttps://h/e\tfilms/old/\n/f/\t/"
        );
        let expected = [
            "a b.iso https://h/a%20b.iso - 0",
            "films/b.mkv https://h/get?id=7 700 1",
            "c.iso https://host/pub/c.iso 5 0",
            "d https://h/d - 1",
            "films/old/e https://h/e - 0",
            "f https://host/f/ - 0",
        ];
        assert_eq!(shown(&body).unwrap(), expected);
    }

    #[test]
    fn malformed_line_is_named() {
        for (body, why) in [
            (
                "https://h/a\nhttp://h:99999/\n",
                "line 2: `http://h:99999/` is not a URL: invalid port number",
            ),
            ("# x\n\nhttps://h/a\tb\t12k", "line 3: `12k` is not a size in bytes"),
            (
                "https://h/a\tb\t9223372036854775808",
                "line 1: `9223372036854775808` is not a size in bytes",
            ),
            ("https://h/a\tb\t1\tabc", "line 1: `abc` is not a SHA-256 in 64 digits"),
            (
                "https://h/a\thttps://h/b",
                "line 1: it has two URLs; write each in a line of its own",
            ),
            (
                "https://h/a\tb\t1\t-\tx",
                "line 1: it has more than four fields; they are URL, name, size and SHA-256, with a tab between them",
            ),
            (
                "https://h/a #1",
                "line 1: `https://h/a #1` has a `#`, which is never sent to a server; write %23 for one in a name",
            ),
            ("", "the list has no URL in it; write one in each line"),
            ("# nothing\n", "the list has no URL in it; write one in each line"),
            ("ftp://h/a\nmagnet:?x", "none of its lines is a URL of http or https"),
        ] {
            assert_eq!(shown(body).unwrap_err(), why, "{body}");
        }
        let local = Url::parse("file:///home/me/list.txt").unwrap();
        let error = parse(&local, b"a.iso").unwrap_err().to_string();
        assert_eq!(
            error,
            "line 1: `a.iso` is not a whole URL, and this list is not on a server that it could belong to"
        );
        assert!(
            parse(&document(), b"https://h/\xff")
                .unwrap_err()
                .to_string()
                .contains("not UTF-8")
        );
    }

    #[test]
    fn what_is_not_shown_is_counted() {
        let parsed = parse(&document(), b"ftp://h/a\nhttps://h/b\t../c\nhttps://h/d\n").unwrap();
        assert_eq!((parsed.left_out.unsupported, parsed.left_out.refused), (1, 1));
        assert_eq!(parsed.files.len(), 1);
    }

    #[test]
    fn name_may_have_any_bytes() {
        let parsed = parse(&document(), b"https://h/a\tcaf\xe9/\xff\n").unwrap();
        let path: Vec<_> = parsed.files[0].path.iter().map(Name::as_bytes).collect();
        assert_eq!(path, [&b"caf\xe9"[..], b"\xff"]);
    }

    #[test]
    fn list_is_recognised_by_all_its_lines() {
        for (body, is) in [
            ("# x\nhttps://h/a\n\nhttp://h/b\tname with blanks\n", true),
            ("https://h/a", true),
            ("https://h/a is a fine page\n", false),
            ("https://h/a\nand text\n", false),
            ("a.iso\n", false),
            ("ftp://h/a\n", false),
            ("# only comments\n", false),
            ("", false),
        ] {
            assert_eq!(is_list(body.as_bytes()), is, "{body}");
        }
    }

    proptest! {
        #[test]
        fn nothing_in_a_list_panics(body: Vec<u8>) {
            crate::source::fuzzing::list(&body);
        }

        #[test]
        fn nothing_like_a_list_panics(
            parts in proptest::collection::vec(
                prop::sample::select(vec![
                    "http://", "h/", "a b", "\t", "\n", "#", "..", "/", "?x=1", "-", "99", "ftp://", "\r", "@", ":", "%2F",
                ]),
                0..40,
            )
        ) {
            crate::source::fuzzing::list(parts.concat().as_bytes());
        }
    }
}
