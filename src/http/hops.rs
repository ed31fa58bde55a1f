//! One request, over as many redirects as it takes.
//!
//! `reqwest` would follow redirects by itself, but it puts headers on the first request only, so that credentials could
//! not be chosen for each hop's own origin. Here each hop is a request of its own: the target must be http or https,
//! user and password in it are dropped, and Authorization is what that origin is to see (RFC 9110 §15.4).

use std::time::SystemTime;

use reqwest::{
    Method, Response,
    header::{self, HeaderMap},
};
use url::Url;

use super::{Client, HttpError, HttpErrorKind, credentials::strip, error::classify, head::AnswerHead, redact};

/// How many redirects one request follows. Signed downloads take two or three, browsers give up after 20.
const MOST_REDIRECTS: usize = 10;

/// The answer at the end of the redirects.
pub(super) struct Answer {
    /// Who gave it.
    pub url: Url,
    /// What it said.
    pub head: AnswerHead,
    /// The answer itself, its body unread.
    pub response: Response,
}

impl Client {
    /// Sends a request, with these headers at each hop, and returns the first answer that is no redirect.
    pub(super) async fn send(&self, method: Method, url: &Url, headers: HeaderMap) -> Result<Answer, HttpError> {
        let mut url = url.clone();
        strip(&mut url);
        for _ in 0..=MOST_REDIRECTS {
            let answer = self.hop(method.clone(), url.clone(), headers.clone()).await?;
            match redirect(&answer) {
                None => return Ok(answer),
                Some(Ok(target)) => {
                    log::debug!("{} leads to {}", redact(&url), redact(&target));
                    url = target;
                }
                Some(Err(why)) => return Err(bad(&url, why)),
            }
        }
        Err(bad(&url, format!("more than {MOST_REDIRECTS} redirects")))
    }

    async fn hop(&self, method: Method, url: Url, headers: HeaderMap) -> Result<Answer, HttpError> {
        let fail = |kind| HttpError {
            kind,
            url: redact(&url),
        };
        let request = self.shared.http.request(method, url.clone()).headers(headers);
        let request = self.shared.credentials.authorize(&url, request);
        let timeout = self.shared.config.timeout;
        let response = match tokio::time::timeout(timeout, request.send()).await {
            Err(_) => return Err(fail(HttpErrorKind::TimedOut(timeout))),
            Ok(Err(error)) => return Err(fail(classify(&error, timeout))),
            Ok(Ok(response)) => response,
        };
        let head = AnswerHead::of(response.status().as_u16(), response.headers(), SystemTime::now());
        Ok(Answer { url, head, response })
    }
}

/// Where an answer leads: `None` if it is no redirect, an error if it leads nowhere.
fn redirect(answer: &Answer) -> Option<Result<Url, String>> {
    if !matches!(answer.head.status, 301 | 302 | 303 | 307 | 308) {
        return None;
    }
    let Some(location) = answer.response.headers().get(header::LOCATION) else {
        return Some(Err("a redirect without a Location".to_owned()));
    };
    Some(target(&answer.url, location.as_bytes()))
}

/// The URL that a Location names, seen from `base`.
fn target(base: &Url, location: &[u8]) -> Result<Url, String> {
    let joined = std::str::from_utf8(location)
        .ok()
        .and_then(|location| base.join(location).ok());
    let Some(mut url) = joined else {
        return Err("a redirect to something that is no URL".to_owned());
    };
    if !matches!(url.scheme(), "http" | "https") {
        return Err(format!(
            "a redirect to {}:, which is neither http nor https",
            url.scheme()
        ));
    }
    strip(&mut url);
    Ok(url)
}

fn bad(url: &Url, why: String) -> HttpError {
    HttpError {
        kind: HttpErrorKind::BadAnswer(why),
        url: redact(url),
    }
}
