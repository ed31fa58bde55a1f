//! Parsers of what servers send and of the user's files, for the fuzz targets (`fuzz/`) and for the properties below.
//!
//! Each function accepts any bytes and panics if the result breaks a promise.

use std::ops::Range;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use url::Url;

use super::{
    CookieConfig, CookieFile, CookieJar, Netrc, auth,
    response::{
        head::AnswerHead,
        location,
        validation::{Verdict, judge},
    },
};

/// The requested range, in bytes.
const WANT: Range<u64> = 100..200;

/// The status in the first line, then header lines: the head of a response to a range request.
pub fn head(bytes: &[u8]) {
    let mut lines = bytes.split(|&byte| byte == b'\n');
    let status = lines
        .next()
        .and_then(|line| std::str::from_utf8(line).ok()?.trim().parse().ok());
    let mut headers = HeaderMap::new();
    for line in lines {
        let mut parts = line.splitn(2, |&byte| byte == b':');
        let (Some(name), Some(value)) = (parts.next(), parts.next()) else {
            continue;
        };
        if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name), HeaderValue::from_bytes(value)) {
            headers.append(name, value);
        }
    }
    let head = AnswerHead::of(
        status.unwrap_or(206),
        &headers,
        UNIX_EPOCH + Duration::from_secs(1 << 30),
    );
    match judge(&head, WANT, None) {
        Verdict::Partial { version, range } => {
            assert_eq!((head.status, range.start), (206, WANT.start), "{headers:?}");
            assert!(range.start < range.end && range.end <= WANT.end && range.end <= version.size);
            let is_counted = head.content_length == Some(range.end - range.start);
            assert!(
                head.coding.is_none() || is_counted,
                "compressed bytes are not the file's"
            );
        }
        Verdict::Whole { size, .. } => {
            assert!(
                head.status == 200 && (head.coding.is_none() || size.is_some()),
                "{headers:?}"
            );
        }
        Verdict::PastEnd { size } => assert!(size <= WANT.start, "{headers:?}"),
        Verdict::Changed(_) | Verdict::Refused(_) | Verdict::Failed(_) => {}
    }
    auth::fuzzing::challenges(&headers);
    let disposition = headers.get(reqwest::header::CONTENT_DISPOSITION);
    let _ = disposition.and_then(|value| super::response::disposition::file_name(value.as_bytes()));
}

/// A redirect's Location.
pub fn location(bytes: &[u8]) {
    let base = Url::parse("https://host.example/a/b?c").expect("a URL");
    if let Ok(url) = location::target(&base, bytes) {
        assert!(matches!(url.scheme(), "http" | "https"), "{url}");
        assert!(url.username().is_empty() && url.password().is_none(), "{url}");
        assert!(url.host().is_some(), "{url}");
    }
}

/// A cookie file, and which cookies are sent where.
pub fn cookies(text: &str) {
    let Ok(file) = CookieFile::parse(text, None) else {
        return;
    };
    let jar = CookieJar::new(&CookieConfig { file, keeps: true });
    for url in [
        "http://a.example/",
        "https://www.a.example/b/c",
        "http://127.0.0.1:8000/",
    ] {
        let sent = jar.header(&Url::parse(url).expect("a URL"), SystemTime::UNIX_EPOCH);
        let is_clean = |sent: &str| sent.bytes().all(|byte| byte >= 0x20 && byte != 0x7f);
        assert!(sent.is_none_or(|sent| is_clean(&sent)), "no header can hold that");
    }
}

/// A netrc file.
pub fn netrc(text: &str) {
    if let Ok(netrc) = Netrc::parse(text, None) {
        let _ = (netrc.login("a", None), netrc.login("b", Some("u")));
    }
}

/// The content of a token file, or the output of a token command.
pub fn token(text: &str) {
    auth::fuzzing::token(text);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Relevant headers, with values that are almost valid.
    fn any_head() -> impl Strategy<Value = String> {
        let name = prop::sample::select(vec![
            "content-range",
            "content-length",
            "content-encoding",
            "content-type",
            "content-disposition",
            "etag",
            "last-modified",
            "retry-after",
            "www-authenticate",
        ]);
        let value = prop_oneof![
            (90u64..210, 90u64..210, 0u64..300)
                .prop_map(|(first, last, total)| format!("bytes {first}-{last}/{total}")),
            "[bytes 0-9/*,=\"W;-]{0,30}",
            "(Basic|Digest|realm=|nonce=|\"|,| |\\\\|x){0,10}",
            "(Sun, 06 Nov 1994 08:49:37 GMT|gzip|identity|attachment|filename=|filename\\*=UTF-8''|;|\"|%|é){0,5}",
            any::<String>(),
        ];
        let status = prop_oneof![Just(206), Just(200), Just(416), 100u16..600];
        let line = (name, value).prop_map(|(name, value)| format!("{name}:{value}\n"));
        (status, prop::collection::vec(line, 0..6)).prop_map(|(status, lines)| format!("{status}\n{}", lines.concat()))
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        #[test]
        fn any_head_yields_only_requested_bytes(text in any_head()) {
            head(text.as_bytes());
        }

        #[test]
        fn any_location_is_http_without_credentials(
            text in "(http|https|file|data|//|:|/|@|u|p|\\?|#|%|\\\\|\\[|\\]|\\.\\.|1|\u{e9}|\t){0,12}",
            any in any::<Vec<u8>>(),
        ) {
            location(text.as_bytes());
            location(&any);
        }

        #[test]
        fn any_cookie_file_yields_valid_headers(
            text in "((\\.?(a\\.example|127\\.0\\.0\\.1)|#HttpOnly_|#|)\t(TRUE|FALSE|x)\t(/|/b|é|)\t(TRUE|FALSE)\t(0|-1|1e300|NaN|inf|é|9999999999)\t[ -~é\u{1}\u{7f}]{0,5}\t[ -~é\u{1}\u{7f}\r]{0,5}\n){0,4}",
            any in any::<String>(),
        ) {
            cookies(&text);
            cookies(&any);
        }

        #[test]
        fn nothing_that_a_netrc_file_holds_panics(
            text in "((machine|default|login|password|account|macdef|init|a|u|\"|\\\\|#|é|\u{1})( |\t|\r\n|\n\n|\n|)){0,16}",
            any in any::<String>(),
        ) {
            netrc(&text);
            netrc(&any);
        }

        #[test]
        fn any_token_file_yields_valid_headers(
            text in "[ -~é\u{0}\u{7f}\t]{0,9}(\r?\n(([0-9]{1,20}|1e9|inf|-1|[0-9]{1,9}(ms|s|m|h|d|y| years)|é)\n?){0,3}){0,2}",
            any in any::<String>(),
        ) {
            token(&text);
            token(&any);
        }
    }
}
