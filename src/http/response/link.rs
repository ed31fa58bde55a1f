//! `Link`: the document that describes a file, its Metalink (RFC 6249 §3), and the next page of a listing (RFC 8288).

use reqwest::header::{self, HeaderMap};
use url::Url;

/// Maximum number of links in a response. Mirror lists have some dozens.
const MOST: usize = 256;

/// The URL of the Metalink that describes the file at `url`, by its response's headers. Only of http or https.
pub(crate) fn described_by(headers: &HeaderMap, url: &Url) -> Option<Box<Url>> {
    let is_metalink = |link: &Link| link.is("rel", "describedby") && link.is("type", "application/metalink4+xml");
    let mut urls = targets(headers, url, is_metalink);
    urls.find(|url| matches!(url.scheme(), "http" | "https")).map(Box::new)
}

/// The URL of the page after the one at `url`, by its response's headers: it differs in the query alone.
pub(crate) fn next_page(headers: &HeaderMap, url: &Url) -> Option<Url> {
    // `anchor` would make it the next page of something else (RFC 8288 §3.2).
    let mut urls = targets(headers, url, |link| link.is("rel", "next") && !link.has("anchor"));
    urls.find(|next| next.origin() == url.origin() && next.path() == url.path())
}

fn targets(headers: &HeaderMap, url: &Url, is_wanted: impl Fn(&Link) -> bool) -> impl Iterator<Item = Url> {
    let values = headers
        .get_all(header::LINK)
        .iter()
        .filter_map(|value| value.to_str().ok());
    let wanted = values.flat_map(links).take(MOST).filter(is_wanted);
    wanted.filter_map(|link| url.join(link.target).ok())
}

/// One link of a header (RFC 8288 §3).
struct Link<'a> {
    target: &'a str,
    /// Names and values, the values unquoted.
    params: Vec<(&'a str, &'a str)>,
}

impl Link<'_> {
    fn has(&self, name: &str) -> bool {
        self.params.iter().any(|(known, _)| known.eq_ignore_ascii_case(name))
    }

    /// Returns true if the first parameter of this name has this value among those between its spaces.
    fn is(&self, name: &str, wanted: &str) -> bool {
        let param = self.params.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
        param.is_some_and(|(_, value)| {
            value
                .split_ascii_whitespace()
                .any(|value| value.eq_ignore_ascii_case(wanted))
        })
    }
}

/// The links of a header's value, up to the first malformed one.
fn links(value: &str) -> impl Iterator<Item = Link<'_>> {
    let mut rest = value;
    std::iter::from_fn(move || {
        rest = rest.trim_start_matches([' ', '\t', ',']);
        let (target, mut after) = rest.strip_prefix('<')?.split_once('>')?;
        let mut params = Vec::new();
        while let Some(param) = after.trim_start().strip_prefix(';') {
            let (name, value) = match param.find(['=', ';', ',']) {
                Some(at) if param[at..].starts_with('=') => (&param[..at], Some(param[at + 1..].trim_start())),
                Some(at) => (&param[..at], None),
                None => (param, None),
            };
            let value = match value {
                None => {
                    after = &param[name.len()..];
                    ""
                }
                // No value that counts here has an escaped quote.
                Some(quoted) if quoted.starts_with('"') => {
                    let (value, behind) = quoted[1..].split_once('"')?;
                    after = behind;
                    value
                }
                Some(token) => {
                    let end = token.find([';', ',']).unwrap_or(token.len());
                    after = &token[end..];
                    token[..end].trim()
                }
            };
            params.push((name.trim(), value));
        }
        rest = after;
        Some(Link { target, params })
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use reqwest::header::HeaderValue;

    use super::*;

    fn described(values: &[&str]) -> Option<String> {
        let values = values.iter().filter_map(|value| HeaderValue::from_str(value).ok());
        let headers = HeaderMap::from_iter(values.map(|value| (header::LINK, value)));
        let headers = headers.into_iter().fold(HeaderMap::new(), |mut all, (name, value)| {
            all.append(name.unwrap_or(header::LINK), value);
            all
        });
        described_by(&headers, &Url::parse("https://h/pub/a.iso").unwrap()).map(|url| String::from(*url))
    }

    #[test]
    fn metalink_of_a_file_is_found() {
        const TYPE: &str = "type=\"application/metalink4+xml\"";
        for (values, found) in [
            (
                vec!["<http://m/a.iso.meta4>; rel=describedby; type=\"application/metalink4+xml\""],
                Some("http://m/a.iso.meta4"),
            ),
            (
                vec![
                    "<http://x/a.iso>; rel=duplicate; pri=1; geo=de, <a.meta4> ; REL=\"x describedby\" ;type=application/metalink4+xml",
                ],
                Some("https://h/pub/a.meta4"),
            ),
            (
                vec!["<b>; rel=describedby; title=\"a, <b>; c\"; type=\"text/html\", <c>; rel=describedby"],
                None,
            ),
            (
                vec!["<a.torrent>; rel=describedby; type=\"application/x-bittorrent\""],
                None,
            ),
            (
                vec!["<ftp://h/a>; rel=describedby; type=application/metalink4+xml"],
                None,
            ),
            (vec!["<a"], None),
            (vec![], None),
        ] {
            assert_eq!(described(&values).as_deref(), found, "{values:?}");
        }
        let split = format!("<a.meta4>; pref; rel=\"describedby\"; {TYPE}");
        assert_eq!(described(&[&split]).as_deref(), Some("https://h/pub/a.meta4"));
    }

    #[test]
    fn next_page_is_found() {
        for (value, found) in [
            ("<?page=2>; rel=\"next\"", Some("https://h/pub/?page=2")),
            (
                "<https://h/pub/?page=1>; rel=\"prev\", <https://h/pub/?page=3>; rel=\"next\", <?page=9>; rel=\"last\"",
                Some("https://h/pub/?page=3"),
            ),
            ("<?page=2>; rel=\"last next\"", Some("https://h/pub/?page=2")),
            ("<?page=2>; rel=next; anchor=\"/elsewhere\"", None),
            (
                "<mailto:a@h>; rel=next, </elsewhere/>; rel=next, <https://h/pub/?b>; rel=next",
                Some("https://h/pub/?b"),
            ),
            ("</x>; rel=preload", None),
        ] {
            let headers = HeaderMap::from_iter([(header::LINK, HeaderValue::from_static(value))]);
            let next = next_page(&headers, &Url::parse("https://h/pub/").unwrap());
            assert_eq!(next.map(String::from).as_deref(), found, "{value}");
        }
    }

    proptest! {
        #[test]
        fn nothing_in_a_link_panics(value in "[<>;,=\" a-z]{0,40}") {
            described(&[&value]);
        }
    }
}
