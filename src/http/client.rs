//! The client: metadata, pages and ranges, of any origin, over one pool of connections.
//!
//! `tree` asks for metadata and pages, `cache` for ranges. Nothing is retried here (but for a kept connection that turns
//! out to be closed) and nothing waits for a turn: whoever asks knows how urgent it is. What the client does guarantee is that an answer was judged before it is handed out
//! ([`judge`](super::judge)), that each wait ends after [`HttpConfig::timeout`] of silence, and that credentials and
//! query values are in no error.
//!
//! HTTP/1.1 unless told otherwise: one connection a range beats many ranges multiplexed over one connection.

use std::{fmt, ops::Range, sync::Arc};

use reqwest::{
    Method,
    header::{self, HeaderMap, HeaderName, HeaderValue},
};
use tokio::{runtime::Handle, sync::Semaphore};
use url::Url;

use super::{
    Body, HttpConfig, HttpError, HttpErrorKind, Metadata, Origin, Page, RangeAnswer, SetupError, Version,
    access::Access,
    disposition,
    head::AnswerHead,
    health::{Down, Health, Healths},
    hops::{Answer, is_elsewhere},
    judge::{Verdict, judge, refuse_stand_in, settle},
    mirrors::Mirrors,
    redact,
    redirects::{AfterFailure, Redirects},
    setup::Connections,
    tags::{IgnoredTags, is_unexpected},
};

/// Bytes from which on a page is a large one: an index of some 30,000 names. **One large page is held at a time**, so
/// that many of them at once do not fill the memory.
const LARGE_PAGE: u64 = 4 << 20;

/// Asks origins for things. Clones share connections and credentials.
#[derive(Clone)]
pub struct Client {
    pub(super) shared: Arc<Shared>,
}

