//! Redaction: URLs without their secrets.

use std::{fmt, ops::Deref};

use url::Url;

use super::Origin;
use super::tag::untagged;

/// Maximum characters of a URL in a message. A server can send a redirect of 100 kB.
const LONGEST_SHOWN: usize = 500;

/// Removes user and password from a URL and drops them: those in a redirect are not trusted, and `reqwest` would send
/// them.
pub(crate) fn strip(url: &mut Url) {
    // Both fail only for URLs without a host, which have neither.
    let _ = url.set_username("");
    let _ = url.set_password(None);
}

/// A URL for messages and logs: `https://host/file?token=…`. It has no user, no password and no query values, where
/// tokens and signatures are. A URL longer than `LONGEST_SHOWN` is cut.
pub(crate) fn redact(url: &Url) -> RedactedUrl {
    let mut shown = untagged(url).into_owned();
    strip(&mut shown);
    shown.set_query(None);
    shown.set_fragment(None);
    if shown.scheme() == "stdin" {
        let url = Box::new(url.clone());
        return RedactedUrl {
            text: "standard input".to_owned(),
            url,
        };
    }
    let mut text = shown.to_string();
    for (index, pair) in url.query().into_iter().flat_map(|query| query.split('&')).enumerate() {
        text.push(if index == 0 { '?' } else { '&' });
        // A parameter without a name is a value.
        if let Some((name, _)) = pair.split_once('=') {
            text.push_str(name);
            text.push('=');
        }
        text.push('…');
    }
    if let Some((end, _)) = text.char_indices().nth(LONGEST_SHOWN) {
        text.truncate(end);
        text.push('…');
    }
    let mut url = Box::new(url.clone());
    strip(&mut url);
    RedactedUrl { text, url }
}

/// A URL that messages show without secrets. **Two different URLs with the same text are not equal**: a resource is
/// identified by its URL including the query.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct RedactedUrl {
    text: String,
    /// The URL itself, without user and password.
    url: Box<Url>,
}

impl RedactedUrl {
    /// The URL itself. **Its query may be secret**: not for messages.
    pub(crate) fn url(&self) -> &Url {
        &self.url
    }

    /// The URL's origin; `None` if it has none.
    pub fn origin(&self) -> Option<Origin> {
        Origin::of(&self.url)
    }
}

impl Deref for RedactedUrl {
    type Target = str;

    fn deref(&self) -> &str {
        &self.text
    }
}

impl fmt::Display for RedactedUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.text)
    }
}

impl fmt::Debug for RedactedUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.text, f)
    }
}

impl From<RedactedUrl> for String {
    fn from(url: RedactedUrl) -> String {
        url.text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> Url {
        Url::parse(text).unwrap()
    }

    #[test]
    fn messages_show_no_secret() {
        for (whole, shown) in [
            ("http://host/", "http://host/"),
            ("https://u:secret@host:8443/a%20b#secret", "https://host:8443/a%20b"),
            ("http://host/f?token=secret", "http://host/f?token=…"),
            (
                "http://host/f?a=secret&b=&secret&c=se=cret",
                "http://host/f?a=…&b=…&…&c=…",
            ),
            ("http://host/f?secret", "http://host/f?…"),
        ] {
            assert_eq!(&*redact(&url(whole)), shown);
        }
        assert_ne!(
            redact(&url("http://host/get?id=1")),
            redact(&url("http://host/get?id=2"))
        );
        let long = redact(&url(&format!("http://host/{}?k=secret", "ü".repeat(2000))));
        assert!(long.len() < 600 && !long.contains("secret"));
    }
}
