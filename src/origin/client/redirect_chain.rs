//! One request over a redirect chain.
//!
//! `reqwest` could follow redirects, but it sets headers on the first request only. The credentials must be chosen for
//! each hop's own origin, so each hop is a request of its own. Its target must be http or https, user and password in
//! the target are dropped, and Authorization is what that origin may see (RFC 9110 §15.4).

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use reqwest::{
    Method, StatusCode,
    header::{self, HeaderMap, HeaderValue},
};
use tokio::time::Instant;
use url::Url;

use super::{
    exchange::{Exchange, Response, exchange},
    identity,
    redirects::Route,
};
use crate::http::{
    HttpError, HttpErrorKind,
    auth::Shown,
    error::{classify, ended_unanswered, is_no_http, refuses_http1},
    redact::{redact, strip},
    response::{head::AnswerHead, link::described_by, location::target, malformed_head::odd_line},
};
use crate::origin::{
    Client,
    limits::{connection_limit::Lease, request_class::RequestClass},
};

/// How often one request is sent again after a 401: once for the requested scheme, once for an expired nonce.
const MOST_RENEWALS: usize = 2;

/// Maximum number of machines behind one URL that are asked. If all of them lack the resource, it is gone.
const MOST_MACHINES: usize = 4;

/// Maximum number of requests to a URL whose redirect targets lack the resource.
const MOST_AGAIN: usize = 4;

/// What is sent to each URL of a redirect chain.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    /// A safe method (RFC 9110 §9.2.1): the request may be sent again on another connection.
    pub method: Method,
    /// Headers beside those of the origin.
    pub headers: HeaderMap,
    /// The body; empty for none.
    pub body: Bytes,
}

impl Request {
    /// A GET with these headers.
    pub(crate) fn get(headers: HeaderMap) -> Request {
        Request::of(Method::GET, headers)
    }

    /// A request without a body.
    pub(crate) fn of(method: Method, headers: HeaderMap) -> Request {
        Request {
            method,
            headers,
            body: Bytes::new(),
        }
    }
}

/// The response at the end of the redirect chain.
pub(crate) struct Answer {
    /// The URL that responded.
    pub url: Url,
    /// The head of the response.
    pub head: AnswerHead,
    /// The response itself, its body unread.
    pub response: Response,
}

impl Client {
    /// [`Self::send_for`] for names.
    pub(crate) async fn send(&self, request: Request, asked: &Url) -> Result<Answer, HttpError> {
        self.send_for(RequestClass::Names, None, request, asked).await
    }

    /// Sends a request to each hop, and returns the first response that is not a redirect. `route`
    /// learns each target before the request goes there.
    ///
    /// A resource below a redirected directory is requested at the directory's target. If that fails in any way, the
    /// directory's own URL is requested again to learn its target. If that is the same place, or no better one, the
    /// resource is requested by its own URL.
    pub(crate) async fn send_for(
        &self,
        class: RequestClass,
        route: Option<&dyn Route>,
        mut request: Request,
        asked: &Url,
    ) -> Result<Answer, HttpError> {
        self.shared.file_headers.add(asked, &mut request.headers);
        let redirects = &self.shared.redirects;
        let Some(short) = redirects.short_cut(asked) else {
            return self.follow(class, route, request, asked).await;
        };
        let tried = short.url.as_ref().unwrap_or(asked);
        if let (Some(route), Some(short)) = (route, &short.url) {
            route.leads_to(short).await;
        }
        let mut first = self.follow(class, route, request.clone(), tried).await;
        if !has_failed(&first) || self.is_offline() {
            return first;
        }
        // Finished first, because its connection may be the only one.
        if let Ok(answer) = &mut first {
            self.finish(&mut answer.response).await;
        }
        if let Some((directory, root)) = short.learn {
            let led = self
                .follow(RequestClass::Names, None, Request::get(identity()), &root)
                .await;
            let led = led
                .ok()
                .filter(|answer| answer.head.status == 200)
                .map(|answer| answer.url);
            redirects.learnt(&directory, led.as_ref());
            let next = redirects.short_cut(asked).and_then(|short| short.url);
            if let Some(next) = next.filter(|next| next != tried) {
                log::debug!("{} redirects elsewhere now", redact(&root));
                if let Some(route) = route {
                    route.leads_to(&next).await;
                }
                let next = self.follow(class, route, request.clone(), &next).await;
                if !has_failed(&next) {
                    return next;
                }
            }
        }
        if tried == asked {
            return first;
        }
        let own = self.follow(class, route, request, asked).await;
        let is_gone = |answer: &Result<Answer, HttpError>| matches!(answer, Ok(answer) if matches!(answer.head.status, 404 | 410));
        // Only the place where the names were found can say that a resource is gone.
        if is_gone(&own) && !is_gone(&first) { first } else { own }
    }

