//! The size of a file, by GET of its first bytes.
//!
//! The forms are tried in this order: `bytes=0-0`, `bytes=0-1`, a GET without Range that is closed after its head
//! ([`ProbeForm`]). A pure function interprets each response ([`read`]).

use url::Url;

use super::{Client, answers::Metadata};
use crate::http::{
    HttpError, HttpErrorKind, redact,
    response::{
        head::AnswerHead,
        validation::{Total, meant_status, total},
    },
};
use crate::origin::{
    head_trust::{HeadTrust, ProbeForm},
    request::transport::HttpRequest,
};

/// The result of one probe.
#[derive(Debug, PartialEq, Eq)]
enum Probed {
    /// The file's size in bytes; `None` if only the end of the body shows it.
    Size(Option<u64>),
    /// The request was refused or brought no size: try the next form. The value is the total of a 416, if it had one.
    Refused(Option<u64>),
    /// No other form would get another result.
    Failed(HttpErrorKind),
}

fn read(head: &AnswerHead) -> Probed {
    match meant_status(head) {
        200 => match head.refuse_coding(None) {
            Ok(()) => Probed::Size(head.content_length),
            Err(kind) => Probed::Failed(kind),
        },
        206 => match total(head) {
            // The start of the part shows what the server does with ranges; it says nothing of the total.
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
        // Servers send 204 and 500 for empty files, whose last byte would be byte -1.
        204 | 400 | 405 | 406 | 500 | 501 => Probed::Refused(None),
        _ => Probed::Failed(head.failure()),
    }
}

impl Client {
    /// Learns what a URL is from a GET of the first bytes.
    ///
    /// # Errors
    /// As the responses to GET demand.
    pub(super) async fn probe(&self, url: &Url) -> Result<Metadata, HttpError> {
        let trusts = &self.shared.head_trusts;
        let (mut total, mut refusal) = (None, None);
        for form in trusts.probe_form(url).onwards() {
            let request = match form {
                ProbeForm::OneByte => HttpRequest::range(&(0..1)),
                ProbeForm::TwoBytes => HttpRequest::range(&(0..2)),
                ProbeForm::Whole => HttpRequest::whole(),
            };
            let mut answer = self.transport().send(request, url).await?;
            match read(&answer.head) {
                Probed::Size(size) => {
                    if size.is_some_and(|size| size > 1) {
                        let ignores_range = meant_status(&answer.head) == 200;
                        trusts.note_probe(url, if ignores_range { ProbeForm::Whole } else { form });
                    }
                    let metadata = Metadata::of(answer.url.clone(), &answer.head, size.or(total));
                    answer.response.finish().await;
                    return Ok(metadata);
                }
                Probed::Refused(told) => {
                    total = told.or(total);
                    let error = answer.refused().await;
                    refusal.get_or_insert(error);
                }
                Probed::Failed(kind) => {
                    let is_not_ready = answer.head.status == 202;
                    let error = answer.failed(kind).await;
                    return match is_not_ready {
                        true => self.hinted(url, error, |size| size > 0).await,
                        false => Err(error),
                    };
                }
            }
        }
        let refusal = refusal.unwrap_or_else(|| HttpError {
            kind: HttpErrorKind::BadAnswer("its size is missing".to_owned()),
            url: redact(url),
        });
        match total {
            // The headers of a refusal describe the refusal, not the file.
            Some(size) => Ok(Metadata::of(url.clone(), &AnswerHead::default(), Some(size))),
            None => self.hinted(url, refusal, |size| size == 0).await,
        }
    }

    /// The result of HEAD where GET brought no size: a file that is not ready yet, or an empty file, of which no byte
    /// can be requested.
    async fn hinted(&self, url: &Url, error: HttpError, may_be: impl Fn(u64) -> bool) -> Result<Metadata, HttpError> {
        if self.shared.head_trusts.of(url) == HeadTrust::Distrusted {
            return Err(error);
        }
        match self.transport().head(url).await {
            Ok(answer) if answer.head.status == 200 && answer.head.content_length.is_some_and(&may_be) => {
                let size = answer.head.content_length;
                Ok(Metadata::of(answer.url, &answer.head, size))
            }
            _ => Err(error),
        }
    }
}
