//! The options about S3, in the AWS CLI's words. A part of the table of options ([`super::MountArgs`]).

use clap::Args;
use url::Url;

use crate::source::SourceSpec;
use crate::source::s3::{S3Config, is_region};

/// The options about S3, before they are resolved.
#[derive(Args, PartialEq)]
pub(super) struct S3Args {
    /// URL of the S3 service, for servers other than Amazon's
    ///
    /// The bucket is the first part of the path there (path style). Without this option, Amazon's endpoint in the region
    /// is used, with the bucket in the host name unless it contains a dot. `addressing_style` in the profile decides
    /// otherwise.
    ///
    /// Default: AWS_ENDPOINT_URL_S3, AWS_ENDPOINT_URL or endpoint_url in the profile.
    #[arg(long, value_name = "URL", help_heading = "S3")]
    pub(super) endpoint_url: Option<String>,

    /// Region of the S3 service
    ///
    /// Default: AWS_REGION, AWS_DEFAULT_REGION or region in the profile; else us-east-1, or what the server says.
    #[arg(long, value_name = "REGION", help_heading = "S3")]
    pub(super) region: Option<String>,

    /// Profile in ~/.aws/credentials and ~/.aws/config
    ///
    /// With this option, keys in the environment are not used.
    ///
    /// Default: AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY; without them, the profile AWS_PROFILE or default.
    #[arg(long, value_name = "NAME", help_heading = "S3")]
    pub(super) profile: Option<String>,

    /// Do not sign S3 requests: for public buckets
    #[arg(long, help_heading = "S3")]
    pub(super) no_sign_request: bool,
}

/// Options about S3 that can't be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum S3Error {
    /// The endpoint is not an http(s) URL without a user and a query.
    #[error("--endpoint-url: it is not a URL that begins with http:// or https:// and has no user and no query")]
    Endpoint,
    /// The region can't be a part of a host name.
    #[error("--region: a region has only letters, digits and `-`, as in eu-central-1")]
    Region,
    /// A mirror of a bucket.
    #[error("--mirror: a bucket has no mirrors")]
    Mirror,
}

impl S3Args {
    /// How S3 is reached.
    pub(super) fn resolve(self) -> Result<S3Config, S3Error> {
        Ok(S3Config {
            endpoint: self.endpoint_url.as_deref().map(endpoint).transpose()?,
            region: self.region.map(region).transpose()?,
            profile: self.profile,
            no_sign_request: self.no_sign_request,
            addressing_style: None,
        })
    }
}

/// The URL of a service.
pub(crate) fn endpoint(text: &str) -> Result<Url, S3Error> {
    let url = Url::parse(text).map_err(|_| S3Error::Endpoint)?;
    let is_web = matches!(url.scheme(), "http" | "https");
    let is_plain = url.username().is_empty() && url.password().is_none() && url.query().is_none();
    if is_web && is_plain {
        Ok(url)
    } else {
        Err(S3Error::Endpoint)
    }
}

/// The name of a region.
pub(crate) fn region(name: String) -> Result<String, S3Error> {
    if is_region(&name) {
        Ok(name)
    } else {
        Err(S3Error::Region)
    }
}

/// Refuses mirrors of a bucket.
pub(super) fn refuse_mirrors(sources: &[SourceSpec], mirrors: &[String]) -> Result<(), S3Error> {
    let is_bucket = |source: &SourceSpec| source.url.scheme() == "s3";
    if !mirrors.is_empty() && sources.iter().any(is_bucket) {
        return Err(S3Error::Mirror);
    }
    Ok(())
}