/// What all clones have in common.
pub(super) struct Shared {
    pub config: HttpConfig,
    pub connections: Connections,
    pub access: Access,
    pub redirects: Redirects,
    pub ignored_tags: IgnoredTags,
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
                access: Access::new(config.access.clone()),
                mirrors: Mirrors::new(config.mirrors.clone()),
                config,
                redirects: Redirects::default(),
                ignored_tags: IgnoredTags::default(),
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
        let link = self.shared.redirects.of(url);
        self.shared.healths.of_url(link.as_ref().unwrap_or(url))
    }

    /// Asks an origin, beside whoever waits, for something else than what has just failed there: the directory that it is in. What comes of
    /// it shows whether the origin is to blame. A refusal shows nothing: servers that keep their files elsewhere refuse at once.
    pub fn ask_for_something_else(&self, runtime: &Handle, failed: &Url, health: Arc<Health>) {
        let Some(other) = directory_of(failed).filter(|_| health.finds_out()) else {
            return;
        };
        let client = self.clone();
        runtime.spawn(async move {
            let error = match client.send(Method::HEAD, &other, identity()).await {
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

    /// Whether nothing is ever asked.
    pub fn is_offline(&self) -> bool {
        self.shared.config.offline
    }

    /// [`Self::metadata`] of a file of which the version `expected` is known, if any.
    ///
    /// # Errors
    /// As for [`Self::metadata`]; `BadAnswer` also for a web page that stands in the file's place, as a login form does.
    pub async fn confirm(&self, url: &Url, expected: Option<&Version>) -> Result<Metadata, HttpError> {
        let mut found = self.metadata(url).await?;
        if expected.is_some_and(|known| is_unexpected(&known.validator, &found.as_head()))
            && self.has_idle_tags(url, &found.as_head()).await
        {
            found = self.metadata(url).await?;
        }
        let is_elsewhere = is_elsewhere(url, &found.url);
        let head = AnswerHead {
            is_elsewhere,
            ..found.as_head()
        };
        match expected.map(|known| refuse_stand_in(&head, known)) {
            Some(Err(kind)) => Err(HttpError { kind, url: redact(url) }),
            Some(Ok(())) | None => Ok(found),
        }
    }

    /// What kind of thing a URL is.
    ///
    /// One HEAD. If the server doesn't answer that with a length that can be used (there is none; it is 0, as some
    /// handlers say for everything; it is that of a compressed form) or doesn't like the method (400, 403, 405, 501: a
    /// signed URL is signed for GET), one GET for the first byte, whose Content-Range tells the total.
    ///
    /// # Errors
    /// As the server's answer or its absence asks.
    pub async fn metadata(&self, url: &Url) -> Result<Metadata, HttpError> {
        let answer = self.send(Method::HEAD, url, identity()).await?;
        let head = &answer.head;
        match head.status {
            200 => {
                let size = head.content_length.filter(|size| *size > 0 && head.coding.is_none());
                match size {
                    Some(_) => Ok(Metadata::of(answer.url, head, size)),
                    None => self.probe(url, Some(head)).await,
                }
            }
            201..=299 | 400 | 403 | 405 | 501 => self.probe(url, None).await,
            _ => Err(self.refused(answer).await),
        }
    }

    /// Learns what a HEAD did not tell from a request for the first byte.
    async fn probe(&self, url: &Url, before: Option<&AnswerHead>) -> Result<Metadata, HttpError> {
        let mut answer = self.send(Method::GET, url, ranged(&(0..1), None)).await?;
        let head = &answer.head;
        match judge(head, 0..1, None) {
            Verdict::Partial { version, .. } => {
                let metadata = Metadata::of(answer.url.clone(), head, Some(version.size));
                // One byte: reading it gives the connection back, dropping it would close it.
                let _ = tokio::time::timeout(self.shared.config.timeout, answer.response.chunk()).await;
                Ok(metadata)
            }
            Verdict::Whole { size, .. } => Ok(Metadata::of(answer.url.clone(), head, size)),
            // An empty file has no first byte. The error's headers describe the error, so HEAD is the better source.
            Verdict::PastEnd { size } => Ok(Metadata::of(answer.url.clone(), before.unwrap_or(head), Some(size))),
            Verdict::Unclear if before.is_some_and(|before| before.content_length == Some(0)) => {
                Ok(Metadata::of(answer.url.clone(), before.unwrap_or(head), Some(0)))
            }
            Verdict::Unclear | Verdict::Changed(_) => Err(self.refused(answer).await),
            Verdict::Failed(kind) => Err(self.failed(answer, kind).await),
        }
    }

    /// The name that the server gives a file, as bytes, if it gives one (Content-Disposition).
    ///
    /// # Errors
    /// As the server's answer or its absence asks.
    pub async fn file_name(&self, url: &Url) -> Result<Option<Vec<u8>>, HttpError> {
        // Its first byte, and not HEAD: what makes such names often answers GET only.
        let answer = self.send(Method::GET, url, ranged(&(0..1), None)).await?;
        if !matches!(answer.head.status, 200 | 206 | 416) {
            return Err(self.refused(answer).await);
        }
        let header = answer.response.headers().get(header::CONTENT_DISPOSITION);
        let name = header.and_then(|value| disposition::file_name(value.as_bytes()));
        self.finish(answer.response).await;
        Ok(name)
    }

    /// Reads a page of at most [`HttpConfig::max_page`] bytes. One that is large is waited for while another one is held.
    ///
    /// # Errors
    /// `BadAnswer` for anything but a complete document of that size.
    pub async fn page(&self, url: &Url) -> Result<Page, HttpError> {
        let Answer { url, head, response } = self.send(Method::GET, url, identity()).await?;
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
            self.finish(response).await;
            return Err(fail(head.failure()));
        }
        head.refuse_coding().map_err(fail)?;
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
        if let Err(kind) = answer.head.refuse_coding() {
            return Err(self.failed(answer, kind).await);
        }
        if answer.head.is_web_page() && is_elsewhere(url, &answer.url) {
            let kind = HttpErrorKind::BadAnswer("a web page came instead of the file; is a login needed?".to_owned());
            return Err(self.failed(answer, kind).await);
        }
        let due = answer.head.content_length;
        Ok(self.body(answer, due))
    }

    /// Asks for the bytes `want` (end exclusive, not empty) of a file that is expected to be the version `known`.
    ///
    /// Goes to where the URL last led, if it did, and through the URL itself when that has failed. Returns when the head
    /// of the answer was read and judged.
    ///
    /// # Errors
    /// `BadAnswer` for what can't be believed; what else the server's answer or its absence asks.
    pub async fn range(&self, url: &Url, want: Range<u64>, known: Option<&Version>) -> Result<RangeAnswer, HttpError> {
        if want.is_empty() {
            let kind = HttpErrorKind::BadAnswer("an empty range can't be asked for".to_owned());
            return Err(HttpError { kind, url: redact(url) });
        }
        let redirects = &self.shared.redirects;
        let Some(link) = redirects.of(url) else {
            return self.range_from(url, url, want, known).await;
        };
        let failure = match self.range_from(&link, url, want.clone(), known).await {
            Ok(answer @ (RangeAnswer::Partial { .. } | RangeAnswer::Whole { .. })) => return Ok(answer),
            // Only the URL itself can say that a file is another one.
            Ok(_) => None,
            Err(error) => Some(error),
        };
        let next = failure
            .as_ref()
            .map_or(AfterFailure::AskFirst, |error| AfterFailure::of(&error.kind));
        if next != AfterFailure::Keep {
            log::debug!("{} has led to something that is no longer good", redact(url));
            redirects.forget(url, &link);
        }
        match failure {
            Some(error) if next != AfterFailure::AskFirst => Err(error),
            _ => self.range_from(url, url, want, known).await,
        }
    }

    /// Asks `first` for a range of what is at `url`.
    async fn range_from(
        &self,
        first: &Url,
        url: &Url,
        want: Range<u64>,
        known: Option<&Version>,
    ) -> Result<RangeAnswer, HttpError> {
        let mut answer = self.send(Method::GET, first, ranged(&want, known)).await?;
        answer.head.is_elsewhere = is_elsewhere(url, &answer.url);
        let mut verdict = judge(&answer.head, want.clone(), known);
        if matches!(verdict, Verdict::Changed(_))
            && known.is_some_and(|known| is_unexpected(&known.validator, &answer.head))
            && self.has_idle_tags(first, &answer.head).await
        {
            self.shared.ignored_tags.strip(&answer.url, &mut answer.head);
            verdict = judge(&answer.head, want.clone(), known);
        }
        if verdict == Verdict::Unclear {
            let found = self.metadata(url).await?;
            let is_elsewhere = is_elsewhere(url, &found.url);
            verdict = settle(
                &AnswerHead {
                    is_elsewhere,
                    ..found.as_head()
                },
                want,
                known,
            );
        }
        if matches!(verdict, Verdict::Partial { .. } | Verdict::Whole { .. }) {
            self.shared.redirects.remember(url, &answer.url);
        }
        let modified = answer.head.modified();
        Ok(match verdict {
            Verdict::Partial { version, range } => {
                let body = self.body(answer, Some(range.end - range.start));
                RangeAnswer::Partial {
                    version,
                    range,
                    modified,
                    body,
                }
            }
            Verdict::Whole { size, validator } => RangeAnswer::Whole {
                size,
                validator,
                modified,
                body: self.body(answer, size),
            },
            Verdict::Changed(version) => RangeAnswer::Changed(version),
            Verdict::PastEnd { size } => RangeAnswer::PastEnd { size },
            Verdict::Unclear => return Err(self.refused(answer).await),
            Verdict::Failed(kind) => return Err(self.failed(answer, kind).await),
        })
    }

    /// What an answer's status means, that answer being read to its end if that keeps its connection.
    async fn refused(&self, answer: Answer) -> HttpError {
        let kind = answer.head.failure();
        self.failed(answer, kind).await
    }

    /// An answer is given up for a reason.
    pub(super) async fn failed(&self, answer: Answer, kind: HttpErrorKind) -> HttpError {
        self.finish(answer.response).await;
        HttpError {
            kind,
            url: redact(&answer.url),
        }
    }

    pub(super) fn body(&self, answer: Answer, due: Option<u64>) -> Body {
        Body::new(
            answer.response,
            due,
            answer.head.content_length,
            self.shared.config.timeout,
            redact(&answer.url),
        )
    }
}

/// The directory that something is in; `None` for the top of a server.
fn directory_of(url: &Url) -> Option<Url> {
    let above = if url.path().ends_with('/') { ".." } else { "." };
    url.join(above).ok().filter(|directory| directory.path() != url.path())
}

/// No content coding, please: bytes are counted in the file, not in a compressed form of it (RFC 9110 §12.5.3).
pub(super) fn identity() -> HeaderMap {
    HeaderMap::from_iter([(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"))])
}

/// The headers of a request for one range (RFC 9110 §14.2), and of the version that it must be from (§13.1.5).
pub(super) fn ranged(want: &Range<u64>, known: Option<&Version>) -> HeaderMap {
    let mut headers = identity();
    let mut set = |name: HeaderName, value: &str| {
        // Digits, and what was a header's value before.
        if let Ok(value) = HeaderValue::from_str(value) {
            headers.insert(name, value);
        }
    };
    set(header::RANGE, &format!("bytes={}-{}", want.start, want.end - 1));
    if let Some(value) = known.and_then(|known| known.validator.if_range()) {
        set(header::IF_RANGE, value);
    }
    headers
}

#[cfg(test)]
mod documents;
#[cfg(test)]
mod reaching;
#[cfg(test)]
mod tests;
