//! Answers to requests: what a web server would send for a file of this machine.

use std::io::{self, ErrorKind};
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use http::header::{CONTENT_LENGTH, CONTENT_RANGE, ETAG, HeaderMap, RANGE};
use http::{Method, Response, StatusCode};
use url::Url;

use super::body::FileBody;
use super::directory::LocalError;
use super::{LocalDirectories, LocalDirectory, Stamp};
use crate::http::HttpErrorKind;
use crate::http::response::head::AnswerHead;

impl LocalDirectories {
    /// The answer to a request for a `file:` URL: its head, and the response with the body.
    ///
    /// # Errors
    /// If there is no such file, it can't be read, or the file system does not answer within `timeout`.
    pub(crate) async fn answer(
        &self,
        method: &Method,
        headers: &HeaderMap,
        url: &Url,
        timeout: Duration,
    ) -> Result<(AnswerHead, reqwest::Response), HttpErrorKind> {
        let Some(directory) = self.of(url) else {
            let why = "it is in no directory that this mount may read".to_owned();
            return Err(HttpErrorKind::BadAnswer(why));
        };
        let want = headers.get(RANGE).and_then(|range| range_of(range.to_str().ok()?));
        let (has_body, url) = (*method != Method::HEAD, url.clone());
        let opening = tokio::task::spawn_blocking(move || respond(&directory, &url, has_body, want));
        match tokio::time::timeout(timeout, opening).await {
            Ok(Ok(answer)) => answer.map_err(|error| error.kind(timeout)),
            Ok(Err(panic)) => Err(HttpErrorKind::Unreadable(panic.to_string())),
            Err(_) => Err(HttpErrorKind::TimedOut(timeout)),
        }
    }
}

/// The range of a header `bytes=0-9`, as this client sends it; the end is exclusive.
fn range_of(header: &str) -> Option<Range<u64>> {
    let (start, last) = header.strip_prefix("bytes=")?.split_once('-')?;
    Some(start.parse().ok()?..last.parse::<u64>().ok()?.checked_add(1)?)
}

fn respond(
    directory: &Arc<LocalDirectory>,
    url: &Url,
    has_body: bool,
    want: Option<Range<u64>>,
) -> Result<(AnswerHead, reqwest::Response), LocalError> {
    let relative = directory
        .relative(url)
        .ok_or(ErrorKind::NotFound)
        .map_err(io::Error::from)?;
    if !has_body && directory.metadata(&relative)?.is_dir() {
        // Asked only to find out whether the file system answers.
        return built(Response::new(reqwest::Body::from("")), None);
    }
    let (file, metadata) = directory.file(&relative)?;
    let (stamp, size) = (Stamp::of(&metadata), metadata.len());
    let range = match want {
        // A server ignores the range of an empty file, or refuses it; this is simpler.
        Some(_) if size == 0 => None,
        want => want,
    };
    let mut answer = Response::builder().header(ETAG, stamp.tag());
    let sent = match range {
        None => 0..size,
        Some(range) if range.start >= size => {
            answer = answer
                .status(StatusCode::RANGE_NOT_SATISFIABLE)
                .header(CONTENT_RANGE, format!("bytes */{size}"));
            0..0
        }
        Some(range) => {
            let sent = range.start..range.end.min(size);
            let shown = format!("bytes {}-{}/{size}", sent.start, sent.end - 1);
            answer = answer.status(StatusCode::PARTIAL_CONTENT).header(CONTENT_RANGE, shown);
            sent
        }
    };
    answer = answer.header(CONTENT_LENGTH, sent.end - sent.start);
    let body = match has_body {
        true => reqwest::Body::wrap(FileBody::new(file, stamp, sent.start, sent.end)),
        false => reqwest::Body::from(""),
    };
    built(answer.body(body).map_err(io::Error::other)?, metadata.modified().ok())
}

fn built(
    response: Response<reqwest::Body>,
    modified: Option<SystemTime>,
) -> Result<(AnswerHead, reqwest::Response), LocalError> {
    let mut head = AnswerHead::of(response.status().as_u16(), response.headers(), SystemTime::now());
    head.modified_exactly = modified;
    Ok((head, response.into()))
}
