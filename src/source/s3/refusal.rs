//! Answers other than a listing: what S3 says in the body, and what follows from it.

use reqwest::header::HeaderMap;

use super::address::Bucket;
use super::xml::{self, XmlFault};
use crate::source::SourceErrorKind;

/// The codes of services that refuse a bucket's name in the path (Alibaba Cloud, Tencent Cloud).
const ONLY_VIRTUAL: [&str; 2] = ["SecondLevelDomainForbidden", "PathStyleDomainForbidden"];

/// What a server says instead of a listing.
#[derive(Debug, Default)]
pub(super) struct Refusal {
    status: u16,
    code: String,
    message: String,
    /// The region that the bucket is in.
    region: Option<String>,
}

impl Refusal {
    /// Reads an answer with this status.
    pub(super) fn read(status: u16, headers: &HeaderMap, body: &[u8]) -> Refusal {
        let mut refusal = Refusal {
            status,
            ..Refusal::default()
        };
        let text = String::from_utf8_lossy(body);
        // Whatever can be read of it helps.
        let _: Result<(), XmlFault> = xml::read(&text, |path, text| {
            match path {
                ["Error", "Code"] => refusal.code = text.trim().to_owned(),
                ["Error", "Message"] => refusal.message = text.trim().trim_end_matches('.').to_owned(),
                ["Error", "Region"] => refusal.region = Some(text.trim().to_owned()),
                _ => {}
            }
            Ok(())
        });
        let by_header = headers
            .get("x-amz-bucket-region")
            .and_then(|region| region.to_str().ok());
        refusal.region = refusal.region.or_else(|| by_header.map(str::to_owned));
        refusal
    }

    /// Has the bucket take what this says of its place. Returns true if that was new, so the request is worth another try.
    pub(super) fn corrects(&self, bucket: &Bucket) -> bool {
        let is_elsewhere = self.region.as_ref().is_some_and(|region| bucket.learn_region(region));
        if is_elsewhere {
            log::debug!("the bucket {} is in the region {}", bucket.name, bucket.region());
        }
        is_elsewhere || (ONLY_VIRTUAL.contains(&self.code.as_str()) && bucket.learn_virtual())
    }

    /// The failure, as a sentence for the user.
    pub(super) fn meaning(&self, bucket: &Bucket, is_unsigned: bool) -> (SourceErrorKind, String) {
        let kind = match self.status {
            404 => SourceErrorKind::NotFound,
            403 => SourceErrorKind::Denied,
            _ => SourceErrorKind::BadAnswer,
        };
        let why = match self.code.as_str() {
            "NoSuchBucket" => format!("there is no bucket `{}` at this endpoint", bucket.name),
            "SignatureDoesNotMatch" => {
                "the server refuses the signature (SignatureDoesNotMatch): the secret key is wrong".to_owned()
            }
            "InvalidAccessKeyId" => "the server does not know the access key (InvalidAccessKeyId)".to_owned(),
            "ExpiredToken" => "the session token has expired (ExpiredToken); get new keys".to_owned(),
            "RequestTimeTooSkewed" => "the clock of this machine is wrong (RequestTimeTooSkewed)".to_owned(),
            "AccessDenied" if is_unsigned => {
                "access denied (AccessDenied): the bucket is not public, and --no-sign-request sends no keys".to_owned()
            }
            "PermanentRedirect" => {
                "the bucket is at another endpoint (PermanentRedirect); give its --region or --endpoint-url".to_owned()
            }
            "" => format!("the server answers with status {}", self.status),
            code => format!("the server refuses ({code}): {}", self.message),
        };
        (kind, why)
    }
}
