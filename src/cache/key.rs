//! Keys: the identity of cache entries and remote files, in the index, in the names of data files,
//! and within this process.

use sha2::{Digest, Sha256};
use url::Url;

use super::chunk::ChunkSize;
use crate::http::Version;
use crate::origin::{Hash, LoginKey, Pieces};

/// The key of a cache entry: a hash of the URL and the version. Names the data file, and the row in
/// `cache_entries`. It contains no secret of the URL.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct EntryKey(String);

/// A hash of the URL alone: finds the versions of one remote file.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct UrlKey(String);

impl EntryKey {
    /// The key of this version of the file at `url`, kept in chunks of this size.
    pub fn new(url: &Url, version: &Version, chunk: ChunkSize) -> EntryKey {
        EntryKey::of_login(url, version, chunk, None)
    }

    /// The key of this version as this login sees it: a server may show each login different
    /// content under one name.
    pub fn of_login(url: &Url, version: &Version, chunk: ChunkSize, login: Option<LoginKey>) -> EntryKey {
        let (size, chunk) = (version.size.to_string(), chunk.bytes().to_string());
        let (validator, login) = (version.validator.to_key(), login_part(login));
        let parts = [url.as_str(), &size, &validator, &chunk]
            .into_iter()
            .chain(login.as_deref());
        EntryKey(hash(&parts.collect::<Vec<_>>()))
    }

    /// The key of the same version, of which only what these hashes prove is kept.
    pub fn of_pieces(&self, pieces: &Pieces) -> EntryKey {
        let length = pieces.length.to_string();
        let hashes = pieces.hashes.iter().map(Hash::labelled);
        let parts: Vec<String> = [self.0.clone(), "pieces".to_owned(), length]
            .into_iter()
            .chain(hashes)
            .collect();
        EntryKey(hash(&parts.iter().map(String::as_str).collect::<Vec<_>>()))
    }

    /// The key as 32 hexadecimal digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The inverse of [`Self::as_str`]; `None` for text of another form.
    pub fn from_stored(text: String) -> Option<EntryKey> {
        (text.len() == 32 && text.bytes().all(|b| b.is_ascii_hexdigit())).then_some(EntryKey(text))
    }

    /// A key without an entry.
    #[cfg(test)]
    pub(crate) fn for_tests(number: u32) -> EntryKey {
        EntryKey(hash(&[&number.to_string()]))
    }
}

impl UrlKey {
    /// The key that [`Self::as_str`] gave.
    pub(crate) fn from_stored(text: String) -> UrlKey {
        UrlKey(text)
    }

    /// The key of a URL.
    pub fn new(url: &Url) -> UrlKey {
        UrlKey::of_login(url, None)
    }

    /// The key of a URL as this login gets to see it.
    pub fn of_login(url: &Url, login: Option<LoginKey>) -> UrlKey {
        let login = login_part(login);
        let parts = [url.as_str()].into_iter().chain(login.as_deref());
        UrlKey(hash(&parts.collect::<Vec<_>>()))
    }

    /// The key as 32 hexadecimal digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

fn login_part(login: Option<LoginKey>) -> Option<String> {
    login.map(|login| format!("login {:016x}", u64::from_be_bytes(login)))
}

/// The first half of SHA-256. The names and versions of all origins share one cache, and some may
/// be malicious. With a weaker hash they could give a file of theirs the key of another origin's,
/// and have it read in its place.
fn hash(parts: &[&str]) -> String {
    let mut half = [0; 16];
    half.copy_from_slice(&Sha256::digest(parts.join("\0"))[..16]);
    format!("{:032x}", u128::from_be_bytes(half))
}

/// The number of an entry within this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EntryId(pub u64);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_halves_of_sha_256() {
        // printf 'http://h/a' | sha256sum
        let key = UrlKey::new(&Url::parse("http://h/a").unwrap());
        assert_eq!(key.as_str(), "c43fa283946b81455781ee66e2429e92");
        assert!(EntryKey::from_stored(key.as_str().to_owned()).is_some());
    }
}
