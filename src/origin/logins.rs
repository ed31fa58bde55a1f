//! The login that a URL is requested with, as a part of cache keys.
//!
//! A server's content may depend on the login. So the cache keeps the content for each login apart, and apart from
//! public content: a cache key contains the login ([`crate::cache::UrlKey`]). A login consists of user name and
//! password, or the token, of headers, cookies and the client certificate. For what is renewed by itself (a token's
//! file or command, a certificate), its path or command counts.
//!
//! **Cookies that servers set do not count**: they follow from the login, or from none, and each session has others. A
//! server may also redirect to a login host, whose login then decides what is sent. So a netrc file or cookie file with
//! entries for other hosts counts by its path.
//!
//! **A key does not reveal the secret.** It is a slow hash, cut to 8 bytes: 65,536 rounds for each guess.

use std::{collections::HashMap, fmt, fmt::Write, sync::Arc};

use parking_lot::Mutex;
use sha2::{Digest as _, Sha256};
use url::Url;

use super::Client;
use crate::http::auth::TokenSource;

/// Rounds of the hash: some 20 ms, once per login and mount.
const ROUNDS: usize = 1 << 16;

/// Represents a login in keys. Different logins have different keys.
pub(crate) type LoginKey = [u8; 8];

/// Finds the login that a URL is requested with. The default has no login.
#[derive(Clone, Default)]
pub struct Logins(Option<Arc<LoginKeys>>);

struct LoginKeys {
    client: Client,
    /// Keys by the text that they are made of. Locked for a look-up, and while a login is hashed for the first time.
    keys: Mutex<HashMap<String, LoginKey>>,
}

impl fmt::Debug for Logins {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Logins")
    }
}

impl Logins {
    /// The logins that this client sends.
    pub fn of(client: Client) -> Logins {
        let keys = Mutex::default();
        Logins(Some(Arc::new(LoginKeys { client, keys })))
    }

    /// The key of the login sent with requests for this URL; `None` for a public request.
    pub fn key(&self, url: &Url) -> Option<LoginKey> {
        let known = self.0.as_deref()?;
        let text = known.client.login_text(url);
        if text.is_empty() {
            return None;
        }
        let mut keys = known.keys.lock();
        Some(*keys.entry(text).or_insert_with_key(|text| slow_hash(text)))
    }
}

fn slow_hash(text: &str) -> LoginKey {
    let hash = (0..ROUNDS).fold(Sha256::digest(text), |hash, _| Sha256::digest(hash));
    let mut key = LoginKey::default();
    key.copy_from_slice(&hash[..8]);
    key
}

impl Client {
    /// Everything that identifies the sender of requests for this URL. Secret.
    fn login_text(&self, url: &Url) -> String {
        let (site, mut text) = (self.transport().site(url), String::new());
        // Writing to a string can't fail.
        if let Some(login) = site.access.login_at(url) {
            let _ = writeln!(text, "login\0{}\0{}", login.user, login.password.expose());
        }
        if site.access.is_home(url) {
            let config = &site.config;
            let _ = match &config.access.token {
                Some(TokenSource::Given(token)) => writeln!(text, "token\0{}", token.expose()),
                Some(TokenSource::File(path)) => writeln!(text, "token file\0{}", path.display()),
                Some(TokenSource::Command(command)) => writeln!(text, "token command\0{}", command.expose()),
                None => Ok(()),
            };
            for (name, value) in &config.access.headers {
                if !SAYS_NOT_WHO.contains(&name.as_str()) {
                    let _ = writeln!(text, "{name}\0{:?}", value.as_bytes());
                }
            }
            if let Some(certificate) = &config.tls.client_cert {
                let _ = writeln!(text, "certificate\0{}", certificate.display());
            }
        }
        for (name, value) in site.config.cookies.file.of_host(url) {
            let _ = writeln!(text, "cookie\0{name}\0{value}");
        }
        // Logins at other hosts, which a redirect may lead to.
        if let Some(path) = site.access.netrc_for_others(url) {
            let _ = writeln!(text, "netrc\0{}", path.display());
        }
        if let Some(path) = site.config.cookies.file.path_if_for_others(url) {
            let _ = writeln!(text, "cookie file\0{}", path.display());
        }
        text
    }
}

/// Headers that do not identify a user: they are the same for all users of a program.
const SAYS_NOT_WHO: [&str; 5] = ["user-agent", "accept", "accept-language", "referer", "cache-control"];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::{AccessConfig, HttpConfig, Login, Secret};

    fn logins(user: &str, password: &str) -> Logins {
        let login = Login {
            user: user.to_owned(),
            password: Secret::new(password),
        };
        let access = AccessConfig {
            login: Some(login),
            ..AccessConfig::default()
        };
        let client = Client::new(HttpConfig {
            access,
            ..HttpConfig::default()
        })
        .unwrap();
        client.adopt(Url::parse("http://h/").unwrap());
        Logins::of(client)
    }

    #[test]
    fn each_login_has_its_own_key() {
        let url = |text: &str| Url::parse(text).unwrap();
        let ann = logins("ann", "1").key(&url("http://h/f")).unwrap();
        assert_eq!(logins("ann", "1").key(&url("http://h/g")), Some(ann));
        assert_ne!(logins("ben", "1").key(&url("http://h/f")), Some(ann));
        assert_ne!(
            logins("ann", "2").key(&url("http://h/f")),
            Some(ann),
            "a token may be the password of all"
        );
        assert_eq!(logins("ann", "1").key(&url("http://elsewhere/f")), None);
        assert_eq!(Logins::default().key(&url("http://h/f")), None);
    }
}
