//! Signatures in URLs: what is sent in place of a URL whose bucket needs signed requests.
//!
//! A source registers a signer for its own URLs. The client applies it at the last moment, so neither the cache nor a
//! message ever has a signed URL, and a redirect to another place is never signed.

use std::sync::Arc;

use parking_lot::RwLock;
use reqwest::Method;
use url::Url;

/// Returns the URL to send for a request.
pub(crate) type Signer = Arc<dyn Fn(&Method, &Url) -> Url + Send + Sync>;

/// The signers of a client.
#[derive(Default)]
pub(crate) struct Signers {
    /// Each with the directory whose URLs it signs. Locked for the moment of a look-up.
    below: RwLock<Vec<(Url, Signer)>>,
}

impl Signers {
    /// Signs requests for all URLs of this directory's origin that are below it. Its path ends in `/`.
    pub(crate) fn add(&self, directory: &Url, signer: Signer) {
        let mut below = self.below.write();
        below.retain(|(known, _)| known != directory);
        below.push((directory.clone(), signer));
    }

    /// The URL to send; the URL itself if nothing signs it.
    pub(crate) fn sent(&self, method: &Method, url: &Url) -> Url {
        let signer = {
            let below = self.below.read();
            let is_below =
                |(known, _): &&(Url, Signer)| known.origin() == url.origin() && url.path().starts_with(known.path());
            below.iter().find(is_below).map(|(_, signer)| Arc::clone(signer))
        };
        signer.map_or_else(|| url.clone(), |signer| signer(method, url))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_urls_below_the_directory_are_signed() {
        let signers = Signers::default();
        let url = |text: &str| Url::parse(text).unwrap();
        signers.add(
            &url("http://h/b/"),
            Arc::new(|method, url| {
                let mut url = url.clone();
                url.set_query(Some(method.as_str()));
                url
            }),
        );
        let sent = |text: &str| signers.sent(&Method::HEAD, &url(text)).to_string();
        assert_eq!(sent("http://h/b/"), "http://h/b/?HEAD");
        assert_eq!(sent("http://h/b/c/d"), "http://h/b/c/d?HEAD");
        for other in ["http://h/bc", "http://h:81/b/c", "https://h/b/c", "http://other/b/c"] {
            assert_eq!(sent(other), url(other).as_str());
        }
    }
}
