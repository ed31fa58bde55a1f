//! The source of WebDAV collections.
//!
//! A URL is WebDAV's if its scheme or `--type` says so. Otherwise the server is asked (OPTIONS) once no index page was
//! found there: one that speaks WebDAV says so by a `DAV` header.
//!
//! Some servers fail for a whole directory because of one name in it (nginx's dav_ext at a broken symbolic link), and some
//! speak WebDAV only in parts of their tree. Then the directory's index page is its listing, if it has one.

use std::collections::HashMap;

use bytes::Bytes;
use parking_lot::Mutex;
use reqwest::{
    Method,
    header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue},
};
use url::Url;

use super::{NotMultistatus, parse_with_quota};
use crate::http::HttpErrorKind;
use crate::origin::{Client, DocumentRequest, Metadata, as_directory};
use crate::source::web_index::{WebIndex, is_page_in_place_of_a_file};
use crate::source::{
    Asked, BoxFuture, Found, ListedSize, Listing, ListingConfig, NameKind, Quota, Source, SourceError,
};
use crate::util::events;

/// What is asked of each resource. No more: what a server has to look up for each name takes its time.
const PROPERTIES: &[u8] = b"<?xml version=\"1.0\" encoding=\"utf-8\"?>\n\
    <D:propfind xmlns:D=\"DAV:\"><D:prop><D:resourcetype/><D:getcontentlength/><D:getetag/><D:getlastmodified/></D:prop></D:propfind>";

/// The same and the quota (RFC 4331), which is asked for at the top of a source only.
const PROPERTIES_AND_QUOTA: &[u8] = b"<?xml version=\"1.0\" encoding=\"utf-8\"?>\n\
    <D:propfind xmlns:D=\"DAV:\"><D:prop><D:resourcetype/><D:getcontentlength/><D:getetag/><D:getlastmodified/>\
    <D:quota-available-bytes/><D:quota-used-bytes/></D:prop></D:propfind>";

/// The name of the kind.
pub(crate) const WEBDAV: &str = "webdav";

/// The source of WebDAV collections.
pub(crate) struct Collections {
    client: Client,
    config: ListingConfig,
    /// For directories that PROPFIND does not list.
    pages: WebIndex,
    /// The directories at the top of sources, with the quota that the server says. Locked for a moment.
    tops: Mutex<HashMap<Url, Option<Quota>>>,
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

    /// Requests the names in `directory` from `there`, which may lack the `/` at its end.
    async fn propfind(&self, directory: &Url, there: &Url) -> Result<Listing, Failure> {
        let is_top = self.tops.lock().contains_key(directory);
        let headers = [
            (HeaderName::from_static("depth"), HeaderValue::from_static("1")),
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
            body: Bytes::from_static(match is_top {
                true => PROPERTIES_AND_QUOTA,
                false => PROPERTIES,
            }),
            accepts: &[207, 200],
            ..DocumentRequest::default()
        };
        let answer = self.client.document(there, request).await;
        let answer = answer.map_err(|error| Failure::Source(error.into()))?;
        let (config, home, answered) = (self.config, directory.clone(), as_directory(&answer.url));
        // A long answer takes seconds, and the runtime's threads have to move bodies.
        let reading = tokio::task::spawn_blocking(move || {
            parse_with_quota(&home, &answer.url, &answer.body, answer.charset.as_deref(), &config)
        });
        match reading.await {
            Ok(Ok((listing, quota))) => {
                if let Some(known) = self.tops.lock().get_mut(directory) {
                    *known = quota;
                }
                self.client.found_directory(&as_directory(there), &answered);
                Ok(listing)
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
    async fn listing(&self, directory: &Url, there: &Url) -> Result<Listing, Failure> {
        let failure = match self.propfind(directory, there).await {
            Err(Failure::Source(error)) if may_have_index_page(&error) => error,
            answer => return answer,
        };
        match self.pages.list(directory, &as_directory(there)).await {
            Ok(listing) if listing.is_marked => {
                log::info!(event = events::INDEX_PAGE_USED; "{failure}; its index page is its listing");
                Ok(listing)
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
        self.tops.lock().insert(as_directory(url), None);
        Ok(url.clone())
    }

    fn quota(&self) -> Option<Quota> {
        let tops = self.tops.lock();
        let mut all = tops.values();
        // Several may be parts of one, or each have its own.
        all.next().copied().flatten().filter(|_| tops.len() == 1)
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
                true => self.listing(&directory, asked.there).await,
                // Its index page was asked for.
                false => self.propfind(&directory, asked.there).await,
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
        Box::pin(async move { Ok(self.listing(directory, there).await?) })
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
