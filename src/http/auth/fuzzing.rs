//! Fuzzing entry points of [`super::super::fuzzing`] for what is private here.

use std::time::Instant;

use reqwest::Method;
use reqwest::header::{HeaderMap, HeaderValue};
use url::Url;

use super::{Login, challenge, digest::Digest, token};
use crate::http::Secret;

/// Every 401 leads to a valid header value, or to none.
pub(crate) fn challenges(headers: &HeaderMap) {
    let Some(mut digest) = Digest::best(&challenge::all(headers)) else {
        return;
    };
    let login = Login {
        user: "u".into(),
        password: Secret::new("s3cret"),
    };
    let url = Url::parse("http://h/a").expect("a URL");
    let answer = digest.answer(&login, &Method::GET, &url);
    assert!(HeaderValue::from_str(&answer).is_ok(), "{answer:?}");
    assert!(!answer.contains("s3cret"), "it is proven, and not told");
}

/// Every accepted token can be sent, and its lifetime fits a clock.
pub(crate) fn token(text: &str) {
    if let Ok((token, time)) = token::read(text) {
        assert!(HeaderValue::from_str(token.expose()).is_ok());
        assert!(time.is_none_or(|time| Instant::now().checked_add(time).is_some()));
    }
}
