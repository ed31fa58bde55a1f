//! The head of an answer, reduced to what decides on it: plain values, so that the decision can be tested without a
//! network. A header that is malformed counts as absent, except Content-Range, on which everything hangs, and the validators, which
//! are compared as they are written.

use std::time::{Duration, SystemTime};

use reqwest::header::{self, HeaderMap, HeaderName, HeaderValue};
use url::Url;

use super::{
    coding::{compresses, names_a_coding},
    version::{Validator, parse_date, text_of},
};
use crate::http::HttpErrorKind;

/// The longest pause that a server can ask for by `Retry-After`. A server under repair says "3600"; if it is back
/// sooner, its files should be too.
const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(300);

/// What the judgement needs of an answer's head.
#[derive(Debug, Clone, Default)]
pub(crate) struct AnswerHead {
    /// The HTTP status code.
    pub status: u16,
    /// Content-Range as it came; several are joined by a comma and so never parse.
    pub content_range: Option<String>,
    /// Bytes of the body that are announced.
    pub content_length: Option<u64>,
    /// The content codings, if one of them is applied by servers as they send ([`compresses`](super::coding::compresses)).
    pub coding: Option<String>,
    /// Whether the answer says that it is one of several representations, chosen by Accept-Encoding.
    pub is_negotiated: bool,
    /// Media type without parameters, in lower case.
    pub content_type: Option<String>,
    /// The media type's `charset` parameter.
    pub charset: Option<String>,
    /// The entity tag, strong or weak, or what stands in its place ([`text_of`]).
    pub etag: Option<String>,
    /// Last-Modified, be it a date or not.
    pub last_modified: Option<String>,
    /// Whether redirects led to another host or path than was asked.
    pub is_elsewhere: bool,
    /// Whether the name of what was asked for is that of a web page.
    pub is_page_by_name: bool,
    /// From the moment at which the head was read.
    pub retry_after: Option<Duration>,
}

impl AnswerHead {
    /// Takes out of the headers what matters. `now` is what dates in `Retry-After` are counted from.
    pub fn of(status: u16, headers: &HeaderMap, now: SystemTime) -> AnswerHead {
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
            is_elsewhere: false,
            is_page_by_name: false,
            retry_after: joined(headers, header::RETRY_AFTER).and_then(|value| retry_after(&value, now)),
        }
    }

    /// Notes what was asked for, and where the answer came from.
    pub fn note_place(&mut self, asked: &Url, answered: &Url) {
        self.is_elsewhere = is_elsewhere(asked, answered);
        self.is_page_by_name = is_page_by_name(asked);
    }

    /// The validator to remember of this answer.
    pub fn validator(&self) -> Validator {
        Validator::of(self.etag.as_deref(), self.last_modified.as_deref())
    }

    /// Last-Modified as a time.
    pub fn modified(&self) -> Option<SystemTime> {
        parse_date(self.last_modified.as_deref()?)
    }

    /// Whether the body is a web page: what a login form, a captive portal or a pretty error is made of.
    pub fn is_web_page(&self) -> bool {
        matches!(
            self.content_type.as_deref(),
            Some("text/html" | "application/xhtml+xml")
        )
    }

    /// What the status means if it is none of those that bring data.
    pub fn failure(&self) -> HttpErrorKind {
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
            status => HttpErrorKind::BadAnswer(format!("HTTP {status} does not answer this request")),
        }
    }

    /// Refuses a body that was compressed as it was sent: its bytes are not the file's, and "identity" was asked for.
    ///
    /// **A content coding is a label, and the bytes are the file's as they are, if the answer announces their number and that
    /// is the number of the file's bytes** (`expected`, where it is known). So it is for a stored `.gz` that its server labels.
    /// Without a known number, an answer that says it was negotiated is refused: the file may have another length.
    pub fn refuse_coding(&self, expected: Option<u64>) -> Result<(), HttpErrorKind> {
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
            "it is compressed ({coding}), though that was ruled out"
        )))
    }
}

/// Whether a URL is called as web pages are, or as what servers make them of.
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

/// A header's value, trimmed; several of a name are joined by commas (RFC 9110 §5.3).
fn joined(headers: &HeaderMap, name: HeaderName) -> Option<String> {
    let mut values = headers.get_all(name).iter().map(|value| value.to_str().map(str::trim));
    let mut text = values.next()?.ok()?.to_owned();
    for value in values {
        text.push_str(", ");
        text.push_str(value.ok()?);
    }
    Some(text)
}

/// Digits only: `u64::from_str` would also take a plus sign.
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

/// Seconds or a date (RFC 9110 §10.2.3); a date that is past means "now".
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

/// Whether another document answered than was asked. The same one over https is none.
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
