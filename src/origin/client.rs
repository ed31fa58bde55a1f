//! The client: metadata, pages and ranges, of any origin, over one pool of connections.
//!
//! `tree` asks for metadata ([`metadata`]) and pages, `cache` for ranges ([`ranges`]). Nothing is retried here (but for a
//! kept connection that turns out to be closed) and nothing waits for a turn: whoever asks knows how urgent it is. What the
//! client does guarantee is that an answer was judged before it is handed out ([`judge`](crate::http::response::validation)), that each wait
//! ends after [`HttpConfig::timeout`] of silence, and that credentials and query values are in no error.
//!
//! HTTP/1.1 unless told otherwise: one connection a range beats many ranges multiplexed over one connection.

pub(crate) mod answers;
pub(crate) mod body;
pub(crate) mod exchange;
mod metadata;
mod probe;
mod ranges;
pub(crate) mod redirect_chain;
pub(crate) mod redirects;

use std::{fmt, sync::Arc};

use reqwest::{
    Method,
    header::{self, HeaderMap, HeaderValue},
};
use tokio::{runtime::Handle, sync::Semaphore};
use url::Url;

use super::{
    Body, Page,
    client::{redirect_chain::Answer, redirects::Redirects},
    connection_limit::Limits,
    head_trust::HeadTrusts,
    health::{Down, Health, Healths},
    mirrors::Mirrors,
    version_aliases::Aliases,
};
use crate::http::{
    HttpConfig, HttpError, HttpErrorKind, Origin, SetupError,
    auth::Access,
    connect::setup::Connections,
    redact,
    response::head::is_elsewhere,
    response::{
        coding::{Unpacking, unpack},
        head::excerpt,
    },
};
pub(crate) use ranges::ranged;

/// Bytes from which on a page is a large one: an index of some 30,000 names. **One large page is held at a time**, so
/// that many of them at once do not fill the memory.
const LARGE_PAGE: u64 = 4 << 20;

/// Asks origins for things. Clones share connections and credentials.
#[derive(Clone)]
pub struct Client {
    pub(crate) shared: Arc<Shared>,
}

/// What all clones have in common.
pub(crate) struct Shared {
    pub config: HttpConfig,
    pub connections: Connections,
    pub limits: Limits,
    pub access: Access,
    pub redirects: Redirects,
    pub aliases: Aliases,
    pub head_trusts: HeadTrusts,
    pub mirrors: Mirrors,
    pub healths: Healths,
    /// Leave to hold a large page.
    pub large_page: Arc<Semaphore>,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("config", &self.shared.config)
            .finish_non_exhaustive()
    }
}

impl Client {
    /// A client with its own pools of connections.
    ///
    /// # Errors
    /// If a file that the configuration names can't be used, or the system's roots can't be read.
    pub fn new(config: HttpConfig) -> Result<Client, SetupError> {
        Ok(Client {
            shared: Arc::new(Shared {
                connections: Connections::new(&config)?,
                limits: Limits::new(config.max_connections),
                access: Access::new(config.access.clone()),
                mirrors: Mirrors::new(config.mirrors.clone()),
                config,
                redirects: Redirects::default(),
                aliases: Aliases::default(),
                head_trusts: HeadTrusts::default(),
                healths: Healths::default(),
                large_page: Arc::new(Semaphore::new(1)),
            }),
        })
    }

    /// Takes `user:password` out of a URL, and remembers its origin as one that gets to see them, or what the
    /// configuration has for the servers of the sources.
    ///
    /// For URLs that the user gave. What a server gave (a link, a redirect) never comes here.
    pub fn adopt(&self, url: Url) -> Url {
        self.shared.access.adopt(url)
    }

    /// Whether a proxy is set, so that it may be that which can't be reached.
    pub fn may_use_a_proxy(&self) -> bool {
        self.shared.config.proxy.may_be_one()
    }

    /// Whether the origin of this URL gets to see a login or a token.
    pub fn logs_in_at(&self, url: &Url) -> bool {
        self.shared.access.logs_in_at(url)
    }

    /// The directory that is meant by a URL that the user gave, if it is one: it goes on to be asked for as it was given, with or without a
    /// `/` at its end.
    pub fn call_directory(&self, url: &Url) {
        self.shared.redirects.call(&as_directory(url), url);
    }

    /// Notes at which URL a directory's listing was found: what is below it is asked for there.
    pub fn found_directory(&self, directory: &Url, found: &Url) {
        self.shared.redirects.learnt(directory, Some(found));
    }

    /// How an origin is doing, as those who ask it find. Whoever retries keeps to it.
    pub fn health(&self, origin: &Origin) -> Arc<Health> {
        self.shared.healths.of(origin)
    }

    /// The origins that are left alone at this moment because they are down, away or overloaded.
    pub fn down(&self) -> Vec<Down> {
        self.shared.healths.down()
    }

    /// How the origin is doing that a range of this URL would be asked of now: where redirects last led.
    pub fn health_of(&self, url: &Url) -> Arc<Health> {
        // A short cut that leads to a server that is away is none.
        let link = self
            .shared
            .redirects
            .way(url)
            .map(|link| self.shared.healths.of_url(&link));
        let link = link.filter(|health| !health.is_down());
        link.unwrap_or_else(|| self.shared.healths.of_url(url))
    }

    /// Asks an origin, beside whoever waits, for something else than what has just failed there: the directory that it is in. What comes of
    /// it shows whether the origin is to blame. A refusal shows nothing: servers that keep their files elsewhere refuse at once.
    pub fn ask_for_something_else(&self, runtime: &Handle, failed: &Url, health: Arc<Health>) {
        let Some(other) = directory_of(failed).filter(|_| health.finds_out()) else {
            return;
        };
        let client = self.clone();
        runtime.spawn(async move {
            let error = match client.head(&other).await {
                Ok(answer) if answer.response.status().is_success() => None,
                Ok(answer) => Some(client.refused(answer).await),
                Err(error) => Some(error),
            };
            match error {
                None => health.answered(),
                Some(error) if error.kind.is_of_the_origin() => drop(health.has_failed(&error)),
                Some(_) => {}
            }
            health.has_found_out();
        });
    }

