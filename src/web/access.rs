//! Who may see the status page: the Host header, and the token.
//!
//! - **Host.** A web page of elsewhere can send a browser to this address under a name of its own (DNS rebinding), and
//!   would then count as the same origin. So a request must name the address to which it came, `localhost` if that is a
//!   loopback address, or a name of `--http-host`. Browsers can't reach a Unix socket, so it has no check.
//! - **Token.** A client sends it as `Authorization: Bearer TOKEN`. A browser opens `?token=TOKEN` once, and gets a cookie
//!   that is not the token itself. Digests are compared, in constant time.
//!
//! All of it is a function of the request's head.

use std::net::SocketAddr;

use http::header::{AUTHORIZATION, COOKIE, HOST};
use http::request::Parts;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use url::form_urlencoded;

use super::config::{HostName, WebConfig};
use crate::util::hex::hex;

/// The parameter that has the token.
const PARAMETER: &str = "token";

/// Decides about requests.
pub(super) struct Access {
    hosts: Vec<HostName>,
    /// Digest of the token.
    token: Option<[u8; 32]>,
    /// The cookie's value, for those who know the token.
    cookie_value: String,
    /// The cookie's name. Cookies of one host are shared by all its ports, so it differs from mount to mount.
    cookie_name: String,
}

/// What becomes of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It is answered.
    Welcome,
    /// The token was in the URL: the client gets this cookie, and is sent to the same place without the token.
    Enter { cookie: String, location: String },
    /// It has no Host header, or a malformed one.
    NoHost,
    /// It is for another host.
    WrongHost,
    /// It has no token, or another one.
    NoToken,
}

impl Access {
    /// By the options. `port` tells the cookies of several mounts apart.
    pub(super) fn new(config: &WebConfig, port: u16) -> Access {
        let token = config.token.as_ref().map(|token| token.expose());
        Access {
            hosts: config.hosts.clone(),
            token: token.map(digest),
            cookie_value: token.map(cookie_value).unwrap_or_default(),
            cookie_name: format!("fetchfs_{port}"),
        }
    }

    /// What becomes of a request that came to the address `local`, which is `None` for a Unix socket.
    pub(super) fn judge(&self, local: Option<SocketAddr>, request: &Parts) -> Verdict {
        if let Some(local) = local {
            match named_hosts(request) {
                None => return Verdict::NoHost,
                Some(named) if !named.iter().all(|name| self.is_own(local, name)) => return Verdict::WrongHost,
                Some(_) => {}
            }
        }
        let Some(token) = &self.token else {
            return Verdict::Welcome;
        };
        let is_token = |text: &str| bool::from(digest(text).ct_eq(token));
        if bearer(request).is_some_and(is_token) || self.has_cookie(request) {
            return Verdict::Welcome;
        }
        match form_urlencoded::parse(request.uri.query().unwrap_or_default().as_bytes())
            .find(|(name, _)| name == PARAMETER)
        {
            Some((_, text)) if is_token(&text) => self.enter(request),
            _ => Verdict::NoToken,
        }
    }

    /// Whether a client that connected to `local` may call it so.
    fn is_own(&self, local: SocketAddr, name: &HostName) -> bool {
        let ip = local.ip().to_canonical();
        let port = name.port.unwrap_or(80);
        let literal = match ip {
            std::net::IpAddr::V4(ip) => ip.to_string(),
            std::net::IpAddr::V6(ip) => format!("[{ip}]"),
        };
        let is_loopback = ip.is_loopback() && ["localhost", "127.0.0.1", "[::1]"].contains(&name.host.as_str());
        let is_here = port == local.port() && (name.host == literal || is_loopback);
        let is_configured = |own: &HostName| own.host == name.host && own.port.is_none_or(|own| own == port);
        is_here || self.hosts.iter().any(is_configured)
    }

