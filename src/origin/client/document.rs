//! Documents: responses that are read completely, such as index pages and PROPFIND answers.
//!
//! A source says in a [`DocumentRequest`] what it sends and which statuses it can use. A document has at most
//! [`HttpConfig::max_page`](crate::http::HttpConfig::max_page) bytes. **One large document is held at a time**, to bound
//! memory.

use std::{sync::Arc, time::SystemTime};

use bytes::Bytes;
use reqwest::{Method, header::HeaderMap};
use tokio::sync::OwnedSemaphorePermit;
use url::Url;

use super::Client;
use crate::http::{
    HttpError, HttpErrorKind, redact,
    response::{
        coding::{Unpacking, unpack},
        head::excerpt,
    },
};
use crate::origin::request::{
    body::Body,
    transport::{HttpRequest, HttpResponse},
};

/// Size in bytes from which a document counts as large: an index of some 30,000 names.
pub(super) const LARGE: u64 = 4 << 20;

/// A request for a document.
#[derive(Debug, Clone)]
pub(crate) struct DocumentRequest {
    /// A safe method (RFC 9110 §9.2.1): the request may be sent again on another connection.
    pub method: Method,
    /// Headers beside those of the origin. A `User-Agent` here replaces fetchfs's own.
    pub headers: HeaderMap,
    /// The body; empty for none.
    pub body: Bytes,
    /// The statuses that answer the request. Any other is an error.
    pub accepts: &'static [u16],
}

impl Default for DocumentRequest {
    /// A GET that is answered by 200.
    fn default() -> DocumentRequest {
        DocumentRequest {
            method: Method::GET,
            headers: HeaderMap::new(),
            body: Bytes::new(),
            accepts: &[200],
        }
    }
}

/// A document that was read completely.
#[derive(Debug)]
pub(crate) struct Document {
    /// The URL after all redirects: the base of relative links.
    pub url: Url,
    /// One of [`DocumentRequest::accepts`].
    pub status: u16,
    /// The response's headers.
    pub headers: HeaderMap,
    /// Media type without parameters, in lower case.
    pub content_type: Option<String>,
    /// The charset as the server wrote it.
    pub charset: Option<String>,
    /// Last-Modified.
    pub modified: Option<SystemTime>,
    /// Unpacked if the server compressed it.
    pub body: Vec<u8>,
    /// The permit that keeps other large documents from being held at the same time.
    _permit: Option<OwnedSemaphorePermit>,
}

impl Client {
    /// Requests a document. A large one waits until no other large one is held.
    ///
    /// # Errors
    /// - The status's own, if the request does not accept it.
    /// - `BadAnswer` for anything but a complete document within the maximum size.
    pub(crate) async fn document(&self, url: &Url, request: DocumentRequest) -> Result<Document, HttpError> {
        let mut headers = HttpRequest::whole().headers;
        headers.extend(request.headers);
        let sent = HttpRequest {
            method: request.method,
            headers,
            body: request.body,
        };
        let answer = self.transport().send(sent, url).await?;
        if !request.accepts.contains(&answer.head.status) {
            return Err(answer.refused().await);
        }
        let HttpResponse {
            url, head, response, ..
        } = answer;
        let shown = redact(&url);
        let fail = |kind| HttpError {
            kind,
            url: shown.clone(),
        };
        let most = self.transport().config.max_page;
        let too_long = || {
            let shown = bytesize::ByteSize(most).display().iec();
            fail(HttpErrorKind::BadAnswer(format!(
                "a page of more than {shown}; raise --max-listing-size"
            )))
        };
        if head.content_length.is_some_and(|length| length > most) {
            return Err(too_long());
        }
        let (modified, headers) = (head.modified(), response.headers().clone());
        let (due, timeout) = (head.content_length, self.transport().config.timeout);
        let mut pieces = Body::new(response, due, due, timeout, shown.clone());
        // Reserve memory as the body arrives, not as Content-Length announces.
        let mut body = Vec::new();
        let mut permit = None;
        while let Some(piece) = pieces.next().await? {
            let length = (body.len() + piece.len()) as u64;
            if length > most {
                return Err(too_long());
            }
            if length > LARGE && permit.is_none() {
                // An error would mean a closed semaphore, and no code closes it.
                permit = Arc::clone(&self.shared.large_page).acquire_owned().await.ok();
            }
            body.extend_from_slice(&piece);
        }
        if let Some(coding) = head.coding {
            body = match unpack(&coding, body, most).await {
                Ok(body) => body,
                Err(Unpacking::TooLong) => return Err(too_long()),
                Err(Unpacking::Damaged) => {
                    let why = format!("a page that declares {} and is not in it", excerpt(&coding));
                    return Err(fail(HttpErrorKind::BadAnswer(why)));
                }
            };
        }
        Ok(Document {
            url,
            status: head.status,
            headers,
            content_type: head.content_type,
            charset: head.charset,
            modified,
            body,
            _permit: permit,
        })
    }

    /// The document at a URL, by a GET.
    #[cfg(test)]
    pub(crate) async fn page(&self, url: &Url) -> Result<Document, HttpError> {
        self.document(url, DocumentRequest::default()).await
    }
}