    /// Sends a request to a URL and its redirect target. If one of several machines behind the URL lacks the resource,
    /// it is not gone: the URL is requested again, until it leads to a machine that was asked already.
    async fn follow(
        &self,
        class: RequestClass,
        route: Option<&dyn Route>,
        request: Request,
        asked: &Url,
    ) -> Result<Answer, HttpError> {
        let mut lacking: Vec<Url> = Vec::new();
        let mut lacks = None;
        let mut again = 0;
        // A machine that had it is asked first.
        let known = self.shared.redirects.of(asked);
        loop {
            let mut last = asked.clone();
            let from = known
                .as_ref()
                .filter(|known| !lacking.is_empty() && !lacking.contains(known));
            // Boxed, because it is larger than all that awaits it: the stack of a thread holds a dozen of such frames.
            let answer = Box::pin(self.hops(class, route, &request, from.unwrap_or(asked), &mut last)).await;
            let is_other = last != *asked && !lacking.contains(&last);
            match answer {
                Ok(mut answer) if matches!(answer.head.status, 404 | 410) && (is_other || !lacking.is_empty()) => {
                    self.finish(&mut answer.response).await;
                    lacks.get_or_insert(Ok(answer));
                }
                Err(error)
                    if (error.kind.is_connect_failure() || error.kind == HttpErrorKind::Unanswered)
                        && (is_other || !lacking.is_empty()) =>
                {
                    lacks.get_or_insert(Err(error));
                }
                answer => return answer,
            }
            again += 1;
            if !lacking.contains(&last) {
                lacking.push(last);
            } else if again >= MOST_AGAIN {
                break;
            }
            if lacking.len() >= MOST_MACHINES {
                break;
            }
        }
        lacks.unwrap_or_else(|| Err(bad(asked, "its redirects form a loop".to_owned())))
    }

    /// Sends a request over its redirect chain. `last` is the last URL requested.
    async fn hops(
        &self,
        class: RequestClass,
        route: Option<&dyn Route>,
        request: &Request,
        asked: &Url,
        last: &mut Url,
    ) -> Result<Answer, HttpError> {
        let mut url = asked.clone();
        strip(&mut url);
        if self.is_offline() {
            let (kind, url) = (HttpErrorKind::Offline, redact(&url));
            return Err(HttpError { kind, url });
        }
        let most = self.shared.config.max_redirects;
        let mut metalink = None;
        for _ in 0..=most {
            last.clone_from(&url);
            let mut answer = self.hop(class, request, url.clone()).await?;
            // A redirector to mirrors names it, and the mirrors know nothing of it.
            metalink = metalink.or_else(|| described_by(answer.response.headers(), &url));
            match redirect(&answer) {
                None => {
                    answer.head.described_by = metalink;
                    return Ok(answer);
                }
                Some(Ok(target)) => {
                    log::debug!("{} redirects to {}", redact(&url), redact(&target));
                    self.finish(&mut answer.response).await;
                    if let Some(route) = route {
                        route.leads_to(&target).await;
                    }
                    url = target;
                }
                Some(Err(why)) => return Err(bad(&url, why)),
            }
        }
        Err(bad(&url, format!("more than {most} redirects; raise --max-redirects")))
    }

    /// Sends a request to one URL, with the credentials of its origin.
    async fn hop(&self, class: RequestClass, request: &Request, url: Url) -> Result<Answer, HttpError> {
        let fail = |kind| HttpError {
            kind,
            url: redact(&url),
        };
        let _under_way = self.shared.healths.of_url(&url).asks();
        let mut renewals = 0;
        loop {
            let (mut response, shown) = self.ask(class, request, &url).await.map_err(fail)?;
            if response.status() == StatusCode::UNAUTHORIZED && renewals < MOST_RENEWALS {
                let access = &self.shared.access;
                if access.renew(&url, &shown, response.headers()).await.map_err(fail)? {
                    self.finish(&mut response).await;
                    renewals += 1;
                    continue;
                }
            }
            let head = AnswerHead::of(response.status().as_u16(), response.headers(), SystemTime::now());
            return Ok(Answer { url, head, response });
        }
    }

