//! Signatures: what is sent in place of a URL whose bucket needs signed requests.
//!
//! A source registers a signer for its own URLs. The client applies it at the last moment, so neither the cache nor a
//! message ever has a signed URL, and a redirect to another place is never signed. A request that a tier passes on is
//! signed in its headers, because a tier's cache and log have the URL.

use std::pin::Pin;
use std::sync::Arc;

use parking_lot::RwLock;
use reqwest::{Method, header::HeaderMap};
use url::Url;

use crate::http::{HttpErrorKind, Secret};

/// Signs requests. It may have to wait for its keys.
pub(crate) trait Signer: Send + Sync {
    /// The URL to send for a request.
    fn signed<'a>(&'a self, method: &'a Method, url: &'a Url) -> Signing<'a, Result<Url, HttpErrorKind>>;

    /// The headers that sign a GET of this very URL, sent by another machine. `None` if there are no keys, or the request
    /// would be for another URL.
    fn signed_headers<'a>(&'a self, url: &'a Url) -> Signing<'a, Option<SignedHeaders>>;
}

/// The work of a [`Signer`].
pub(crate) type Signing<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Headers that sign a request.
pub(crate) struct SignedHeaders {
    pub headers: HeaderMap,
    /// What they are signed with, the same for all requests.
    pub keys: Secret,
}

/// The signers of a client.
#[derive(Default)]
pub(crate) struct Signers {
    /// Each with the directory whose URLs it signs. Locked for the moment of a look-up.
    below: RwLock<Vec<(Url, Arc<dyn Signer>)>>,
}

impl Signers {
    /// Signs requests for all URLs of this directory's origin that are below it. Its path ends in `/`.
    pub(crate) fn add(&self, directory: &Url, signer: Arc<dyn Signer>) {
        let mut below = self.below.write();
        below.retain(|(known, _)| known != directory);
        below.push((directory.clone(), signer));
    }

    /// Returns true if requests for this URL are signed.
    pub(crate) fn signs(&self, url: &Url) -> bool {
        self.of(url).is_some()
    }

    fn of(&self, url: &Url) -> Option<Arc<dyn Signer>> {
        let below = self.below.read();
        let signer = below.iter().find(|(directory, _)| is_below(directory, url));
        signer.map(|(_, signer)| Arc::clone(signer))
    }

    /// The headers that sign a GET of this URL by another machine. `None` if nothing signs it so.
    pub(crate) async fn headers(&self, url: &Url) -> Option<SignedHeaders> {
        let signer = self.of(url)?;
        signer.signed_headers(url).await
    }

    /// The URL to send; the URL itself if nothing signs it.
    ///
    /// # Errors
    /// If there are no keys to sign it.
    pub(crate) async fn sent(&self, method: &Method, url: &Url) -> Result<Url, HttpErrorKind> {
        match self.of(url) {
            Some(signer) => signer.signed(method, url).await,
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

    /// Puts the method into the query.
    struct MethodInQuery;

    impl Signer for MethodInQuery {
        fn signed<'a>(&'a self, method: &'a Method, url: &'a Url) -> Signing<'a, Result<Url, HttpErrorKind>> {
            let mut url = url.clone();
            url.set_query(Some(method.as_str()));
            Box::pin(std::future::ready(Ok(url)))
        }

        fn signed_headers<'a>(&'a self, _: &'a Url) -> Signing<'a, Option<SignedHeaders>> {
            Box::pin(std::future::ready(None))
        }
    }

    #[tokio::test]
    async fn only_urls_below_the_directory_are_signed() {
        let signers = Signers::default();
        let url = |text: &str| Url::parse(text).unwrap();
        signers.add(&url("http://h/b/"), Arc::new(MethodInQuery));
        let sent = async |text: &str| signers.sent(&Method::HEAD, &url(text)).await.unwrap().to_string();
        assert_eq!(sent("http://h/b/").await, "http://h/b/?HEAD");
        assert_eq!(sent("http://h/b/c/d").await, "http://h/b/c/d?HEAD");
        for other in ["http://h/bc", "http://h:81/b/c", "https://h/b/c", "http://other/b/c"] {
            assert_eq!(sent(other).await, url(other).as_str());
        }
    }
}
