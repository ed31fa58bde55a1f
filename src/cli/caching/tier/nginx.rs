//! The nginx configuration of a tier, as a pure function of what the user wants.
//!
//! **No value can break out of its place in the file.** Origins are parsed URLs of which only scheme, host and port are
//! used, and their hosts are letters, digits, `.`, `-`, `_` or an IPv6 address. Paths with a character that has a
//! meaning in nginx's quotes are refused.
//!
//! **An nginx with this configuration is no open relay.** Which server a request goes to is decided by one map over the
//! request's path as it was sent, before any decoding, and each of its lines is the whole authority of an allowed origin.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use url::{Host, Url};

use super::private::{self, PassedHeader};
use crate::origin::tier::SLICE;

const TEMPLATE: &str = include_str!("nginx.conf");

/// Keys of nginx's cache in a megabyte of its shared memory, by nginx's documentation. Each slice has one.
const KEYS_IN_A_MEGABYTE: u64 = 8000;

/// Where distributions keep the root certificates, in order: Debian and Alpine, Fedora and RHEL, SUSE.
const CA_FILES: [&str; 3] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
];

/// What a tier is to be like.
#[derive(Debug)]
pub(super) struct TierConfig {
    pub(super) listen: SocketAddr,
    pub(super) cache_dir: PathBuf,
    /// Bytes.
    pub(super) cache_size: u64,
    /// Not empty.
    pub(super) allow: Vec<AllowedOrigin>,
    /// The certificates that servers are verified with.
    pub(super) ca_file: Option<PathBuf>,
    pub(super) access_log: Option<PathBuf>,
    /// The certificate that clients see, and its key. `None`: without TLS.
    pub(super) certificate: Option<(PathBuf, PathBuf)>,
    /// The headers that are passed on beside Authorization and Cookie. `None`: no credentials are.
    pub(super) private: Option<Vec<PassedHeader>>,
}

/// An origin that the tier may ask.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct AllowedOrigin {
    scheme: &'static str,
    /// As in a URL: an IPv6 address has its brackets.
    host: String,
    /// `None` is the scheme's own.
    port: Option<u16>,
}

impl AllowedOrigin {
    /// # Errors
    /// What is wrong with the text, and what to write instead.
    pub(super) fn parse(text: &str) -> Result<AllowedOrigin, String> {
        const ADVICE: &str = "write for example https://example.org or http://example.org:8080";
        let url = Url::parse(text).map_err(|error| format!("not an origin ({error}); {ADVICE}"))?;
        let scheme = match url.scheme() {
            "http" => "http",
            "https" => "https",
            other => return Err(format!("a tier asks http and https servers, not {other}; {ADVICE}")),
        };
        if !url.username().is_empty() || url.password().is_some() {
            return Err(format!("a tier has no logins; {ADVICE}"));
        }
        if url.path() != "/" || url.query().is_some() || url.fragment().is_some() {
            return Err(format!(
                "an origin has no path: all files of the server are allowed; {ADVICE}"
            ));
        }
        let host = match url.host() {
            Some(Host::Domain(name)) if !name.is_empty() && name.bytes().all(is_of_a_name) => name.to_owned(),
            Some(Host::Ipv4(address)) => address.to_string(),
            Some(Host::Ipv6(address)) => format!("[{address}]"),
            Some(Host::Domain(_)) | None => return Err(format!("not the name of a host; {ADVICE}")),
        };
        let port = url.port();
        Ok(AllowedOrigin { scheme, host, port })
    }

    fn default_port(&self) -> u16 {
        if self.scheme == "https" { 443 } else { 80 }
    }

    /// Host and port, the port only if it is not the scheme's own.
    fn authority(&self) -> String {
        match self.port {
            Some(port) => format!("{}:{port}", self.host),
            None => self.host.clone(),
        }
    }

