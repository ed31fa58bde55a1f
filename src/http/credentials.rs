//! User names and passwords, each bound to one origin.
//!
//! They arrive in URLs (`https://user:password@host/`) and are taken out of them at once, so that no URL that is
//! stored, shown or logged has any. They go out as Basic authentication (RFC 7617), to their own origin only: a
//! redirect to elsewhere, or a listing's link, never takes them along (docs/semantics.md, promise 9).

use std::collections::HashMap;

use parking_lot::Mutex;
use percent_encoding::percent_decode_str;
use reqwest::RequestBuilder;
use url::Url;

use super::Origin;

/// Characters of a URL in a message. A server can make a redirect of 100 kB.
const LONGEST_SHOWN: usize = 500;

/// What is known of who we are, by origin. Deliberately without `Debug`.
#[derive(Default)]
pub(super) struct Credentials {
    /// Guards nothing but the map; nothing else is locked under it, and it is never held over an await.
    logins: Mutex<HashMap<Origin, Login>>,
}

#[derive(Clone)]
struct Login {
    user: String,
    password: String,
}

impl Credentials {
    /// Takes user and password out of a URL, and remembers them for its origin.
    pub fn adopt(&self, mut url: Url) -> Url {
        let login = Login {
            user: decode(url.username()),
            password: decode(url.password().unwrap_or_default()),
        };
        if let Some(origin) = Origin::of(&url)
            && !(login.user.is_empty() && login.password.is_empty())
        {
            self.logins.lock().insert(origin, login);
        }
        strip(&mut url);
        url
    }

    /// Adds what the URL's origin is to see; nothing if there is nothing for that origin.
    pub fn authorize(&self, url: &Url, request: RequestBuilder) -> RequestBuilder {
        let login = Origin::of(url).and_then(|origin| self.logins.lock().get(&origin).cloned());
        match login {
            Some(login) => request.basic_auth(login.user, Some(login.password)),
            None => request,
        }
    }
}

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

fn decode(text: &str) -> String {
    percent_decode_str(text).decode_utf8_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> Url {
        Url::parse(text).unwrap()
    }

    /// The Authorization header that a request to this URL would have.
    fn sent(credentials: &Credentials, to: &str) -> Option<String> {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let request = reqwest::Client::new().get(url(to));
        let request = credentials.authorize(&url(to), request).build().unwrap();
        let value = request.headers().get("authorization")?;
        assert!(value.is_sensitive(), "else it is shown by Debug");
        Some(value.to_str().unwrap().to_owned())
    }

    #[test]
    fn credentials_go_to_their_own_origin_only() {
        let credentials = Credentials::default();
        assert_eq!(
            credentials.adopt(url("http://u:p@host/d?q=1#f")),
            url("http://host/d?q=1#f")
        );
        for home in ["http://host/", "http://host:80/other", "http://HOST/d"] {
            assert_eq!(sent(&credentials, home).as_deref(), Some("Basic dTpw"), "{home}");
        }
        for away in [
            "https://host/",
            "http://host:8080/",
            "http://host.example/",
            "http://sub.host/",
            "http://host./",
        ] {
            assert_eq!(sent(&credentials, away), None, "{away}");
        }
    }

    #[test]
    fn a_url_without_credentials_takes_none_away() {
        let credentials = Credentials::default();
        credentials.adopt(url("http://user@host/"));
        credentials.adopt(url("http://host/again"));
        assert_eq!(
            sent(&credentials, "http://host/").as_deref(),
            Some("Basic dXNlcjo="),
            "no password is an empty one"
        );
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
