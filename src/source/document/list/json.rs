//! Parses lists in JSON; pure.
//!
//! The same list for programs that write JSON: an array with an object for each file.
//!
//! ```json
//! [
//!   {"url": "https://host/pub/a.iso"},
//!   {"url": ["https://host/get?id=7", "https://mirror/b.mkv"], "name": "films/b.mkv", "size": 734003200,
//!    "mtime": "2023-11-14T22:13:20Z", "sha256": "e3b0c44298fc1c14..."}
//! ]
//! ```

use serde::Deserialize;
use serde::de::IgnoredAny;
use url::Url;

use super::parse::path;
use crate::origin::{Hash, HashAlgorithm};
use crate::source::document::{DocumentError, DocumentFile, FileUrl, LARGEST, Parsed, quote};
use crate::source::listing::date;
use crate::source::{ListedTime, time};

/// A file in a list.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Item {
    url: Urls,
    /// The name in the mount, with its folders.
    name: Option<String>,
    /// Bytes.
    size: Option<u64>,
    mtime: Option<Date>,
    md5: Option<String>,
    sha1: Option<String>,
    sha256: Option<String>,
    sha512: Option<String>,
    user_agent: Option<String>,
    referrer: Option<String>,
}

/// A URL, or several in order of preference.
#[derive(Deserialize)]
#[serde(untagged, expecting = "`url` is neither a text nor an array of texts")]
enum Urls {
    One(String),
    Several(Vec<String>),
}

/// A date as text, or in seconds since 1970.
#[derive(Deserialize)]
#[serde(untagged, expecting = "`mtime` is neither a text nor a number of seconds")]
enum Date {
    Text(String),
    Seconds(i64),
}

/// Parses a list in JSON that came from `document`.
///
/// # Errors
/// If it is malformed, has an unknown key, or has no file.
pub(super) fn parse(document: &Url, body: &[u8]) -> Result<Parsed, DocumentError> {
    let items: Vec<Item> = serde_json::from_slice(body).map_err(|error| {
        let why = error.to_string();
        let why = why.rsplit_once(" at line ").map_or(why.as_str(), |(why, _)| why);
        DocumentError::in_line(error.line(), why)
    })?;
    if items.is_empty() {
        return Err(DocumentError::new("the list has no file in it"));
    }
    let mut parsed = Parsed::default();
    for (number, item) in (1..).zip(items) {
        let read = read_item(document, item, &mut parsed);
        read.map_err(|why| DocumentError::new(format!("file {number} of the list: {why}")))?;
    }
    if parsed.files.is_empty() && parsed.left_out.unsupported > 0 {
        return Err(DocumentError::new(
            "none of the list's files has a URL of http or https",
        ));
    }
    Ok(parsed)
}

/// Returns true if a document is a list in JSON by its content: an array of objects, and each has a `url`.
pub(super) fn is_list(body: &[u8]) -> bool {
    #[derive(Deserialize)]
    struct Probe {
        #[expect(dead_code, reason = "only its presence counts")]
        url: IgnoredAny,
    }
    is_json(body) && serde_json::from_slice::<Vec<Probe>>(body).is_ok_and(|items| !items.is_empty())
}

/// Returns true if a list is one in JSON: no URL begins so.
pub(super) fn is_json(body: &[u8]) -> bool {
    body.trim_ascii_start().first() == Some(&b'[')
}