    /// Sends one request and returns the head of its response, whatever its status.
    ///
    /// Waits for a connection to the origin first. A stale connection is no failure of the server, so the request is
    /// sent again at once on a new one. The signs are: an end, bytes that are not HTTP, or a stall on a reused
    /// connection.
    async fn ask(&self, class: RequestClass, asked: &Request, url: &Url) -> Result<(Response, Shown), HttpErrorKind> {
        let method = &asked.method;
        let shared = &self.shared;
        let timeout = class.patience(shared.config.timeout);
        let limit = shared.limits.of_url(url);
        let (mut left, mut given_up, mut is_second) = (timeout, 0, false);
        let mut kept: Option<Lease> = None;
        loop {
            let mut lease = match kept.take() {
                Some(lease) => lease,
                None => limit.lease(class, given_up).await,
            };
            let speech = shared.connections.speech(url, shared.access.is_home(url));
            let wire = lease.wire(speech, || shared.connections.wire(speech));
            let wire = wire.map_err(|error| HttpErrorKind::Unreachable(error.to_string()))?;
            let mut request = wire.client.request(method.clone(), url.clone());
            let dial = wire.begin();
            if let Some(cookies) = shared.config.cookies.header(url, SystemTime::now()) {
                request = request.header(header::COOKIE, secret(&cookies)?);
            }
            let (request, shown) = shared.access.authorize(method, url, request).await?;
            let begun = Instant::now();
            let has_body = *method != Method::HEAD;
            let (request, body) = (request.headers(asked.headers.clone()), asked.body.clone());
            let (exchange, mut lease) = exchange(lease, request, body, &dial, has_body, left).await;
            match exchange {
                Exchange::Answered(response) => {
                    let may_keep = has_body || !limit.has_body_after_head();
                    return Ok((Response::new(response, lease, begun, has_body, may_keep), shown));
                }
                Exchange::Silent => {
                    if dial.is_on_kept() {
                        lease.suspect_idle(begun);
                    }
                    return Err(HttpErrorKind::TimedOut(timeout));
                }
                Exchange::Stale => {
                    log::debug!(
                        "{}: no response on a reused connection; retrying on a new one",
                        redact(url)
                    );
                    lease.suspect_idle(begun);
                    lease.renew();
                    kept = Some(lease);
                }
                Exchange::GaveWay => {
                    given_up += 1;
                    left = left.saturating_sub(begun.elapsed());
                }
                // Safe methods may be repeated (RFC 9112 §9.3.1, RFC 9110 §9.2.2).
                Exchange::Failed { error, .. } if !is_second && ended_unanswered(&error) => {
                    is_second = true;
                    lease.renew();
                    kept = Some(lease);
                }
                Exchange::Failed { error, was_kept: true } if is_no_http(&error) => {
                    limit.has_answered_too_much();
                    lease.renew();
                    kept = Some(lease);
                }
                Exchange::Failed { error, .. } if refuses_http1(&error) && shared.connections.has_only_http2(url) => {
                    kept = Some(lease);
                }
                Exchange::Failed { error, .. } if ended_unanswered(&error) => return Err(HttpErrorKind::Unanswered),
                Exchange::Failed { error, .. } if is_no_http(&error) && shared.config.reaches_directly(url) => {
                    // Next to no other connection.
                    lease.renew();
                    let kind = classify(&error, timeout);
                    return Err(match (kind, odd_line(url).await) {
                        (HttpErrorKind::BadAnswer(why), Some(line)) => {
                            HttpErrorKind::BadAnswer(format!("{why}: \"{line}\""))
                        }
                        (kind, _) => kind,
                    });
                }
                Exchange::Failed { error, .. } => {
                    let limit = match error.is_connect() {
                        true => shared.config.connect_timeout,
                        false => timeout,
                    };
                    // The kernel's own timeout may end a connection earlier than ours.
                    let waited = Duration::from_secs(begun.elapsed().as_secs().max(1));
                    return Err(classify(&error, limit.min(waited)));
                }
            }
        }
    }

    /// Reads the rest of an unneeded response if that is cheaper than a new connection, and returns its connection.
    pub(crate) async fn finish(&self, response: &mut Response) {
        response.finish().await;
    }
}

/// Returns true if a redirect target has failed: access is denied, the resource is gone, or the server is broken or
/// unreachable.
fn has_failed(answer: &Result<Answer, HttpError>) -> bool {
    match answer {
        Ok(answer) => matches!(answer.head.status, 401 | 403 | 404 | 410 | 500..=599),
        Err(error) => !matches!(
            error.kind,
            HttpErrorKind::TimedOut(_) | HttpErrorKind::NoDescriptors | HttpErrorKind::Offline
        ),
    }
}

