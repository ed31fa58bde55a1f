//! Sends a request to one URL: with the credentials and cookies of its origin, over a leased connection.
//!
//! [`redirect_chain`](super::redirect_chain) sends it to each URL of a redirect chain. [`exchange`](super::exchange) waits
//! for the response on one connection.

use std::{
    ops::Range,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use parking_lot::RwLock;
use reqwest::{
    Method, StatusCode,
    header::{self, HeaderMap, HeaderValue},
};
use tokio::time::Instant;
use url::Url;

use super::{
    body::Body,
    exchange::{Exchange, Response, exchange},
    file_headers::FileHeaders,
    redirects::Redirects,
    signers::Signers,
    sites::{Site, Sites},
};
use crate::{
    http::{
        AccessConfig, HttpConfig, HttpError, HttpErrorKind, Origin, SetupError, SiteConfig,
        auth::SentCredentials,
        error::{classify, ended_unanswered, is_no_http, refuses_http1},
        is_local, redact,
        response::{head::AnswerHead, malformed_head::odd_line},
    },
    origin::{
        failures::health::Health,
        limits::{
            connection_limit::{ConnectionLimit, Lease},
            request_class::RequestClass,
        },
        local::LocalDirectories,
        per_origin::PerOrigin,
        throttle::Throttle,
    },
    stats::{Phase, RequestCounters},
};

/// How often one request is sent again after a 401: once for the requested scheme, once for an expired nonce.
const MOST_RENEWALS: usize = 2;

/// What is sent to each URL of a redirect chain.
#[derive(Debug, Clone)]
pub(crate) struct HttpRequest {
    /// A safe method (RFC 9110 §9.2.1): the request may be sent again on another connection.
    pub method: Method,
    /// Headers beside those of the origin.
    pub headers: HeaderMap,
    /// The body; empty for none.
    pub body: Bytes,
    /// The request carries these headers alone, and nothing that is known of its URL's origin: for a node of a tier,
    /// which may be on the host of a source or of a netrc entry.
    pub is_bare: bool,
}

impl HttpRequest {
    /// A GET of a whole resource. It requests no content coding: offsets count bytes of the file, not of a compressed
    /// form (RFC 9110 §12.5.3).
    pub(crate) fn whole() -> HttpRequest {
        let identity = (header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        HttpRequest {
            method: Method::GET,
            headers: HeaderMap::from_iter([identity]),
            body: Bytes::new(),
            is_bare: false,
        }
    }

    /// A GET of the bytes `want` (RFC 9110 §14.2). Why there is no precondition: [`crate::http::response::version`].
    pub(crate) fn range(want: &Range<u64>) -> HttpRequest {
        let mut request = HttpRequest::whole();
        // Digits are always a valid header value.
        if let Ok(value) = HeaderValue::from_str(&format!("bytes={}-{}", want.start, want.end - 1)) {
            request.headers.insert(header::RANGE, value);
        }
        request
    }

    /// A HEAD.
    pub(crate) fn head() -> HttpRequest {
        HttpRequest {
            method: Method::HEAD,
            ..HttpRequest::whole()
        }
    }
}

/// The response of one URL.
pub(crate) struct HttpResponse {
    /// The URL that responded.
    pub url: Url,
    /// The head of the response.
    pub head: AnswerHead,
    /// The response itself, its body unread.
    pub response: Response,
    /// The rate of the source that was asked for, if it has one of its own.
    pub throttle: Option<Arc<Throttle>>,
}

impl HttpResponse {
    /// The error for its status. Reads the body to its end first if that keeps the connection.
    pub(crate) async fn refused(self) -> HttpError {
        let kind = self.head.failure();
        self.failed(kind).await
    }

    /// Gives the response up for this reason.
    pub(crate) async fn failed(mut self, kind: HttpErrorKind) -> HttpError {
        self.response.finish().await;
        HttpError {
            kind,
            url: redact(&self.url),
        }
    }
}

/// Sends single requests, and holds what they need to know of origins.
pub(crate) struct Transport {
    pub(crate) config: HttpConfig,
    /// True if the network must not be used.
    offline: AtomicBool,
    /// Replaced as a whole. Locked for the moment of a look-up.
    sites: Arc<RwLock<Arc<Sites>>>,
    pub(crate) limits: PerOrigin<ConnectionLimit>,
    pub(crate) redirects: Redirects,
    pub(crate) healths: PerOrigin<Health>,
    pub(crate) file_headers: FileHeaders,
    pub(crate) signers: Signers,
    pub(crate) local: LocalDirectories,
    /// The requests to each origin.
    pub(crate) requests: PerOrigin<RequestCounters>,
}

impl Transport {
    /// A transport with its own connection pools.
    ///
    /// # Errors
    /// If a file that the configuration names can't be used, or the system's root certificates can't be read.
    pub(crate) fn new(config: HttpConfig) -> Result<Transport, SetupError> {
        let sites = Arc::new(RwLock::new(Arc::new(Sites::new(config.clone())?)));
        let of_limits = Arc::clone(&sites);
        let limit = move |origin: Origin| {
            let most = of_limits.read().most_connections(&origin);
            ConnectionLimit::new(origin, most)
        };
        Ok(Transport {
            sites,
            limits: PerOrigin::new(limit),
            offline: AtomicBool::new(config.offline),
            config,
            redirects: Redirects::default(),
            healths: PerOrigin::new(Health::new),
            file_headers: FileHeaders::default(),
            signers: Signers::default(),
            local: LocalDirectories::default(),
            requests: PerOrigin::default(),
        })
    }

    /// The settings of the sources.
    pub(crate) fn sites(&self) -> Arc<Sites> {
        Arc::clone(&self.sites.read())
    }

    /// The settings for a request for this URL.
    pub(crate) fn site(&self, url: &Url) -> Arc<Site> {
        self.sites.read().of(url)
    }

    /// Sends requests with the settings of these sources from now on.
    ///
    /// # Errors
    /// If a file that a configuration names can't be used. Then nothing has changed.
    pub(crate) fn replace_sites(&self, sources: Vec<SiteConfig>) -> Result<(), SetupError> {
        let sites = self.sites().with(sources)?;
        self.use_sites(sites);
        Ok(())
    }

    /// Changes the number of connections and the credentials of the mount, for requests from now on.
    pub(crate) fn change_own(&self, max_connections: usize, access: AccessConfig) {
        let sites = self.sites().with_own(max_connections, access);
        self.use_sites(sites);
    }

    fn use_sites(&self, sites: Sites) {
        let sites = Arc::new(sites);
        *self.sites.write() = Arc::clone(&sites);
        for limit in self.limits.all() {
            limit.set_most(sites.most_connections(limit.origin()));
        }
    }

    /// Returns true if the network must not be used.
    pub(crate) fn is_offline(&self) -> bool {
        self.offline.load(Ordering::Relaxed)
    }

    /// Forbids the use of the network, or allows it. Requests under way go on.
    pub(crate) fn set_offline(&self, is_offline: bool) {
        self.offline.store(is_offline, Ordering::Relaxed);
    }

    /// The body of a response, of which so many bytes are due.
    pub(crate) fn body(&self, answer: HttpResponse, due: Option<u64>) -> Body {
        Body::new(
            answer.response,
            due,
            answer.head.content_length,
            self.config.timeout,
            redact(&answer.url),
        )
        .throttled_by(answer.throttle)
    }

    /// The body of a response, of which so many bytes are due, and which may be silent for this time at most.
    pub(crate) fn body_within(&self, answer: HttpResponse, due: u64, silence: Duration) -> Body {
        let (announced, url) = (answer.head.content_length, redact(&answer.url));
        Body::new(answer.response, Some(due), announced, silence, url).throttled_by(answer.throttle)
    }

    /// Sends a request to one URL, and follows no redirect.
    pub(crate) async fn send_once(
        &self,
        class: RequestClass,
        request: &HttpRequest,
        url: &Url,
    ) -> Result<HttpResponse, HttpError> {
        if self.is_offline() {
            let (kind, url) = (HttpErrorKind::Offline, redact(url));
            return Err(HttpError { kind, url });
        }
        self.hop(&self.site(url), class, request, url.clone()).await
    }

    /// Sends a request to one URL, with the settings `site` or those of the source that is there.
    pub(super) async fn hop(
        &self,
        site: &Arc<Site>,
        class: RequestClass,
        request: &HttpRequest,
        url: Url,
    ) -> Result<HttpResponse, HttpError> {
        let fail = |kind| HttpError {
            kind,
            url: redact(&url),
        };
        let throttle = site.throttle.clone();
        let site = &self.sites().of_hop(site, &url);
        let _under_way = self.healths.of_url(&url).asks();
        if is_local(&url) {
            let timeout = class.patience(self.config.timeout);
            let answer = self.local.answer(&request.method, &request.headers, &url, timeout);
            let (head, response) = answer.await.map_err(fail)?;
            let response = Response::of_this_machine(response);
            return Ok(HttpResponse {
                url,
                head,
                response,
                throttle,
            });
        }
        let (requests, mut renewals) = (self.requests.of_url(&url), 0);
        loop {
            let asked = self.ask(site, class, request, &url).await;
            let (mut response, shown) = asked.inspect_err(|_| requests.note_unanswered()).map_err(fail)?;
            requests.note_answer(response.status().as_u16());
            response.count_by(&requests);
            if response.status() == StatusCode::UNAUTHORIZED
                && renewals < MOST_RENEWALS
                && site
                    .access
                    .renew(&url, &shown, response.headers())
                    .await
                    .map_err(fail)?
            {
                response.finish().await;
                renewals += 1;
                continue;
            }
            let head = AnswerHead::of(response.status().as_u16(), response.headers(), SystemTime::now());
            return Ok(HttpResponse {
                url,
                head,
                response,
                throttle,
            });
        }
    }

    /// Sends one request and returns the head of its response, whatever its status.
    ///
    /// Waits for a connection to the origin first. A stale connection is no failure of the server, so the request is
    /// sent again at once on a new one. The signs are: an end, bytes that are not HTTP, or a stall on a reused
    /// connection.
    async fn ask(
        &self,
        site: &Site,
        class: RequestClass,
        asked: &HttpRequest,
        url: &Url,
    ) -> Result<(Response, SentCredentials), HttpErrorKind> {
        let method = &asked.method;
        let timeout = class.patience(self.config.timeout);
        let limit = self.limits.of_url(url);
        let (mut left, mut given_up, mut is_second) = (timeout, 0, false);
        let mut kept: Option<Lease> = None;
        loop {
            Phase::Queued.enter();
            let mut lease = match kept.take() {
                Some(lease) => lease,
                None => limit.lease(class, given_up).await,
            };
            let speech = site.connections.speech(url, site.access.is_home(url));
            let wire = lease.wire(speech, || site.connections.wire(speech));
            let wire = wire.map_err(|error| HttpErrorKind::Unreachable(error.to_string()))?;
            let sent = self.signers.sent(method, url).await?;
            let request = wire.client.request(method.clone(), sent);
            let dial = wire.begin();
            let (mut request, shown) = match asked.is_bare {
                true => (request, SentCredentials::Nothing),
                false => site.access.authorize(method, url, request).await?,
            };
            let cookies = (!asked.is_bare).then(|| site.cookies.header(url, SystemTime::now()));
            if let Some(cookies) = cookies.flatten() {
                // One header for all of them (RFC 6265 §5.4).
                let cookies = match site.access.header_at(url, &header::COOKIE) {
                    Some(given) => [given.as_bytes(), b"; ", cookies.as_bytes()].concat(),
                    None => cookies.into_bytes(),
                };
                request = request.headers(HeaderMap::from_iter([(header::COOKIE, secret(&cookies)?)]));
            }
            let begun = Instant::now();
            let has_body = *method != Method::HEAD;
            let (request, body) = (request.headers(asked.headers.clone()), asked.body.clone());
            let (exchange, mut lease) = exchange(lease, request, body, &dial, has_body, left).await;
            match exchange {
                Exchange::Answered(response) => {
                    // Also of a redirect and of a refusal: a login host sends the reader back with a cookie.
                    if !asked.is_bare {
                        site.cookies.receive(url, response.headers(), SystemTime::now());
                    }
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
                Exchange::Failed { error, .. } if refuses_http1(&error) && site.connections.has_only_http2(url) => {
                    kept = Some(lease);
                }
                Exchange::Failed { error, .. } if ended_unanswered(&error) => return Err(HttpErrorKind::Unanswered),
                Exchange::Failed { error, .. } if is_no_http(&error) && site.config.reaches_directly(url) => {
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
                        true => site.config.connect_timeout,
                        false => timeout,
                    };
                    // The kernel's own timeout may end a connection earlier than ours.
                    let waited = Duration::from_secs(begun.elapsed().as_secs().max(1));
                    return Err(classify(&error, limit.min(waited)));
                }
            }
        }
    }
}

/// A header value that `Debug` does not show.
fn secret(text: &[u8]) -> Result<HeaderValue, HttpErrorKind> {
    let mut value = HeaderValue::from_bytes(text).map_err(|_| {
        HttpErrorKind::NoCredentials("a cookie has characters that are not allowed in a header".to_owned())
    })?;
    value.set_sensitive(true);
    Ok(value)
}