fn read_item(document: &Url, item: Item, parsed: &mut Parsed) -> Result<(), String> {
    let texts = match item.url {
        Urls::One(text) => vec![text],
        Urls::Several(texts) => texts,
    };
    let mut urls = Vec::with_capacity(texts.len());
    for text in &texts {
        match FileUrl::read(document, text) {
            FileUrl::Web(url) => urls.push(url),
            FileUrl::Unsupported => {}
            FileUrl::Malformed(why) => return Err(format!("{} is not a URL: {why}", quote(text))),
        }
    }
    let hash = |algorithm, digits: Option<String>| match digits {
        None => Ok(None),
        Some(digits) => {
            let hash = Hash::from_hex(algorithm, &digits);
            let wrong = || format!("{} is not a hash by {algorithm}", quote(&digits));
            hash.map(Some).ok_or_else(wrong)
        }
    };
    let hashes = [
        hash(HashAlgorithm::Sha512, item.sha512)?,
        hash(HashAlgorithm::Sha256, item.sha256)?,
        hash(HashAlgorithm::Sha1, item.sha1)?,
        hash(HashAlgorithm::Md5, item.md5)?,
    ];
    let modified = match item.mtime {
        None => None,
        Some(Date::Seconds(seconds)) => time(seconds, 0),
        Some(Date::Text(text)) => {
            let read = date::read_alone(&text).map(|ListedTime { time, .. }| time);
            Some(read.ok_or_else(|| format!("{} is not a date", quote(&text)))?)
        }
    };
    if item.size.is_some_and(|size| size > LARGEST) {
        return Err("its size is larger than a file can be".to_owned());
    }
    let mut urls = urls.into_iter();
    let Some(url) = urls.next() else {
        parsed.left_out.unsupported += 1;
        return Ok(());
    };
    let Some(path) = path(item.name.as_deref().map(str::as_bytes), &url) else {
        parsed.left_out.refused += 1;
        return Ok(());
    };
    let mut file = DocumentFile::at(path, url);
    (file.size, file.modified) = (item.size, modified);
    file.published.alternates = urls.collect();
    file.published.hashes = hashes.into_iter().flatten().collect();
    let headers = [("User-Agent", item.user_agent), ("Referer", item.referrer)];
    let headers = headers
        .into_iter()
        .filter_map(|(name, value)| Some((name.to_owned(), value?)));
    file.published.headers = headers.collect();
    parsed.files.push(file);
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(body: &str) -> Result<Parsed, String> {
        let document = Url::parse("https://host/pub/list.json").unwrap();
        parse(&document, body.as_bytes()).map_err(|error| error.to_string())
    }

    #[test]
    fn object_is_a_file() {
        let digits = "d41d8cd98f00b204e9800998ecf8427e";
        let body = format!(
            "[{{\"url\": \"a%20b.iso\"}},\n{{\"url\": [\"ftp://h/x\", \"http://h/b?x=1\", \"http://m/b\"], \
             \"name\": \"d/b.mkv\", \"size\": 7, \"mtime\": \"2023-11-14T22:13:20Z\", \"md5\": \"{digits}\", \
             \"user_agent\": \"P/1\"}},\n{{\"url\": \"http://h/c\", \"name\": \"e/\", \"mtime\": 1700000000}}]"
        );
        let files = read(&body).unwrap().files;
        let shown = |file: &DocumentFile| {
            let path: Vec<_> = file
                .path
                .iter()
                .map(|name| name.as_os_str().to_str().unwrap())
                .collect();
            format!("{} {}", path.join("/"), file.url)
        };
        assert_eq!(shown(&files[0]), "a b.iso https://host/pub/a%20b.iso");
        assert_eq!(shown(&files[1]), "d/b.mkv http://h/b?x=1");
        assert_eq!(shown(&files[2]), "e/c http://h/c");
        assert_eq!((files[1].size, files[1].modified), (Some(7), files[2].modified));
        assert_eq!(files[1].published.alternates[0].as_str(), "http://m/b");
        assert_eq!(files[1].published.hashes[0].algorithm, HashAlgorithm::Md5);
        assert_eq!(
            files[1].published.headers,
            [("User-Agent".to_owned(), "P/1".to_owned())]
        );
    }

    #[test]
    fn mistake_is_named() {
        for (body, why) in [
            (
                "[{\"url\": \"http://h/a\",\n\"naem\": \"x\"}]",
                "line 2: unknown field `naem`, expected one of",
            ),
            ("[{\"name\": \"x\"}]", "line 1: missing field `url`"),
            (
                "[{\"url\": 7}]",
                "line 1: `url` is neither a text nor an array of texts",
            ),
            ("[{\"url\": \"http://h/a\"},\n", "line 2: EOF while parsing"),
            ("[]", "the list has no file in it"),
            (
                "[{\"url\": \"http://h:x/\"}]",
                "file 1 of the list: `http://h:x/` is not a URL: invalid port number",
            ),
            (
                "[{\"url\": \"http://h/\", \"md5\": \"0\"}]",
                "file 1 of the list: `0` is not a hash by md5",
            ),
            (
                "[{\"url\": \"http://h/\", \"mtime\": \"noon\"}]",
                "file 1 of the list: `noon` is not a date",
            ),
            (
                "[{\"url\": \"ftp://h/a\"}]",
                "none of the list's files has a URL of http or https",
            ),
            ("[{\"url\": []}]", "none of the list's files has a URL of http or https"),
        ] {
            let error = read(body).unwrap_err();
            assert!(error.starts_with(why), "{body}: {error}");
        }
    }

    #[test]
    fn list_has_urls() {
        for (body, is) in [
            (" [{\"url\": \"x\", \"more\": 1}]", true),
            ("[{\"name\": \"x\"}]", false),
            ("[]", false),
            ("{\"url\": \"x\"}", false),
            ("[{\"url\": \"x\"}", false),
        ] {
            assert_eq!(is_list(body.as_bytes()), is, "{body}");
        }
    }

    proptest! {
        #[test]
        fn nothing_like_a_list_panics(
            parts in proptest::collection::vec(
                prop::sample::select(vec![
                    "{\"url\": \"http://h/a\"", "}", "]", ", ", "\"name\": ", "\"a/b/\"", "\"..\"", "\"size\": ", "7", "-1",
                    "\"mtime\": ", "1e99", "\"2023-11-14\"", "\"sha1\": \"00\"", "{\"url\": [", "\"ftp://h/\"", "null",
                ]),
                0..30,
            )
        ) {
            crate::source::fuzzing::list(format!("[{}", parts.concat()).as_bytes());
        }
    }
}
