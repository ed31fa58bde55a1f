//! Directories as prefixes of an S3 bucket, one ListObjectsV2 for each thousand names.
//!
//! `s3://BUCKET/PREFIX/` is a directory. [`address`] finds its `http(s)` URL at the endpoint, by which files and listings
//! are known to the cache. No URL has a signature: [`signer`] signs each request just before it is sent, with the keys
//! that [`keyring`] has. [`settings`] reads AWS's variables and files. [`listing`] reads the answers, [`bucket`] asks for them.
//!
//! Which keys have names in the mount:
//!
//! - A key is a path, and `/` separates directories. A key that ends in `/` marks a directory.
//! - If `a` is a key and `a/b` as well, the directory `a` is shown, and the file is counted as left out.
//! - A key with an empty part (`a//b`, or a `/` in front), a part `.` or `..`, or a part of more than 1,023 bytes is
//!   counted as left out. A source may name an empty part: `s3://BUCKET/a//` shows what is below it.

mod address;
mod bucket;
mod keyring;
mod listing;
mod refusal;
mod settings;
mod signer;
#[cfg(test)]
mod tests;
mod xml;

use url::Url;

pub(crate) use self::address::is_region;
pub(crate) use self::bucket::{Buckets, S3};
#[cfg(any(test, fuzzing))]
pub(super) use self::keyring::read_any;
pub use self::listing::{BucketListing, Next, NotBucketListing};

/// How S3 is reached. What is not given comes from AWS's variables and files.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct S3Config {
    /// URL of the service. Default: Amazon's in the region.
    pub endpoint: Option<Url>,
    /// The region. Default: `us-east-1`, after the variables and files.
    pub region: Option<String>,
    /// The profile in AWS's files. If given, the variables with keys do not count.
    pub profile: Option<String>,
    /// True if requests are not signed. Default: false.
    pub no_sign_request: bool,
    /// Where the bucket's name is sent. Default: `addressing_style` of the profile, else [`AddressingStyle::Auto`].
    pub addressing_style: Option<AddressingStyle>,
}

/// Where the name of an S3 bucket is sent; the AWS CLI's `addressing_style`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum AddressingStyle {
    /// In the path at a given endpoint, unless that refuses it; in the host name at Amazon, unless it contains a dot.
    #[default]
    Auto,
    /// In the path: `https://HOST/BUCKET/KEY`.
    Path,
    /// In the host name: `https://BUCKET.HOST/KEY`.
    Virtual,
}

impl AddressingStyle {
    /// The style of this name in AWS's files.
    fn of(name: &str) -> Option<AddressingStyle> {
        match name {
            "auto" => Some(AddressingStyle::Auto),
            "path" => Some(AddressingStyle::Path),
            "virtual" => Some(AddressingStyle::Virtual),
            _ => None,
        }
    }
}
