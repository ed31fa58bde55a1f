//! Cookies from a file in Netscape's format, which curl, wget, yt-dlp and browser extensions write: one cookie per
//! line, seven fields, separated by tabs.
//!
//! Each cookie names its hosts and paths and is sent nowhere else (RFC 6265 §5.4), so cookies are also sent to redirect
//! targets that they name. Cookies that servers set are not kept: the file is the user's, and is read once.

use std::time::{SystemTime, UNIX_EPOCH};

use url::{Host, Url};

use super::Secret;

/// The cookies of a file. Empty by default.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CookieJar {
    cookies: Vec<Cookie>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Cookie {
    /// Without a leading dot, in lower case.
    domain: String,
    has_subdomains: bool,
    path: String,
    is_secure: bool,
    /// Seconds since 1970; 0 means never.
    expires: u64,
    name: String,
    value: Secret,
}

/// Why a file is not a valid cookie file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line} is not a cookie: it needs seven tab-separated fields (Netscape's format)")]
pub struct CookieError {
    /// Counted from 1.
    line: usize,
}

impl CookieJar {
    /// Reads a cookie file's text.
    ///
    /// # Errors
    /// At the first line that is neither a cookie nor a comment.
    pub fn parse(text: &str) -> Result<CookieJar, CookieError> {
        let mut cookies = Vec::new();
        for (index, line) in text.lines().enumerate() {
            // Not a comment: curl writes HttpOnly cookies in this way.
            let line = line.strip_prefix("#HttpOnly_").unwrap_or(line);
            if line.trim().is_empty() || line.starts_with('#') {
                continue;
            }
            cookies.push(Cookie::parse(line).ok_or(CookieError { line: index + 1 })?);
        }
        Ok(CookieJar { cookies })
    }

    /// Names and values of all cookies for this URL's host. Secret.
    pub(crate) fn of_host(&self, url: &Url) -> impl Iterator<Item = (&str, &str)> {
        let is_here = move |cookie: &&Cookie| cookie.is_for_host(url);
        let cookies = self.cookies.iter().filter(is_here);
        cookies.map(|cookie| (cookie.name.as_str(), cookie.value.expose()))
    }

    /// The Cookie header of a request to `url`; `None` without a matching cookie.
    pub(crate) fn header(&self, url: &Url, now: SystemTime) -> Option<String> {
        let now = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let mut cookies: Vec<_> = self.cookies.iter().filter(|cookie| cookie.is_for(url, now)).collect();
        // Longer paths first (RFC 6265 §5.4).
        cookies.sort_by_key(|cookie| std::cmp::Reverse(cookie.path.len()));
        let pairs: Vec<_> = cookies
            .iter()
            .map(|cookie| format!("{}={}", cookie.name, cookie.value.expose()))
            .collect();
        (!pairs.is_empty()).then(|| pairs.join("; "))
    }
}

impl Cookie {
    fn parse(line: &str) -> Option<Cookie> {
        let fields: Vec<&str> = line.split('\t').collect();
        let [domain, has_subdomains, path, is_secure, expires, name, value] = fields[..] else {
            return None;
        };
        let is_text = |text: &str| text.bytes().all(|byte| byte >= 0x20 && byte != 0x7f);
        let flag = |text: &str| match text {
            "TRUE" => Some(true),
            "FALSE" => Some(false),
            _ => None,
        };
        Some(Cookie {
            domain: domain.strip_prefix('.').unwrap_or(domain).to_ascii_lowercase(),
            has_subdomains: flag(has_subdomains)?,
            path: path.to_owned(),
            is_secure: flag(is_secure)?,
            // Some programs write fractions, some write -1.
            expires: expires.parse::<f64>().ok()?.max(0.0) as u64,
            name: Some(name).filter(|name| is_text(name))?.to_owned(),
            value: Secret::new(Some(value.trim_end_matches('\r')).filter(|value| is_text(value))?),
        })
    }

    fn is_for_host(&self, url: &Url) -> bool {
        match url.host() {
            Some(Host::Domain(host)) => {
                let below = host.strip_suffix(self.domain.as_str());
                host == self.domain || (self.has_subdomains && below.is_some_and(|below| below.ends_with('.')))
            }
            // An IP address has no subdomains.
            Some(address) => address.to_string() == self.domain,
            None => false,
        }
    }

    fn is_for(&self, url: &Url, now: u64) -> bool {
        self.is_for_host(url)
            && (!self.is_secure || url.scheme() == "https")
            && (self.expires == 0 || self.expires > now)
            && is_below(url.path(), &self.path)
    }
}

/// Path matching by RFC 6265 §5.1.4.
fn is_below(path: &str, directory: &str) -> bool {
    let rest = path.strip_prefix(directory);
    rest.is_some_and(|rest| rest.is_empty() || directory.ends_with('/') || rest.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    const FILE: &str = "# Netscape HTTP Cookie File\n\n\
        .example.org\tTRUE\t/\tFALSE\t0\tall\t1\n\
        www.example.org\tFALSE\t/pub\tFALSE\t0\tdeep\t2\n\
        #HttpOnly_.example.org\tTRUE\t/\tTRUE\t2000\tsecure\ts3cret\r\n\
        127.0.0.1\tFALSE\t/\tFALSE\t-1\taddress\t\n";

    fn sent(url: &str, now: u64) -> Option<String> {
        let jar = CookieJar::parse(FILE).unwrap();
        jar.header(&Url::parse(url).unwrap(), UNIX_EPOCH + Duration::from_secs(now))
    }

    #[test]
    fn cookie_is_sent_only_to_its_host() {
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(sent("http://www.example.org/pub/f", 0), some("deep=2; all=1"));
        assert_eq!(sent("http://www.example.org/public", 0), some("all=1"));
        assert_eq!(sent("http://a.www.example.org/pub/", 0), some("all=1"));
        assert_eq!(sent("https://example.org/", 1999), some("all=1; secure=s3cret"));
        assert_eq!(
            sent("https://example.org/", 2000),
            some("all=1"),
            "the other one has expired"
        );
        assert_eq!(sent("http://127.0.0.1:8000/", 0), some("address="));
        for url in ["http://anexample.org/", "http://example.org.net/", "http://127.0.0.2/"] {
            assert_eq!(sent(url, 0), None, "{url}");
        }
    }

    #[test]
    fn invalid_cookie_is_reported_by_line() {
        for text in [
            "# a\nb=c",
            "# a\nh\tTRUE\t/\tFALSE\t0\tn",
            "\nh\tyes\t/\tFALSE\t0\tn\tv",
            "\nh\tTRUE\t/\tFALSE\tsoon\tn\tv",
        ] {
            assert!(
                CookieJar::parse(text).unwrap_err().to_string().starts_with("line 2"),
                "{text}"
            );
        }
        assert!(!format!("{:?}", CookieJar::parse(FILE)).contains("s3cret"));
    }
}
