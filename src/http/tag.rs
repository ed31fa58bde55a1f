//! Tagged URLs: of the directories that one source of a library lists.
//!
//! ```text
//! https://host/films/                           a directory on a server
//! library-0123456789abcdef+https://host/films/  the same, as the source 0123456789abcdef of a library shows it
//! ```
//!
//! Two sources may show the same directory differently: with other filters, in other places, as another user. So the
//! vfs and the index know it by two URLs. Requests, origins and messages leave the tag out.

use std::borrow::Cow;

use url::Url;

/// How the scheme of a tagged URL begins.
const TAG: &str = "library-";

/// The URL of `url` as the source `id` of a library shows it. `id` has only letters and digits. `None` for a URL that can't
/// be tagged.
pub(crate) fn tagged(id: &str, url: &Url) -> Option<Url> {
    Url::parse(&format!("{TAG}{id}+{url}")).ok()
}

/// The source's `id` in a tagged URL, and the URL without its tag; `None` for any other URL.
pub(crate) fn split(url: &Url) -> Option<(&str, Url)> {
    let (id, scheme) = url.scheme().strip_prefix(TAG)?.split_once('+')?;
    let rest = &url.as_str()[url.scheme().len()..];
    Some((id, Url::parse(&format!("{scheme}{rest}")).ok()?))
}

/// The URL without its tag, if it has one.
pub(crate) fn untagged(url: &Url) -> Cow<'_, Url> {
    match split(url) {
        Some((_, url)) => Cow::Owned(url),
        None => Cow::Borrowed(url),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::{Origin, redact};

    #[test]
    fn tag_comes_off_again() {
        for text in [
            "https://h.example/a%20b/?v=1",
            "http://[::1]:8080/",
            "list+https://h/l.txt!/d/",
            "file:///home/a%20b/",
            "s3://bucket/a//b/",
        ] {
            let url = Url::parse(text).unwrap();
            let with_tag = tagged("0a", &url).unwrap();
            assert_eq!(split(&with_tag), Some(("0a", url.clone())), "{with_tag}");
            assert_eq!(*untagged(&with_tag), url);
            assert_eq!(Origin::of(&with_tag), Origin::of(&url), "{with_tag}");
            assert_eq!(*redact(&with_tag), *redact(&url), "{with_tag}");
            assert_eq!(split(&url), None);
        }
    }
}
