//! One request over a redirect chain.
//!
//! `reqwest` could follow redirects, but it sets headers on the first request only. The credentials must be chosen for
//! each hop's own origin, so each hop is a request of its own. Its target must be http or https, user and password in
//! the target are dropped, and Authorization is what that origin may see (RFC 9110 §15.4).

use std::collections::HashSet;
use std::sync::Arc;

use reqwest::header;
use url::Url;

use super::{
    redirects::Route,
    sites::Site,
    transport::{HttpRequest, HttpResponse, Transport},
};
use crate::{
    http::{
        HttpError, HttpErrorKind,
        redact::{redact, strip},
        response::{link::described_by, location::target},
        tag::untagged,
    },
    origin::limits::request_class::RequestClass,
};

/// Maximum number of machines behind one URL that are asked. If all of them lack the resource, it is gone.
const MOST_MACHINES: usize = 4;

/// Maximum number of requests to a URL whose redirect targets lack the resource.
const MOST_AGAIN: usize = 4;

impl Transport {
    /// [`Self::send_for`] for names.
    pub(crate) async fn send(&self, request: HttpRequest, asked: &Url) -> Result<HttpResponse, HttpError> {
        self.send_for(RequestClass::Names, None, request, asked).await
    }

    /// The response to a HEAD, if it comes soon.
    pub(crate) async fn head(&self, url: &Url) -> Result<HttpResponse, HttpError> {
        self.send_for(RequestClass::Hint, None, HttpRequest::head(), url).await
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
        mut request: HttpRequest,
        asked: &Url,
    ) -> Result<HttpResponse, HttpError> {
        let asked = &*untagged(asked);
        let site = &self.site(asked);
        self.file_headers.add(asked, &mut request.headers);
        let redirects = &self.redirects;
        let Some(short) = redirects.short_cut(asked) else {
            return self.follow(site, class, route, request, asked).await;
        };
        let tried = short.url.as_ref().unwrap_or(asked);
        if let (Some(route), Some(short)) = (route, &short.url) {
            route.leads_to(short).await;
        }
        let mut first = self.follow(site, class, route, request.clone(), tried).await;
        if !has_failed(&first) || self.is_offline() {
            return first;
        }
        // Finished first, because its connection may be the only one.
        if let Ok(answer) = &mut first {
            answer.response.finish().await;
        }
        if let Some((directory, root)) = short.learn {
            let led = self
                .follow(site, RequestClass::Names, None, HttpRequest::whole(), &root)
                .await;
            let led = led
                .ok()
                .filter(|answer| answer.head.status == 200)
                .map(|answer| answer.url);
            redirects.learnt(&directory, led.as_ref());
            let is_directory = asked.origin() == directory.origin() && asked.path() == directory.path();
            if let Some(led) = led.filter(|_| is_directory) {
                redirects.answers_as_given(&directory, &led);
            }
            let next = redirects.short_cut(asked).and_then(|short| short.url);
            if let Some(next) = next.filter(|next| next != tried) {
                log::debug!("{} redirects elsewhere now", redact(&root));
                if let Some(route) = route {
                    route.leads_to(&next).await;
                }
                let next = self.follow(site, class, route, request.clone(), &next).await;
                if !has_failed(&next) {
                    return next;
                }
            }
        }
        if tried == asked {
            return first;
        }
        let own = self.follow(site, class, route, request, asked).await;
        let is_gone = |answer: &Result<HttpResponse, HttpError>| matches!(answer, Ok(answer) if matches!(answer.head.status, 404 | 410));
        // Only the place where the names were found can say that a resource is gone.
        if is_gone(&own) && !is_gone(&first) { first } else { own }
    }