/// The target of a redirect: `None` if the response is not a redirect, an error if the target is invalid.
fn redirect(answer: &Answer) -> Option<Result<Url, String>> {
    if !matches!(answer.head.status, 301 | 302 | 303 | 307 | 308) {
        return None;
    }
    let Some(location) = answer.response.headers().get(header::LOCATION) else {
        return Some(Err("a redirect without a Location".to_owned()));
    };
    Some(target(&answer.url, location.as_bytes()))
}

/// A header value that `Debug` does not show.
fn secret(text: &str) -> Result<HeaderValue, HttpErrorKind> {
    let mut value = HeaderValue::from_str(text).map_err(|_| {
        HttpErrorKind::NoCredentials("a cookie has characters that are not allowed in a header".to_owned())
    })?;
    value.set_sensitive(true);
    Ok(value)
}

fn bad(url: &Url, why: String) -> HttpError {
    HttpError {
        kind: HttpErrorKind::BadAnswer(why),
        url: redact(url),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::HttpConfig;
    use crate::http::testing::{Server, says};

    fn client() -> Client {
        Client::new(HttpConfig::default()).unwrap()
    }

    fn moved(to: &str) -> String {
        format!("HTTP/1.1 302 Found\r\nLocation: {to}\r\nContent-Length: 0\r\n\r\n")
    }

    fn with_login(url: &Url) -> Url {
        Url::parse(&url.as_str().replace("http://", "http://us%20er:pa%3Ass@")).unwrap()
    }

    const DATA: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
    const ASKS: &str = "HTTP/1.1 401 No\r\nWWW-Authenticate: Basic realm=r\r\nContent-Length: 0\r\n\r\n";
    /// "us er:pa:ss"
    const LOGIN: &str = "authorization: Basic dXMgZXI6cGE6c3M=";

    #[tokio::test]
    async fn cross_origin_redirect_drops_credentials() {
        let away = Server::start(|_| says(DATA)).await;
        let target = away.at("data").to_string();
        let home = Server::start(move |request| match request {
            _ if !request.contains(LOGIN) => says(ASKS),
            _ if request.starts_with("GET /deep ") => says(moved(&target)),
            _ => says(moved("/deep")),
        })
        .await;
        let client = client();
        let url = client.adopt(with_login(&home.at("f")));
        assert_eq!(url, home.at("f"), "no URL has them any more");
        let page = client.page(&url).await.unwrap();
        assert_eq!((page.url, page.body.as_slice()), (away.at("data"), b"ok".as_slice()));
        assert_eq!(
            home.requests().len(),
            3,
            "one of them before it was asked for the login"
        );
        assert!(!away.requests()[0].to_lowercase().contains("authorization"));
    }

    #[tokio::test]
    async fn credentials_in_a_location_are_ignored() {
        let away = Server::start(|_| says(DATA)).await;
        let target = with_login(&away.at("data"));
        let link = target.clone();
        let home = Server::start(move |_| says(moved(target.as_str()))).await;
        let client = client();
        assert_eq!(client.page(&home.at("f")).await.unwrap().url, away.at("data"));
        client.page(&link).await.unwrap();
        client.page(&away.at("data")).await.unwrap();
        assert!(
            away.requests()
                .iter()
                .all(|request| !request.to_lowercase().contains("authorization"))
        );
    }

    #[tokio::test]
    async fn a_redirect_keeps_the_range() {
        let away =
            Server::start(|_| says("HTTP/1.1 206 P\r\nContent-Range: bytes 2-3/9\r\nContent-Length: 2\r\n\r\ncd"))
                .await;
        let target = away.at("data?signature=1").to_string();
        let home = Server::start(move |_| says(moved(&target))).await;
        client().range(&home.at("f"), 2..4, None).await.unwrap();
        assert!(away.requests()[0].starts_with("GET /data?signature=1 "));
        assert!(away.requests()[0].contains("\r\nrange: bytes=2-3\r\n"));
    }

    #[tokio::test]
    async fn redirects_without_end_end() {
        let server = Server::start(|_| says(moved("/again?token=secret"))).await;
        let error = client().metadata(&server.url).await.unwrap_err();
        assert!(
            matches!(&error.kind, HttpErrorKind::BadAnswer(why) if why.contains("10 redirects")),
            "{error}"
        );
        assert!(!error.to_string().contains("secret"));
        assert_eq!(server.requests().len(), HttpConfig::default().max_redirects + 1);
    }
}
