//! Response validation: a pure function from the head of a response to a verdict.
//!
//! A server that is trusted too easily puts wrong bytes into a file and into the cache, for good. So a response counts
//! only if status, Content-Range, length, content coding and validator fit together and fit the request.
//!
//! On the other hand, a login page, a captive portal or a broken proxy in the server's place must not drop anything
//! from the cache (docs/semantics.md, promise 3: unreachable is neither gone nor changed). A response replaces a known
//! version only if it identifies a version itself.
//!
//! In the table, "same", "different" and "silent" say how the response's validators compare with the known version
//! ([`Validator::compare`](crate::http::Validator)). A response without a comparable validator is "silent". If only a
//! size is known (from a listing), or nothing, every response counts as "same".
//!
//! A **contradiction** is retried like an aborted connection; a bad answer is not.
//!
//! | status | the answer | verdict | after |
//! |---|---|---|---|
//! | 200, 206 | a content coding that compresses, and a length that is not announced, or not the file's or the range's | bad answer: compressed as it is sent | RFC 9110 §8.4, §12.5.3: `identity` was requested |
//! | 200 | the same, nothing known of the file, and negotiated (`Vary`, the tag) | bad answer: another representation | §12.5.5 |
//! | 200, 206 | any other content coding: a label on the bytes | as without | servers label stored `.gz` files |
//! | 206 | multipart/byteranges; no, a malformed or a second Content-Range | bad answer | §14.4, §15.3.7.2: one range was requested |
//! | 206 | starts elsewhere | contradiction | §15.3.7: a client must look at Content-Range |
//! | 206 | ends after what was asked | as below, for what was asked; the rest is not read | some servers know no range but "from here on" |
//! | 206 | Content-Length is not the range's length | contradiction | §15.3.7.1 |
//! | 206 | total is `*`, and no size known | bad answer | §14.4 |
//! | 206 | total is `*`, and the range goes past the known size | contradiction | §14.4 |
//! | 206 | different | changed | §8.8 |
//! | 206 | same, total as known (or `*`) | **partial**, also if shorter than asked | §15.3.7 |
//! | 206 | same, other total; what is known is a strong tag | contradiction | §8.8.1 |
//! | 206 | same, other total; a date, a weak tag or only a size is known | changed | a date has a resolution of a second |
//! | 206 | silent, with a validator of another kind | changed: it names its version, and that is not the known one | §15.3.7 |
//! | 206 | silent, without any, or with the known tag made weak | bad answer: a part must carry the validators that the whole has | §15.3.7 |
//! | 200 | Content-Range names a part, and Content-Length is that part's | as a 206 | scripts that send no other status |
//! | 200 | a web page, with a weaker validator than the known one | bad answer: a login page or the like | promise 3 |
//! | 200 | a web page without any validator, where only a size is known, and not announced with that size, unless the file's name says that it is a page | bad answer: a login page or the like | promise 3; pages that are rewritten as they are sent |
//! | 200 | a web page of another version, from another host or path, to which a redirect led | bad answer: a login page or the like | promise 3 |
//! | 200 | same, length as known or not said | **whole** | §14.2: Range may be ignored |
//! | 200 | same, other length; what is known is a strong tag | contradiction | §8.8.1 |
//! | 200 | same, other length; a date, a weak tag or only a size is known | changed | |
//! | 200 | different | changed | §8.8 |
//! | 200 | silent, with a validator of another kind | changed: it names its version, and that is not the known one | §8.8 |
//! | 200 | silent, without any, or with the known tag made weak | bad answer | promise 3; a proxy's rewriting |
//! | 412 | same | contradiction | §15.5.13 |
//! | 412 | else, a validator being known | changed | §15.5.13 |
//! | 416 | no total (`bytes */n`), as Apache and lighttpd have it | refused: a GET without Range decides | §15.5.17: only a SHOULD |
//! | 416 | nothing known, the range starts at or after the total | past the end | §15.5.17 |
//! | 416 | a size known, other total; not a strong tag that is the same | changed | |
//! | 416 | else, though the range exists | refused: a GET without Range decides | |
//! | 400, 405, 501 | | refused: a GET without Range decides; servers without ranges use all these statuses | |
//! | 401, 403, 407 | | denied | |
//! | 404, 410 | | not found | |
//! | 408, 425, 429, 5xx, other 4xx | | status, with `Retry-After` | §10.2.3 |
//! | 202 | | not ready, with `Retry-After` | §15.3.3 |
//! | 304, other 2xx and 3xx | | bad answer: not what was requested | |

