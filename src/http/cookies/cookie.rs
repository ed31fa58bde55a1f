//! One cookie, and the requests that it is for.

use url::{Host, Url};

use super::is_below;
use crate::http::Secret;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Cookie {
    /// Without a leading dot, in lower case.
    pub(super) domain: String,
    pub(super) has_subdomains: bool,
    pub(super) path: String,
    pub(super) is_secure: bool,
    /// Seconds since 1970; `None` for the life of the mount.
    pub(super) expires: Option<u64>,
    pub(super) name: String,
    pub(super) value: Secret,
}

impl Cookie {
    /// Returns true if one of the two replaces the other.
    pub(super) fn is_same(&self, other: &Cookie) -> bool {
        self.name == other.name
            && self.path == other.path
            && self.domain == other.domain
            && self.has_subdomains == other.has_subdomains
    }

    pub(super) fn is_for_host(&self, url: &Url) -> bool {
        match url.host() {
            Some(Host::Domain(host)) => host == self.domain || (self.has_subdomains && is_below(host, &self.domain)),
            // An IP address has no subdomains.
            Some(address) => address.to_string() == self.domain,
            None => false,
        }
    }

    pub(super) fn is_for(&self, url: &Url, now: u64) -> bool {
        self.is_for_host(url)
            && (!self.is_secure || url.scheme() == "https")
            && !self.has_expired(now)
            && is_path_below(url.path(), &self.path)
    }

    pub(super) fn has_expired(&self, now: u64) -> bool {
        self.expires.is_some_and(|expires| expires <= now)
    }
}

/// Path matching by RFC 6265 §5.1.4.
pub(super) fn is_path_below(path: &str, directory: &str) -> bool {
    let rest = path.strip_prefix(directory);
    rest.is_some_and(|rest| rest.is_empty() || directory.ends_with('/') || rest.starts_with('/'))
}
