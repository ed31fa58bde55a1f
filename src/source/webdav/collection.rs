//! The source of WebDAV collections.
//!
//! A URL is WebDAV's if its scheme or `--type` says so. Otherwise the server is asked (OPTIONS) once no index page was
//! found there: one that speaks WebDAV says so by a `DAV` header.
//!
//! Some servers fail for a whole directory because of one name in it (nginx's dav_ext at a broken symbolic link), and some
//! speak WebDAV only in parts of their tree. Then the directory's index page is its listing, if it has one.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use reqwest::{
    Method,
    header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue},
};
use url::Url;

use super::collection_tag::{TagKind, set_validator};
use super::{NotMultistatus, Parsed, parse_incoming, parse_whole};
use crate::http::{HttpError, HttpErrorKind, Validator};
use crate::origin::{Client, DocumentRequest, Metadata, as_directory};
use crate::source::receiving::{self, Beginning, EarlyNames, NamesTo};
use crate::source::web_index::{WebIndex, is_page_in_place_of_a_file};
use crate::source::{
    Asked, BoxFuture, Found, ListedSize, Listing, ListingConfig, NameKind, NameSink, Quota, Source, SourceError,
};
use crate::util::events;

/// What is asked of each resource in a listing. No more: what a server has to look up for each name takes its time.
const LISTED: &str = "<D:resourcetype/><D:getcontentlength/><D:getetag/><D:getlastmodified/>";

/// What is asked of a collection alone.
const OWN: &str = "<D:resourcetype/><D:getetag/>";

/// The quota (RFC 4331), which is asked for at the top of a source only.
const QUOTA: &str = "<D:quota-available-bytes/><D:quota-used-bytes/>";

/// What shows that a listing is unchanged, where servers have it ([`collection_tag`](super::collection_tag)).
const CHANGE_TAG: &str = "<C:getctag xmlns:C=\"http://calendarserver.org/ns/\"/>";
const SYNC_ID: &str = "<O:id xmlns:O=\"http://owncloud.org/ns\"/>";

/// A request for these properties.
fn properties(parts: &[&str]) -> Bytes {
    let parts = parts.concat();
    let text = format!(
        "<?xml version=\"1.0\" encoding=\"utf-8\"?>\n<D:propfind xmlns:D=\"DAV:\"><D:prop>{parts}</D:prop></D:propfind>"
    );
    text.into()
}

/// The name of the kind.
pub(crate) const WEBDAV: &str = "webdav";

/// The source of WebDAV collections.
pub(crate) struct Collections {
    client: Client,
    config: ListingConfig,
    /// For directories that PROPFIND does not list.
    pages: WebIndex,
    /// The directories at the top of sources. Locked for a moment.
    tops: Mutex<HashMap<Url, Top>>,
}

/// What is known of the directory at the top of a source.
#[derive(Debug, Clone, Copy, Default)]
struct Top {
    /// The quota that the server says.
    quota: Option<Quota>,
    /// Which tags of its directories show that they are unchanged.
    tags: TagKind,
}

/// The depth of a PROPFIND.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Depth {
    /// The directory alone.
    Own,
    /// The directory and its names.
    Names,
}

/// Why PROPFIND gives no listing.
enum Failure {
    /// The request failed, or its answer can't be used.
    Source(SourceError),
    /// The URL is a file's.
    File(SourceError),
}

impl From<Failure> for SourceError {
    fn from(failure: Failure) -> SourceError {
        match failure {
            Failure::Source(error) | Failure::File(error) => error,
        }
    }
}

impl Collections {
    /// A source of WebDAV collections that sends requests through this client.
    pub(crate) fn new(client: Client, config: ListingConfig) -> Collections {
        Collections {
            pages: WebIndex::new(client.clone(), config),
            tops: Mutex::default(),
            client,
            config,
        }
    }

    /// What is known of the source that `directory` is in, and whether it is the directory at its top.
    fn top(&self, directory: &Url) -> (Top, bool) {
        let tops = self.tops.lock();
        let above = tops
            .iter()
            .filter(|(top, _)| directory.as_str().starts_with(top.as_str()));
        let nearest = above.max_by_key(|(top, _)| top.as_str().len());
        nearest.map_or_else(Default::default, |(top, known)| (*known, top == directory))
    }

    /// Notes something of the source that `directory` is in.
    fn note(&self, directory: &Url, note: impl FnOnce(&mut Top)) {
        let mut tops = self.tops.lock();
        let above = tops
            .iter_mut()
            .filter(|(top, _)| directory.as_str().starts_with(top.as_str()));
        if let Some((_, top)) = above.max_by_key(|(top, _)| top.as_str().len()) {
            note(top);
        }
    }

