//! What is answered at each path.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderValue};
use http::request::Parts;
use http::{Method, Response, StatusCode};
use http_body_util::Full;
use serde::Serialize;
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout_at};

use super::access::Verdict;
use super::metrics;
use crate::control::{Control, Health};

/// Time for a health check, as `fetchfs status --check` has.
const HEALTH_PATIENCE: Duration = Duration::from_millis(800);

/// Shortest time from one measurement to the next. A measurement takes locks of the cache for moments.
const BETWEEN_MEASUREMENTS: Duration = Duration::from_millis(20);

/// Sent with every answer: nothing is taken from elsewhere, shown elsewhere, or kept.
const HEADERS: [(header::HeaderName, &str); 7] = [
    (header::CACHE_CONTROL, "no-store"),
    (
        header::CONTENT_SECURITY_POLICY,
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none'; \
         form-action 'none'; frame-ancestors 'none'",
    ),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::X_FRAME_OPTIONS, "DENY"),
    (header::REFERRER_POLICY, "no-referrer"),
    (
        header::HeaderName::from_static("cross-origin-resource-policy"),
        "same-origin",
    ),
    (
        header::HeaderName::from_static("cross-origin-opener-policy"),
        "same-origin",
    ),
];

const TEXT: &str = "text/plain; charset=utf-8";
const JSON: &str = "application/json";

type Answer = Response<Full<Bytes>>;

/// Answers requests.
pub(super) struct Answers {
    control: Arc<Control>,
    is_mounted: Arc<dyn Fn() -> bool + Send + Sync>,
    /// Held during a measurement, so that one runs at a time.
    measuring: Mutex<()>,
    /// Held during a health check, also one that hangs: a hanging one takes a thread.
    checking: Arc<Mutex<()>>,
}

impl Answers {
    pub(super) fn new(control: Arc<Control>, is_mounted: Box<dyn Fn() -> bool + Send + Sync>) -> Answers {
        Answers {
            control,
            is_mounted: is_mounted.into(),
            measuring: Mutex::default(),
            checking: Arc::default(),
        }
    }

    /// Answers a request on which this is the verdict.
    pub(super) async fn answer(&self, request: &Parts, verdict: Verdict) -> Answer {
        match verdict {
            Verdict::Welcome => self.of_path(request).await,
            Verdict::Enter { cookie, location } => {
                let mut answer = text(StatusCode::SEE_OTHER, "the token is in a cookie now\n");
                for (name, value) in [(header::SET_COOKIE, cookie), (header::LOCATION, location)] {
                    // It is made of characters that a header may have.
                    if let Ok(value) = value.parse() {
                        answer.headers_mut().insert(name, value);
                    }
                }
                answer
            }
            Verdict::NoHost => text(StatusCode::BAD_REQUEST, "the request needs one Host header\n"),
            Verdict::WrongHost => text(
                StatusCode::FORBIDDEN,
                "the Host header names another host; --http-host allows further names\n",
            ),
            Verdict::NoToken => with(
                text(
                    StatusCode::UNAUTHORIZED,
                    "a token is needed: send the header `Authorization: Bearer TOKEN`, or open this page with ?token=TOKEN\n",
                ),
                header::WWW_AUTHENTICATE,
                "Bearer realm=\"fetchfs\"",
            ),
        }
    }

    async fn of_path(&self, request: &Parts) -> Answer {
        if !matches!(request.method, Method::GET | Method::HEAD) {
            let refused = text(StatusCode::METHOD_NOT_ALLOWED, "GET and HEAD are all there is\n");
            return with(refused, header::ALLOW, "GET, HEAD");
        }
        match request.uri.path() {
            "/" => page("text/html; charset=utf-8", include_str!("page/index.html")),
            "/app.js" => page("text/javascript; charset=utf-8", include_str!("page/app.js")),
            "/style.css" => page("text/css; charset=utf-8", include_str!("page/style.css")),
            "/icon.svg" => page("image/svg+xml", include_str!("page/icon.svg")),
            "/live.json" => {
                let live = self.one_at_a_time(self.control.live()).await;
                json(StatusCode::OK, &live)
            }
            "/metrics" => self.metrics(&request.headers).await,
            "/healthz" => self.health(request.uri.query()).await,
            _ => text(StatusCode::NOT_FOUND, "there are /, /metrics and /healthz\n"),
        }
    }

    async fn metrics(&self, headers: &HeaderMap) -> Answer {
        let measured = self.one_at_a_time(self.control.status_now()).await;
        let format = metrics::Format::wanted(headers);
        answer(StatusCode::OK, format.content_type(), metrics::of(&measured, format))
    }

    /// Waits until no other measurement runs, and for a moment after this one.
    async fn one_at_a_time<T>(&self, measurement: impl Future<Output = T>) -> T {
        let _turn = self.measuring.lock().await;
        let measured = measurement.await;
        tokio::time::sleep(BETWEEN_MEASUREMENTS).await;
        measured
    }

    async fn health(&self, query: Option<&str>) -> Answer {
        let health = self.check().await;
        let status = match health.reason {
            None => StatusCode::OK,
            Some(_) => StatusCode::SERVICE_UNAVAILABLE,
        };
        match query {
            Some("json") => json(status, &health),
            _ => text(status, health.to_string() + "\n"),
        }
    }

    /// Whether the mount does its work. Answers in time, also if the mount hangs.
    async fn check(&self) -> Health {
        let silent = || self.control.unwell("it has not responded for 800 ms");
        let deadline = Instant::now() + HEALTH_PATIENCE;
        let turn = Arc::clone(&self.checking).lock_owned();
        let Ok(turn) = timeout_at(deadline, turn).await else {
            return silent();
        };
        let (control, is_mounted) = (Arc::clone(&self.control), Arc::clone(&self.is_mounted));
        let checking = tokio::task::spawn_blocking(move || {
            let _turn = turn;
            match is_mounted() {
                true => control.check_health(),
                false => control.unwell("it was unmounted"),
            }
        });
        match timeout_at(deadline, checking).await {
            Ok(Ok(health)) => health,
            // It hangs, or the process is ending.
            _ => silent(),
        }
    }
}

fn answer(status: StatusCode, content_type: &'static str, body: impl Into<Bytes>) -> Answer {
    let mut answer = Response::new(Full::new(body.into()));
    *answer.status_mut() = status;
    for (name, value) in HEADERS {
        answer.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    with(answer, header::CONTENT_TYPE, content_type)
}

fn page(content_type: &'static str, body: &'static str) -> Answer {
    answer(StatusCode::OK, content_type, body)
}

fn text(status: StatusCode, body: impl Into<Bytes>) -> Answer {
    answer(status, TEXT, body)
}

fn json(status: StatusCode, body: &impl Serialize) -> Answer {
    match serde_json::to_vec(body) {
        Ok(body) => answer(status, JSON, body),
        Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")),
    }
}

fn with(mut answer: Answer, name: header::HeaderName, value: &'static str) -> Answer {
    answer.headers_mut().insert(name, HeaderValue::from_static(value));
    answer
}