use std::ops::Range;

use http_content_range::ContentRange;

use super::{
    head::{AnswerHead, excerpt},
    version::{Sameness, Validator, Version},
};
use crate::http::HttpErrorKind;

/// The verdict on a response. The kinds are those of [`RangeAnswer`](crate::origin::RangeAnswer), without the body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The bytes of `range` follow.
    Partial { version: Version, range: Range<u64> },
    /// The whole file follows. `size` is the exact length of the body, if known.
    Whole { size: Option<u64>, validator: Validator },
    /// The file has another version now; with that version, if the response identifies it.
    Changed(Option<Version>),
    /// The file ends before the range starts.
    PastEnd { size: u64 },
    /// The server refuses the range by a status. A request without Range may bring the whole file; otherwise this is
    /// the error.
    Refused(HttpErrorKind),
    /// The response brings no data.
    Failed(HttpErrorKind),
}

/// Validates the response to a request for the bytes `want` of a file with the expected version `known`.
pub(crate) fn judge(head: &AnswerHead, want: Range<u64>, known: Option<&Version>) -> Verdict {
    debug_assert!(want.start < want.end, "an empty range can't be requested");
    let verdict = match meant_status(head) {
        206 => partial(head, want, known),
        200 => whole(head, known),
        412 if known.is_some_and(|known| known.validator != Validator::None) => precondition_failed(head, known),
        416 => not_satisfiable(head, want, known),
        400 | 405 | 501 => Ok(Verdict::Refused(head.failure())),
        _ => Err(head.failure()),
    };
    verdict.unwrap_or_else(Verdict::Failed)
}

/// Validates the response to a request for the whole file, sent after a range request for `want` was refused with this
/// error.
pub(crate) fn judge_instead(
    head: &AnswerHead,
    want: Range<u64>,
    known: Option<&Version>,
    refusal: HttpErrorKind,
) -> Verdict {
    let start = want.start;
    match judge(head, want, known) {
        Verdict::Whole { size: Some(size), .. } if known.is_none() && size <= start => Verdict::PastEnd { size },
        Verdict::Refused(_) => Verdict::Failed(refusal),
        verdict => verdict,
    }
}

/// Returns true if a valid part for the bytes `want` continues after them.
pub(crate) fn is_longer(head: &AnswerHead, want: &Range<u64>) -> bool {
    match head.content_range.as_deref().and_then(content_range) {
        Some(ContentRange::Bytes(range)) => range.last_byte >= want.end,
        Some(ContentRange::UnboundBytes(range)) => range.last_byte >= want.end,
        Some(ContentRange::Unsatisfied(_)) | None => false,
    }
}

fn partial(head: &AnswerHead, want: Range<u64>, known: Option<&Version>) -> Result<Verdict, HttpErrorKind> {
    if head.content_type.as_deref() == Some("multipart/byteranges") {
        return bad("several ranges instead of the requested one");
    }
    let Some(text) = head.content_range.as_deref() else {
        return bad("a partial response without Content-Range");
    };
    let (first, last, total) = match content_range(text) {
        Some(ContentRange::Bytes(range)) => (range.first_byte, range.last_byte, Some(range.complete_length)),
        Some(ContentRange::UnboundBytes(range)) if range.last_byte < u64::MAX => {
            (range.first_byte, range.last_byte, None)
        }
        _ => return bad(format!("Content-Range is malformed ({})", excerpt(text))),
    };
    // `last` is below a total or below MAX: no overflow.
    let range = first..last + 1;
    if range.start != want.start {
        return contradicts(format!(
            "bytes {}-{} were requested, {} received",
            want.start,
            want.end - 1,
            excerpt(text)
        ));
    }
    if head
        .content_length
        .is_some_and(|length| length != range.end - range.start)
    {
        return contradicts("Content-Length and Content-Range disagree");
    }
    head.refuse_coding(Some(range.end - range.start))?;

    let sameness = compare(head, known);
    let told = total.map(|size| Version {
        size,
        validator: head.validator(),
    });
    if sameness == Sameness::Different {
        return Ok(Verdict::Changed(told));
    }
    let Some(size) = total.or(known.map(|known| known.size)) else {
        return bad("the file's size is missing");
    };
    if range.end > size {
        return contradicts(format!("{} received, past the known end at {size}", excerpt(text)));
    }
    let validator = match known {
        None => head.validator(),
        Some(known) => match (sameness, &known.validator) {
            (Sameness::Silent, Validator::Strong(_)) if head.etag.is_some() => return weakened(),
            (Sameness::Silent, _) if head.validator() == Validator::None => return unnamed(),
            (Sameness::Silent, _) => return Ok(Verdict::Changed(told)),
            (_, Validator::Strong(_)) if known.size != size => return contradiction(known.size, size),
            (..) if known.size != size => return Ok(Verdict::Changed(told)),
            (_, Validator::None) => head.validator(),
            (..) => known.validator.clone(),
        },
    };
    Ok(Verdict::Partial {
        version: Version { size, validator },
        range: range.start..range.end.min(want.end),
    })
}

