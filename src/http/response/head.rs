//! The head of a response, reduced to the values that response validation needs. Plain values, so that tests need no
//! network.
//!
//! A malformed header counts as absent, with two exceptions: Content-Range, on which all else depends, and the
//! validators, which are compared as text.

use std::time::{Duration, SystemTime};

use reqwest::header::{self, HeaderMap, HeaderName, HeaderValue};
use url::Url;

use super::{
    coding::{compresses, names_a_coding},
    version::{Validator, parse_date, text_of},
};
use crate::http::HttpErrorKind;

/// Maximum pause that a server can ask for by `Retry-After`. A server under maintenance says "3600"; if it is back
/// sooner, its files should be too.
const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(300);

/// What validation needs of a response's head.
#[derive(Debug, Clone, Default)]
pub(crate) struct AnswerHead {
    /// The HTTP status code.
    pub status: u16,
    /// Content-Range as received. Several are joined by commas and so never parse.
    pub content_range: Option<String>,
    /// The announced bytes of the body.
    pub content_length: Option<u64>,
    /// The content codings, if servers apply one of them on the fly ([`compresses`]).
    pub coding: Option<String>,
    /// True if the response is one of several representations, chosen by Accept-Encoding.
    pub is_negotiated: bool,
    /// Media type without parameters, in lower case.
    pub content_type: Option<String>,
    /// The media type's `charset` parameter.
    pub charset: Option<String>,
    /// The entity tag, strong or weak, or the text in its place ([`text_of`]).
    pub etag: Option<String>,
    /// Last-Modified as text, also if it is not a date.
    pub last_modified: Option<String>,
    /// The modification time with its nanoseconds, of a file on this machine. Replaces Last-Modified.
    pub modified_exactly: Option<SystemTime>,
    /// True if redirects led to another host or path than requested.
    pub is_elsewhere: bool,
    /// True if the requested name is that of a web page.
    pub is_page_by_name: bool,
    /// Counted from the moment at which the head was read.
    pub retry_after: Option<Duration>,
    /// Repr-Digest as received (RFC 9530).
    pub repr_digest: Option<String>,
    /// The URL of the Metalink that describes the resource, by this response or a redirect to it.
    pub described_by: Option<Box<Url>>,
}

impl AnswerHead {
    /// Extracts the relevant headers. `now` is the reference for dates in `Retry-After`.
    pub(crate) fn of(status: u16, headers: &HeaderMap, now: SystemTime) -> AnswerHead {
        let (content_type, charset) = joined(headers, header::CONTENT_TYPE)
            .map(|v| media_type(&v))
            .unwrap_or_default();
        let etag = text_of(headers.get_all(header::ETAG).iter().map(HeaderValue::as_bytes));
        AnswerHead {
            status,
            content_range: joined(headers, header::CONTENT_RANGE),
            content_length: joined(headers, header::CONTENT_LENGTH).and_then(|value| decimal(&value)),
            coding: joined(headers, header::CONTENT_ENCODING).filter(|value| compresses(value)),
            is_negotiated: joined(headers, header::VARY)
                .is_some_and(|value| value.to_ascii_lowercase().contains("accept-encoding"))
                || etag.as_deref().is_some_and(names_a_coding),
            content_type,
            charset,
            etag,
            last_modified: text_of(headers.get_all(header::LAST_MODIFIED).iter().map(HeaderValue::as_bytes)),
            modified_exactly: None,
            is_elsewhere: false,
            is_page_by_name: false,
            retry_after: joined(headers, header::RETRY_AFTER).and_then(|value| retry_after(&value, now)),
            repr_digest: joined(headers, HeaderName::from_static("repr-digest")),
            described_by: None,
        }
    }

    /// Records the requested URL and the one that responded.
    pub(crate) fn note_place(&mut self, asked: &Url, answered: &Url) {
        self.is_elsewhere = is_elsewhere(asked, answered);
        self.is_page_by_name = is_page_by_name(asked);
    }

    /// The validator to remember from this response.
    pub(crate) fn validator(&self) -> Validator {
        Validator::of(self.etag.as_deref(), self.last_modified.as_deref())
    }

    /// The modification time: Last-Modified, unless there is a better one.
    pub(crate) fn modified(&self) -> Option<SystemTime> {
        self.modified_exactly
            .or_else(|| parse_date(self.last_modified.as_deref()?))
    }

    /// Returns true if the body is a web page, as login forms, captive portals and error pages are.
    pub(crate) fn is_web_page(&self) -> bool {
        matches!(
            self.content_type.as_deref(),
            Some("text/html" | "application/xhtml+xml")
        )
    }

