//! Which queries in links may be stored: those that say nothing but the name, and numbers of known meaning.
//!
//! A query may be a secret: a signature, a token, a key. Whatever is not recognised counts as one.

use percent_encoding::percent_decode_str;
use url::Url;

/// Fields whose number is no secret.
const NUMBERED: [&str; 12] = [
    "dl", "download", "id", "inline", "offset", "page", "part", "raw", "start", "v", "version", "view",
];

/// Most digits of such a number. A number that is longer may be a key.
const MOST_DIGITS: usize = 9;

/// Returns true if the URL's query is no secret. Each of its fields is
///
/// - a path that ends in the entry's name (`?dir=films/new`, `?path=/films/a.mkv`), where the part before the name is
///   the end of the directory's own path or query,
/// - a number in a field of known meaning (`?download=1`), or
/// - a field of known meaning without a value (`?raw`).
pub(super) fn is_harmless(url: &Url, name: &[u8], directory: &Url) -> bool {
    url.query().is_none_or(|query| {
        !query.is_empty()
            && query.split('&').all(|field| {
                let (key, value) = field.split_once('=').unwrap_or((field, ""));
                is_numbered(key, value) || ends_in_name(value, name, directory)
            })
    })
}

fn is_numbered(key: &str, value: &str) -> bool {
    NUMBERED.contains(&key.to_ascii_lowercase().as_str())
        && value.len() <= MOST_DIGITS
        && value.bytes().all(|byte| byte.is_ascii_digit())
}

fn ends_in_name(value: &str, name: &[u8], directory: &Url) -> bool {
    let value = decode(value);
    let value = value.strip_suffix(b"/").unwrap_or(&value);
    let Some(above) = value.strip_suffix(name).filter(|_| !name.is_empty()) else {
        return false;
    };
    let above = match above {
        [rest @ .., b'/'] => rest,
        [] => return true,
        _ => return false,
    };
    let is_known = |text: &str| {
        let text = decode(text);
        let text = text.strip_suffix(b"/").unwrap_or(&text);
        text.strip_suffix(above)
            .is_some_and(|rest| rest.is_empty() || rest.ends_with(b"/") || above.starts_with(b"/"))
    };
    // What is above was stored already, or is what the user has named.
    let in_query = |query: &str| {
        query
            .split('&')
            .any(|field| field.split_once('=').is_some_and(|(_, value)| is_known(value)))
    };
    above.is_empty() || above == b"." || is_known(directory.path()) || directory.query().is_some_and(in_query)
}

fn decode(text: &str) -> Vec<u8> {
    percent_decode_str(&text.replace('+', " ")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_and_numbers_are_harmless() {
        for (directory, url, name, expected) in [
            ("http://h/list", "http://h/a.csv", "a.csv", true),
            ("http://h/", "http://h/list?dir=films", "films", true),
            ("http://h/", "http://h/list?dir=/films/", "films", true),
            ("http://h/", "http://h/list?dir=./films", "films", true),
            (
                "http://h/list?dir=films",
                "http://h/list?dir=films/new+ones",
                "new ones",
                true,
            ),
            (
                "http://h/list?dir=/films",
                "http://h/get?file=%2Ffilms%2Fa%26b.mkv&download=1",
                "a&b.mkv",
                true,
            ),
            ("http://h/pub/films/", "http://h/get?path=pub/films/a", "a", true),
            ("http://h/d/", "http://h/d/a.csv?raw", "a.csv", true),
            ("http://h/d/", "http://h/d/a.csv?v=12345", "a.csv", true),
            // What may be secret.
            ("http://h/d/", "http://h/d/a.csv?", "a.csv", false),
            ("http://h/d/", "http://h/d/a.csv?token=1", "a.csv", false),
            ("http://h/d/", "http://h/d/a.csv?v=1234567890", "a.csv", false),
            ("http://h/d/", "http://h/d/a.csv?v=12ab", "a.csv", false),
            ("http://h/d/", "http://h/d/a.csv?s3cret", "a.csv", false),
            ("http://h/d/", "http://h/get?file=s3cret/a.csv", "a.csv", false),
            (
                "http://h/list?dir=films",
                "http://h/list?dir=films/s3cret/a",
                "a",
                false,
            ),
            ("http://h/list?dir=films", "http://h/list?dir=xfilms/a", "a", false),
            (
                "http://h/list?dir=films",
                "http://h/list?dir=films/a&key=s3cret",
                "a",
                false,
            ),
            ("http://h/list?dir=films", "http://h/list?dir=films/ba", "a", false),
            ("http://h/d/", "http://h/d/a.csv?raw&raw=x", "a.csv", false),
        ] {
            let (directory, url) = (Url::parse(directory).unwrap(), Url::parse(url).unwrap());
            assert_eq!(
                is_harmless(&url, name.as_bytes(), &directory),
                expected,
                "{url} in {directory}"
            );
        }
    }
}
