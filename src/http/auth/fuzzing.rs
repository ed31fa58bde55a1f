//! For [`super::super::fuzzing`]: what this module keeps to itself.

use std::time::Instant;

use reqwest::Method;
use reqwest::header::{HeaderMap, HeaderValue};
use url::Url;

use super::{Login, Secret, challenge, digest::Digest, token};

/// What a server asks for in a 401 is answered with a header that can be sent, if at all.
pub fn challenges(headers: &HeaderMap) {
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

/// A token that is believed can be sent, and its time is one for a clock.
pub fn token(text: &str) {
    if let Ok((token, time)) = token::read(text) {
        assert!(HeaderValue::from_str(token.expose()).is_ok());
        assert!(time.is_none_or(|time| Instant::now().checked_add(time).is_some()));
    }
}
