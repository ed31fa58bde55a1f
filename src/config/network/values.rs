//! Checks of single values about servers, for the options and for the library's builder.

use std::path::Path;

use reqwest::header::{HeaderName, HeaderValue};

use super::error::NetworkError;
use crate::http::{CookieFile, Netrc};

/// Headers that only fetchfs itself can set correctly.
const OWN_HEADERS: [&str; 9] = [
    "accept-encoding",
    "connection",
    "content-length",
    "if-match",
    "if-range",
    "range",
    "te",
    "transfer-encoding",
    "upgrade",
];

/// A header for requests. Its value is not shown in logs.
///
/// # Errors
/// If it is malformed, or set by fetchfs itself.
pub(crate) fn header(name: &str, value: &str) -> Result<(HeaderName, HeaderValue), NetworkError> {
    let name = HeaderName::from_bytes(name.trim().as_bytes()).map_err(|_| NetworkError::Header)?;
    if OWN_HEADERS.contains(&name.as_str()) {
        return Err(NetworkError::OwnHeader(name.to_string()));
    }
    let mut value = HeaderValue::from_str(value.trim()).map_err(|_| NetworkError::Header)?;
    value.set_sensitive(true);
    Ok((name, value))
}

/// Checks that this can be a User-Agent.
///
/// # Errors
/// If it has characters that are not allowed in a header.
pub(crate) fn check_user_agent(name: &str) -> Result<(), NetworkError> {
    HeaderValue::from_str(name)
        .map(drop)
        .map_err(|_| NetworkError::UserAgent)
}

/// Reads a netrc file.
///
/// # Errors
/// If it can't be read, or is malformed.
pub(crate) fn netrc(path: &Path) -> Result<Netrc, NetworkError> {
    let text = read("the netrc file", path)?;
    Netrc::parse(&text, std::path::absolute(path).ok()).map_err(|error| NetworkError::Netrc {
        path: path.to_owned(),
        error,
    })
}

/// Reads a cookie file.
///
/// # Errors
/// If it can't be read, or is malformed.
pub(crate) fn cookies(path: &Path) -> Result<CookieFile, NetworkError> {
    let text = read("--cookie-file", path)?;
    CookieFile::parse(&text, std::path::absolute(path).ok()).map_err(|error| NetworkError::Cookies {
        path: path.to_owned(),
        error,
    })
}

/// The first line of a file that an option names.
///
/// # Errors
/// If it can't be read.
pub(crate) fn first_line(option: &'static str, path: &Path) -> Result<String, NetworkError> {
    let text = read(option, path)?;
    Ok(text.lines().next().unwrap_or_default().to_owned())
}

/// Reads a file that an option names.
///
/// # Errors
/// If it can't be read.
pub(super) fn read(option: &'static str, path: &Path) -> Result<String, NetworkError> {
    std::fs::read_to_string(path).map_err(|error| NetworkError::File {
        option,
        path: path.to_owned(),
        error,
    })
}
