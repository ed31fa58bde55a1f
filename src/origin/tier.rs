//! Tiers: places other than a file's own URL that may have its bytes.
//!
//! For each range that the cache fetches, it asks its tiers for [`candidates`](ChunkTier::candidates), in order. It
//! knows no kind of tier. [`MirrorTier`](super::MirrorTier) is one that is asked after the origin has failed,
//! [`SharedTier`](super::SharedTier) one that is asked first.
//!
//! A failure of a tier says nothing of the file, nor of its origin:
//!
//! - If the candidate's server can't be reached, its health pauses it, and the next place is asked at once.
//! - After any other answer than the range, the tier no longer names this candidate for it, and the next place is asked.
//! - A body that breaks off is continued after a pause, and uses up a retry like one of the origin.

use std::{fmt, ops::Range, pin::Pin, time::SystemTime};

use url::Url;

use super::{Body, Content, Hedge};
use crate::http::{HttpError, Version};

/// Bytes of a slice: the unit in which an nginx that several machines share fetches and keeps files. A slice is the least
/// that a random read costs the origin, and nginx requests the slices of one response one after another.
pub(crate) const SLICE: u64 = 1 << 20;

/// A place that may have the bytes of files.
///
/// A tier that is asked first, such as a cache that several machines share, returns true from
/// [`is_asked_first`](Self::is_asked_first). For a range that it lacks it either has no candidate, or it notes the miss
/// in [`range`](Self::range) and has none from then on. Then the fetch goes on to the origin.
pub trait ChunkTier: fmt::Debug + Send + Sync {
    /// Returns true if it is asked before the file's own URL. Otherwise it is asked only while that fails.
    fn is_asked_first(&self) -> bool {
        false
    }

    /// Bytes of the units in which it fetches and keeps files, if it does. Requests that end on their edges do not wait for
    /// one another.
    fn slice(&self) -> Option<u64> {
        None
    }

    /// The URLs at which it may have `bytes` (end exclusive) of a file, in order of preference. `version` is the file's
    /// version, once it is known. **A URL whose
    /// [`range`](Self::range) was answered with an error is missing for a while**, or a fetch would ask it without end.
    fn candidates(&self, content: &Content, bytes: &Range<u64>, version: Option<&Version>) -> Vec<Url>;

    /// Requests `bytes` (end exclusive, not empty) from a candidate. The body begins with the first of them; it may end
    /// early.
    ///
    /// # Errors
    /// `BadAnswer` if nothing proves that the answer is as expected; otherwise as the answer or its absence demands.
    fn range<'a>(&'a self, candidate: &'a Url, bytes: Range<u64>, expected: Expected<'a>) -> TierAnswer<'a>;

    /// Returns when the file's own URL should be asked for the same bytes too, because this candidate, which is asked now, is
    /// late. What it returns is held until one of the two has answered. By default, it never is.
    fn is_late<'a>(&'a self, _candidate: &'a Url) -> Pin<Box<dyn Future<Output = Hedge> + Send + 'a>> {
        Box::pin(std::future::pending())
    }

    /// The body of a candidate's answer broke off. **It is no candidate for a while**, as after an error.
    fn broke_off(&self, _candidate: &Url) {}
}

/// The answer of a tier, once it is validated.
pub(crate) type TierAnswer<'a> = Pin<Box<dyn Future<Output = Result<TierRange, HttpError>> + Send + 'a>>;

/// What is known of a file that a tier is asked for.
#[derive(Debug, Clone, Copy)]
pub enum Expected<'a> {
    /// The bytes must be of this version, last modified at this time.
    Version(&'a Version, Option<SystemTime>),
    /// The file has as many bytes as this version. A published hash decides whether they are right, whatever the answer
    /// says of its version.
    Hashed(&'a Version),
    /// The version is unknown, and the answer must name one. If the file's listing gives a size, it must be the same.
    Listed(Option<u64>),
}

impl Expected<'_> {
    /// The version, if it is known.
    pub(crate) fn version(&self) -> Option<&Version> {
        match self {
            Expected::Version(version, _) | Expected::Hashed(version) => Some(version),
            Expected::Listed(_) => None,
        }
    }
}

/// Bytes of a file, from a tier.
pub struct TierRange {
    /// If the version was unknown: the version, with a validator that is valid on all servers.
    pub version: Version,
    /// Last-Modified.
    pub modified: Option<SystemTime>,
    /// The requested bytes, or the first of them.
    pub body: Body,
}

/// Headers that a node passes on whenever it passes credentials on.
pub(crate) const PASSED_ALWAYS: [&str; 5] = [
    "authorization",
    "cookie",
    "x-amz-content-sha256",
    "x-amz-date",
    "x-amz-security-token",
];

/// Returns true if a header of this name (in lower case) can be a credential that a node passes on: nginx reads its value
/// as a variable, and neither the node nor the request sets it for another reason.
pub(crate) fn is_passable(name: &str) -> bool {
    const SET: [&str; 10] = [
        "host",
        "range",
        "connection",
        "keep-alive",
        "te",
        "trailer",
        "upgrade",
        "expect",
        "accept-encoding",
        "user-agent",
    ];
    const SET_WITH: [&str; 5] = ["if-", "content-", "proxy-", "transfer-", "x-fetchfs-"];
    let is_variable = name
        .bytes()
        .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
    let is_set = SET.contains(&name) || SET_WITH.iter().any(|prefix| name.starts_with(prefix));
    !name.is_empty() && is_variable && !is_set
}
