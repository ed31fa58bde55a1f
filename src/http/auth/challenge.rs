//! `WWW-Authenticate`: the authentication schemes that a server accepts (RFC 9110 §11.6.1).

use reqwest::header::{self, HeaderMap};

/// One authentication scheme that a server offers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Challenge {
    /// `basic`, `digest`, …: in lower case.
    pub scheme: String,
    /// Names in lower case, values unquoted.
    params: Vec<(String, String)>,
}

impl Challenge {
    /// The value of a parameter.
    pub(super) fn param(&self, name: &str) -> Option<&str> {
        self.params
            .iter()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.as_str())
    }
}

/// All challenges of a response, in order. Malformed ones are skipped.
pub(crate) fn all(answer: &HeaderMap) -> Vec<Challenge> {
    let mut all: Vec<Challenge> = Vec::new();
    let lines = answer.get_all(header::WWW_AUTHENTICATE).iter();
    for part in lines.filter_map(|line| line.to_str().ok()).flat_map(split) {
        // `Digest realm="x"` begins a challenge, `nonce="y"` continues it: commas separate both.
        let (head, value) = part.split_once('=').unwrap_or((part, ""));
        let name = match head.trim().split_once(char::is_whitespace) {
            Some((scheme, name)) => {
                all.push(begin(scheme));
                name.trim()
            }
            None if value.is_empty() && !part.contains('=') => {
                all.push(begin(head.trim()));
                continue;
            }
            None => head.trim(),
        };
        if let Some(challenge) = all.last_mut() {
            challenge
                .params
                .push((name.to_ascii_lowercase(), unquote(value.trim())));
        }
    }
    all
}

fn begin(scheme: &str) -> Challenge {
    Challenge {
        scheme: scheme.to_ascii_lowercase(),
        params: Vec::new(),
    }
}

/// Splits at commas outside quotes; skips empty parts.
fn split(line: &str) -> impl Iterator<Item = &str> {
    let (mut is_quoted, mut is_escaped) = (false, false);
    let is_end = move |c: char| {
        let escapes = is_quoted && c == '\\' && !is_escaped;
        if c == '"' && !is_escaped {
            is_quoted = !is_quoted;
        }
        is_escaped = escapes;
        c == ',' && !is_quoted
    };
    line.split(is_end).map(str::trim).filter(|part| !part.is_empty())
}

/// The content of a quoted string (RFC 9110 §5.6.4); a token is returned as it is.
fn unquote(value: &str) -> String {
    let Some(inner) = value.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) else {
        return value.to_owned();
    };
    let mut text = String::with_capacity(inner.len());
    let mut chars = inner.chars();
    while let Some(c) = chars.next() {
        text.extend(if c == '\\' { chars.next() } else { Some(c) });
    }
    text
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::*;

    pub(crate) fn headers(lines: &[&str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(header::WWW_AUTHENTICATE, line.parse().unwrap());
        }
        headers
    }

    #[test]
    fn several_challenges_may_share_a_line_or_have_one_each() {
        let lines = [
            r#"Basic realm="a, b", charset="UTF-8", Digest realm="q\"uote" , nonce=abc==, qop="auth,auth-int""#,
            "Negotiate",
            "NEWAUTH realm=x,, Bearer",
        ];
        let all = all(&headers(&lines));
        let schemes: Vec<_> = all.iter().map(|one| one.scheme.as_str()).collect();
        assert_eq!(schemes, ["basic", "digest", "negotiate", "newauth", "bearer"]);
        assert_eq!(all[0].param("realm"), Some("a, b"));
        assert_eq!(all[1].param("realm"), Some("q\"uote"));
        assert_eq!(
            (all[1].param("nonce"), all[1].param("qop")),
            (Some("abc=="), Some("auth,auth-int"))
        );
        assert_eq!((all[3].param("realm"), all[4].param("realm")), (Some("x"), None));
    }

    proptest! {
        #[test]
        fn nothing_that_a_server_can_say_panics(line in "[ -~]{0,60}") {
            all(&headers(&[&line]));
        }
    }
}
