//! Asking what a URL is: its size, its version, its name.

use reqwest::{Method, header};
use url::Url;

use super::{Client, identity, ranges::ranged};
use crate::http::{
    HttpError, Metadata, Version, disposition,
    head::AnswerHead,
    hops::is_elsewhere,
    judge::{Verdict, judge, refuse_stand_in},
    redact,
    tags::is_unexpected,
};

impl Client {
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
}
