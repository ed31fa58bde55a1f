//! Signatures in URLs: what is sent in place of a URL whose bucket needs signed requests.
//!
//! A source registers a signer for its own URLs. The client applies it at the last moment, so neither the cache nor a
//! message ever has a signed URL, and a redirect to another place is never signed.

use std::pin::Pin;
use std::sync::Arc;

use parking_lot::RwLock;
use reqwest::Method;
use url::Url;

use crate::http::HttpErrorKind;

/// Returns the URL to send for a request.
pub(crate) type Signer = Arc<dyn Fn(&Method, &Url) -> Signing + Send + Sync>;

/// The work of a [`Signer`], which may have to wait for its keys.
pub(crate) type Signing = Pin<Box<dyn Future<Output = Result<Url, HttpErrorKind>> + Send>>;

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

    /// Returns true if requests for this URL are signed.
    pub(crate) fn signs(&self, url: &Url) -> bool {
        let below = self.below.read();
        below.iter().any(|(directory, _)| is_below(directory, url))
    }

    /// The URL to send; the URL itself if nothing signs it.
    ///
    /// # Errors
    /// If there are no keys to sign it.
    pub(crate) async fn sent(&self, method: &Method, url: &Url) -> Result<Url, HttpErrorKind> {
        let signer = {
            let below = self.below.read();
            let signer = below.iter().find(|(directory, _)| is_below(directory, url));
            signer.map(|(_, signer)| Arc::clone(signer))
        };
        match signer {
            Some(signer) => signer(method, url).await,
            None => Ok(url.clone()),
        }
    }
}

fn is_below(directory: &Url, url: &Url) -> bool {
    directory.origin() == url.origin() && url.path().starts_with(directory.path())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_urls_below_the_directory_are_signed() {
        let signers = Signers::default();
        let url = |text: &str| Url::parse(text).unwrap();
        signers.add(
            &url("http://h/b/"),
            Arc::new(|method, url| {
                let mut url = url.clone();
                url.set_query(Some(method.as_str()));
                Box::pin(std::future::ready(Ok(url)))
            }),
        );
        let sent = async |text: &str| signers.sent(&Method::HEAD, &url(text)).await.unwrap().to_string();
        assert_eq!(sent("http://h/b/").await, "http://h/b/?HEAD");
        assert_eq!(sent("http://h/b/c/d").await, "http://h/b/c/d?HEAD");
        for other in ["http://h/bc", "http://h:81/b/c", "https://h/b/c", "http://other/b/c"] {
            assert_eq!(sent(other).await, url(other).as_str());
        }
    }
}