    /// Sends a request to a URL and its redirect target. If one of several machines behind the URL lacks the resource,
    /// it is not gone: the URL is requested again, until it leads to a machine that was asked already.
    async fn follow(
        &self,
        site: &Arc<Site>,
        class: RequestClass,
        route: Option<&dyn Route>,
        request: HttpRequest,
        asked: &Url,
    ) -> Result<HttpResponse, HttpError> {
        let mut lacking: Vec<Url> = Vec::new();
        let mut lacks = None;
        let mut again = 0;
        // A machine that had it is asked first.
        let known = self.redirects.of(asked);
        loop {
            let mut last = asked.clone();
            let from = known
                .as_ref()
                .filter(|known| !lacking.is_empty() && !lacking.contains(known));
            // Boxed, because it is larger than all that awaits it: the stack of a thread holds a dozen of such frames.
            let answer = Box::pin(self.hops(site, class, route, &request, from.unwrap_or(asked), &mut last)).await;
            let is_other = last != *asked && !lacking.contains(&last);
            match answer {
                Ok(mut answer) if matches!(answer.head.status, 404 | 410) && (is_other || !lacking.is_empty()) => {
                    answer.response.finish().await;
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
        site: &Arc<Site>,
        class: RequestClass,
        route: Option<&dyn Route>,
        request: &HttpRequest,
        asked: &Url,
        last: &mut Url,
    ) -> Result<HttpResponse, HttpError> {
        let mut url = asked.clone();
        strip(&mut url);
        if self.is_offline() {
            let (kind, url) = (HttpErrorKind::Offline, redact(&url));
            return Err(HttpError { kind, url });
        }
        let most = self.config.max_redirects;
        let (mut metalink, mut seen, mut is_circle) = (None, HashSet::new(), false);
        for _ in 0..=most {
            last.clone_from(&url);
            // A second look may do: on the way, a login host has set a cookie.
            is_circle |= !seen.insert(url.clone());
            let mut answer = self.hop(site, class, request, url.clone()).await?;
            // A redirector to mirrors names it, and the mirrors know nothing of it.
            metalink = metalink.or_else(|| described_by(answer.response.headers(), &url));
            match redirect(&answer) {
                None => {
                    answer.head.described_by = metalink;
                    return Ok(answer);
                }
                Some(Ok(target)) => {
                    log::debug!("{} redirects to {}", redact(&url), redact(&target));
                    answer.response.finish().await;
                    if let Some(route) = route {
                        route.leads_to(&target).await;
                    }
                    url = target;
                }
                Some(Err(why)) => return Err(bad(&url, why)),
            }
        }
        Err(bad(
            &url,
            match (is_circle, site.config.cookies.keeps) {
                (true, true) => {
                    "its redirects lead in a circle; if it wants a login, see --netrc and --cookie-file".to_owned()
                }
                (true, false) => {
                    "its redirects lead in a circle; it may need cookies, which --no-cookies turns off".to_owned()
                }
                (false, _) => format!("more than {most} redirects; raise --max-redirects"),
            },
        ))
    }
}

/// Returns true if a redirect target has failed: access is denied, the resource is gone, or the server is broken or
/// unreachable.
fn has_failed(answer: &Result<HttpResponse, HttpError>) -> bool {
    match answer {
        Ok(answer) => matches!(answer.head.status, 401 | 403 | 404 | 410 | 500..=599),
        Err(error) => !matches!(
            error.kind,
            HttpErrorKind::TimedOut(_) | HttpErrorKind::NoDescriptors | HttpErrorKind::Offline
        ),
    }
}

/// The target of a redirect: `None` if the response is not a redirect or names no target, an error if the target is
/// invalid.
fn redirect(answer: &HttpResponse) -> Option<Result<Url, String>> {
    if !matches!(answer.head.status, 301 | 302 | 303 | 307 | 308) {
        return None;
    }
    let location = answer.response.headers().get(header::LOCATION)?;
    Some(target(&answer.url, location.as_bytes()))
}

fn bad(url: &Url, why: String) -> HttpError {
    HttpError {
        kind: HttpErrorKind::BadAnswer(why),
        url: redact(url),
    }
}
