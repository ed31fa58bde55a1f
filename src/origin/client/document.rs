//! Documents: responses that are read completely, such as index pages and PROPFIND answers.
//!
//! A source says in a [`DocumentRequest`] what it sends and which statuses it can use. A document has at most
//! [`HttpConfig::max_page`](crate::http::HttpConfig::max_page) bytes. **One large document is held at a time**, to bound
//! memory.
//!
//! A request may name the validator of a document that is known. The server then sends the document only if it has
//! another one now, and else 304.
//!
//! A document can be read while it is received ([`IncomingDocument`]).

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use reqwest::{
    Method,
    header::{DATE, HeaderMap, HeaderName, HeaderValue, IF_MODIFIED_SINCE, IF_NONE_MATCH},
};
use tokio::sync::OwnedSemaphorePermit;
use url::Url;

use super::Client;
use super::long_documents::{LONG, Reading};
use crate::http::{
    HttpError, HttpErrorKind, Validator, redact,
    response::{
        coding::{Unpacking, unpack},
        head::{AnswerHead, excerpt},
        version::parse_date,
    },
};
use crate::origin::request::{
    body::Body,
    transport::{HttpRequest, HttpResponse},
};
use crate::util::clock;

/// Size in bytes from which a document counts as large: an index of some 30,000 names.
pub(super) const LARGE: u64 = 4 << 20;

/// The status of a document that is the known one.
const NOT_MODIFIED: u16 = 304;

/// Least age of a Last-Modified at the time of the response. A younger one proves nothing: the document may change once
/// more within the same second (RFC 9110 §8.8.2.2), and clocks may differ by one.
const SETTLED: Duration = Duration::from_secs(2);

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
    /// The validator of the document that is known; the request is for another one.
    pub unless: Validator,
}

