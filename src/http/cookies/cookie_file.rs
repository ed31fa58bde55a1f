//! Cookie files in Netscape's format, which curl, wget, yt-dlp and browser extensions write: one cookie per line, seven
//! fields, separated by tabs.
//!
//! The file is read once and never written.

use std::path::PathBuf;

use url::Url;

use super::cookie::Cookie;
use crate::http::Secret;

/// The cookies of a file. Empty by default.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CookieFile {
    cookies: Vec<Cookie>,
    path: Option<PathBuf>,
}

/// Why a file is not a valid cookie file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line} is not a cookie: it needs seven tab-separated fields (Netscape's format)")]
pub struct CookieError {
    /// Counted from 1.
    line: usize,
}

impl CookieFile {
    /// Reads a cookie file's text. `path` is where it came from.
    ///
    /// # Errors
    /// At the first line that is neither a cookie nor a comment.
    pub fn parse(text: &str, path: Option<PathBuf>) -> Result<CookieFile, CookieError> {
        let mut cookies = Vec::new();
        for (index, line) in text.lines().enumerate() {
            // Not a comment: curl writes HttpOnly cookies in this way.
            let line = line.strip_prefix("#HttpOnly_").unwrap_or(line);
            if line.trim().is_empty() || line.starts_with('#') {
                continue;
            }
            cookies.push(parse(line).ok_or(CookieError { line: index + 1 })?);
        }
        Ok(CookieFile { cookies, path })
    }

    /// The cookies.
    pub(super) fn cookies(&self) -> &[Cookie] {
        &self.cookies
    }

    /// Names and values of all cookies for this URL's host. Secret.
    pub(crate) fn of_host(&self, url: &Url) -> impl Iterator<Item = (&str, &str)> {
        let is_here = move |cookie: &&Cookie| cookie.is_for_host(url);
        let cookies = self.cookies.iter().filter(is_here);
        cookies.map(|cookie| (cookie.name.as_str(), cookie.value.expose()))
    }

    /// The file, if it has cookies for other hosts than this URL's.
    pub(crate) fn path_if_for_others(&self, url: &Url) -> Option<&PathBuf> {
        let path = self.path.as_ref()?;
        self.cookies
            .iter()
            .any(|cookie| !cookie.is_for_host(url))
            .then_some(path)
    }
}

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
    // Some programs write fractions, some write -1. 0 means never.
    let expires = expires.parse::<f64>().ok()?.max(0.0) as u64;
    Some(Cookie {
        domain: domain.strip_prefix('.').unwrap_or(domain).to_ascii_lowercase(),
        has_subdomains: flag(has_subdomains)?,
        path: path.to_owned(),
        is_secure: flag(is_secure)?,
        expires: Some(expires).filter(|&expires| expires > 0),
        name: Some(name).filter(|name| is_text(name))?.to_owned(),
        value: Secret::new(Some(value.trim_end_matches('\r')).filter(|value| is_text(value))?),
    })
}
