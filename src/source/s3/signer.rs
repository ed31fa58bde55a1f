//! Signs requests by AWS Signature Version 4, in the query of the URL that is sent, or in headers if another machine
//! passes it on.
//!
//! In both forms, Host is the only signed header of those that a request has anyway. So a machine that passes the request
//! on can change its range.
//!
//! Each request is signed when it is sent, so the signature's time is right however long the mount lasts.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use reqwest::Method;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use ring::hmac;
use sha2::{Digest, Sha256};
use url::{Position, Url};

use super::address::Bucket;
use super::keyring::Keyring;
use super::settings::Credentials;
use crate::http::{HttpErrorKind, Secret};
use crate::origin::{SignedHeaders, Signer, Signing};
use crate::util::hex::hex;

/// Validity of a signature. It has to last only until the request arrives; clocks may differ by 15 minutes.
const VALIDITY: Duration = Duration::from_secs(300);

/// Signs requests for a bucket with a user's keys.
pub(super) struct KeySigner {
    bucket: Arc<Bucket>,
    keyring: Keyring,
}

impl KeySigner {
    /// A signer of requests for this bucket.
    pub(super) fn new(bucket: Arc<Bucket>, keyring: Keyring) -> KeySigner {
        KeySigner { bucket, keyring }
    }
}

impl Signer for KeySigner {
    fn signed<'a>(&'a self, method: &'a Method, url: &'a Url) -> Signing<'a, Result<Url, HttpErrorKind>> {
        Box::pin(async move {
            let url = self.bucket.sent(url);
            Ok(match self.keyring.current().await? {
                Some(keys) => sign(method, &url, &self.bucket.region(), &keys, Timestamp::now()),
                None => url,
            })
        })
    }

    fn signed_headers<'a>(&'a self, url: &'a Url) -> Signing<'a, Option<SignedHeaders>> {
        Box::pin(async move {
            if self.bucket.sent(url) != *url || url.query().is_some() {
                return None;
            }
            let keys = self.keyring.current().await.ok()??;
            Some(SignedHeaders {
                headers: headers(url, &self.bucket.region(), &keys, Timestamp::now())?,
                keys: Secret::new(format!("{}:{}", keys.access_key, keys.secret_key.expose())),
            })
        })
    }
}

/// The headers that sign a GET of a URL without a query. `None` if a key can't be in a header.
pub(super) fn headers(url: &Url, region: &str, keys: &Credentials, now: Timestamp) -> Option<HeaderMap> {
    /// Any body: it is TLS that protects a request.
    const PAYLOAD: &str = "UNSIGNED-PAYLOAD";
    let time = now.strftime("%Y%m%dT%H%M%SZ").to_string();
    let scope = format!("{}/{region}/s3/aws4_request", time.get(..8)?);
    // Sorted, as the signature demands.
    let mut given = vec![("x-amz-content-sha256", PAYLOAD), ("x-amz-date", time.as_str())];
    given.extend(
        keys.session_token
            .as_ref()
            .map(|token| ("x-amz-security-token", token.expose())),
    );
    let host = &url[Position::BeforeHost..Position::AfterPort];
    let mut lines = format!("host:{host}\n");
    let mut names = "host".to_owned();
    for (name, value) in &given {
        lines.push_str(&format!("{name}:{value}\n"));
        names.push_str(&format!(";{name}"));
    }
    let request = format!("GET\n{}\n\n{lines}\n{names}\n{PAYLOAD}", url.path());
    let text = format!("AWS4-HMAC-SHA256\n{time}\n{scope}\n{}", hex(&Sha256::digest(request)));
    let first = format!("AWS4{}", keys.secret_key.expose()).into_bytes();
    let signature = scope.split('/').chain([text.as_str()]).fold(first, |key, part| {
        let key = hmac::Key::new(hmac::HMAC_SHA256, &key);
        hmac::sign(&key, part.as_bytes()).as_ref().to_vec()
    });
    let authorization = format!(
        "AWS4-HMAC-SHA256 Credential={}/{scope}, SignedHeaders={names}, Signature={}",
        keys.access_key,
        hex(&signature)
    );
    given.push(("authorization", &authorization));
    let header = |(name, value): (&'static str, &str)| {
        let mut value = HeaderValue::from_str(value).ok()?;
        value.set_sensitive(true);
        Some((HeaderName::from_static(name), value))
    };
    given.into_iter().map(header).collect()
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
