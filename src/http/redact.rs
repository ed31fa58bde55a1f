//! URLs without their secrets.

use url::Url;

/// Characters of a URL in a message. A server can make a redirect of 100 kB.
const LONGEST_SHOWN: usize = 500;

/// Takes user and password out of a URL without remembering them: what a redirect says of them is not trusted, and
/// `reqwest` would send them.
pub(super) fn strip(url: &mut Url) {
    // Both fail only for URLs without a host, which have neither.
    let _ = url.set_username("");
    let _ = url.set_password(None);
}

/// A URL for messages and logs: without user and password, and without the values of its query, where tokens and
/// signatures are: `https://host/file?token=…`. What is longer than any sane URL is cut.
pub fn redact(url: &Url) -> String {
    let mut shown = url.clone();
    strip(&mut shown);
    shown.set_query(None);
    shown.set_fragment(None);
    let mut text = shown.to_string();
    for (index, pair) in url.query().into_iter().flat_map(|query| query.split('&')).enumerate() {
        text.push(if index == 0 { '?' } else { '&' });
        // What has no name is a value.
        if let Some((name, _)) = pair.split_once('=') {
            text.push_str(name);
            text.push('=');
        }
        text.push('…');
    }
    if let Some((end, _)) = text.char_indices().nth(LONGEST_SHOWN) {
        text.truncate(end);
        text.push('…');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> Url {
        Url::parse(text).unwrap()
    }

    #[test]
    fn messages_show_no_secret() {
        for (whole, shown) in [
            ("http://host/", "http://host/"),
            ("https://u:secret@host:8443/a%20b#secret", "https://host:8443/a%20b"),
            ("http://host/f?token=secret", "http://host/f?token=…"),
            (
                "http://host/f?a=secret&b=&secret&c=se=cret",
                "http://host/f?a=…&b=…&…&c=…",
            ),
            ("http://host/f?secret", "http://host/f?…"),
        ] {
            assert_eq!(redact(&url(whole)), shown);
        }
        let long = redact(&url(&format!("http://host/{}?k=secret", "ü".repeat(2000))));
        assert!(long.len() < 600 && !long.contains("secret"));
    }
}
