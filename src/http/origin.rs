//! Scheme, host and port: the unit of connection limits, health and credentials.

use std::fmt;

use url::Url;

use super::tag;

/// Maximum number of distinct origins. State for further ones is shared or dropped. Far more than users mount; the
/// bound is needed because a server can name ever new origins, by redirects or by links with `--external-links`.
pub(crate) const MOST_ORIGINS: usize = 1024;

/// An origin (RFC 6454 §4): scheme, host, port.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Origin {
    scheme: String,
    host: String,
    port: u16,
}

impl Origin {
    /// The origin of an `http` or `https` URL, and of a file on this machine, which is one for all of them. `None` for
    /// any other scheme.
    ///
    /// A scheme such as `list+https` counts as `https`: a directory in a document that comes from there.
    pub fn of(url: &Url) -> Option<Origin> {
        if let Some((_, own)) = tag::split(url) {
            return Origin::of(&own);
        }
        if let Some((_, requests)) = url.scheme().split_once('+') {
            let rest = &url.as_str()[url.scheme().len()..];
            return Origin::of(&Url::parse(&format!("{requests}{rest}")).ok()?).filter(|origin| !origin.is_local());
        }
        if is_local(url) {
            let (scheme, host, port) = (LOCAL.to_owned(), String::new(), 0);
            return Some(Origin { scheme, host, port });
        }
        if !matches!(url.scheme(), "http" | "https") {
            return None;
        }
        Some(Origin {
            scheme: url.scheme().to_owned(),
            host: url.host_str()?.to_owned(),
            port: url.port_or_known_default()?,
        })
    }

    /// The name or address.
    pub(crate) fn host(&self) -> &str {
        &self.host
    }

    /// Returns true if connections to it are encrypted.
    pub(crate) fn is_https(&self) -> bool {
        self.scheme == "https"
    }

    /// The origin of URLs without an origin, and of those beyond [`MOST_ORIGINS`].
    pub fn nowhere() -> Origin {
        Origin {
            scheme: String::new(),
            host: String::new(),
            port: 0,
        }
    }
}

impl Origin {
    /// Returns true for the origin of files on this machine.
    pub fn is_local(&self) -> bool {
        self.scheme == LOCAL
    }
}

/// Returns true for the URL of a file on this machine.
pub(crate) fn is_local(url: &Url) -> bool {
    url.scheme() == LOCAL
}

/// The scheme of files on this machine.
const LOCAL: &str = "file";

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.scheme.is_empty() {
            return f.write_str("further servers");
        }
        if self.is_local() {
            return f.write_str("this machine");
        }
        write!(f, "{}://{}:{}", self.scheme, self.host, self.port)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn document_directories_have_the_origin_of_the_document() {
        let origin = |url: &str| Origin::of(&Url::parse(url).unwrap());
        assert_eq!(origin("list+https://h/l.txt/d/"), origin("https://h/"));
        assert_eq!(origin("list+http://h:81/l.txt/"), origin("http://h:81/x"));
        assert_eq!(origin("list+file:///l.txt/"), None);
        assert_eq!(origin("ftp://h/"), None);
    }
}
