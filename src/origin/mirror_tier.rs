//! The mirrors as a [tier](super::tier): which of their responses count as a file's bytes.

use std::{ops::Range, time::SystemTime};

use url::Url;

use super::{
    Client, Content,
    limits::request_class::RequestClass,
    mirrors::other_version,
    request::transport::HttpRequest,
    tier::{ChunkTier, Expected, TierAnswer, TierRange},
};
use crate::http::{
    HttpError, HttpErrorKind, Validator, Version,
    response::{
        head::AnswerHead,
        validation::{Verdict, judge},
        version::Sameness,
    },
};

/// The mirrors, and the other URLs that the source has of a file, as a tier: asked while the file's own URL fails.
#[derive(Debug)]
pub(crate) struct MirrorTier(Client);

impl MirrorTier {
    /// The mirrors of this client's configuration.
    pub(crate) fn new(client: Client) -> MirrorTier {
        MirrorTier(client)
    }

    async fn request(&self, there: &Url, want: Range<u64>, expected: Expected<'_>) -> Result<TierRange, HttpError> {
        let client = &self.0;
        let answer = client
            .transport()
            .send_for(RequestClass::Bytes, None, HttpRequest::range(&want), there)
            .await?;
        let kind = match judge_expected(&answer.head, want, expected) {
            Ok((version, range)) => {
                return Ok(TierRange {
                    version,
                    modified: answer.head.modified(),
                    body: client
                        .transport()
                        .body(answer, Some(range.end - range.start))
                        .that_gives_way(),
                });
            }
            Err(verdict) => no_answer(verdict),
        };
        Err(answer.failed(kind).await)
    }
}

impl ChunkTier for MirrorTier {
    fn candidates(&self, content: &Content, _: &Range<u64>, _: Option<&Version>) -> Vec<Url> {
        self.0.mirrors().not_left_out(content.alternates())
    }

    fn range<'a>(&'a self, there: &'a Url, want: Range<u64>, expected: Expected<'a>) -> TierAnswer<'a> {
        Box::pin(async move {
            let answer = self.request(there, want, expected).await;
            if let Err(error) = &answer
                && error.kind.is_answered()
            {
                self.0.mirrors().leave_out(there, &error.kind);
            }
            answer
        })
    }
}

/// The version and the range of a response from elsewhere than the file's own URL, if it has what is expected.
pub(super) fn judge_expected(
    head: &AnswerHead,
    want: Range<u64>,
    expected: Expected<'_>,
) -> Result<(Version, Range<u64>), Verdict> {
    let listed = match expected {
        Expected::Listed(Some(size)) => Some(Version {
            size,
            validator: Validator::None,
        }),
        _ => None,
    };
    let is_as_expected = |version: &Version| match expected {
        Expected::Version(known, modified) => version.size == known.size && is_same(head, known, modified),
        Expected::Hashed(known) => version.size == known.size,
        Expected::Listed(_) => version.validator.names_a_version_anywhere(),
    };
    match judge(head, want, listed.as_ref()) {
        Verdict::Partial { version, range } if is_as_expected(&version) => Ok((version, range)),
        verdict => Err(verdict),
    }
}

/// Why a mirror's response is rejected.
pub(super) fn no_answer(verdict: Verdict) -> HttpErrorKind {
    match verdict {
        Verdict::Partial { .. } | Verdict::Changed(_) | Verdict::PastEnd { .. } => other_version(),
        Verdict::Whole { .. } | Verdict::Refused(_) => {
            HttpErrorKind::BadAnswer("it does not send the requested range".to_owned())
        }
        Verdict::Failed(kind) => kind,
    }
}

/// Returns true if a response of another server is of this version, by its validators. A strong tag decides if both
/// have one. Otherwise the date must be the same. A weak tag proves nothing between two servers, nor does the size
/// alone.
fn is_same(head: &AnswerHead, known: &Version, modified: Option<SystemTime>) -> bool {
    match (&known.validator, head.validator()) {
        (Validator::Strong(known), Validator::Strong(tag)) => *known == tag,
        (Validator::Dated(known), _) => head.last_modified.as_deref().is_some_and(|date| {
            let known = Validator::Dated(known.clone());
            known.compare(None, Some(date)) == Sameness::Same
        }),
        _ => modified.is_some() && head.modified() == modified,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_strong_tag_or_the_date_proves_the_version() {
        const DAY: &str = "Sun, 06 Nov 1994 08:49:37 GMT";
        const NEXT: &str = "Mon, 07 Nov 1994 08:49:37 GMT";
        let strong = || Validator::Strong("\"a\"".into());
        let dated = || Validator::Dated(DAY.into());
        let weak = || Validator::Weak("W/\"a\"".into());
        for (known, modified, etag, date, same) in [
            (strong(), Some(DAY), Some("\"a\""), Some(NEXT), true),
            (strong(), Some(DAY), Some("\"b\""), Some(DAY), false),
            (strong(), Some(DAY), None, Some(DAY), true),
            (strong(), Some(DAY), Some("W/\"a\""), Some(DAY), true),
            (strong(), Some(DAY), Some("W/\"a\""), Some(NEXT), false),
            (strong(), Some(DAY), None, Some(NEXT), false),
            (strong(), None, None, Some(DAY), false),
            (strong(), None, None, None, false),
            (
                dated(),
                Some(DAY),
                Some("\"x\""),
                Some("Sunday, 06-Nov-94 08:49:37 GMT"),
                true,
            ),
            (dated(), Some(DAY), Some("\"x\""), Some(NEXT), false),
            (dated(), Some(DAY), None, None, false),
            (weak(), None, Some("W/\"a\""), None, false),
            (Validator::None, None, None, Some(DAY), false),
            (Validator::None, None, None, None, false),
        ] {
            let head = AnswerHead {
                etag: etag.map(str::to_owned),
                last_modified: date.map(str::to_owned),
                ..AnswerHead::default()
            };
            let version = Version {
                size: 1,
                validator: known,
            };
            let modified = modified.map(|date| httpdate::parse_http_date(date).unwrap());
            assert_eq!(
                is_same(&head, &version, modified),
                same,
                "{version:?} {etag:?} {date:?}"
            );
        }
    }
}
