//! The source of buckets: asks for listings, and says in one sentence why there is none.

use std::sync::Arc;

use parking_lot::Mutex;
use url::Url;

use super::address::Bucket;
use super::signer::Signer;
use super::xml::{self, XmlFault};
use super::{BucketListing, Next, S3Config, settings};
use crate::origin::{Client, DocumentRequest, as_directory};
use crate::source::asked::Asked;
use crate::source::{BoxFuture, Found, Listing, ListingConfig, Source, SourceError, SourceErrorKind};

/// The kind of buckets of S3, and their scheme.
pub(crate) const S3: &str = "s3";

/// The source of buckets.
pub(crate) struct Buckets {
    client: Client,
    listings: ListingConfig,
    config: S3Config,
    /// The buckets that the user has named. Locked for the moment of a look-up.
    buckets: Mutex<Vec<Known>>,
}

/// A bucket that the user has named.
#[derive(Clone)]
struct Known {
    bucket: Bucket,
    /// Why requests can't be signed.
    lacks_keys: Option<String>,
    /// True if requests are signed.
    is_signed: bool,
}

impl Buckets {
    /// A source of buckets that sends requests through this client.
    pub(crate) fn new(client: Client, listings: ListingConfig, config: S3Config) -> Buckets {
        let buckets = Mutex::default();
        Buckets {
            client,
            listings,
            config,
            buckets,
        }
    }

    /// The bucket of a URL at its endpoint, and the key there.
    fn find(&self, url: &Url) -> Result<(Known, Vec<u8>), SourceError> {
        let buckets = self.buckets.lock();
        let mut found = buckets
            .iter()
            .filter_map(|known| Some((known.clone(), known.bucket.key(url)?.into_owned())));
        found
            .next()
            .ok_or_else(|| SourceError::of(SourceErrorKind::BadAnswer, url, "it is in no bucket of this mount"))
    }

    async fn listing(&self, directory: &Url) -> Result<Listing, SourceError> {
        let (known, prefix) = self.find(directory)?;
        let fail = |kind, why: String| SourceError::of(kind, directory, why);
        if let Some(why) = known.lacks_keys.as_ref().filter(|_| !self.client.is_offline()) {
            return Err(fail(SourceErrorKind::Denied, why.clone()));
        }
        let mut listing = BucketListing::new(directory, &prefix, &self.listings);
        let (mut is_encoded, mut token) = (true, None);
        loop {
            let request = DocumentRequest {
                accepts: &[200, 400, 403, 404],
                ..DocumentRequest::default()
            };
            let url = known.bucket.list_url(&prefix, is_encoded, token.as_deref());
            let answer = self.client.document(&url, request).await?;
            if answer.status != 200 {
                let (kind, why) = refusal(answer.status, &answer.body, &known);
                return Err(fail(kind, why));
            }
            // A page has a thousand names.
            match listing.add_page(&answer.body, is_encoded) {
                Ok(Next::Done) => break,
                Ok(Next::Page(next)) => token = Some(next),
                Ok(Next::Plain) => is_encoded = false,
                Err(error) => return Err(SourceError::not_a_listing(directory, error)),
            }
        }
        listing.finish().ok_or_else(|| {
            let (bucket, prefix) = (&known.bucket.name, String::from_utf8_lossy(&prefix));
            fail(
                SourceErrorKind::NotFound,
                format!("the bucket `{bucket}` has no key that begins with `{prefix}`"),
            )
        })
    }
}

/// An answer other than 200: what S3 says in its body, as a sentence for the user.
fn refusal(status: u16, body: &[u8], known: &Known) -> (SourceErrorKind, String) {
    let (mut code, mut message, mut region) = (String::new(), String::new(), String::new());
    let text = String::from_utf8_lossy(body);
    // Whatever can be read of it helps.
    let _: Result<(), XmlFault> = xml::read(&text, |path, text| {
        match path {
            ["Error", "Code"] => code = text,
            ["Error", "Message"] => message = text,
            ["Error", "Region"] => region = text,
            _ => {}
        }
        Ok(())
    });
    let bucket = &known.bucket.name;
    let kind = match status {
        404 => SourceErrorKind::NotFound,
        403 => SourceErrorKind::Denied,
        _ => SourceErrorKind::BadAnswer,
    };
    let why = match code.as_str() {
        "NoSuchBucket" => format!("there is no bucket `{bucket}` at this endpoint"),
        "SignatureDoesNotMatch" => {
            "the server refuses the signature (SignatureDoesNotMatch): the secret key is wrong".to_owned()
        }
        "InvalidAccessKeyId" => "the server does not know the access key (InvalidAccessKeyId)".to_owned(),
        "ExpiredToken" => "the session token has expired (ExpiredToken); get new keys".to_owned(),
        "RequestTimeTooSkewed" => "the clock of this machine is wrong (RequestTimeTooSkewed)".to_owned(),
        _ if !region.is_empty() => format!("the bucket is in the region {region}; give --region {region}"),
        "AccessDenied" if !known.is_signed => {
            "access denied (AccessDenied): the bucket is not public, and --no-sign-request sends no keys".to_owned()
        }
        "" => format!("the server answers with status {status}"),
        _ => format!("the server refuses ({code}): {}", message.trim().trim_end_matches('.')),
    };
    (kind, why)
}

impl Source for Buckets {
    fn kind(&self) -> &'static str {
        S3
    }

    fn address(&self, url: &Url) -> Result<Url, SourceError> {
        let fail = |why: &str| SourceError::of(SourceErrorKind::BadAnswer, url, why);
        let name = url.host_str().filter(|name| !name.is_empty());
        let name = name.ok_or_else(|| fail("the bucket is missing: write s3://BUCKET/PREFIX/"))?;
        if url.query().is_some() {
            return Err(fail("an S3 source has no query; write %3F for a `?` in a key"));
        }
        let found = settings::of_process(&self.config);
        let bucket = Bucket::new(name, &found.region, found.endpoint.as_ref()).map_err(|error| {
            fail(&format!(
                "the bucket and the region `{}` give no URL: {error}",
                found.region
            ))
        })?;
        let (is_signed, lacks_keys) = match found.credentials {
            Ok(None) => (false, None),
            Err(why) => (false, Some(why)),
            Ok(Some(keys)) => {
                let signer = Signer::new(self.config.clone(), found.region, keys);
                let signed = move |method: &_, url: &_| signer.signed(method, url);
                self.client.sign_below(&bucket.base, Arc::new(signed));
                (true, None)
            }
        };
        let address = bucket.url_of(url.path());
        let mut buckets = self.buckets.lock();
        if !buckets.iter().any(|known| known.bucket == bucket) {
            buckets.push(Known {
                bucket,
                lacks_keys,
                is_signed,
            });
        }
        Ok(address)
    }

    fn open<'a>(&'a self, asked: &'a Asked<'a>) -> BoxFuture<'a, Result<Option<Found>, SourceError>> {
        Box::pin(async move {
            let directory = as_directory(asked.url);
            let error = match self.listing(&directory).await {
                Ok(listing) => return Ok(Some(Found::Directory(directory, listing))),
                Err(error) => error,
            };
            if error.kind() == SourceErrorKind::NotFound
                && *asked.url != directory
                && let Ok(answer) = asked.metadata().await
            {
                return Ok(Some(Found::File(answer.clone())));
            }
            Err(error)
        })
    }

    fn list<'a>(&'a self, directory: &'a Url, _there: &'a Url) -> BoxFuture<'a, Result<Listing, SourceError>> {
        Box::pin(self.listing(directory))
    }
}
