//! Addresses: from `s3://BUCKET/PREFIX` to the URL by which a key is known, to the URL that is sent, and back to keys.
//!
//! **The address of a key does not change**: it is what the cache knows. Where the request really goes depends on what is
//! learned later, such as the bucket's region, so [`Bucket::sent`] finds that out for each request.
//!
//! Keys are percent-encoded as AWS does it, every byte but letters, digits and `-._~/`. Signatures need that form: the
//! server computes them of the decoded key, encoded in this way.

use std::borrow::Cow;

use parking_lot::Mutex;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, percent_encode};
use url::Url;

use super::AddressingStyle;

/// What AWS encodes in one part of a key.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Encodes one part of a key, or a value of a query.
pub(super) fn encoded(part: &[u8]) -> String {
    percent_encode(part, ENCODED).to_string()
}

/// A bucket at its endpoint.
#[derive(Debug)]
pub(super) struct Bucket {
    /// Its name.
    pub(super) name: String,
    /// The URL by which it is known, which ends in `/`. Keys follow it.
    pub(super) base: Url,
    /// URL of the service, if it is not Amazon's.
    endpoint: Option<Url>,
    /// The user's choice.
    style: AddressingStyle,
    /// Locked for a moment.
    place: Mutex<Place>,
}

/// Where the bucket is, as far as is known.
#[derive(Debug, Clone)]
struct Place {
    region: String,
    /// True if its name is a part of the host name.
    is_virtual: bool,
}

impl Bucket {
    /// The bucket of this name: in the path of a given endpoint (`https://ENDPOINT/BUCKET/`), or in the host name at
    /// Amazon (`https://BUCKET.s3.REGION.amazonaws.com/`). A name with dots is in the path there too, because no
    /// certificate is valid for it as a host.
    ///
    /// # Errors
    /// If the region or the name gives no URL.
    pub(super) fn new(
        name: &str,
        region: &str,
        endpoint: Option<&Url>,
        style: AddressingStyle,
    ) -> Result<Bucket, url::ParseError> {
        let by_default = endpoint.is_none() && !name.contains('.');
        let base = base_of(name, region, endpoint, by_default)?;
        let is_virtual = match style {
            AddressingStyle::Auto => by_default,
            AddressingStyle::Path => false,
            AddressingStyle::Virtual => true,
        };
        // So that it can be sent, too.
        base_of(name, region, endpoint, is_virtual)?;
        let region = region.to_owned();
        Ok(Bucket {
            name: name.to_owned(),
            base,
            endpoint: endpoint.cloned(),
            style,
            place: Mutex::new(Place { region, is_virtual }),
        })
    }

    /// The region, as far as is known.
    pub(super) fn region(&self) -> String {
        self.place.lock().region.clone()
    }

    /// Takes the region that the server names. Returns false if that is known, or can't be one.
    pub(super) fn learn_region(&self, region: &str) -> bool {
        let mut place = self.place.lock();
        let is_new = is_region(region) && place.region != region;
        let is_good = is_new && base_of(&self.name, region, self.endpoint.as_ref(), place.is_virtual).is_ok();
        if is_good {
            region.clone_into(&mut place.region);
        }
        is_good
    }

    /// Has the name of the bucket sent in the host name from now on. Returns false if it is already, if the user wants
    /// something else, or if that gives no URL.
    pub(super) fn learn_virtual(&self) -> bool {
        let mut place = self.place.lock();
        let may_be = self.style == AddressingStyle::Auto && !place.is_virtual;
        let is_good = may_be && base_of(&self.name, &place.region, self.endpoint.as_ref(), true).is_ok();
        place.is_virtual |= is_good;
        is_good
    }

    /// The URL to which a request for this URL is sent.
    pub(super) fn sent(&self, url: &Url) -> Url {
        let Place { region, is_virtual } = self.place.lock().clone();
        let base = base_of(&self.name, &region, self.endpoint.as_ref(), is_virtual);
        let (Ok(mut sent), Some(rest)) = (base, url.path().strip_prefix(self.base.path())) else {
            return url.clone();
        };
        sent.set_path(&format!("{}{rest}", sent.path()));
        sent.set_query(url.query());
        sent
    }

    /// The URL of the key that the path of an `s3://` URL names.
    pub(super) fn url_of(&self, path: &str) -> Url {
        let key: Vec<u8> = percent_decode_str(path.strip_prefix('/').unwrap_or(path)).collect();
        let parts: Vec<String> = key.split(|&byte| byte == b'/').map(encoded).collect();
        let mut url = self.base.clone();
        url.set_path(&format!("{}{}", self.base.path(), parts.join("/")));
        url
    }

    /// The key, or prefix, of a URL in this bucket; `None` for any other URL.
    pub(super) fn key<'a>(&self, url: &'a Url) -> Option<Cow<'a, [u8]>> {
        let rest = url.path().strip_prefix(self.base.path())?;
        let is_here = url.origin() == self.base.origin();
        is_here.then(|| Cow::from(percent_decode_str(rest)))
    }

    /// The URL that lists the names with this prefix, up to the next `/`. With `is_encoded`, the server is asked to
    /// encode the keys, because XML can't have all characters.
    pub(super) fn list_url(&self, prefix: &[u8], is_encoded: bool, token: Option<&str>) -> Url {
        let mut query = String::new();
        if let Some(token) = token {
            query = format!("continuation-token={}&", encoded(token.as_bytes()));
        }
        query.push_str("delimiter=%2F&");
        if is_encoded {
            query.push_str("encoding-type=url&");
        }
        query.push_str("list-type=2&prefix=");
        query.push_str(&encoded(prefix));
        let mut url = self.base.clone();
        url.set_query(Some(&query));
        url
    }
}

/// Returns true if a text can be a region: a part of a host name.
pub(crate) fn is_region(text: &str) -> bool {
    let is_part = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
    !text.is_empty() && text.bytes().all(is_part)
}

/// The URL of a bucket, which ends in `/`.
fn base_of(name: &str, region: &str, endpoint: Option<&Url>, is_virtual: bool) -> Result<Url, url::ParseError> {
    let mut base = match endpoint {
        Some(endpoint) => endpoint.clone(),
        None => {
            let china = if region.starts_with("cn-") { ".cn" } else { "" };
            Url::parse(&format!("https://s3.{region}.amazonaws.com{china}/"))?
        }
    };
    base.set_query(None);
    let slash = if base.path().ends_with('/') { "" } else { "/" };
    if is_virtual {
        // An IP address has no names below it.
        let host = base.domain().ok_or(url::ParseError::InvalidDomainCharacter)?;
        let host = format!("{name}.{host}");
        base.set_host(Some(&host))?;
        base.set_path(&format!("{}{slash}", base.path()));
    } else {
        base.set_path(&format!("{}{slash}{}/", base.path(), encoded(name.as_bytes())));
    }
    Ok(base)
}
