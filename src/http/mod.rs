//! HTTP as fetchfs needs it, for servers that are not trusted: connections (`connect`), authentication (`auth`),
//! and the interpretation of responses (`response`).
//!
//! `origin` builds its client from these parts; its callers never see a response that was not validated. This layer
//! makes the decisions of one request. It does not retry or queue, and of a server it remembers only credentials.

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
pub(crate) mod tag;
#[cfg(test)]
pub(crate) mod testing;
mod tier;
mod tls_failure;

pub(crate) use auth::{AccessConfig, Login, Netrc, NetrcError, TokenSource, run_command};
pub use config::HttpConfig;
pub(crate) use config::{MirrorConfig, Protocol, ProxyChoice, SiteConfig, TlsConfig};
pub(crate) use connect::SetupError;
pub(crate) use cookies::{CookieConfig, CookieError, CookieFile, CookieJar};
pub(crate) use error::{HttpError, HttpErrorKind, NO_STATUS};
pub(crate) use origin::MOST_ORIGINS;
pub use origin::Origin;
pub(crate) use origin::is_local;
pub(crate) use redact::{RedactedUrl, redact, strip};
pub use response::version::{Validator, Version};
pub(crate) use secret::Secret;
pub(crate) use tier::{TierConfig, TierMember, TierName};
