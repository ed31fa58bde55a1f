//! The source of buckets: asks for listings, and says in one sentence why there is none.

use std::sync::Arc;

use parking_lot::Mutex;
use url::Url;

use super::address::Bucket;
use super::keyring::Keyring;
use super::refusal::Refusal;
use super::signer::KeySigner;
use super::{BucketListing, Next, S3Config, settings};
use crate::origin::{Client, DocumentRequest, as_directory};
use crate::source::asked::Asked;
use crate::source::receiving::EarlyPages;
use crate::source::{BoxFuture, Found, Listing, ListingConfig, NameSink, Source, SourceError, SourceErrorKind};

/// The kind of buckets of S3, and their scheme.
pub(crate) const S3: &str = "s3";

/// How often a request is sent again for what the server has said of the bucket's place: its region, and where its name is
/// to be sent.
const MOST_CORRECTIONS: usize = 3;

/// The source of buckets.
pub(crate) struct Buckets {
    client: Client,
    listings: ListingConfig,
    config: S3Config,
    /// The buckets that the user has named. Locked for the moment of a look-up.
    buckets: Mutex<Vec<Arc<Bucket>>>,
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
    fn find(&self, url: &Url) -> Result<(Arc<Bucket>, Vec<u8>), SourceError> {
        let buckets = self.buckets.lock();
        let mut found = buckets
            .iter()
            .filter_map(|bucket| Some((Arc::clone(bucket), bucket.key(url)?.into_owned())));
        found
            .next()
            .ok_or_else(|| SourceError::of(SourceErrorKind::BadAnswer, url, "it is in no bucket of this mount"))
    }

    /// The names in a directory. Those of all pages but the last one are passed on to `names` before.
    async fn listing(&self, directory: &Url, names: Option<&Arc<dyn NameSink>>) -> Result<Listing, SourceError> {
        let (bucket, prefix) = self.find(directory)?;
        let fail = |kind, why: String| SourceError::of(kind, directory, why);
        let mut listing = BucketListing::new(directory, &prefix, &self.listings);
        let (mut is_encoded, mut token, mut corrections) = (true, None, 0);
        let mut early = EarlyPages::new(names);
        loop {
            let request = DocumentRequest {
                accepts: &[200, 301, 400, 403, 404],
                ..DocumentRequest::default()
            };
            let url = bucket.list_url(&prefix, is_encoded, token.as_deref());
            let answer = self.client.document(&url, request).await?;
            if answer.status != 200 {
                let refusal = Refusal::read(answer.status, &answer.headers, &answer.body);
                if corrections < MOST_CORRECTIONS && refusal.corrects(&bucket) {
                    corrections += 1;
                    continue;
                }
                let (kind, why) = refusal.meaning(&bucket, self.config.no_sign_request);
                return Err(fail(kind, why));
            }
            // A page has a thousand names.
            match listing.add_page(&answer.body, is_encoded) {
                Ok(Next::Done) => break,
                Ok(Next::Page(next)) => {
                    token = Some(next);
                    early.pass_on(listing.entries()).await;
                }
                Ok(Next::Plain) => is_encoded = false,
                Err(error) => return Err(SourceError::not_a_listing(directory, error)),
            }
        }
        listing.finish().ok_or_else(|| {
            let (bucket, prefix) = (&bucket.name, String::from_utf8_lossy(&prefix));
            fail(
                SourceErrorKind::NotFound,
                format!("the bucket `{bucket}` has no key that begins with `{prefix}`"),
            )
        })
    }
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
        let directory = std::env::current_dir().unwrap_or_default();
        let found = settings::of_process(&self.config, &directory);
        let bucket = Bucket::new(name, &found.region, found.endpoint.as_ref(), found.style);
        let bucket = bucket.map_err(|error| {
            fail(&format!(
                "the bucket and the region `{}` give no URL: {error}",
                found.region
            ))
        })?;
        let bucket = Arc::new(bucket);
        let signer = Arc::new(KeySigner::new(
            Arc::clone(&bucket),
            Keyring::new(self.config.clone(), directory),
        ));
        self.client.sign_below(&bucket.base, signer);
        let address = bucket.url_of(url.path());
        let mut buckets = self.buckets.lock();
        buckets.retain(|known| known.base != bucket.base);
        buckets.push(bucket);
        Ok(address)
    }

    fn open<'a>(&'a self, asked: &'a Asked<'a>) -> BoxFuture<'a, Result<Option<Found>, SourceError>> {
        Box::pin(async move {
            let directory = as_directory(asked.url);
            let error = match self.listing(&directory, None).await {
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
        Box::pin(self.listing(directory, None))
    }

    fn list_early<'a>(
        &'a self,
        directory: &'a Url,
        _there: &'a Url,
        names: &'a Arc<dyn NameSink>,
    ) -> BoxFuture<'a, Result<Listing, SourceError>> {
        Box::pin(self.listing(directory, Some(names)))
    }
}