    /// Requests the names in `directory` from `there`, which may lack the `/` at its end.
    async fn propfind(
        &self,
        directory: &Url,
        there: &Url,
        names: Option<&Arc<dyn NameSink>>,
    ) -> Result<Listing, Failure> {
        let Parsed { mut listing, tags, .. } = self.ask(directory, there, Depth::Names, names).await?;
        set_validator(&mut listing, &tags, self.top(directory).0.tags);
        Ok(listing)
    }

    /// Returns true if the server says that a listing with this validator is that of `directory`.
    async fn is_unchanged(&self, directory: &Url, known: &Validator) -> Result<bool, SourceError> {
        match self.ask(directory, directory, Depth::Own, None).await {
            Ok(Parsed { tags, .. }) => Ok(tags.validator(tags.kind()) == *known),
            // The listing shows what it is.
            Err(Failure::File(_)) => Ok(false),
            Err(Failure::Source(error)) if error.http().is_none() => Ok(false),
            Err(Failure::Source(error)) => Err(error),
        }
    }

    /// Sends a PROPFIND.
    async fn ask(
        &self,
        directory: &Url,
        there: &Url,
        depth: Depth,
        names: Option<&Arc<dyn NameSink>>,
    ) -> Result<Parsed, Failure> {
        let (known, is_top) = self.top(directory);
        let quota = if is_top { QUOTA } else { "" };
        let (depth_header, body) = match depth {
            Depth::Own => ("0", properties(&[OWN, CHANGE_TAG, SYNC_ID, quota])),
            Depth::Names if is_top => ("1", properties(&[LISTED, CHANGE_TAG, SYNC_ID, quota])),
            Depth::Names if known.tags == TagKind::ChangeTag => ("1", properties(&[LISTED, CHANGE_TAG])),
            Depth::Names => ("1", properties(&[LISTED])),
        };
        let headers = [
            (HeaderName::from_static("depth"), HeaderValue::from_static(depth_header)),
            // lighttpd and others refuse another type.
            (CONTENT_TYPE, HeaderValue::from_static("application/xml")),
            // Leaves out what a resource lacks (RFC 8144, §2.1).
            (
                HeaderName::from_static("prefer"),
                HeaderValue::from_static("return=minimal"),
            ),
        ];
        let request = DocumentRequest {
            // It is a token.
            method: Method::from_bytes(b"PROPFIND").unwrap_or_default(),
            headers: HeaderMap::from_iter(headers),
            body,
            accepts: &[207, 200],
            ..DocumentRequest::default()
        };
        let failed = |error: HttpError| Failure::Source(error.into());
        let answer = self.client.incoming_document(there, request).await.map_err(failed)?;
        let (config, home, answered) = (self.config, directory.clone(), as_directory(&answer.document().url));
        let reading = match receiving::begin(answer).await.map_err(failed)? {
            // A long answer takes seconds, and the runtime's threads have to move bodies.
            Beginning::Whole(answer) => {
                let parse = move || parse_whole(&home, &answer.url, &answer.body, answer.charset.as_deref(), &config);
                tokio::task::spawn_blocking(parse).await
            }
            Beginning::Long(answer) => {
                let beginning = answer.beginning();
                let to = names.map(|names| NamesTo::new(names, |_| {}));
                let parse = move |pieces| {
                    let early = EarlyNames::new(to);
                    parse_incoming(&home, &beginning.url, &beginning, pieces, &early, &config)
                };
                receiving::read_long(answer, parse).await.map_err(failed)?.result
            }
        };
        match reading {
            Ok(Ok(parsed)) => {
                self.note(directory, |top| {
                    if is_top {
                        top.quota = parsed.quota;
                    }
                    if is_top || depth == Depth::Own {
                        top.tags = parsed.tags.kind();
                    }
                });
                self.client.found_directory(&as_directory(there), &answered);
                Ok(parsed)
            }
            Ok(Err(error @ NotMultistatus::NoDirectory)) => {
                Err(Failure::File(SourceError::not_a_listing(there, error)))
            }
            Ok(Err(error)) => Err(Failure::Source(SourceError::not_a_listing(there, error))),
            // A panic, or a runtime that is shutting down.
            Err(error) => Err(Failure::Source(SourceError::not_a_listing(there, error))),
        }
    }

