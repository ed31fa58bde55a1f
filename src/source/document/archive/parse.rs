//! Parses the metadata of items; pure.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;
use url::Url;

use crate::origin::{Hash, HashAlgorithm};
use crate::source::document::{DocumentError, DocumentFile, LARGEST, Parsed, path_of, quote};

/// Bytes that are escaped in the path of a file: all but the unreserved characters (RFC 3986 §2.3) and `/`.
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~')
    .remove(b'/');

/// An item, with the fields that are read.
#[derive(Deserialize)]
struct Item {
    files: Option<Vec<File>>,
    /// True if the item may not be shown.
    #[serde(default)]
    is_dark: bool,
}

#[derive(Deserialize)]
struct File {
    name: String,
    size: Option<Value>,
    /// Seconds since 1970.
    mtime: Option<Value>,
    md5: Option<String>,
    sha1: Option<String>,
    /// `"true"` if the file is not served.
    private: Option<Value>,
}

/// Numbers and truth values come as text, and sometimes as themselves.
#[derive(Deserialize)]
#[serde(untagged)]
enum Value {
    Text(String),
    Number(u64),
    Truth(bool),
    Other(serde::de::IgnoredAny),
}

impl Value {
    fn number(&self) -> Option<u64> {
        match self {
            Value::Text(text) => text.trim().parse().ok(),
            Value::Number(number) => Some(*number),
            Value::Truth(_) | Value::Other(_) => None,
        }
    }

    fn is_true(&self) -> bool {
        match self {
            Value::Text(text) => text == "true",
            Value::Truth(truth) => *truth,
            Value::Number(_) | Value::Other(_) => false,
        }
    }
}

/// Parses the metadata that came from `document`: `/metadata/ID`.
///
/// # Errors
/// If it is malformed, or if there is no item or none that may be read.
pub(in crate::source) fn parse(document: &Url, body: &[u8]) -> Result<Parsed, DocumentError> {
    let item: Item = serde_json::from_slice(body)
        .map_err(|error| DocumentError::new(format!("it is no metadata of an item: {error}")))?;
    let name = document.path().rsplit('/').next().unwrap_or_default();
    if item.is_dark {
        return Err(DocumentError::new(format!("the item {} is not public", quote(name))));
    }
    let Some(files) = item.files else {
        return Err(DocumentError::new(format!("there is no item {}", quote(name))));
    };
    let mut parsed = Parsed::default();
    for file in files {
        if file.private.as_ref().is_some_and(Value::is_true) {
            parsed.left_out.private += 1;
            continue;
        }
        let mut url = document.clone();
        let escaped = utf8_percent_encode(&file.name, ESCAPED);
        url.set_path(&format!("/download/{name}/{escaped}"));
        match path_of(file.name.as_bytes()) {
            Some(path) => parsed.files.push(file.read(path, url)),
            None => parsed.left_out.refused += 1,
        }
    }
    Ok(parsed)
}

impl File {
    fn read(self, path: Vec<crate::source::Name>, url: Url) -> DocumentFile {
        let mut file = DocumentFile::at(path, url);
        file.size = self.size.and_then(|size| size.number()).filter(|&size| size <= LARGEST);
        file.modified = self.mtime.and_then(|mtime| time(mtime.number()?));
        // The list of files, which has the hashes of all, is itself without a size, and its hashes are of an earlier
        // form of it.
        if file.size.is_some() {
            let hash = |algorithm, digits: Option<String>| Hash::from_hex(algorithm, &digits?);
            let hashes = [hash(HashAlgorithm::Sha1, self.sha1), hash(HashAlgorithm::Md5, self.md5)];
            file.published.hashes.extend(hashes.into_iter().flatten());
        }
        file
    }
}

fn time(seconds: u64) -> Option<SystemTime> {
    UNIX_EPOCH.checked_add(Duration::from_secs(seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ITEM: &str = r#"{"created": 1700000000, "d1": "ia800.us.archive.org", "dir": "/1/items/my_item", "files": [
        {"name": "disc 1/a b#.mp3", "source": "original", "mtime": "1286000000", "size": "1234",
         "md5": "d41d8cd98f00b204e9800998ecf8427e", "crc32": "00000000",
         "sha1": "da39a3ee5e6b4b0d3255bfef95601890afd80709", "format": "VBR MP3", "length": "12.5"},
        {"name": "n.txt", "size": 7, "mtime": null, "md5": "broken"},
        {"name": "my_item_files.xml", "md5": "d41d8cd98f00b204e9800998ecf8427e"},
        {"name": "secret.pdf", "size": "9", "private": "true"},
        {"name": "../up", "size": "9"}], "metadata": {"identifier": "my_item"}}"#;

    fn document() -> Url {
        Url::parse("https://archive.org/metadata/my_item").unwrap()
    }

    #[test]
    fn item_has_names_sizes_dates_and_hashes() {
        let parsed = parse(&document(), ITEM.as_bytes()).unwrap();
        let first = &parsed.files[0];
        assert_eq!(
            first.url.as_str(),
            "https://archive.org/download/my_item/disc%201/a%20b%23.mp3"
        );
        assert_eq!((first.path.len(), first.size), (2, Some(1234)));
        assert_eq!(first.modified, time(1_286_000_000));
        let algorithms: Vec<_> = first.published.hashes.iter().map(|hash| hash.algorithm).collect();
        assert_eq!(algorithms, [HashAlgorithm::Sha1, HashAlgorithm::Md5]);
        let second = &parsed.files[1];
        assert_eq!(
            (second.size, second.modified, second.published.hashes.len()),
            (Some(7), None, 0)
        );
        assert_eq!(
            (parsed.files[2].size, parsed.files[2].published.hashes.len()),
            (None, 0)
        );
        assert_eq!(
            (parsed.files.len(), parsed.left_out.private, parsed.left_out.refused),
            (3, 1, 1)
        );
    }

    #[test]
    fn what_is_no_item_is_refused() {
        for (body, why) in [
            ("{}", "there is no item `my_item`"),
            (r#"{"is_dark": true, "files": []}"#, "the item `my_item` is not public"),
        ] {
            assert_eq!(parse(&document(), body.as_bytes()).unwrap_err().to_string(), why);
        }
        let error = parse(&document(), b"<html>").unwrap_err().to_string();
        assert!(error.starts_with("it is no metadata of an item: "), "{error}");
    }
}
