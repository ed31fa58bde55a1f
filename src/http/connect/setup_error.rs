//! Why a configuration gives no client.

use std::fs;
use std::path::Path;

/// Why a configuration gives no client.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// A file can't be read.
    #[error("can't read {option} {path}: {reason}")]
    File {
        /// The option that names it.
        option: &'static str,
        /// The file.
        path: String,
        /// The system's error.
        reason: String,
    },
    /// A file was read and is not what it should be.
    #[error("{option} {path} {wrong}")]
    Content {
        /// The option that names it.
        option: &'static str,
        /// The file.
        path: String,
        /// The fault, as the end of a sentence.
        wrong: &'static str,
    },
    /// The proxy's address is invalid.
    #[error("--proxy: not the address of a proxy; write for example http://HOST:3128 or socks5h://HOST:1080")]
    Proxy,
    /// TLS can't be set up.
    #[error("can't set up TLS: {0}; are the system's certificates installed (package ca-certificates)?")]
    Tls(String),
}

/// Reads a file that an option names.
pub(super) fn read(option: &'static str, path: &Path) -> Result<Vec<u8>, SetupError> {
    fs::read(path).map_err(|error| SetupError::File {
        option,
        path: path.display().to_string(),
        reason: error.to_string(),
    })
}

/// The error for a file that is not what it should be.
pub(super) fn content(option: &'static str, path: &Path, wrong: &'static str) -> SetupError {
    SetupError::Content {
        option,
        path: path.display().to_string(),
        wrong,
    }
}
