//! The hashes of files that are known beside listings, by their versions: those that servers give of whole files in the heads
//! of their responses, `Repr-Digest` (RFC 9530 §3), and those of checksum files.
//!
//! Not used: `Content-Digest`, which is of the bytes of one response, and tells nothing that its length and the transport
//! do not; `Digest` and `Content-MD5`, which servers take for either.

use std::collections::HashMap;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use parking_lot::Mutex;
use url::Url;

use super::published::{Hash, HashAlgorithm};
use crate::http::Version;

/// Maximum number of files. Beyond it, all are forgotten; the next response has the hash again.
const MOST: usize = 4096;

/// The hashes by the URLs of files.
#[derive(Default)]
pub(super) struct Digests(Mutex<HashMap<Url, Given>>);

struct Given {
    version: Version,
    /// `None` if two responses of the version gave different ones: the server gives hashes of something else.
    hash: Option<Hash>,
}

impl Digests {
    /// Notes the value of the header in a response for a version of a file.
    pub(super) fn note_header(&self, url: &Url, version: &Version, value: &str) {
        if let Some(hash) = strongest(value) {
            self.note(url, version, hash);
        }
    }

    /// Notes a hash of a version of a file.
    pub(super) fn note(&self, url: &Url, version: &Version, hash: Hash) {
        let mut all = self.0.lock();
        if all.len() >= MOST && !all.contains_key(url) {
            all.clear();
        }
        let given = all.entry(url.clone()).or_insert_with(|| Given {
            version: version.clone(),
            hash: Some(hash.clone()),
        });
        if given.version != *version {
            *given = Given {
                version: version.clone(),
                hash: Some(hash),
            };
        } else if given.hash.as_ref() != Some(&hash) {
            given.hash = None;
        }
    }

    /// The hash of a version of a file, as its server gives it.
    pub(super) fn of(&self, url: &Url, version: &Version) -> Option<Hash> {
        let all = self.0.lock();
        let given = all.get(url).filter(|given| given.version == *version)?;
        given.hash.clone()
    }
}

/// The strongest hash in a field value: `sha-256=:BASE64:, sha-512=:BASE64:`.
fn strongest(value: &str) -> Option<Hash> {
    let hash = |member: &str| {
        let (name, value) = member.trim().split_once('=')?;
        let value = value.split(';').next()?.trim().strip_prefix(':')?.strip_suffix(':')?;
        Hash::new(HashAlgorithm::named(name)?, &BASE64_STANDARD.decode(value).ok()?)
    };
    value.split(',').filter_map(hash).max_by_key(|hash| hash.algorithm)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::Validator;

    /// RFC 9530, appendix B.1.
    const EXAMPLE: &str = "sha-256=:RK/0qy18MlBSVnWgjwz6lZEWjP/lF5HF9bvEF8FabDg=:";

    #[test]
    fn strongest_hash_is_read() {
        let sha256 = "44aff4ab2d7c3250525675a08f0cfa9591168cffe51791c5f5bbc417c15a6c38";
        let read = |value: &str| strongest(value).map(|hash| hash.labelled());
        assert_eq!(read(EXAMPLE), Some(format!("sha-256:{sha256}")));
        assert_eq!(
            read(&format!("md5=:AAAAAAAAAAAAAAAAAAAAAA==:, {EXAMPLE};q=1")),
            read(EXAMPLE)
        );
        assert_eq!(read(&format!("unixsum=30637,{EXAMPLE}")), read(EXAMPLE));
        for value in [
            "",
            "sha-256",
            "sha-256=abc",
            "sha-256=:!:",
            "sha-256=:AAAA:",
            "crc32c=:AAAAAA==:",
        ] {
            assert_eq!(read(value), None, "{value}");
        }
    }

    #[test]
    fn contradicting_hashes_of_a_version_do_not_count() {
        let (digests, url) = (Digests::default(), Url::parse("http://h/f").unwrap());
        let version = |size| Version {
            size,
            validator: Validator::None,
        };
        digests.note_header(&url, &version(1), EXAMPLE);
        digests.note_header(&url, &version(1), EXAMPLE);
        assert!(digests.of(&url, &version(1)).is_some() && digests.of(&url, &version(2)).is_none());
        digests.note_header(
            &url,
            &version(1),
            "sha-256=:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=:",
        );
        assert_eq!(digests.of(&url, &version(1)), None);
        digests.note_header(&url, &version(2), EXAMPLE);
        assert!(digests.of(&url, &version(2)).is_some());
    }
}
