//! Metadata of a URL: size, version, name. GET decides, HEAD is a hint ([`head_trust`](crate::origin::head_trust)).

use reqwest::header;
use url::Url;

use super::{Client, answers::Metadata};
use crate::http::{
    HttpError, HttpErrorKind, Version, redact,
    response::{
        disposition,
        head::AnswerHead,
        validation::{is_same_version, refuse_stand_in},
    },
};
use crate::origin::{
    head_trust::{HeadTrust, ProbeForm},
    mirrors::other_version,
    request::transport::{HttpRequest, HttpResponse},
};

impl Client {
    /// [`Self::metadata`] of a file with an optional known version `expected`.
    ///
    /// A HEAD that reports no change is enough. Otherwise, or without a response to it, a GET decides. `listed` is the
    /// exact size in bytes from the file's listing, if any.
    ///
    /// # Errors
    /// As for [`Self::metadata`]; `BadAnswer` also for a web page in the file's place, such as a login form.
    pub async fn confirm(
        &self,
        url: &Url,
        expected: Option<&Version>,
        listed: Option<u64>,
    ) -> Result<Metadata, HttpError> {
        let Some(known) = expected else {
            return self.metadata(url).await;
        };
        let goes_by_head = self.shared.aliases.goes_by_head(url, known);
        let mut head = match self.asks_head(url).await {
            None if goes_by_head => Some(self.transport().head(url).await),
            head => head,
        };
        if let Some(Ok(answer)) = &mut head {
            self.shared.aliases.restate(url, known, &mut answer.head);
        }
        let head = match head {
            Some(Err(error)) if !may_answer_get(&error.kind) => return Err(error),
            Some(Ok(answer)) if !goes_by_head && self.shared.head_trusts.of(url) == HeadTrust::Doubted => {
                Some(Ok(answer))
            }
            Some(Ok(answer)) if is_same_version(&answer.head, known) => {
                self.shared.head_trusts.note_head(url, true);
                return Ok(Metadata {
                    version: Some(known.clone()),
                    validator: known.validator.clone(),
                    ..Metadata::of(answer.url, &answer.head, Some(known.size))
                });
            }
            // The validators of GET mean nothing here.
            Some(Ok(answer)) if goes_by_head && tells_size(&answer.head) => {
                let size = answer.head.content_length;
                return Ok(Metadata::of(answer.url, &answer.head, size));
            }
            head => head,
        };
        let found = self.probe(url).await?;
        let mut found = self.named(url, found).await;
        self.restated(url, known, &mut found);
        if let Some(head) = head {
            self.compare(url, head.ok().as_ref(), &found);
        }
        let mut head = found.as_head();
        head.note_place(url, &found.url);
        match refuse_stand_in(&head, known) {
            Err(kind) => Err(HttpError { kind, url: redact(url) }),
            Ok(()) => Ok(found.or_known(known, listed)),
        }
    }

    /// What kind of resource a URL is.
    ///
    /// Sends one GET of the first byte. If an origin answers each with the whole file, a HEAD is cheaper: one HEAD is
    /// compared with the GET, and if they agree, HEAD is used from then on.
    ///
    /// # Errors
    /// As the response or its absence demands.
    pub async fn metadata(&self, url: &Url) -> Result<Metadata, HttpError> {
        let trusts = &self.shared.head_trusts;
        let sends_whole = || trusts.probe_form(url) == ProbeForm::Whole;
        let mut head = None;
        if sends_whole() && trusts.of(url) == HeadTrust::Proven {
            match self.transport().head(url).await {
                Ok(answer) if tells_size(&answer.head) => {
                    let size = answer.head.content_length;
                    return Ok(Metadata::of(answer.url, &answer.head, size));
                }
                Err(error) if !may_answer_get(&error.kind) => return Err(error),
                answer => head = Some(answer),
            }
        }
        let found = self.probe(url).await?;
        let found = self.named(url, found).await;
        let may_be_proven = matches!(trusts.of(url), HeadTrust::Unproven | HeadTrust::Doubted);
        if head.is_none() && sends_whole() && found.size.is_some() && may_be_proven {
            head = Some(self.transport().head(url).await);
        }
        if let Some(head) = head {
            self.compare(url, head.ok().as_ref(), &found);
        }
        Ok(found)
    }

    /// [`Self::metadata`] from a mirror, of a file whose version is unknown. The response must name the version.
    ///
    /// # Errors
    /// As for [`Self::metadata`].
    pub async fn metadata_of_mirror(&self, there: &Url) -> Result<Metadata, HttpError> {
        let found = self.metadata(there).await?;
        // The URL of a directory redirects to the directory's own URL.
        let is_named = found
            .version
            .as_ref()
            .is_some_and(|version| version.validator.names_a_version_anywhere());
        if is_named || found.url.path().ends_with('/') {
            return Ok(found);
        }
        let (kind, url) = (other_version(), redact(there));
        Err(HttpError { kind, url })
    }

    /// The response to a HEAD; `None` if HEAD is not trusted for this origin.
    async fn asks_head(&self, url: &Url) -> Option<Result<HttpResponse, HttpError>> {
        let is_believed = self.shared.head_trusts.of(url) != HeadTrust::Distrusted;
        if is_believed {
            Some(self.transport().head(url).await)
        } else {
            None
        }
    }

    /// Records whether a HEAD, if there was a response, agreed with the GET that followed.
    fn compare(&self, url: &Url, head: Option<&HttpResponse>, found: &Metadata) {
        let agrees = head.is_some_and(|answer| {
            let head = &answer.head;
            match &found.version {
                Some(version) => is_same_version(head, version),
                // There is no length that could be wrong.
                None => head.status == 200 && head.content_length.is_none(),
            }
        });
        self.shared.head_trusts.note_head(url, agrees);
    }

    /// The file name that the server gives (Content-Disposition), as bytes, if any.
    ///
    /// # Errors
    /// As the response or its absence demands.
    pub async fn file_name(&self, url: &Url) -> Result<Option<Vec<u8>>, HttpError> {
        // A GET of the first byte instead of HEAD: servers that generate such names often implement GET only.
        let mut answer = self.transport().send(HttpRequest::range(&(0..1)), url).await?;
        if matches!(answer.head.status, 400 | 405 | 501) {
            answer.response.finish().await;
            answer = self.transport().send(HttpRequest::whole(), url).await?;
        }
        if !matches!(answer.head.status, 200 | 206 | 416) {
            return Err(answer.refused().await);
        }
        let header = answer.response.headers().get(header::CONTENT_DISPOSITION);
        let name = header.and_then(|value| disposition::file_name(value.as_bytes()));
        answer.response.finish().await;
        Ok(name)
    }
}

/// Returns true if the head of a 200 has a plausible size. Some handlers send length 0 for every file, and a compressed
/// form has its own length.
fn tells_size(head: &AnswerHead) -> bool {
    head.status == 200 && head.coding.is_none() && head.content_length.is_some_and(|size| size > 0)
}

/// Returns true if a GET may succeed after HEAD failed this way: not if the server is unreachable or access is denied.
fn may_answer_get(kind: &HttpErrorKind) -> bool {
    !kind.is_connect_failure()
        && !matches!(
            kind,
            HttpErrorKind::Offline
                | HttpErrorKind::NoCredentials(_)
                | HttpErrorKind::Untrusted(_)
                | HttpErrorKind::NoDescriptors
        )
}
