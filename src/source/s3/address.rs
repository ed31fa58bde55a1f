//! Addresses: from `s3://BUCKET/PREFIX` to the URL at the endpoint, and back to keys.
//!
//! Keys are percent-encoded as AWS does it, every byte but letters, digits and `-._~/`. Signatures need that form: the
//! server computes them of the decoded key, encoded in this way.

use std::borrow::Cow;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, percent_encode};
use url::Url;

/// What AWS encodes in one part of a key.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Encodes one part of a key, or a value of a query.
pub(super) fn encoded(part: &[u8]) -> String {
    percent_encode(part, ENCODED).to_string()
}

/// A bucket at its endpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Bucket {
    /// Its name.
    pub(super) name: String,
    /// Its URL, which ends in `/`. Keys follow it.
    pub(super) base: Url,
}

impl Bucket {
    /// The bucket of this name: in the path of a given endpoint (`https://ENDPOINT/BUCKET/`), or in the host name at
    /// Amazon (`https://BUCKET.s3.REGION.amazonaws.com/`). A name with dots is in the path there too, because no
    /// certificate is valid for it as a host.
    ///
    /// # Errors
    /// If the region or the name gives no URL.
    pub(super) fn new(name: &str, region: &str, endpoint: Option<&Url>) -> Result<Bucket, url::ParseError> {
        let base = match endpoint {
            Some(endpoint) => {
                let slash = if endpoint.path().ends_with('/') { "" } else { "/" };
                let mut base = endpoint.clone();
                base.set_query(None);
                base.set_path(&format!("{}{slash}{}/", endpoint.path(), encoded(name.as_bytes())));
                base
            }
            None => {
                let china = if region.starts_with("cn-") { ".cn" } else { "" };
                let host = format!("s3.{region}.amazonaws.com{china}");
                match name.contains('.') {
                    true => Url::parse(&format!("https://{host}/{}/", encoded(name.as_bytes())))?,
                    false => Url::parse(&format!("https://{name}.{host}/"))?,
                }
            }
        };
        let name = name.to_owned();
        Ok(Bucket { name, base })
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
