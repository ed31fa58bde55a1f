//! Digest authentication (RFC 7616): the client proves the password without sending it.
//!
//! Written here, because the one crate for it has been unmaintained for years. Checked against the examples of both
//! RFCs, and against Apache (tests/real_servers.rs). MD5 and SHA-256, with and without `-sess`. `qop` is `auth` or
//! absent (RFC 2617): requests have no body that `auth-int` could protect.

use md5::Md5;
use reqwest::Method;
use sha2::{Digest as _, Sha256};
use url::Url;

use super::challenge::Challenge;
use super::login::Login;
use crate::util::hex::hex;

/// A challenge in use, and how many requests have answered it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Digest {
    realm: String,
    nonce: String,
    opaque: Option<String>,
    hash: HashFunction,
    /// As the server wrote it; sent back unchanged.
    algorithm: Option<String>,
    is_session: bool,
    has_qop: bool,
    is_stale: bool,
    /// Number of requests with this nonce. A server may refuse a number that it has seen.
    count: u32,
}

/// Ordered from weaker to stronger.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum HashFunction {
    Md5,
    Sha256,
}

impl HashFunction {
    fn of(self, text: &str) -> String {
        match self {
            HashFunction::Md5 => hex(&Md5::digest(text)),
            HashFunction::Sha256 => hex(&Sha256::digest(text)),
        }
    }
}

impl Digest {
    /// The strongest of the supported challenges.
    pub(super) fn best(challenges: &[Challenge]) -> Option<Digest> {
        challenges
            .iter()
            .filter_map(Digest::of)
            .max_by_key(|digest| digest.hash)
    }

    fn of(challenge: &Challenge) -> Option<Digest> {
        if challenge.scheme != "digest" {
            return None;
        }
        let algorithm = challenge.param("algorithm");
        let (hash, is_session) = match algorithm.map(str::to_ascii_lowercase).as_deref() {
            None | Some("md5") => (HashFunction::Md5, false),
            Some("md5-sess") => (HashFunction::Md5, true),
            Some("sha-256") => (HashFunction::Sha256, false),
            Some("sha-256-sess") => (HashFunction::Sha256, true),
            Some(_) => return None,
        };
        let qop = challenge.param("qop");
        let has_auth = |qop: &str| qop.split(',').any(|one| one.trim().eq_ignore_ascii_case("auth"));
        if qop.is_some_and(|qop| !has_auth(qop)) {
            return None;
        }
        Some(Digest {
            realm: challenge.param("realm")?.to_owned(),
            nonce: challenge.param("nonce")?.to_owned(),
            opaque: challenge.param("opaque").map(str::to_owned),
            hash,
            algorithm: algorithm.map(str::to_owned),
            is_session,
            has_qop: qop.is_some(),
            is_stale: challenge
                .param("stale")
                .is_some_and(|stale| stale.eq_ignore_ascii_case("true")),
            count: 0,
        })
    }

    /// The server's nonce.
    pub(super) fn nonce(&self) -> &str {
        &self.nonce
    }

    /// Returns true if the server says that the login was right and only the previous nonce was too old.
    pub(super) fn is_stale(&self) -> bool {
        self.is_stale
    }

    /// The Authorization value for the next request.
    pub(super) fn answer(&mut self, login: &Login, method: &Method, url: &Url) -> String {
        let mut random = [0; 16];
        // A client nonce keeps the server from choosing all of the hashed text. Without randomness the nonce is weaker.
        let provider = rustls::crypto::CryptoProvider::get_default();
        let _ = provider.map(|provider| provider.secure_random.fill(&mut random));
        self.answer_with(login, method, url, &hex(&random))
    }

    fn answer_with(&mut self, login: &Login, method: &Method, url: &Url, cnonce: &str) -> String {
        self.count += 1;
        let count = format!("{:08x}", self.count);
        let uri = match url.query() {
            Some(query) => format!("{}?{query}", url.path()),
            None => url.path().to_owned(),
        };
        let (realm, nonce) = (&self.realm, &self.nonce);
        let hash = |text: String| self.hash.of(&text);
        let mut who = hash(format!("{}:{realm}:{}", login.user, login.password.expose()));
        if self.is_session {
            who = hash(format!("{who}:{nonce}:{cnonce}"));
        }
        let what = hash(format!("{method}:{uri}"));
        let response = if self.has_qop {
            hash(format!("{who}:{nonce}:{count}:{cnonce}:auth:{what}"))
        } else {
            hash(format!("{who}:{nonce}:{what}"))
        };
        let mut value = format!(
            "Digest username=\"{}\", realm=\"{}\", nonce=\"{}\", uri=\"{uri}\", response=\"{response}\"",
            escape(&login.user),
            escape(realm),
            escape(nonce)
        );
        if let Some(algorithm) = &self.algorithm {
            value += &format!(", algorithm={algorithm}");
        }
        if let Some(opaque) = &self.opaque {
            value += &format!(", opaque=\"{}\"", escape(opaque));
        }
        if self.has_qop {
            value += &format!(", qop=auth, nc={count}, cnonce=\"{cnonce}\"");
        } else if self.is_session {
            value += &format!(", cnonce=\"{cnonce}\"");
        }
        value
    }
}

