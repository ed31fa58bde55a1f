//! Signs requests by AWS Signature Version 4, in the query of the URL that is sent.
//!
//! Each request is signed when it is sent, so the signature's time is right however long the mount lasts. Keys in files
//! are read again from time to time: other programs replace temporary ones.

use std::time::{Duration, Instant};

use jiff::Timestamp;
use parking_lot::Mutex;
use reqwest::Method;
use url::Url;

use super::S3Config;
use super::settings::{self, Credentials};

/// Validity of a signature. It has to last only until the request arrives; clocks may differ by 15 minutes.
const VALIDITY: Duration = Duration::from_secs(300);

/// Time after which the keys are read again.
const REREAD: Duration = Duration::from_secs(30);

/// Signs with a user's keys.
pub(super) struct Signer {
    config: S3Config,
    region: String,
    /// The keys, and when they were read.
    keys: Mutex<(Instant, Credentials)>,
}

impl Signer {
    /// A signer with these keys, which `config` has given.
    pub(super) fn new(config: S3Config, region: String, keys: Credentials) -> Signer {
        let keys = Mutex::new((Instant::now(), keys));
        Signer { config, region, keys }
    }

    /// The URL to send for a request for `url`.
    pub(super) fn signed(&self, method: &Method, url: &Url) -> Url {
        let keys = {
            let mut known = self.keys.lock();
            if known.0.elapsed() >= REREAD {
                known.0 = Instant::now();
                // A file that is being replaced is read the next time.
                if let Ok(Some(keys)) = settings::of_process(&self.config).credentials {
                    known.1 = keys;
                }
            }
            known.1.clone()
        };
        sign(method, url, &self.region, &keys, Timestamp::now())
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
