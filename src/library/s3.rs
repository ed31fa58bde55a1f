//! The settings of a cache about S3, with the names and meanings of the AWS CLI.

use super::builder::CacheBuilder;
use crate::config::{s3_endpoint, s3_region};
use crate::source::s3::AddressingStyle;

/// # S3
///
/// A bucket is mounted by `s3://BUCKET/PREFIX/`, and a key opened by `s3://BUCKET/KEY`. Without these settings, AWS's
/// variables and files say how.
///
/// ```no_run
/// # fn main() -> Result<(), fetchfs::Error> {
/// let cache = fetchfs::Cache::builder().region("us-east-1").no_sign_request(true).open()?;
/// let file = cache.open_url("s3://noaa-goes16/index.html")?;
/// # Ok(())
/// # }
/// ```
impl CacheBuilder {
    /// URL of the S3 service, for servers other than Amazon's.
    ///
    /// Default: `AWS_ENDPOINT_URL_S3`, `AWS_ENDPOINT_URL` or `endpoint_url` in the profile; else Amazon's in the region.
    pub fn endpoint_url(mut self, url: impl AsRef<str>) -> CacheBuilder {
        match s3_endpoint(url.as_ref()) {
            Ok(url) => self.s3.endpoint = Some(url),
            Err(error) => self.refuse(error.to_string()),
        }
        self
    }

    /// Region of the S3 service.
    ///
    /// Default: `AWS_REGION`, `AWS_DEFAULT_REGION` or `region` in the profile; else `us-east-1`, or what the server says.
    pub fn region(mut self, name: impl Into<String>) -> CacheBuilder {
        match s3_region(name.into()) {
            Ok(region) => self.s3.region = Some(region),
            Err(error) => self.refuse(error.to_string()),
        }
        self
    }

    /// The profile in AWS's files that has the keys. Keys in the environment are not used then.
    ///
    /// Default: `AWS_ACCESS_KEY_ID` and `AWS_SECRET_ACCESS_KEY`; without them, the profile `AWS_PROFILE` or `default`.
    pub fn profile(mut self, name: impl Into<String>) -> CacheBuilder {
        self.s3.profile = Some(name.into());
        self
    }

    /// Does not sign S3 requests: for public buckets.
    ///
    /// Default: off.
    pub fn no_sign_request(mut self, is_unsigned: bool) -> CacheBuilder {
        self.s3.no_sign_request = is_unsigned;
        self
    }

    /// Where the name of the bucket is sent.
    ///
    /// Default: `addressing_style` in the profile, else [`AddressingStyle::Auto`].
    pub fn addressing_style(mut self, style: AddressingStyle) -> CacheBuilder {
        self.s3.addressing_style = Some(style);
        self
    }
}