impl Default for DocumentRequest {
    /// A GET that is answered by 200.
    fn default() -> DocumentRequest {
        DocumentRequest {
            method: Method::GET,
            headers: HeaderMap::new(),
            body: Bytes::new(),
            accepts: &[200],
            unless: Validator::None,
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
    /// The validator for [`DocumentRequest::unless`].
    pub validator: Validator,
    /// Unpacked if the server compressed it.
    pub body: Vec<u8>,
    /// Set if it is long, until it was read.
    reading: Option<Reading>,
    /// The permit that keeps other large documents from being held at the same time.
    permit: Option<OwnedSemaphorePermit>,
}

impl Document {
    /// Returns true if the document is that of [`DocumentRequest::unless`]; it was not sent again.
    pub(crate) fn is_unchanged(&self) -> bool {
        self.status == NOT_MODIFIED
    }
}

/// The header that makes a request one for another document than this; `None` if the validator has no form for that.
fn precondition(known: &Validator) -> Option<(HeaderName, HeaderValue)> {
    let (name, text) = match known {
        Validator::Strong(tag) | Validator::Weak(tag) if is_entity_tag(tag) => (IF_NONE_MATCH, tag),
        Validator::Dated(date) if parse_date(date).is_some() => (IF_MODIFIED_SINCE, date),
        _ => return None,
    };
    // Each character stands for a byte of the header.
    let bytes: Option<Vec<u8>> = text.chars().map(|character| u8::try_from(character).ok()).collect();
    Some((name, HeaderValue::from_bytes(&bytes?).ok()?))
}

/// Returns true for one tag in quotes (RFC 9110 §8.8.3). Anything else could match by chance.
fn is_entity_tag(text: &str) -> bool {
    let quoted = text.strip_prefix("W/").unwrap_or(text);
    let tag = quoted.strip_prefix('"').and_then(|tag| tag.strip_suffix('"'));
    tag.is_some_and(|tag| !tag.is_empty() && !tag.contains('"'))
}

/// The validator of a document by the head of its response, which came at `now` or at the time in its `Date`.
fn validator_of(head: &AnswerHead, date: Option<SystemTime>, now: SystemTime) -> Validator {
    let validator = head.validator();
    if precondition(&validator).is_none() {
        return Validator::None;
    }
    let is_settled = |modified: SystemTime| modified + SETTLED <= date.unwrap_or(now);
    match validator {
        Validator::Dated(text) if !parse_date(&text).is_some_and(is_settled) => Validator::None,
        validator => validator,
    }
}

/// A document that is being received.
pub(crate) struct IncomingDocument {
    /// What is known of it. Its body has what [`Self::next`] was asked for and [`Self::hold`] was given.
    document: Document,
    client: Client,
    asked: Url,
    pieces: Body,
    /// Its Content-Encoding.
    coding: Option<String>,
    /// Bytes received so far.
    received: u64,
    /// A piece that was received and not returned yet.
    next: Option<Bytes>,
}

impl IncomingDocument {
    /// The document, with the part of its body that was [held](Self::hold).
    pub(crate) fn document(&self) -> &Document {
        &self.document
    }

    /// A copy of the document, with the part of its body that was [held](Self::hold).
    pub(crate) fn beginning(&self) -> Document {
        let document = &self.document;
        Document {
            url: document.url.clone(),
            headers: document.headers.clone(),
            content_type: document.content_type.clone(),
            charset: document.charset.clone(),
            validator: document.validator.clone(),
            body: document.body.clone(),
            reading: None,
            permit: None,
            ..*document
        }
    }

    /// Returns true if its bytes are not its text: the server has compressed it.
    pub(crate) fn is_coded(&self) -> bool {
        self.coding.is_some()
    }

    /// The next bytes of its body; `None` at its end. A large document waits here until no other large one is held. Dropping the
    /// future loses no bytes.
    ///
    /// # Errors
    /// If the transfer fails, or the document is longer than the maximum.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>, HttpError> {
        if self.next.is_none() {
            let Some(piece) = self.pieces.next().await? else {
                return Ok(None);
            };
            self.received += piece.len() as u64;
            self.next = Some(piece);
        }
        if self.received > self.client.max_page() {
            return Err(too_long(&self.client, &self.document.url));
        }
        if self.received > LONG && self.document.reading.is_none() {
            self.document.reading = Some(self.client.shared.long_documents.note(&self.asked));
        }
        if self.received > LARGE && self.document.permit.is_none() {
            // An error would mean a closed semaphore, and no code closes it.
            let permit = Arc::clone(&self.client.shared.large_page).acquire_owned().await;
            self.document.permit = permit.ok();
        }
        Ok(self.next.take())
    }

    /// Keeps bytes that [`Self::next`] has returned as a part of the body.
    pub(crate) fn hold(&mut self, piece: &[u8]) {
        self.document.body.extend_from_slice(piece);
    }

    /// The document, once its rest was received. **Nothing but what was held may be missing.**
    ///
    /// # Errors
    /// As for [`Self::next`], and if it is not in the coding that it declares.
    pub(crate) async fn whole(mut self) -> Result<Document, HttpError> {
        while let Some(piece) = self.next().await? {
            self.hold(&piece);
        }
        let mut document = self.document;
        if let Some(coding) = self.coding {
            let most = self.client.max_page();
            document.body = match unpack(&coding, document.body, most).await {
                Ok(body) => body,
                Err(Unpacking::TooLong) => return Err(too_long(&self.client, &document.url)),
                Err(Unpacking::Damaged) => {
                    let why = format!("a page that declares {} and is not in it", excerpt(&coding));
                    return Err(HttpError {
                        kind: HttpErrorKind::BadAnswer(why),
                        url: redact(&document.url),
                    });
                }
            };
        }
        Ok(document)
    }
}

fn too_long(client: &Client, url: &Url) -> HttpError {
    let most = bytesize::ByteSize(client.max_page());
    HttpError {
        kind: HttpErrorKind::BadAnswer(format!(
            "a page of more than {}; raise --max-listing-size",
            most.display().iec()
        )),
        url: redact(url),
    }
}

impl Client {
    /// Requests a document. A large one waits until no other large one is held.
    ///
    /// # Errors
    /// - The status's own, if the request does not accept it.
    /// - `BadAnswer` for anything but a complete document within the maximum size.
    pub(crate) async fn document(&self, url: &Url, request: DocumentRequest) -> Result<Document, HttpError> {
        self.incoming_document(url, request).await?.whole().await
    }