    /// How many connections the origin of a URL is seen to serve at a time, of those that are allowed.
    pub fn serves(&self, url: &Url) -> usize {
        self.shared.limits.of(url).serves()
    }

    /// Whether nothing is ever asked.
    pub fn is_offline(&self) -> bool {
        self.shared.config.offline
    }

    /// Reads a page of at most [`HttpConfig::max_page`] bytes. One that is large is waited for while another one is held.
    ///
    /// # Errors
    /// `BadAnswer` for anything but a complete document of that size.
    pub async fn page(&self, url: &Url) -> Result<Page, HttpError> {
        self.page_as(url, None).await
    }

    /// [`Self::page`], under another name than this program's: some servers send each program another page.
    ///
    /// # Errors
    /// As for [`Self::page`].
    pub async fn page_as(&self, url: &Url, user_agent: Option<&'static str>) -> Result<Page, HttpError> {
        let mut headers = identity();
        if let Some(user_agent) = user_agent {
            headers.insert(header::USER_AGENT, HeaderValue::from_static(user_agent));
        }
        let Answer {
            url,
            head,
            mut response,
        } = self.send(Method::GET, url, headers).await?;
        let shown = redact(&url);
        let fail = |kind| HttpError {
            kind,
            url: shown.clone(),
        };
        let most = self.shared.config.max_page;
        let too_long = || {
            let shown = bytesize::ByteSize(most).display().iec();
            fail(HttpErrorKind::BadAnswer(format!(
                "a page of more than {shown}; --max-listing-size allows more"
            )))
        };
        if head.status != 200 {
            self.finish(&mut response).await;
            return Err(fail(head.failure()));
        }
        if head.content_length.is_some_and(|length| length > most) {
            return Err(too_long());
        }
        let modified = head.modified();
        let (due, timeout) = (head.content_length, self.shared.config.timeout);
        let mut pieces = Body::new(response, due, due, timeout, shown.clone());
        // What was announced is only reserved as it comes.
        let mut body = Vec::new();
        let mut leave = None;
        while let Some(piece) = pieces.next().await? {
            let length = (body.len() + piece.len()) as u64;
            if length > most {
                return Err(too_long());
            }
            if length > LARGE_PAGE && leave.is_none() {
                // It fails only if somebody closed the semaphore, which nobody does.
                leave = Arc::clone(&self.shared.large_page).acquire_owned().await.ok();
            }
            body.extend_from_slice(&piece);
        }
        if let Some(coding) = head.coding {
            body = match unpack(&coding, body, most).await {
                Ok(body) => body,
                Err(Unpacking::TooLong) => return Err(too_long()),
                Err(Unpacking::Damaged) => {
                    let why = format!("a page that says it is {} and is not", excerpt(&coding));
                    return Err(fail(HttpErrorKind::BadAnswer(why)));
                }
            };
        }
        Ok(Page {
            url,
            content_type: head.content_type,
            charset: head.charset,
            modified,
            body,
            _leave: leave,
        })
    }

    /// Asks for all of a file, whatever its size.
    ///
    /// # Errors
    /// `BadAnswer` for what can't be believed; what else the server's answer or its absence asks.
    pub async fn whole(&self, url: &Url) -> Result<Body, HttpError> {
        let answer = self.send(Method::GET, url, identity()).await?;
        if answer.head.status != 200 {
            return Err(self.refused(answer).await);
        }
        if let Err(kind) = answer.head.refuse_coding(None) {
            return Err(self.failed(answer, kind).await);
        }
        if answer.head.is_web_page() && is_elsewhere(url, &answer.url) {
            let kind = HttpErrorKind::BadAnswer("a web page came instead of the file; is a login needed?".to_owned());
            return Err(self.failed(answer, kind).await);
        }
        let due = answer.head.content_length;
        Ok(self.body(answer, due))
    }

    /// What an answer's status means, that answer being read to its end if that keeps its connection.
    async fn refused(&self, answer: Answer) -> HttpError {
        let kind = answer.head.failure();
        self.failed(answer, kind).await
    }

    /// An answer is given up for a reason.
    pub(crate) async fn failed(&self, mut answer: Answer, kind: HttpErrorKind) -> HttpError {
        self.finish(&mut answer.response).await;
        HttpError {
            kind,
            url: redact(&answer.url),
        }
    }

    pub(crate) fn body(&self, answer: Answer, due: Option<u64>) -> Body {
        Body::new(
            answer.response,
            due,
            answer.head.content_length,
            self.shared.config.timeout,
            redact(&answer.url),
        )
    }
}

/// The same URL, as that of a directory.
pub fn as_directory(url: &Url) -> Url {
    let mut directory = url.clone();
    if !url.path().ends_with('/') {
        directory.set_path(&format!("{}/", url.path()));
    }
    directory
}

/// The directory that something is in; `None` for the top of a server.
fn directory_of(url: &Url) -> Option<Url> {
    let above = if url.path().ends_with('/') { ".." } else { "." };
    url.join(above).ok().filter(|directory| directory.path() != url.path())
}

/// No content coding, please: bytes are counted in the file, not in a compressed form of it (RFC 9110 §12.5.3).
pub(crate) fn identity() -> HeaderMap {
    HeaderMap::from_iter([(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"))])
}

#[cfg(test)]
mod documents;
#[cfg(test)]
mod reaching;
#[cfg(test)]
mod tests;
