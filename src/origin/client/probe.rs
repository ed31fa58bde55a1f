//! How long a file is, asked by GET of its first bytes.
//!
//! `bytes=0-0`, else `bytes=0-1`, else a GET without Range that is closed after its head ([`ProbeForm`]). What an answer to one of
//! them tells is a pure function ([`read`]).

use reqwest::Method;
use url::Url;

use super::redirect_chain::Answer;
use super::{Client, identity, ranges::ranged};
use crate::http::{
    HttpError, HttpErrorKind, redact,
    response::{
        head::AnswerHead,
        validation::{Total, meant_status, total},
    },
};
use crate::origin::{
    Metadata,
    connection_limit::RequestClass,
    head_trust::{HeadTrust, ProbeForm},
};

/// What the answer to a probe tells.
#[derive(Debug, PartialEq, Eq)]
enum Probed {
    /// How many bytes the file has; `None`: as many as come.
    Size(Option<u64>),
    /// The request was refused, or answered in a way that tells no size: the next form may be. If a 416 named a total, that is it.
    Refused(Option<u64>),
    /// No form of the question would get another answer.
    Failed(HttpErrorKind),
}

fn read(head: &AnswerHead) -> Probed {
    match meant_status(head) {
        200 => match head.refuse_coding(None) {
            Ok(()) => Probed::Size(head.content_length),
            Err(kind) => Probed::Failed(kind),
        },
        206 => match total(head) {
            // Where the part is from says something of the server, and nothing of the total.
            Some(Total::Known { size, part }) => match head.refuse_coding(Some(part)) {
                Ok(()) => Probed::Size(Some(size)),
                Err(kind) => Probed::Failed(kind),
            },
            _ => Probed::Refused(None),
        },
        416 => match total(head) {
            Some(Total::Unsatisfied(size)) => Probed::Refused(Some(size)),
            _ => Probed::Refused(None),
        },
        // 204 and 500 come of empty files, whose last byte is byte -1.
        204 | 400 | 405 | 406 | 500 | 501 => Probed::Refused(None),
        _ => Probed::Failed(head.failure()),
    }
}

impl Client {
    /// Learns from a GET of the first bytes what a URL is.
    ///
    /// # Errors
    /// As the answers to GET ask.
    pub(super) async fn probe(&self, url: &Url) -> Result<Metadata, HttpError> {
        let trusts = &self.shared.head_trusts;
        let (mut total, mut refusal) = (None, None);
        for form in trusts.probe_form(url).onwards() {
            let headers = match form {
                ProbeForm::OneByte => ranged(&(0..1)),
                ProbeForm::TwoBytes => ranged(&(0..2)),
                ProbeForm::Whole => identity(),
            };
            let mut answer = self.send(Method::GET, url, headers).await?;
            match read(&answer.head) {
                Probed::Size(size) => {
                    if size.is_some_and(|size| size > 1) {
                        let ignores_range = meant_status(&answer.head) == 200;
                        trusts.note_probe(url, if ignores_range { ProbeForm::Whole } else { form });
                    }
                    let metadata = Metadata::of(answer.url.clone(), &answer.head, size.or(total));
                    self.finish(&mut answer.response).await;
                    return Ok(metadata);
                }
                Probed::Refused(told) => {
                    total = told.or(total);
                    let error = self.refused(answer).await;
                    refusal.get_or_insert(error);
                }
                Probed::Failed(kind) => {
                    let is_not_ready = answer.head.status == 202;
                    let error = self.failed(answer, kind).await;
                    return match is_not_ready {
                        true => self.hinted(url, error, |size| size > 0).await,
                        false => Err(error),
                    };
                }
            }
        }
        let refusal = refusal.unwrap_or_else(|| HttpError {
            kind: HttpErrorKind::BadAnswer("its size is not told".to_owned()),
            url: redact(url),
        });
        match total {
            // Headers of a refusal describe the refusal.
            Some(size) => Ok(Metadata::of(url.clone(), &AnswerHead::default(), Some(size))),
            None => self.hinted(url, refusal, |size| size == 0).await,
        }
    }

    /// What HEAD says, where GET has told nothing: of a file that is not ready yet, or of an empty one, of which no byte can be had.
    async fn hinted(&self, url: &Url, error: HttpError, may_be: impl Fn(u64) -> bool) -> Result<Metadata, HttpError> {
        if self.shared.head_trusts.of(url) == HeadTrust::Distrusted {
            return Err(error);
        }
        match self.head(url).await {
            Ok(answer) if answer.head.status == 200 && answer.head.content_length.is_some_and(&may_be) => {
                let size = answer.head.content_length;
                Ok(Metadata::of(answer.url, &answer.head, size))
            }
            _ => Err(error),
        }
    }

    /// The answer to a HEAD, if it comes soon.
    pub(crate) async fn head(&self, url: &Url) -> Result<Answer, HttpError> {
        self.send_for(RequestClass::Hint, Method::HEAD, url, identity()).await
    }
}