    /// A regular expression for the beginning of its paths in the tier, up to the file's own path.
    fn path_pattern(&self) -> String {
        let host: String = self.host.chars().fold(String::new(), |mut pattern, char| {
            if matches!(char, '.' | '[' | ']') {
                pattern.push('\\');
            }
            pattern.push(char);
            pattern
        });
        match self.port {
            Some(port) => format!("/{}/{host}:{port}/", self.scheme),
            None => format!("/{}/{host}(:{})?/", self.scheme, self.default_port()),
        }
    }
}

fn is_of_a_name(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_')
}

/// A path that nginx reads in quotes as it is.
///
/// # Errors
/// What is wrong with it.
pub(super) fn quotable_path(text: &str) -> Result<PathBuf, String> {
    let has_meaning = |char: char| matches!(char, '"' | '\\' | '$') || char.is_control();
    if !Path::new(text).is_absolute() {
        return Err("must begin with /".to_owned());
    }
    if text.contains(has_meaning) {
        return Err(
            "nginx can't have quotes, backslashes, dollar signs or control characters in this path; choose another"
                .to_owned(),
        );
    }
    Ok(PathBuf::from(text))
}

impl TierConfig {
    /// The configuration file.
    pub(super) fn text(&self) -> String {
        let dir = self.cache_dir.display().to_string();
        let dir = dir.trim_end_matches('/');
        let (mut upstreams, mut origins, mut names) = (String::new(), String::new(), String::new());
        for (number, origin) in self.allow.iter().enumerate() {
            let AllowedOrigin { scheme, host, .. } = origin;
            let (authority, pattern) = (origin.authority(), origin.path_pattern());
            let port = origin.port.unwrap_or(origin.default_port());
            // Writing to a String can't fail.
            let _ = write!(
                upstreams,
                "    upstream fetchfs_{number} {{\n        server {host}:{port};\n        keepalive 32;\n    }}\n"
            );
            let _ = writeln!(origins, "        \"~^{pattern}[!$-~]*$\" \"{scheme}://{authority}\";");
            let _ = writeln!(
                names,
                "        \"{scheme}://{authority}\" \"{scheme}://fetchfs_{number}\";"
            );
        }
        let megabytes = |bytes: u64| (bytes >> 20).max(1);
        let slices = self.cache_size / SLICE;
        let access_log = match &self.access_log {
            Some(path) => format!("\"{}\" fetchfs buffer=64k flush=5s", path.display()),
            None => "off".to_owned(),
        };
        let parts = private::values(self.private.as_deref(), TEMPLATE);
        let values = [
            ("@VERSION@", concat!("fetchfs/", env!("CARGO_PKG_VERSION")).to_owned()),
            ("@LISTEN@", self.listening()),
            // A quarter more than the slices need: those that are just replaced have a key too.
            ("@KEYS@", (slices * 5 / 4 / KEYS_IN_A_MEGABYTE).max(10).to_string()),
            ("@SIZE@", megabytes(self.cache_size).to_string()),
            ("@SLICE@", megabytes(SLICE).to_string()),
            ("@UPSTREAMS@", upstreams),
            ("@ORIGINS@", origins),
            ("@UPSTREAM_NAMES@", names),
            ("@ACCESS_LOG@", access_log),
            ("@CA@", self.ca_file().display().to_string()),
            ("@SHOWN_DIR@", format!("'{}'", dir.replace('\'', r"'\''"))),
            ("@DIR@", dir.to_owned()),
        ];
        let fill = |text: String, (name, value): &(&str, String)| text.replace(name, value);
        parts.iter().chain(&values).fold(TEMPLATE.to_owned(), fill)
    }

    /// The value of `listen`, and with TLS the lines after it.
    fn listening(&self) -> String {
        let Some((certificate, key)) = &self.certificate else {
            return self.listen.to_string();
        };
        format!(
            "{} ssl;
        ssl_certificate \"{}\";
        ssl_certificate_key \"{}\";
        ssl_protocols TLSv1.2 TLSv1.3;
        ssl_session_cache shared:fetchfs_tls:4m",
            self.listen,
            certificate.display(),
            key.display()
        )
    }