    /// The error for a status that brings no data.
    pub(crate) fn failure(&self) -> HttpErrorKind {
        match self.status {
            401 | 403 | 407 => HttpErrorKind::Denied(self.status),
            404 | 410 => HttpErrorKind::NotFound(self.status),
            202 => HttpErrorKind::NotReady {
                retry_after: self.retry_after,
            },
            400..=599 => HttpErrorKind::Status {
                status: self.status,
                retry_after: self.retry_after,
            },
            301 | 302 | 303 | 307 | 308 => HttpErrorKind::BadAnswer("a redirect without a Location".to_owned()),
            status => HttpErrorKind::BadAnswer(format!("HTTP {status} does not answer this request")),
        }
    }

    /// Refuses a body that was compressed on the fly: its bytes are not the file's, and the request asked for
    /// `identity`.
    ///
    /// **A content coding is only a label if the response announces a length and that is the file's length**
    /// (`expected`, where known). The bytes are then the file's own, for example a stored `.gz` that its server labels.
    /// Without a known length, a negotiated response is refused: the file may have another length.
    pub(crate) fn refuse_coding(&self, expected: Option<u64>) -> Result<(), HttpErrorKind> {
        let Some(coding) = &self.coding else { return Ok(()) };
        let fits = match (self.content_length, expected) {
            (None, _) => false,
            (Some(length), Some(expected)) => length == expected,
            (Some(_), None) => !self.is_negotiated,
        };
        if fits {
            return Ok(());
        }
        let coding = excerpt(coding);
        Err(HttpErrorKind::BadAnswer(format!(
            "it is compressed ({coding}), although the request does not allow that"
        )))
    }
}

/// Returns true if a URL is named like a web page, or like what servers generate pages from.
fn is_page_by_name(url: &Url) -> bool {
    const ENDINGS: [&str; 10] = [
        "html", "htm", "shtml", "shtm", "xhtml", "xht", "php", "asp", "aspx", "jsp",
    ];
    let ending = url
        .path()
        .rsplit_once('.')
        .map(|(_, ending)| ending.to_ascii_lowercase());
    ending.is_some_and(|ending| ENDINGS.contains(&ending.as_str()))
}

/// A header's value, short enough for a log line.
pub(crate) fn excerpt(text: &str) -> String {
    text.chars().take(60).collect()
}

/// A header's value, trimmed; several with one name are joined by commas (RFC 9110 §5.3).
fn joined(headers: &HeaderMap, name: HeaderName) -> Option<String> {
    let mut values = headers.get_all(name).iter().map(|value| value.to_str().map(str::trim));
    let mut text = values.next()?.ok()?.to_owned();
    for value in values {
        text.push_str(", ");
        text.push_str(value.ok()?);
    }
    Some(text)
}

/// Digits only: `u64::from_str` would accept a plus sign too.
fn decimal(value: &str) -> Option<u64> {
    value
        .bytes()
        .all(|byte| byte.is_ascii_digit())
        .then(|| value.parse().ok())?
}

/// Media type and charset of a Content-Type (RFC 9110 §8.3).
fn media_type(value: &str) -> (Option<String>, Option<String>) {
    let mut parts = value.split(';');
    let kind = parts
        .next()
        .map(|kind| kind.trim().to_ascii_lowercase())
        .filter(|kind| !kind.is_empty());
    let charset = parts
        .filter_map(|part| part.split_once('='))
        .find(|(name, _)| name.trim().eq_ignore_ascii_case("charset"))
        .map(|(_, value)| value.trim().trim_matches('"').to_owned())
        .filter(|value| !value.is_empty());
    (kind, charset)
}

/// Seconds or a date (RFC 9110 §10.2.3); a past date means "now".
fn retry_after(value: &str, now: SystemTime) -> Option<Duration> {
    let pause = match decimal(value) {
        Some(seconds) => Duration::from_secs(seconds),
        None => httpdate::parse_http_date(value)
            .ok()?
            .duration_since(now)
            .unwrap_or_default(),
    };
    Some(pause.min(LONGEST_RETRY_AFTER))
}