    fn has_cookie(&self, request: &Parts) -> bool {
        let headers = request.headers.get_all(COOKIE).iter();
        let pairs = headers
            .filter_map(|header| header.to_str().ok())
            .flat_map(|text| text.split(';'));
        let mut own = pairs
            .filter_map(|pair| pair.trim().split_once('='))
            .filter(|(name, _)| *name == self.cookie_name);
        own.any(|(_, value)| digest(value).ct_eq(&digest(&self.cookie_value)).into())
    }

    fn enter(&self, request: &Parts) -> Verdict {
        let query = request.uri.query().unwrap_or_default();
        let others = form_urlencoded::parse(query.as_bytes()).filter(|(name, _)| name != PARAMETER);
        let rest = form_urlencoded::Serializer::new(String::new())
            .extend_pairs(others)
            .finish();
        let path = request.uri.path();
        Verdict::Enter {
            cookie: format!(
                "{}={}; Path=/; HttpOnly; SameSite=Strict",
                self.cookie_name, self.cookie_value
            ),
            location: match rest.as_str() {
                "" => path.to_owned(),
                rest => format!("{path}?{rest}"),
            },
        }
    }
}

/// The hosts that a request names: in its Host header, and in its target if that is absolute. `None` if that is not one
/// host.
fn named_hosts(request: &Parts) -> Option<Vec<HostName>> {
    let mut headers = request.headers.get_all(HOST).iter();
    let (first, None) = (headers.next()?, headers.next()) else {
        return None;
    };
    let mut named = vec![HostName::read(first.to_str().ok()?)?];
    if let Some(authority) = request.uri.authority() {
        named.push(HostName::read(authority.as_str())?);
    }
    Some(named)
}

