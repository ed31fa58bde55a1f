//! The kind `archive`: an item of the Internet Archive.
//!
//! An item is mounted by the address of its page, `https://archive.org/details/ID`, or of its files,
//! `https://archive.org/download/ID`. One request for `/metadata/ID` gives names, sizes, dates and hashes of all files.
//! Their bytes are at `/download/ID/NAME`, which redirects to the server that has them today.
//!
//! Another server of the same form is used by `--type archive`.

mod parse;

use url::Url;

use super::{Format, Recognition};
#[cfg(any(test, fuzzing))]
pub(in crate::source) use parse::parse;

/// The kind.
pub(in crate::source) const FORMAT: Format = Format {
    kind: "archive",
    document,
    recognition: Recognition::ByUrl(is_item),
    parse: |document, body, _| parse::parse(document, body),
    may_be_nested: None,
    is_described: false,
};

/// The URL of an item's metadata, from that of its page or its files.
fn document(url: &Url) -> Url {
    let Some(item) = item(url) else { return url.clone() };
    let mut document = url.clone();
    document.set_path(&format!("/metadata/{item}"));
    document.set_query(None);
    document
}

fn is_item(url: &Url) -> bool {
    matches!(url.host_str(), Some("archive.org" | "www.archive.org")) && item(url).is_some()
}

/// The identifier in `/details/ID` and `/download/ID`, as it is in the URL.
fn item(url: &Url) -> Option<&str> {
    let mut parts = url.path_segments()?;
    let (page, item, rest) = (parts.next()?, parts.next()?, parts.next());
    let is_item = matches!(page, "details" | "download") && !item.is_empty();
    (is_item && rest.is_none_or(str::is_empty)).then_some(item)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn item_is_found_by_its_page_or_its_files() {
        let url = |text: &str| Url::parse(text).unwrap();
        for (text, metadata) in [
            (
                "https://archive.org/details/my_item",
                Some("https://archive.org/metadata/my_item"),
            ),
            (
                "https://archive.org/download/my_item/",
                Some("https://archive.org/metadata/my_item"),
            ),
            (
                "https://www.archive.org/details/x?tab=about",
                Some("https://www.archive.org/metadata/x"),
            ),
            ("https://archive.org/download/my_item/file.mp3", None),
            ("https://archive.org/details/", None),
            ("https://archive.org/search", None),
            ("https://example.org/details/x", None),
        ] {
            let url = url(text);
            assert_eq!(is_item(&url), metadata.is_some(), "{text}");
            if let Some(metadata) = metadata {
                assert_eq!(document(&url).as_str(), metadata);
            }
        }
        assert_eq!(
            document(&url("http://127.0.0.1:81/details/x")),
            url("http://127.0.0.1:81/metadata/x")
        );
    }
}