    /// Requests a document, of which nothing but the head was received yet.
    ///
    /// # Errors
    /// As for [`Self::document`].
    pub(crate) async fn incoming_document(
        &self,
        url: &Url,
        request: DocumentRequest,
    ) -> Result<IncomingDocument, HttpError> {
        let mut headers = HttpRequest::whole().headers;
        headers.extend(request.headers);
        let precondition = precondition(&request.unless);
        let is_conditional = precondition.is_some();
        headers.extend(precondition);
        let sent = HttpRequest {
            method: request.method,
            headers,
            body: request.body,
            is_bare: false,
        };
        let answer = self.transport().send(sent, url).await?;
        let is_unchanged = is_conditional && answer.head.status == NOT_MODIFIED;
        if !is_unchanged && !request.accepts.contains(&answer.head.status) {
            return Err(answer.refused().await);
        }
        let asked = url;
        let HttpResponse {
            url, head, response, ..
        } = answer;
        let most = self.transport().config.max_page;
        if head.content_length.is_some_and(|length| length > most) {
            return Err(too_long(self, &url));
        }
        let (modified, headers) = (head.modified(), response.headers().clone());
        let date = headers.get(DATE).and_then(|date| parse_date(date.to_str().ok()?));
        let validator = validator_of(&head, date, clock::now());
        let (due, timeout) = (head.content_length, self.transport().config.timeout);
        Ok(IncomingDocument {
            client: self.clone(),
            asked: asked.clone(),
            pieces: Body::new(response, due, due, timeout, redact(&url)),
            coding: head.coding,
            received: 0,
            next: None,
            document: Document {
                url,
                status: head.status,
                headers,
                content_type: head.content_type,
                charset: head.charset,
                modified,
                validator,
                // Memory is reserved as the body arrives, not as Content-Length announces.
                body: Vec::new(),
                reading: None,
                permit: None,
            },
        })
    }

    /// Returns once a document at this URL is being read that is long: it will take longer than another request.
    pub(crate) async fn is_reading_long(&self, url: &Url) {
        self.shared.long_documents.wait(url).await;
    }

    /// The document at a URL, by a GET.
    #[cfg(test)]
    pub(crate) async fn page(&self, url: &Url) -> Result<Document, HttpError> {
        self.document(url, DocumentRequest::default()).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(etag: Option<&str>, last_modified: Option<&str>) -> AnswerHead {
        AnswerHead {
            etag: etag.map(str::to_owned),
            last_modified: last_modified.map(str::to_owned),
            ..AnswerHead::default()
        }
    }

    #[test]
    fn date_close_to_the_response_proves_nothing() {
        let modified = "Sun, 06 Nov 1994 08:49:37 GMT";
        let at = parse_date(modified).unwrap();
        let of = |after| validator_of(&head(None, Some(modified)), Some(at + Duration::from_secs(after)), at);
        assert_eq!([of(0), of(1)], [Validator::None, Validator::None]);
        assert_eq!(of(2), Validator::Dated(modified.to_owned()));
        let later = at + Duration::from_secs(60);
        let without_date = validator_of(&head(None, Some(modified)), None, later);
        assert_eq!(without_date, Validator::Dated(modified.to_owned()));
        let strong = validator_of(&head(Some("\"a\""), Some(modified)), Some(at), at);
        assert_eq!(strong, Validator::Strong("\"a\"".to_owned()));
    }

    #[test]
    fn only_well_formed_validators_are_sent() {
        let sent = |validator: Validator| precondition(&validator).map(|(name, value)| format!("{name}: {value:?}"));
        assert_eq!(
            sent(Validator::Weak("W/\"x\"".into())).as_deref(),
            Some("if-none-match: \"W/\\\"x\\\"\"")
        );
        for text in ["", "x", "\"\"", "\"a\", \"b\"", "*", "\"\u{100}\""] {
            assert_eq!(sent(Validator::Strong(text.into())), None, "{text}");
        }
        assert_eq!(sent(Validator::Dated("yesterday".into())), None);
        assert_eq!(sent(Validator::None), None);
    }
}
