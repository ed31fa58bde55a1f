//! The policy towards a server: connection limits, circuit breakers, retries, failure attribution, redirects, tiers; once
//! for listings, metadata and data alike.
//!
//! [`Client`] is the door for `source`, `vfs` and `cache`. Each call sends one request, over its redirect chain and
//! within the origin's connection limit. Every response is validated ([`crate::http`]): one that does not fit the
//! request never reaches the caller as data.
//!
//! From the ground up: `limits` and `failures` say when an origin may be asked; `local` answers for files of this machine;
//! `request` sends one request;
//! `version_aliases` compares versions by such requests, and `mirrors` knows other places; `client` asks for metadata,
//! documents and ranges; `mirror_tier`, `shared_tier` and `logins` use the client.

mod checksum_file;
mod client;
mod content;
mod digests;
pub(crate) mod failures;
mod hasher;
mod head_trust;
pub(crate) mod limits;
mod local;
mod logins;
mod mirror_tier;
mod mirrors;
mod per_origin;
mod published;
mod request;
mod shared_tier;
mod throttle;
pub(crate) mod tier;
mod version_aliases;

pub(crate) use checksum_file::{hash_in, is_of_a_release, names_for};
pub use client::Client;
pub(crate) use client::answers::{Metadata, RangeAnswer};
pub(crate) use client::as_directory;
pub(crate) use client::document::{Document, DocumentRequest, IncomingDocument};
pub(crate) use content::ChecksumFilesBeside;
pub use content::{Content, ListedSize};
pub(crate) use failures::failure_attribution::{FailureAttribution, FailureEvidence};
pub(crate) use failures::health::{DownOrigin, Health, Permit};
pub(crate) use failures::retry::{OtherRequests, Retry};
pub(crate) use hasher::Hasher;
pub(crate) use limits::fetch_limit::{Complaint, FetchLimit, Load};
pub(crate) use limits::name_slots::{FIRST_NAME_REQUESTS, NameSlot, NameSlots};
pub(crate) use limits::request_rate::RequestRate;
pub(crate) use local::{LocalDirectory, LocalError, Stamp};
pub(crate) use logins::{LoginKey, Logins};
pub(crate) use mirror_tier::MirrorTier;
pub(crate) use per_origin::PerOrigin;
pub(crate) use published::{Hash, HashAlgorithm, Pieces, Published};
pub(crate) use request::body::Body;
pub(crate) use request::redirects::Route;
pub(crate) use request::signers::{SignedHeaders, Signer, Signing};
pub(crate) use shared_tier::{Hedge, SharedTier};
pub(crate) use throttle::Throttle;
pub(crate) use tier::{ChunkTier, Expected};
pub(crate) use version_aliases::{Comparison, SAMPLE, Sample, VersionLabel};
