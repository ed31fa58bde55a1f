//! Range requests.

use std::ops::Range;

use url::Url;

use super::{Client, answers::RangeAnswer};
use crate::{
    http::{
        HttpError, HttpErrorKind, Validator, Version, is_local, redact,
        response::{
            head::AnswerHead,
            validation::{Verdict, is_longer, judge, judge_instead},
        },
    },
    origin::{
        limits::request_class::RequestClass,
        request::{
            redirects::{AfterFailure, Route},
            transport::HttpRequest,
        },
        version_aliases::VersionLabel,
    },
};

impl Client {
    /// Requests the bytes `want` (end exclusive, not empty) of a file with the expected version `known`.
    ///
    /// Uses the URL's last redirect target, if any, and the URL itself after that has failed. Returns after the head of
    /// the response was read and validated.
    ///
    /// # Errors
    /// `BadAnswer` for a response that fails validation; otherwise as the response or its absence demands.
    pub async fn range(&self, url: &Url, want: Range<u64>, known: Option<&Version>) -> Result<RangeAnswer, HttpError> {
        self.range_by(None, url, want, known).await
    }

    /// [`Self::range`], where `route` learns each target before the request goes there.
    ///
    /// # Errors
    /// As for [`Self::range`].
    pub async fn range_by(
        &self,
        route: Option<&dyn Route>,
        url: &Url,
        want: Range<u64>,
        known: Option<&Version>,
    ) -> Result<RangeAnswer, HttpError> {
        if want.is_empty() {
            let kind = HttpErrorKind::BadAnswer("an empty range can't be requested".to_owned());
            return Err(HttpError { kind, url: redact(url) });
        }
        let redirects = &self.transport().redirects;
        let Some(link) = redirects.take(url) else {
            return self.range_from(route, url, url, want, known).await;
        };
        if let Some(route) = route {
            route.leads_to(&link).await;
        }
        let failure = match self.range_from(route, &link, url, want.clone(), known).await {
            Ok(answer @ (RangeAnswer::Partial { .. } | RangeAnswer::Whole { .. } | RangeAnswer::Doubtful { .. })) => {
                return Ok(answer);
            }
            // Only the URL itself can say that the file has changed.
            Ok(_) => None,
            Err(error) => Some(error),
        };
        let next = failure
            .as_ref()
            .map_or(AfterFailure::AskFirst, |error| AfterFailure::of(&error.kind));
        if next != AfterFailure::Keep {
            log::debug!("{}: a cached redirect is no longer valid", redact(url));
            redirects.forget(url, &link);
        }
        match failure {
            Some(error) if next != AfterFailure::AskFirst => Err(error),
            _ => self.range_from(route, url, url, want, known).await,
        }
    }

    /// Requests a range of the file `url` from `first`.
    async fn range_from(
        &self,
        route: Option<&dyn Route>,
        first: &Url,
        url: &Url,
        want: Range<u64>,
        known: Option<&Version>,
    ) -> Result<RangeAnswer, HttpError> {
        let transport = self.transport();
        let mut answer = transport
            .send_for(RequestClass::Bytes, route, HttpRequest::range(&want), first)
            .await?;
        answer.head.note_place(url, &answer.url);
        if let Some(known) = known {
            self.shared.aliases.restate(url, known, &mut answer.head);
        }
        let mut verdict = judge(&answer.head, want.clone(), known);
        // The server refused the range by its status. Request the whole file once, which a server without ranges sends.
        if let Verdict::Refused(refusal) = verdict {
            answer.response.finish().await;
            answer = transport
                .send_for(RequestClass::Bytes, route, HttpRequest::whole(), first)
                .await?;
            answer.head.note_place(url, &answer.url);
            if let Some(known) = known {
                self.shared.aliases.restate(url, known, &mut answer.head);
            }
            verdict = judge_instead(&answer.head, want.clone(), known, refusal);
        }
        let told = VersionLabel::of(&answer.head);
        let doubtful = known.filter(|_| !is_local(url));
        let doubtful = doubtful.and_then(|known| doubt(&answer.head, &want, known, &verdict));
        let is_doubtful = doubtful.is_some();
        let verdict = doubtful.unwrap_or(verdict);
        if matches!(
            verdict,
            Verdict::Changed(_) | Verdict::Failed(HttpErrorKind::Contradiction(_))
        ) {
            self.shared.head_trusts.doubt(url);
        }
        if matches!(verdict, Verdict::Partial { .. } | Verdict::Whole { .. }) {
            transport.redirects.remember(url, &answer.url);
        }
        if let (Some(value), Some(version)) = (&answer.head.repr_digest, version_of(&verdict)) {
            self.shared.digests.note_header(url, &version, value);
        }
        let modified = answer.head.modified();
        let answer = match verdict {
            Verdict::Partial { version, range } => {
                let is_longer = is_longer(&answer.head, &want);
                let mut body = transport.body(answer, Some(range.end - range.start)).that_gives_way();
                if is_longer {
                    body.leave_the_rest();
                }
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
                body: transport.body(answer, size),
            },
            Verdict::Changed(version) => RangeAnswer::Changed(version),
            Verdict::PastEnd { size } => RangeAnswer::PastEnd { size },
            Verdict::Refused(kind) | Verdict::Failed(kind) => return Err(answer.failed(kind).await),
        };
        Ok(if is_doubtful {
            let answer = Box::new(answer);
            RangeAnswer::Doubtful { told, answer }
        } else {
            answer
        })
    }
}

/// The version that a usable response is of.
fn version_of(verdict: &Verdict) -> Option<Version> {
    match verdict {
        Verdict::Partial { version, .. } => Some(version.clone()),
        Verdict::Whole { size, validator } => Some(Version {
            size: (*size)?,
            validator: validator.clone(),
        }),
        _ => None,
    }
}

/// The verdict on a response if it were of the known version; `None` unless only its validators contradict that.
fn doubt(head: &AnswerHead, want: &Range<u64>, known: &Version, verdict: &Verdict) -> Option<Verdict> {
    let is_contradicted = match verdict {
        Verdict::Changed(_) => true,
        // It has no validator. A web page may be in the file's place, and does not count.
        Verdict::Failed(HttpErrorKind::BadAnswer(_)) => head.status == 206 || !head.is_web_page(),
        _ => false,
    };
    if !is_contradicted || known.validator == Validator::None {
        return None;
    }
    let size_alone = Version {
        size: known.size,
        validator: Validator::None,
    };
    match judge(head, want.clone(), Some(&size_alone)) {
        Verdict::Partial { range, .. } => Some(Verdict::Partial {
            version: known.clone(),
            range,
        }),
        Verdict::Whole { size, .. } if size == Some(known.size) => Some(Verdict::Whole {
            size,
            validator: known.validator.clone(),
        }),
        _ => None,
    }
}