fn bearer(request: &Parts) -> Option<&str> {
    let text = request.headers.get(AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = text.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

fn digest(text: &str) -> [u8; 32] {
    Sha256::digest(text.as_bytes()).into()
}

/// From which the token can't be found.
fn cookie_value(token: &str) -> String {
    hex(&digest(&format!("fetchfs cookie {token}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::Secret;
    use http::Request;
    use proptest::prelude::*;

    const TOKEN: &str = "0123456789abcdef";

    fn access(token: Option<&str>, hosts: &[&str]) -> Access {
        let config = WebConfig {
            listen: "127.0.0.1:9090".parse().unwrap(),
            hosts: hosts.iter().map(|host| host.parse().unwrap()).collect(),
            token: token.map(Secret::new),
        };
        Access::new(&config, 9090)
    }

    fn request(target: &str, headers: &[(&str, &str)]) -> Parts {
        let mut request = Request::builder().uri(target);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(()).unwrap().into_parts().0
    }

    fn of_host(access: &Access, local: &str, host: &str) -> Verdict {
        access.judge(Some(local.parse().unwrap()), &request("/", &[("host", host)]))
    }

    #[test]
    fn loopback_has_its_names_alone() {
        let access = access(None, &[]);
        for host in ["localhost:9090", "LOCALHOST:9090", "127.0.0.1:9090", "[::1]:9090"] {
            assert_eq!(of_host(&access, "127.0.0.1:9090", host), Verdict::Welcome, "{host}");
            assert_eq!(of_host(&access, "[::1]:9090", host), Verdict::Welcome, "{host}");
            assert_eq!(
                of_host(&access, "[::ffff:127.0.0.1]:9090", host),
                Verdict::Welcome,
                "{host}"
            );
        }
        for host in [
            "localhost",
            "localhost:9091",
            "localhost.evil.example:9090",
            "evil.example:9090",
            "127.0.0.2:9090",
            "192.168.1.2:9090",
        ] {
            assert_eq!(of_host(&access, "127.0.0.1:9090", host), Verdict::WrongHost, "{host}");
        }
        for host in ["", "localhost:", "a@localhost:9090", "localhost:9090/x"] {
            assert_eq!(of_host(&access, "127.0.0.1:9090", host), Verdict::NoHost, "{host}");
        }
        assert_eq!(
            of_host(&access, "127.0.0.1:80", "localhost"),
            Verdict::Welcome,
            "the port of http"
        );
        assert_eq!(
            of_host(&access, "127.0.0.9:90", "127.0.0.9:90"),
            Verdict::Welcome,
            "what it is bound to"
        );
    }

    #[test]
    fn other_addresses_have_their_own_name_and_the_configured() {
        let access = access(Some(TOKEN), &["nas", "status.example.org:443"]);
        let verdict = |host| of_host(&access, "192.168.1.2:9090", host);
        for host in ["192.168.1.2:9090", "nas", "nas:1234", "status.example.org:443"] {
            assert_eq!(verdict(host), Verdict::NoToken, "{host}");
        }
        for host in [
            "localhost:9090",
            "192.168.1.3:9090",
            "status.example.org:80",
            "evil.example:9090",
        ] {
            assert_eq!(verdict(host), Verdict::WrongHost, "{host}");
        }
    }

    #[test]
    fn absolute_target_and_second_header_do_not_replace_the_check() {
        let access = access(None, &[]);
        let local = Some("127.0.0.1:9090".parse().unwrap());
        let own = ("host", "localhost:9090");
        let judge = |target: &str, headers: &[(&str, &str)]| access.judge(local, &request(target, headers));
        assert_eq!(judge("http://localhost:9090/", &[own]), Verdict::Welcome);
        assert_eq!(judge("http://evil.example/", &[own]), Verdict::WrongHost);
        assert_eq!(judge("/", &[own, ("host", "evil.example")]), Verdict::NoHost);
        assert_eq!(judge("/", &[]), Verdict::NoHost);
    }

    #[test]
    fn token_comes_as_header_or_once_in_the_url() {
        let access = access(Some(TOKEN), &[]);
        let judge = |target: &str, headers: &[(&str, &str)]| access.judge(None, &request(target, headers));
        let bearer = format!("Bearer {TOKEN}");
        assert_eq!(judge("/", &[("authorization", &bearer)]), Verdict::Welcome);
        assert_eq!(
            judge("/", &[("authorization", "Bearer 0123456789abcdee")]),
            Verdict::NoToken
        );
        assert_eq!(
            judge("/", &[("authorization", &bearer.replace("Bearer", "Basic"))]),
            Verdict::NoToken
        );
        assert_eq!(judge("/?token=wrong", &[]), Verdict::NoToken);
        assert_eq!(judge("/", &[]), Verdict::NoToken);
        let Verdict::Enter { cookie, location } = judge(&format!("/metrics?a=%26&token={TOKEN}&b=2"), &[]) else {
            panic!("it has the token")
        };
        assert_eq!(location, "/metrics?a=%26&b=2");
        let (pair, attributes) = cookie.split_once("; ").unwrap();
        assert_eq!(attributes, "Path=/; HttpOnly; SameSite=Strict");
        assert!(pair.starts_with("fetchfs_9090=") && !pair.contains(TOKEN), "{pair}");
        assert_eq!(judge("/", &[("cookie", &format!("a=b; {pair}"))]), Verdict::Welcome);
        assert_eq!(judge("/", &[("cookie", &format!("{pair}0"))]), Verdict::NoToken);
        assert_eq!(
            judge("/", &[("cookie", &pair.replace("9090", "9091"))]),
            Verdict::NoToken
        );
    }

    proptest! {
        #[test]
        fn no_other_text_is_the_token(header in "[ -~]{0,40}", cookie in "[ -~]{0,80}", query in "[a-z0-9=&%]{0,40}") {
            let access = access(Some(TOKEN), &[]);
            let target = format!("/?{query}");
            let Ok(uri) = target.parse::<http::Uri>() else { return Ok(()) };
            let request = request(&uri.to_string(), &[("authorization", &header), ("cookie", &cookie)]);
            prop_assert_eq!(access.judge(None, &request), Verdict::NoToken);
        }
    }
}
