//! Scheme, host and port: the unit of connection limits, health and credentials.

use std::fmt;

use url::Url;

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
    /// The origin of an `http` or `https` URL; `None` for any other scheme.
    ///
    /// A scheme such as `list+https` counts as `https`: a directory in a document that comes from there.
    pub fn of(url: &Url) -> Option<Origin> {
        if let Some((_, requests)) = url.scheme().split_once('+') {
            let rest = &url.as_str()[url.scheme().len()..];
            return Origin::of(&Url::parse(&format!("{requests}{rest}")).ok()?);
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

    /// The origin of URLs without an origin, and of those beyond [`MOST_ORIGINS`].
    pub fn nowhere() -> Origin {
        Origin {
            scheme: String::new(),
            host: String::new(),
            port: 0,
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.scheme.is_empty() {
            return f.write_str("further servers");
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