fn whole(head: &AnswerHead, known: Option<&Version>) -> Result<Verdict, HttpErrorKind> {
    head.refuse_coding(known.map(|known| known.size))?;
    let own = head.validator();
    let Some(known) = known else {
        return Ok(Verdict::Whole {
            size: head.content_length,
            validator: own,
        });
    };
    let sameness = compare(head, Some(known));
    let same_size = head.content_length.is_none_or(|size| size == known.size);
    let told = head.content_length.map(|size| Version {
        size,
        validator: own.clone(),
    });

    refuse_stand_in(head, known)?;
    match (sameness, &known.validator) {
        (Sameness::Different, _) => Ok(Verdict::Changed(told)),
        // Only a size was known. If it fits, or can't be compared, the response's validator is news.
        (Sameness::Same, Validator::None) if same_size => Ok(Verdict::Whole {
            size: head.content_length,
            validator: own,
        }),
        // The same version has the same size, whether or not the server repeats it.
        (Sameness::Same, _) if same_size => Ok(Verdict::Whole {
            size: Some(known.size),
            validator: known.validator.clone(),
        }),
        (Sameness::Same, Validator::Strong(_)) => contradiction(known.size, head.content_length.unwrap_or_default()),
        (Sameness::Same, _) => Ok(Verdict::Changed(told)),
        (Sameness::Silent, Validator::Strong(_)) if head.etag.is_some() => weakened(),
        (Sameness::Silent, _) if own != Validator::None => Ok(Verdict::Changed(told)),
        (Sameness::Silent, _) => unnamed(),
    }
}

/// Refuses a 200 whose body is a web page in the file's place: a login form, a captive portal's page.
pub(crate) fn refuse_stand_in(head: &AnswerHead, known: &Version) -> Result<(), HttpErrorKind> {
    let own = head.validator();
    let is_same =
        compare(head, Some(known)) == Sameness::Same && head.content_length.is_none_or(|size| size == known.size);
    let is_weaker = own.strength() < known.validator.strength();
    let is_elsewhere = head.is_elsewhere && !is_same;
    // A file that is named like a page may have another length than listed: the listing shows the length of the page's
    // source.
    let is_expected = head.is_page_by_name && !head.is_elsewhere;
    let is_unproven = own == Validator::None && head.content_length != Some(known.size) && !is_expected;
    if head.is_web_page() && (is_weaker || is_elsewhere || is_unproven) {
        let why = "a web page instead of the file; is a login needed?";
        return Err(HttpErrorKind::BadAnswer(why.to_owned()));
    }
    Ok(())
}

fn precondition_failed(head: &AnswerHead, known: Option<&Version>) -> Result<Verdict, HttpErrorKind> {
    match compare(head, known) {
        Sameness::Same => contradicts("HTTP 412, but the version is the known one"),
        Sameness::Different | Sameness::Silent => Ok(Verdict::Changed(None)),
    }
}

