//! HTTP, as fetchfs needs it: metadata, pages and ranges of bytes, of servers that are not trusted.
//!
//! `source` reads pages through it, `tree` asks it what a URL is, `cache` fetches ranges. This layer sends one request
//! at a time per call, over redirects, with the credentials of each hop's own origin, and judges what comes back: an
//! answer that does not fit the request never reaches the caller as data. It does not retry, queue or remember
//! anything of a server but credentials; for those who do, [`Backoff`], [`Health`] and [`Throttle`] are here.

#![forbid(unsafe_code)]

mod access;
mod aliases;
mod answers;
mod backoff;
mod body;
mod client;
mod coding;
mod config;
mod cookies;
mod disposition;
mod error;
mod exchange;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
mod head;
mod head_trust;
mod health;
mod hops;
mod judge;
mod limit;
mod logins;
mod mirrors;
mod odd_head;
mod origin;
mod redact;
mod redirects;
mod secret;
mod setup;
#[cfg(test)]
mod testing;
mod throttle;
mod tls;
mod version;
mod wire;

pub use access::{AccessConfig, Login, Netrc, NetrcError, TokenSource};
pub use aliases::{SAMPLE, Sample, Told, Weighed};
pub use answers::{Metadata, Page, RangeAnswer};
pub use backoff::Backoff;
pub use body::Body;
pub use client::{Client, as_directory};
pub use config::{HttpConfig, Protocol, ProxyChoice, TlsConfig};
pub use cookies::{CookieError, CookieJar};
pub use error::{HttpError, HttpErrorKind};
pub use health::{Blame, Down, Health, Traffic, Turn};
pub use logins::{LoginKey, Logins};
pub use mirrors::{FirstRange, MirrorConfig};
pub use origin::{MOST_ORIGINS, Origin};
pub use redact::{RedactedUrl, redact};
pub use secret::Secret;
pub use setup::SetupError;
pub use throttle::Throttle;
pub use version::{Validator, Version};
