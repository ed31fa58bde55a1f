//! `Location` (RFC 9110 §10.2.2): where a redirect leads.

use url::Url;

use super::head::excerpt;
use crate::http::redact::strip;

/// The URL in a Location header, relative to `base`.
pub(crate) fn target(base: &Url, location: &[u8]) -> Result<Url, String> {
    let joined = std::str::from_utf8(location)
        .ok()
        .and_then(|location| base.join(location).ok());
    let Some(mut url) = joined else {
        return Err("a redirect to an invalid URL".to_owned());
    };
    if !matches!(url.scheme(), "http" | "https") {
        let scheme = excerpt(url.scheme());
        return Err(format!("a redirect to {scheme}:, which is neither http nor https"));
    }
    strip(&mut url);
    Ok(url)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_location_is_seen_from_where_it_came() {
        let base = Url::parse("https://host/a/b?c").unwrap();
        for (location, url) in [
            ("d", "https://host/a/d"),
            ("/d?e=f", "https://host/d?e=f"),
            ("//other/d", "https://other/d"),
            ("http://u:p@other:8080/", "http://other:8080/"),
            ("/ü b", "https://host/%C3%BC%20b"),
        ] {
            assert_eq!(target(&base, location.as_bytes()).unwrap().as_str(), url);
        }
        for location in [
            "file:///etc/passwd",
            "ftp://host/",
            "http://",
            "https://[",
            "data:text/plain,x",
        ] {
            assert!(target(&base, location.as_bytes()).is_err(), "{location}");
        }
        assert!(target(&base, b"/\xff").is_err());
    }
}
