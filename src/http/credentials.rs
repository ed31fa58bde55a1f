//! User names and passwords, each bound to one origin.
//!
//! They arrive in URLs (`https://user:password@host/`) and are taken out of them at once, so that no URL that is
//! stored, shown or logged has any. They go out as Basic authentication (RFC 7617), to their own origin only: a
//! redirect to elsewhere, or a listing's link, never takes them along (DESIGN.md, promise 9).

use std::collections::HashMap;

use parking_lot::Mutex;
use percent_encoding::percent_decode_str;
use reqwest::RequestBuilder;
use url::Url;

use super::Origin;

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
/// signatures are. `https://host/file?token=…`
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
    text
}

fn decode(text: &str) -> String {
    percent_decode_str(text).decode_utf8_lossy().into_owned()
}
