//! How documents write names and URLs, whatever their kind.

use percent_encoding::percent_decode_str;
use url::Url;

use crate::origin::Metadata;
use crate::source::{Name, PATH_MAX};

/// Maximum characters of a document's text in an error.
const QUOTED: usize = 60;

/// Text of a document in an error: its begin, without control characters. It may be a URL with a secret, so its query
/// and user part are left out.
pub(crate) fn quote(text: &str) -> String {
    let text = text.split_once('?').map_or(text, |(before, _)| before);
    let (scheme, rest) = text.split_once("://").unwrap_or(("", text));
    let host = rest.find('/').unwrap_or(rest.len());
    let rest = rest[..host].rfind('@').map_or(rest, |at| &rest[at + 1..]);
    let separator = if scheme.is_empty() { "" } else { "://" };
    let plain = |c: char| if c.is_control() { '\u{fffd}' } else { c };
    let shown = format!("{scheme}{separator}{rest}");
    let mut quoted: String = shown.chars().take(QUOTED).map(plain).collect();
    if shown.chars().nth(QUOTED).is_some() {
        quoted.push('…');
    }
    format!("`{quoted}`")
}

/// What a document's text is as the URL of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum FileUrl {
    /// A URL of http or https, without a fragment.
    Web(Url),
    /// A URL that nothing can be fetched from: of another scheme, or relative to a document without a server.
    Unsupported,
    /// No URL, for this reason.
    Malformed(url::ParseError),
}

impl FileUrl {
    /// Reads a URL that is relative to the document's. A fragment, which is never sent, is removed.
    pub(crate) fn read(document: &Url, text: &str) -> FileUrl {
        match document.join(text) {
            Ok(mut url) if matches!(url.scheme(), "http" | "https") => {
                url.set_fragment(None);
                FileUrl::Web(url)
            }
            Ok(_) => FileUrl::Unsupported,
            Err(url::ParseError::RelativeUrlWithCannotBeABaseBase) => FileUrl::Unsupported,
            Err(error) => FileUrl::Malformed(error),
        }
    }
}

/// The parts of a name with folders: `a/b.txt`. `None` if it can't be shown: it is empty, has a `..`, or is too long.
pub(crate) fn path_of(name: &[u8]) -> Option<Vec<Name>> {
    if name.len() > PATH_MAX {
        return None;
    }
    let parts = name.split(|&byte| byte == b'/');
    let parts = parts.filter(|part| !part.is_empty() && *part != b".");
    let path: Vec<Name> = parts.map(|part| Name::new(part.to_vec())).collect::<Option<_>>()?;
    (!path.is_empty()).then_some(path)
}

/// Returns true if a URL's path ends in one of these extensions, which are in lower case.
pub(crate) fn has_extension(url: &Url, extensions: &[&str]) -> bool {
    let extension = extension_of(url).map(|extension| extension.to_ascii_lowercase());
    extension.is_some_and(|extension| extensions.contains(&&extension[1..]))
}

/// Returns true if an answer may be a text that is no web page, by its media type. Servers send texts that they do not
/// know as octet streams.
pub(crate) fn is_text(answer: &Metadata) -> bool {
    let kind = answer.content_type.as_deref().unwrap_or("text/plain");
    let is_page = matches!(kind, "text/html" | "application/xhtml+xml");
    !is_page && (kind.starts_with("text/") || kind == "application/octet-stream")
}

/// The extension of a URL's file name with its dot, if it looks like one: `.mp4`.
pub(crate) fn extension_of(url: &Url) -> Option<String> {
    let name = url.path().rsplit('/').next()?;
    let name = percent_decode_str(name).decode_utf8().ok()?;
    let (stem, extension) = name.rsplit_once('.')?;
    let is_one = (1..=8).contains(&extension.len())
        && extension.bytes().all(|byte| byte.is_ascii_alphanumeric())
        && extension.bytes().any(|byte| byte.is_ascii_alphabetic());
    (is_one && !stem.is_empty()).then(|| format!(".{extension}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> Url {
        Url::parse(text).unwrap()
    }

    #[test]
    fn name_has_folders_but_leads_nowhere_else() {
        let path = |text: &str| {
            let path = path_of(text.as_bytes())?;
            let parts = path.iter().map(|name| name.as_os_str().to_str().unwrap().to_owned());
            Some(parts.collect::<Vec<_>>().join("|"))
        };
        for (text, parts) in [
            ("a.txt", Some("a.txt")),
            ("/a//./b c/d.txt/", Some("a|b c|d.txt")),
            ("...", Some("...")),
            ("a/../b", None),
            ("..", None),
            ("/", None),
            ("", None),
        ] {
            assert_eq!(path(text).as_deref(), parts, "{text}");
        }
        assert_eq!(path(&"x".repeat(1024)), None);
        assert_eq!(path(&"x/".repeat(PATH_MAX)), None);
    }

    #[test]
    fn only_web_urls_have_bytes() {
        let document = url("https://h/pub/list.txt");
        let read = |text| FileUrl::read(&document, text);
        for (text, web) in [
            ("a%20b?x=1#frag", "https://h/pub/a%20b?x=1"),
            ("/c", "https://h/c"),
            ("//other/c", "https://other/c"),
            ("HTTP://Other/c", "http://other/c"),
        ] {
            assert_eq!(read(text), FileUrl::Web(url(web)), "{text}");
        }
        for text in ["ftp://h/x", "magnet:?xt=1", r"C:\Music\x.mp3", "rtmp://h/live"] {
            assert_eq!(read(text), FileUrl::Unsupported, "{text}");
        }
        assert!(matches!(read("http://h:99999/"), FileUrl::Malformed(_)));
        let local = url("file:///home/me/list.txt");
        assert_eq!(FileUrl::read(&local, "../etc/passwd"), FileUrl::Unsupported);
        assert_eq!(FileUrl::read(&url("list:-"), "x"), FileUrl::Unsupported);
    }

    #[test]
    fn extension_looks_like_one() {
        for (text, extension) in [
            ("http://h/a.MP4?x=.y", Some(".MP4")),
            ("http://h/a.tar.gz", Some(".gz")),
            ("http://h/a%2Emkv", Some(".mkv")),
            ("http://h/film.2019", None),
            ("http://h/.mp4", None),
            ("http://h/a.b/c", None),
            ("http://h/a.what-is-this", None),
        ] {
            assert_eq!(extension_of(&url(text)).as_deref(), extension, "{text}");
        }
    }

    #[test]
    fn quoted_text_is_short_and_has_no_secrets() {
        assert_eq!(quote("http://me:pw@h/x?token=secret"), "`http://h/x`");
        assert_eq!(quote("me:pw@h\u{7}"), "`h\u{fffd}`");
        assert_eq!(quote(&"x".repeat(100)), format!("`{}…`", "x".repeat(60)));
    }
}
