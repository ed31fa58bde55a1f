//! What a source publishes of a file besides its URL and size: other places, hashes, request headers.
//!
//! Index pages publish none of it; Metalink, checksum files and playlists do.

use std::fmt;

use url::Url;

/// What a source publishes of one file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Published {
    /// Other URLs of the same file, in order of preference.
    pub alternates: Vec<Url>,
    /// Hashes of the whole file.
    pub hashes: Vec<Hash>,
    /// Hashes of its pieces.
    pub pieces: Option<Pieces>,
    /// Headers that requests for the file carry, such as `User-Agent` and `Referer`, at whatever server. **No
    /// credentials**: they are stored.
    pub headers: Vec<(String, String)>,
}

/// A hash function, by the names of the IANA registry "Hash Function Textual Names" (RFC 4572 §5).
///
/// Ordered by strength, the strongest last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum HashAlgorithm {
    /// 16 bytes. Detects damage, not intent.
    Md5,
    /// 20 bytes. Detects damage, not intent.
    Sha1,
    /// 32 bytes.
    Sha256,
    /// 64 bytes.
    Sha512,
}

/// The hash of some bytes.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Hash {
    /// How it is computed.
    pub algorithm: HashAlgorithm,
    /// As many bytes as the algorithm has.
    digest: Box<[u8]>,
}

/// The hashes of a file's pieces (RFC 5854 §4.2.9).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pieces {
    /// Bytes of each piece but the last, at least 1.
    pub length: u64,
    /// One hash a piece, in order, all by one algorithm.
    pub hashes: Vec<Hash>,
}

impl Published {
    /// The hash of the whole file that proves most.
    pub fn strongest(&self) -> Option<&Hash> {
        self.hashes.iter().max_by_key(|hash| hash.algorithm)
    }

    /// The hash by this algorithm.
    pub fn hash(&self, algorithm: HashAlgorithm) -> Option<&Hash> {
        self.hashes.iter().find(|hash| hash.algorithm == algorithm)
    }
}

impl HashAlgorithm {
    const ALL: [(&str, HashAlgorithm, usize); 4] = [
        ("md5", HashAlgorithm::Md5, 16),
        ("sha-1", HashAlgorithm::Sha1, 20),
        ("sha-256", HashAlgorithm::Sha256, 32),
        ("sha-512", HashAlgorithm::Sha512, 64),
    ];

    /// The algorithm with this name, with or without its hyphen (`sha-256`, `SHA256`). `None` if it is unknown here.
    pub fn named(name: &str) -> Option<HashAlgorithm> {
        let plain = |name: &str| name.trim().replace(['-', '_'], "").to_ascii_lowercase();
        let known = Self::ALL.iter().find(|(known, ..)| plain(known) == plain(name));
        known.map(|&(_, algorithm, _)| algorithm)
    }

    /// Bytes of a digest.
    pub fn len(self) -> usize {
        Self::ALL
            .iter()
            .find(|(_, known, _)| *known == self)
            .map_or(0, |&(.., len)| len)
    }
}

impl fmt::Display for HashAlgorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let known = Self::ALL.iter().find(|(_, known, _)| known == self);
        f.write_str(known.map_or("", |(name, ..)| name))
    }
}

impl Hash {
    /// A hash from its bytes. `None` if the length is not the algorithm's.
    pub fn new(algorithm: HashAlgorithm, digest: &[u8]) -> Option<Hash> {
        (digest.len() == algorithm.len()).then(|| Hash {
            algorithm,
            digest: digest.into(),
        })
    }

    /// A hash that was just computed.
    ///
    /// # Panics
    /// If the length is not the algorithm's: a bug of this program.
    pub(super) fn computed(algorithm: HashAlgorithm, digest: &[u8]) -> Hash {
        Hash::new(algorithm, digest).expect("each hash function has digests of one length")
    }

    /// A hash from its hexadecimal form. `None` if it is malformed.
    pub fn from_hex(algorithm: HashAlgorithm, text: &str) -> Option<Hash> {
        let text = text.trim().as_bytes();
        let nibble = |byte: u8| char::from(byte).to_digit(16);
        let pairs = text.chunks(2).map(|pair| match *pair {
            [high, low] => u8::try_from(nibble(high)? << 4 | nibble(low)?).ok(),
            _ => None,
        });
        Hash::new(algorithm, &pairs.collect::<Option<Vec<u8>>>()?)
    }

    /// A hash from its labelled form ([`Self::labelled`]). `None` if it is malformed.
    pub fn from_labelled(text: &str) -> Option<Hash> {
        let (name, digest) = text.split_once(':')?;
        Hash::from_hex(HashAlgorithm::named(name)?, digest)
    }

    /// The algorithm and the hexadecimal form: `sha-256:ba78…`.
    pub fn labelled(&self) -> String {
        format!("{}:{self}", self.algorithm)
    }

    /// The bytes of the hash.
    pub fn digest(&self) -> &[u8] {
        &self.digest
    }
}

impl fmt::Display for Hash {
    /// The hexadecimal form, in lower case.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.digest.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strongest_hash_is_of_the_longest_digest() {
        let hash = |algorithm: HashAlgorithm| Hash::new(algorithm, &vec![1; algorithm.len()]).unwrap();
        let mut published = Published::default();
        assert_eq!(published.strongest(), None);
        for (_, algorithm, _) in [2, 0, 3, 1].map(|at: usize| HashAlgorithm::ALL[at]) {
            published.hashes.push(hash(algorithm));
        }
        assert_eq!(published.strongest(), Some(&hash(HashAlgorithm::Sha512)));
        assert_eq!(published.hash(HashAlgorithm::Md5), Some(&hash(HashAlgorithm::Md5)));
    }

    #[test]
    fn hash_reads_its_own_hexadecimal_form() {
        for (name, algorithm, len) in HashAlgorithm::ALL {
            let digest: Vec<u8> = (0..len as u8).map(|byte| byte.wrapping_mul(37)).collect();
            let hash = Hash::new(algorithm, &digest).unwrap();
            assert_eq!(Hash::from_labelled(&hash.labelled()), Some(hash.clone()));
            assert_eq!(Hash::from_hex(algorithm, &hash.to_string().to_uppercase()), Some(hash));
            assert_eq!(HashAlgorithm::named(name), Some(algorithm));
            assert_eq!(
                HashAlgorithm::named(&name.replace('-', "").to_uppercase()),
                Some(algorithm)
            );
            assert_eq!(Hash::new(algorithm, &digest[1..]), None);
        }
        assert_eq!(HashAlgorithm::named("tiger"), None);
        for text in [
            "",
            "0",
            "zz",
            "0011223344556677889900112233445",
            "+011223344556677889900112233445566",
        ] {
            assert_eq!(Hash::from_hex(HashAlgorithm::Md5, text), None, "{text}");
        }
    }
}
