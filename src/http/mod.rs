//! HTTP, as fetchfs needs it: metadata, pages and ranges of bytes, of servers that are not trusted.
//!
//! `source` reads pages through it, `tree` asks it what a URL is, `cache` fetches ranges. This layer sends one request
//! at a time per call, over redirects, with the credentials of each hop's own origin, and judges what comes back: an
//! answer that does not fit the request never reaches the caller as data. It does not retry, queue or remember
//! anything of a server but credentials; for those who do, [`Backoff`], [`Health`] and [`Throttle`] are here.

#![forbid(unsafe_code)]

pub(crate) mod auth;
pub(crate) mod config;
pub(crate) mod connect;
pub(crate) mod cookies;
pub(crate) mod error;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
pub(crate) mod origin;
pub(crate) mod redact;
pub(crate) mod response;
pub(crate) mod secret;
#[cfg(test)]
pub(crate) mod testing;

pub use auth::{AccessConfig, Login, Netrc, NetrcError, TokenSource};
pub use config::{HttpConfig, MirrorConfig, Protocol, ProxyChoice, TlsConfig};
pub use connect::setup::SetupError;
pub use cookies::{CookieError, CookieJar};
pub use error::{HttpError, HttpErrorKind};
pub use origin::{MOST_ORIGINS, Origin};
pub use redact::{RedactedUrl, redact};
pub use response::version::{Validator, Version};
pub use secret::Secret;