/// Escapes text for a quoted string (RFC 9110 §5.6.4).
fn escape(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"")
}

#[cfg(test)]
mod tests {
    use super::super::challenge;
    use super::*;
    use crate::http::Secret;

    fn challenges(lines: &[&str]) -> Vec<Challenge> {
        challenge::all(&challenge::tests::headers(lines))
    }

    fn mufasa(password: &str) -> Login {
        Login {
            user: "Mufasa".to_owned(),
            password: Secret::new(password),
        }
    }

    fn answer(challenge: &str, password: &str, cnonce: &str) -> String {
        let url = Url::parse("http://www.nowhere.org/dir/index.html").unwrap();
        let mut digest = Digest::best(&challenges(&[challenge])).unwrap();
        digest.answer_with(&mufasa(password), &Method::GET, &url, cnonce)
    }

    #[test]
    fn the_examples_of_rfc_7616() {
        let rest = r#"realm="http-auth@example.org", qop="auth, auth-int", nonce="7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v", opaque="FQhe/qaU925kfnzjCev0ciny7QMkPqMAFRtzCUYo5tdS""#;
        let cnonce = "f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ";
        let of = |algorithm| {
            answer(
                &format!("Digest {rest}, algorithm={algorithm}"),
                "Circle of Life",
                cnonce,
            )
        };
        let (md5, sha256) = (of("MD5"), of("SHA-256"));
        assert!(md5.contains(r#"response="8ca523f5e9506fed4657c9700eebdbec""#), "{md5}");
        assert!(
            sha256.contains(r#"response="753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1""#),
            "{sha256}"
        );
        assert!(
            sha256.contains(r#", algorithm=SHA-256, opaque="FQhe/"#) && sha256.contains(", qop=auth, nc=00000001, ")
        );
    }

    #[test]
    fn the_example_of_rfc_2617_and_the_old_form_without_qop() {
        let rest = r#"Digest realm="testrealm@host.com", nonce="dcd98b7102dd2f0e8b11d0f600bfb0c093""#;
        let new = answer(&format!("{rest}, qop=auth"), "Circle Of Life", "0a4f113b");
        assert!(new.contains(r#"response="6629fae49393a05397450978507c4ef1""#), "{new}");
        let old = answer(rest, "Circle Of Life", "0a4f113b");
        assert!(
            old.contains(r#"response="670fd8c2df070c60b045671b8b24ff02""#) && !old.contains("cnonce"),
            "{old}"
        );
    }

    #[test]
    fn the_strongest_challenge_that_can_be_answered_is_taken() {
        let md5 = r#"Digest realm="r", nonce="1", algorithm=MD5"#;
        let sha = r#"Digest realm="r", nonce="2", algorithm=SHA-256, stale=TRUE"#;
        let best = Digest::best(&challenges(&["Basic realm=r", md5, sha])).unwrap();
        assert_eq!((best.nonce(), best.is_stale()), ("2", true));
        for unknown in [
            r#"Digest realm="r", nonce="3", algorithm=SHA-512-256"#,
            r#"Digest realm="r", nonce="4", qop=auth-int"#,
            r#"Digest realm="r""#,
            "Basic realm=r",
        ] {
            assert_eq!(Digest::best(&challenges(&[unknown])), None, "{unknown}");
        }
    }

    #[test]
    fn a_number_is_used_once() {
        let mut digest = Digest::best(&challenges(&[r#"Digest realm="r", nonce="1", qop="auth""#])).unwrap();
        let url = Url::parse("http://h/a?b=c").unwrap();
        let mut next = || digest.answer(&mufasa("p\"w"), &Method::HEAD, &url);
        let (first, second) = (next(), next());
        assert!(first.contains("nc=00000001") && second.contains("nc=00000002"));
        assert!(first.contains(r#"uri="/a?b=c""#));
    }
}
