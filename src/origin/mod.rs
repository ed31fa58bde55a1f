//! The policy towards a server: connection limits, circuit breakers, retries, failure attribution, redirects, tiers; once
//! for listings, metadata and data alike.
//!
//! [`Client`] is the door for `source`, `vfs` and `cache`. Each call sends one request, over its redirect chain and
//! within the origin's connection limit. Every response is validated ([`crate::http`]): one that does not fit the
//! request never reaches the caller as data.

mod aimd;
mod backoff;
mod client;
pub(crate) mod connection_limit;
mod content;
mod failure_attribution;
mod head_trust;
mod health;
mod logins;
mod mirrors;
mod retry;
mod throttle;
pub(crate) mod tier;
mod version_aliases;

pub use aimd::Aimd;
pub use client::answers::{Metadata, Page, RangeAnswer};
pub use client::body::Body;
pub use client::redirects::Route;
pub use client::{Client, as_directory};
pub use content::{Content, ListedSize};
pub use failure_attribution::{Evidence, FailureAttribution};
pub use health::{Down, Health, Permit};
pub use logins::{LoginKey, Logins};
pub use mirrors::MirrorTier;
pub use retry::{OtherRequests, Retry};
pub use throttle::Throttle;
pub use tier::{ChunkTier, Expected};
pub use version_aliases::{AliasName, SAMPLE, Sample, Weighed};