    /// The user's choice, else the first of the usual places that this machine has.
    fn ca_file(&self) -> PathBuf {
        let is_here = |path: &&&str| Path::new(path).is_file();
        let usual = || CA_FILES.iter().find(is_here).unwrap_or(&CA_FILES[0]);
        self.ca_file.clone().unwrap_or_else(|| PathBuf::from(usual()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(allow: &[&str]) -> TierConfig {
        TierConfig {
            listen: "[::]:8080".parse().unwrap(),
            cache_dir: PathBuf::from("/var/cache/the tier/"),
            cache_size: 100 << 30,
            allow: allow
                .iter()
                .map(|origin| AllowedOrigin::parse(origin).unwrap())
                .collect(),
            ca_file: Some(PathBuf::from("/etc/ca.pem")),
            access_log: None,
            certificate: None,
            private: None,
        }
    }

    #[test]
    fn every_placeholder_has_its_value() {
        let text = config(&["https://a.example", "http://[::1]:81", "https://b:443/"]).text();
        assert!(!text.contains('@'), "{text}");
        for line in [
            "listen [::]:8080;",
            "server a.example:443;",
            r#""~^/https/a\.example(:443)?/[!$-~]*$" "https://a.example";"#,
            r#""~^/http/\[::1\]:81/[!$-~]*$" "http://[::1]:81";"#,
            r#""https://b" "https://fetchfs_2";"#,
            "keys_zone=fetchfs:16m max_size=102400m",
            r#"proxy_cache_path "/var/cache/the tier/slices""#,
            "slice 1m;",
        ] {
            assert!(text.contains(line), "{line}\n{text}");
        }
    }

    #[test]
    fn credentials_are_passed_on_only_if_wanted() {
        let mut config = config(&["https://a.example"]);
        let text = config.text();
        assert!(
            !text.contains("$http_authorization") && text.contains("return 421;"),
            "{text}"
        );
        let names = ["X-Api-Key", "Private-Token"];
        config.private = Some(names.map(|name| PassedHeader::parse(name).unwrap()).to_vec());
        config.certificate = Some(("/etc/node.pem".into(), "/etc/node.key".into()));
        let text = config.text();
        assert!(!text.contains('@'), "{text}");
        for line in [
            r#""~^[0-9a-f]{64}\|((x-api-key|private-token)(,(x-api-key|private-token))*)?\|1$" /private;"#,
            "proxy_set_header x-api-key $http_x_api_key;",
            r#"proxy_cache_key "private|$http_x_fetchfs_credentials|$fetchfs_origin$fetchfs_target|$slice_range|$http_if_match|$http_if_unmodified_since";"#,
            "listen [::]:8080 ssl;",
            r#"ssl_certificate_key "/etc/node.key";"#,
        ] {
            assert!(text.contains(line), "{line}\n{text}");
        }
        let set_twice = text.matches("proxy_set_header If-Match $http_if_match;").count();
        assert_eq!(set_twice, 2);
    }

    #[test]
    fn what_is_no_origin_is_refused() {
        for text in [
            "example.org",
            "ftp://example.org",
            "https://ann:secret@example.org",
            "https://ann@example.org",
            "https://example.org/pub",
            "https://example.org/?a",
            "https://example.org/#a",
            "https://",
            "https://a;b",
            "https://a{b",
            "https://a$b",
            "https://*",
            "http://a\"b",
        ] {
            assert!(AllowedOrigin::parse(text).is_err(), "{text}");
        }
        let same = ["https://Example.ORG", "https://example.org:443", "https://example.org/"];
        let parsed = same.map(|text| AllowedOrigin::parse(text).unwrap().authority());
        assert_eq!(parsed, ["example.org"; 3]);
    }

    #[test]
    fn path_can_not_leave_its_quotes() {
        for path in ["relative", "/a\"b", "/a\\b", "/a$b", "/a\nb", ""] {
            assert!(quotable_path(path).is_err(), "{path}");
        }
        assert!(quotable_path("/a; b'{c}#").is_ok());
    }
}