    /// The listing at `there`, by PROPFIND or else by its index page.
    async fn listing(
        &self,
        directory: &Url,
        there: &Url,
        names: Option<&Arc<dyn NameSink>>,
    ) -> Result<Listing, Failure> {
        let failure = match self.propfind(directory, there, names).await {
            Err(Failure::Source(error)) if may_have_index_page(&error) => error,
            answer => return answer,
        };
        match self.pages.list(directory, &as_directory(there)).await {
            Ok(listing) if listing.is_marked => {
                log::info!(event = events::INDEX_PAGE_USED; "{failure}; its index page is its listing");
                // Its validator is none of PROPFIND's.
                Ok(Listing {
                    validator: Validator::None,
                    ..listing
                })
            }
            _ => Err(Failure::Source(failure)),
        }
    }

    /// Returns true if the server says that it speaks WebDAV at this URL.
    async fn is_spoken_at(&self, url: &Url) -> bool {
        let request = DocumentRequest {
            method: Method::OPTIONS,
            accepts: &[200, 204],
            ..DocumentRequest::default()
        };
        match self.client.document(url, request).await {
            Ok(answer) => answer.headers.contains_key("dav"),
            Err(error) => {
                log::debug!("{error}; it does not say that it speaks WebDAV");
                false
            }
        }
    }
}

impl Source for Collections {
    fn kind(&self) -> &'static str {
        WEBDAV
    }

    fn address(&self, url: &Url) -> Result<Url, SourceError> {
        self.tops.lock().insert(as_directory(url), Top::default());
        Ok(url.clone())
    }

    fn quota(&self) -> Option<Quota> {
        let tops = self.tops.lock();
        let mut all = tops.values();
        // Several may be parts of one, or each have its own.
        all.next().and_then(|top| top.quota).filter(|_| tops.len() == 1)
    }

    fn open<'a>(&'a self, asked: &'a Asked<'a>) -> BoxFuture<'a, Result<Option<Found>, SourceError>> {
        Box::pin(async move {
            let directory = as_directory(asked.url);
            if !asked.is_named {
                if *asked.url != directory
                    && let Ok(answer) = asked.metadata().await
                    && !is_page_in_place_of_a_file(asked.url, answer)
                {
                    return Ok(None);
                }
                if !self.is_spoken_at(asked.there).await {
                    return Ok(None);
                }
            }
            self.tops.lock().entry(directory.clone()).or_default();
            let listing = match asked.is_named {
                true => self.listing(&directory, asked.there, None).await,
                // Its index page was asked for.
                false => self.propfind(&directory, asked.there, None).await,
            };
            let failure = match listing {
                Ok(listing) => return Ok(Some(Found::Directory(directory, listing))),
                Err(failure) => failure,
            };
            // Some servers list no file at all (XRootD).
            let may_be_file = match &failure {
                Failure::File(_) => true,
                Failure::Source(error) => asked.is_named && *asked.url != directory && may_have_index_page(error),
            };
            if may_be_file && let Ok(answer) = asked.metadata().await {
                return Ok(Some(Found::File(answer.clone())));
            }
            Err(failure.into())
        })
    }

    fn list<'a>(&'a self, directory: &'a Url, there: &'a Url) -> BoxFuture<'a, Result<Listing, SourceError>> {
        Box::pin(async move { Ok(self.listing(directory, there, None).await?) })
    }

    fn list_early<'a>(
        &'a self,
        directory: &'a Url,
        there: &'a Url,
        names: &'a Arc<dyn NameSink>,
    ) -> BoxFuture<'a, Result<Listing, SourceError>> {
        Box::pin(async move { Ok(self.listing(directory, there, Some(names)).await?) })
    }

    fn list_if_changed<'a>(
        &'a self,
        directory: &'a Url,
        known: &'a Validator,
    ) -> BoxFuture<'a, Result<Option<Listing>, SourceError>> {
        Box::pin(async move {
            if self.is_unchanged(directory, known).await? {
                return Ok(None);
            }
            self.list(directory, directory).await.map(Some)
        })
    }

    fn tell_apart<'a>(&'a self, file: &'a Url, size: ListedSize, answer: &'a Metadata) -> BoxFuture<'a, NameKind> {
        // An index page may have had the name.
        self.pages.tell_apart(file, size, answer)
    }
}

/// Returns true if the server answered, but does not list the directory by PROPFIND; it may have an index page. Without a
/// connection, a login or time it has none either, and an overloaded server is not asked twice.
fn may_have_index_page(error: &SourceError) -> bool {
    match error.http().map(|error| &error.kind) {
        Some(HttpErrorKind::Status { status, .. }) => matches!(status, 400 | 405 | 415 | 500 | 501),
        Some(HttpErrorKind::Denied(status)) => *status == 403,
        Some(_) => false,
        None => true,
    }
}