fn not_satisfiable(head: &AnswerHead, want: Range<u64>, known: Option<&Version>) -> Result<Verdict, HttpErrorKind> {
    let Some(ContentRange::Unsatisfied(told)) = head.content_range.as_deref().and_then(content_range) else {
        return Ok(Verdict::Refused(head.failure()));
    };
    let size = told.complete_length;
    let Some(known) = known else {
        if want.start < size {
            return refused(want, size);
        }
        return Ok(Verdict::PastEnd { size });
    };
    if size == known.size {
        return refused(want, size);
    }
    let own = head.validator();
    match (compare(head, Some(known)), &known.validator) {
        (Sameness::Same, Validator::Strong(_)) => contradiction(known.size, size),
        // An error's headers may describe the error's own text, so a missing validator says nothing about the file.
        _ => Ok(Verdict::Changed(
            (own != Validator::None).then_some(Version { size, validator: own }),
        )),
    }
}

fn compare(head: &AnswerHead, known: Option<&Version>) -> Sameness {
    known.map_or(Sameness::Same, |known| {
        known
            .validator
            .compare(head.etag.as_deref(), head.last_modified.as_deref())
    })
}

/// The status that a response should have. Some scripts send a part with status 200; Content-Range and Content-Length
/// show that. Taken for the whole file, it would be a truncated one.
pub(crate) fn meant_status(head: &AnswerHead) -> u16 {
    match total(head) {
        Some(Total::Known { size, part }) if head.status == 200 && part < size && head.content_length == Some(part) => {
            206
        }
        _ => head.status,
    }
}

/// What Content-Range says of a file's length.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Total {
    /// A part of `part` bytes; the file has `size` bytes.
    Known { size: u64, part: u64 },
    /// A refusal (`bytes */N`): the file has N bytes.
    Unsatisfied(u64),
    /// `bytes 0-0/*`: no total.
    Open,
}

/// The total in a response's Content-Range, if that is well-formed.
pub(crate) fn total(head: &AnswerHead) -> Option<Total> {
    Some(match content_range(head.content_range.as_deref()?)? {
        ContentRange::Bytes(range) => Total::Known {
            size: range.complete_length,
            part: range.last_byte - range.first_byte + 1,
        },
        ContentRange::Unsatisfied(told) => Total::Unsatisfied(told.complete_length),
        ContentRange::UnboundBytes(_) => Total::Open,
    })
}

/// Returns true if the head of a response with the whole file is of this version: by its validators, and by its length
/// if it has one.
pub(crate) fn is_same_version(head: &AnswerHead, known: &Version) -> bool {
    let proves_it = known.validator != Validator::None || head.content_length.is_some();
    head.status == 200
        && head.refuse_coding(Some(known.size)).is_ok()
        && proves_it
        && head.content_length.is_none_or(|size| size == known.size)
        && compare(head, Some(known)) == Sameness::Same
}

/// Parses Content-Range. The unit's name is case-insensitive (RFC 9110 §14.1).
fn content_range(text: &str) -> Option<ContentRange> {
    let unit = text.get(..5).filter(|unit| unit.eq_ignore_ascii_case("bytes"))?;
    ContentRange::parse(&text.replacen(unit, "bytes", 1))
}

fn bad(why: impl Into<String>) -> Result<Verdict, HttpErrorKind> {
    Err(HttpErrorKind::BadAnswer(why.into()))
}

fn refused(want: Range<u64>, size: u64) -> Result<Verdict, HttpErrorKind> {
    let why = format!("HTTP 416 for byte {} of {size}", want.start);
    Ok(Verdict::Refused(HttpErrorKind::Contradiction(why)))
}

fn unnamed() -> Result<Verdict, HttpErrorKind> {
    bad("it does not identify the version of the file")
}

fn weakened() -> Result<Verdict, HttpErrorKind> {
    bad("it has only the weak form of the file's ETag")
}

fn contradiction(known: u64, told: u64) -> Result<Verdict, HttpErrorKind> {
    contradicts(format!(
        "the ETag is the same, but the size changed from {known} to {told}"
    ))
}

fn contradicts(why: impl Into<String>) -> Result<Verdict, HttpErrorKind> {
    Err(HttpErrorKind::Contradiction(why.into()))
}

#[cfg(test)]
mod parts;
#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;
