//! A source as it is typed: an http(s) URL.
//!
//! [`parse`] accepts one, [`shown`] writes one without its secrets, for mount tables, logs and errors. Secrets are the
//! user part and the values of the query, where signed URLs carry their signature.

use url::Url;

/// A source that can't be mounted. `{0}` is always without secrets.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SourceError {
    /// No `http://` or `https://` in front.
    #[error("`{0}` is not a source; a source is a URL that begins with http:// or https://")]
    NotHttp(String),
    /// Not a URL.
    #[error("`{url}` is not a URL: {reason}")]
    Malformed {
        /// What was typed, without secrets.
        url: String,
        /// What is wrong with it.
        reason: url::ParseError,
    },
    /// `#...`, which browsers keep to themselves.
    #[error("`{0}` has a `#` part, which no server gets to see; write %23 for a `#` in a name")]
    Fragment(String),
}

/// Reads a source.
pub(super) fn parse(text: &str) -> Result<Url, SourceError> {
    let scheme = text.split_once("://").map(|(scheme, _)| scheme.to_ascii_lowercase());
    if !matches!(scheme.as_deref(), Some("http" | "https")) {
        return Err(SourceError::NotHttp(shown(text)));
    }
    let url = Url::parse(text).map_err(|reason| SourceError::Malformed {
        url: shown(text),
        reason,
    })?;
    if url.fragment().is_some() {
        return Err(SourceError::Fragment(shown(text)));
    }
    Ok(url)
}

/// A URL without its secrets: no user part, and of the query only the names.
///
/// Works on text, so that it also serves for what is not a URL, and leaves the rest as it was typed: a mount table then
/// shows what fstab says, by which `mount -a` knows the line as already mounted.
pub fn shown(url: &str) -> String {
    let (scheme, rest) = url.split_once("://").map_or(("", url), |(scheme, rest)| (scheme, rest));
    let (location, query) = rest
        .split_once('?')
        .map_or((rest, None), |(location, query)| (location, Some(query)));
    let (host, path) = location.split_at(location.find(['/', '#', '\\']).unwrap_or(location.len()));
    let host = host.rsplit_once('@').map_or(host, |(_, host)| host);
    let mut text = String::with_capacity(url.len());
    if !scheme.is_empty() {
        text.push_str(scheme);
        text.push_str("://");
    }
    text.push_str(host);
    text.push_str(path);
    if let Some(query) = query {
        let names: Vec<_> = query
            .split('&')
            .map(|pair| {
                pair.split_once('=')
                    .map_or_else(|| pair.to_owned(), |(name, _)| format!("{name}=..."))
            })
            .collect();
        text.push('?');
        text.push_str(&names.join("&"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn only_http_urls_are_sources() {
        assert_eq!(parse("https://ann:pw@example.org/a%20b/").unwrap().username(), "ann");
        assert_eq!(parse("HTTP://example.org").unwrap().as_str(), "http://example.org/");
        for text in [
            "ftp://example.org/",
            "example.org/pub",
            "/srv",
            "file:///etc",
            "",
            "http:/x",
        ] {
            assert!(matches!(parse(text), Err(SourceError::NotHttp(_))), "{text}");
        }
        for text in ["http://", "http://a b/", "http://host:99999/", "http://[::1/"] {
            assert!(matches!(parse(text), Err(SourceError::Malformed { .. })), "{text}");
        }
        assert!(matches!(parse("http://host/a#b"), Err(SourceError::Fragment(_))));
    }

    #[test]
    fn what_is_shown_is_what_was_typed_without_secrets() {
        assert_eq!(shown("https://example.org/a%20b"), "https://example.org/a%20b");
        assert_eq!(shown("https://ann:p@ss@example.org:8/x@y"), "https://example.org:8/x@y");
        assert_eq!(shown("http://h/f?a=1&sig=s3cret&flag"), "http://h/f?a=...&sig=...&flag");
        assert_eq!(shown("http://ann:pw@h#x"), "http://h#x");
    }

    #[test]
    fn an_error_tells_no_secret() {
        for text in [
            "ftp://ann:hunter2@host/",
            "http://ann:hunter2@host:99999/",
            "http://ann:hunter2@host/#x",
        ] {
            assert!(!parse(text).unwrap_err().to_string().contains("hunter2"), "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_password_of_a_valid_url_is_shown(password in "[a-zA-Z0-9:!$*,;=._~-]{6,12}", path in "[a-z@:/?&=]{0,10}") {
            let url = format!("http://ann:{password}@host/{path}");
            prop_assume!(Url::parse(&url).is_ok());
            prop_assert!(!shown(&url).contains(&password));
        }

        #[test]
        fn nothing_that_can_be_typed_panics(text in ".{0,20}") {
            let _ = (parse(&text), shown(&text));
        }
    }
}
