//! Signs requests by AWS Signature Version 4, in the query of the URL that is sent.
//!
//! Each request is signed when it is sent, so the signature's time is right however long the mount lasts.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use reqwest::Method;
use url::Url;

use super::address::Bucket;
use super::keyring::Keyring;
use super::settings::Credentials;
use crate::http::HttpErrorKind;

/// Validity of a signature. It has to last only until the request arrives; clocks may differ by 15 minutes.
const VALIDITY: Duration = Duration::from_secs(300);

/// Signs requests for a bucket with a user's keys.
pub(super) struct Signer {
    bucket: Arc<Bucket>,
    keyring: Keyring,
}

impl Signer {
    /// A signer of requests for this bucket.
    pub(super) fn new(bucket: Arc<Bucket>, keyring: Keyring) -> Signer {
        Signer { bucket, keyring }
    }

    /// The URL to send for a request for `url`.
    ///
    /// # Errors
    /// If there are no keys.
    pub(super) async fn signed(&self, method: Method, url: Url) -> Result<Url, HttpErrorKind> {
        let url = self.bucket.sent(&url);
        Ok(match self.keyring.current().await? {
            Some(keys) => sign(&method, &url, &self.bucket.region(), &keys, Timestamp::now()),
            None => url,
        })
    }
}

/// Signs one request. Methods but GET and HEAD are not used with S3, and stay unsigned.
pub(super) fn sign(method: &Method, url: &Url, region: &str, keys: &Credentials, now: Timestamp) -> Url {
    let method = match *method {
        Method::GET => rusty_s3::Method::Get,
        Method::HEAD => rusty_s3::Method::Head,
        _ => return url.clone(),
    };
    let mut query: Vec<_> = url.query_pairs().collect();
    query.sort();
    rusty_s3::signing::sign(
        &now,
        method,
        url.clone(),
        &keys.access_key,
        keys.secret_key.expose(),
        keys.session_token.as_ref().map(|token| token.expose()),
        region,
        VALIDITY.as_secs(),
        query.iter().map(|(name, value)| (name.as_ref(), value.as_ref())),
        std::iter::empty(),
    )
}
