//! How a server is treated: connection limits, health, retries, redirects, mirrors; once for listings, metadata and data alike.
//!
//! [`Client`] is the door. It sends one request per call, over redirects, within the origin's connection limit, and validates what
//! comes back ([`crate::http`]): an answer that does not fit the request never reaches the caller as data.

mod backoff;
mod client;
pub(crate) mod connection_limit;
mod head_trust;
mod health;
mod logins;
mod mirrors;
mod throttle;
mod version_aliases;

pub use backoff::Backoff;
pub use client::answers::{Metadata, Page, RangeAnswer};
pub use client::body::Body;
pub use client::redirects::Route;
pub use client::{Client, as_directory};
pub use health::{Down, FailureAttribution, Health, Permit, Traffic};
pub use logins::{LoginKey, Logins};
pub use mirrors::FirstRange;
pub use throttle::Throttle;
pub use version_aliases::{AliasName, SAMPLE, Sample, Weighed};