/// Returns true if another document responded than was requested. The same one over https is not another.
pub(crate) fn is_elsewhere(asked: &Url, answered: &Url) -> bool {
    asked.host() != answered.host() || asked.path() != answered.path()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(headers: &[(&'static str, &str)]) -> AnswerHead {
        let values = headers
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), value.parse().unwrap()));
        let mut map = HeaderMap::new();
        for (name, value) in values {
            map.append(name, value);
        }
        AnswerHead::of(200, &map, SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777))
    }

    #[test]
    fn identity_is_no_coding() {
        assert_eq!(head(&[]).coding, None);
        for label in [
            "Identity",
            "",
            "utf-8",
            "none",
            "binary",
            "aws-chunked",
            "7bit",
            "bzip2",
        ] {
            assert_eq!(head(&[("content-encoding", label)]).coding, None, "{label}");
        }
        assert!(head(&[("content-encoding", "X-GZIP")]).coding.is_some());
        assert!(
            head(&[("content-encoding", "identity"), ("content-encoding", "br")])
                .coding
                .is_some()
        );
    }

    #[test]
    fn a_coding_is_a_label_where_the_length_is_that_of_the_file() {
        let coded = |more: &[(&'static str, &str)]| head(&[&[("content-encoding", "gzip")], more].concat());
        let length = ("content-length", "10");
        assert!(coded(&[length]).refuse_coding(None).is_ok());
        assert!(coded(&[length]).refuse_coding(Some(10)).is_ok());
        assert!(coded(&[length]).refuse_coding(Some(11)).is_err());
        assert!(coded(&[]).refuse_coding(Some(10)).is_err(), "compressed as it is sent");
        for hint in [
            ("vary", "Origin, Accept-Encoding"),
            ("etag", "\"5-6-gzip\""),
            ("etag", "W/\"1;br\""),
        ] {
            assert!(coded(&[length, hint]).refuse_coding(None).is_err(), "{hint:?}");
            assert!(coded(&[length, hint]).refuse_coding(Some(10)).is_ok(), "{hint:?}");
        }
    }

    #[test]
    fn pages_are_known_by_their_names() {
        let is_page = |path: &str| is_page_by_name(&Url::parse(&format!("http://h.html/{path}")).unwrap());
        assert!(is_page("a.html") && is_page("d/b.HTM?v=1") && is_page("c.php"));
        assert!(!is_page("") && !is_page("a.bin") && !is_page("html") && !is_page("d.html/f"));
    }

    #[test]
    fn lengths_are_digits() {
        assert_eq!(
            head(&[("content-length", "18446744073709551615")]).content_length,
            Some(u64::MAX)
        );
        for length in ["+1", "-1", "", "1e3", "0x10", "18446744073709551616", "5, 6"] {
            assert_eq!(head(&[("content-length", length)]).content_length, None, "{length}");
        }
    }

    #[test]
    fn malformed_validators_are_kept_as_text() {
        let odd = head(&[("etag", "v1"), ("last-modified", "yesterday")]);
        assert_eq!(
            (odd.validator(), odd.modified()),
            (Validator::Strong("v1".into()), None)
        );
        let twice = head(&[("etag", "\"a\""), ("etag", "\"a\"")]);
        assert_eq!(twice.validator(), Validator::Strong("\"a\"".into()));
        let two = head(&[("etag", "\"a\""), ("etag", "\"b\"")]);
        assert_eq!(two.validator(), Validator::Strong("\"a\", \"b\"".into()));
    }

    #[test]
    fn two_content_ranges_stay_visible() {
        let two = head(&[("content-range", "bytes 0-1/2"), ("content-range", "bytes 0-1/2")]);
        assert_eq!(two.content_range.as_deref(), Some("bytes 0-1/2, bytes 0-1/2"));
    }

    #[test]
    fn retry_after_is_seconds_or_a_date_and_has_a_bound() {
        let after = |value| head(&[("retry-after", value)]).retry_after;
        assert_eq!(after("0"), Some(Duration::ZERO));
        assert_eq!(after("120"), Some(Duration::from_secs(120)));
        assert_eq!(after("Sun, 06 Nov 1994 08:49:47 GMT"), Some(Duration::from_secs(10)));
        assert_eq!(
            after("Sun, 06 Nov 1994 08:49:00 GMT"),
            Some(Duration::ZERO),
            "that is past"
        );
        assert_eq!(after("Fri, 31 Dec 9999 23:59:59 GMT"), Some(LONGEST_RETRY_AFTER));
        assert_eq!(after("18446744073709551615"), Some(LONGEST_RETRY_AFTER));
        for value in ["soon", "-1", "1.5", "", "99999999999999999999"] {
            assert_eq!(after(value), None, "{value}");
        }
    }

    #[test]
    fn a_media_type_is_taken_apart() {
        let parts = |value| media_type(value);
        assert_eq!(parts("text/html"), (Some("text/html".into()), None));
        assert_eq!(
            parts(" Text/HTML ; Charset=\"UTF-8\" "),
            (Some("text/html".into()), Some("UTF-8".into()))
        );
        assert_eq!(
            parts("text/html; a=b; charset=latin1"),
            (Some("text/html".into()), Some("latin1".into()))
        );
        assert_eq!(parts(";"), (None, None));
        assert_eq!(parts("text/html;charset="), (Some("text/html".into()), None));
    }
}
