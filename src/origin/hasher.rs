//! Computes hashes of published algorithms.

use md5::Md5;
use sha1::Sha1;
use sha2::{Digest, Sha256, Sha512};

use super::published::{Hash, HashAlgorithm};

/// A hash that is being computed.
#[derive(Clone)]
pub(crate) enum Hasher {
    /// Of MD5.
    Md5(Md5),
    /// Of SHA-1.
    Sha1(Sha1),
    /// Of SHA-256.
    Sha256(Sha256),
    /// Of SHA-512.
    Sha512(Sha512),
}

impl Hasher {
    /// The hash of no bytes yet.
    pub(crate) fn new(algorithm: HashAlgorithm) -> Hasher {
        match algorithm {
            HashAlgorithm::Md5 => Hasher::Md5(Md5::new()),
            HashAlgorithm::Sha1 => Hasher::Sha1(Sha1::new()),
            HashAlgorithm::Sha256 => Hasher::Sha256(Sha256::new()),
            HashAlgorithm::Sha512 => Hasher::Sha512(Sha512::new()),
        }
    }

    /// Adds bytes.
    pub(crate) fn update(&mut self, bytes: &[u8]) {
        match self {
            Hasher::Md5(hasher) => hasher.update(bytes),
            Hasher::Sha1(hasher) => hasher.update(bytes),
            Hasher::Sha256(hasher) => hasher.update(bytes),
            Hasher::Sha512(hasher) => hasher.update(bytes),
        }
    }

    /// The hash of all bytes so far.
    pub(crate) fn finish(self) -> Hash {
        match self {
            Hasher::Md5(hasher) => Hash::computed(HashAlgorithm::Md5, &hasher.finalize()),
            Hasher::Sha1(hasher) => Hash::computed(HashAlgorithm::Sha1, &hasher.finalize()),
            Hasher::Sha256(hasher) => Hash::computed(HashAlgorithm::Sha256, &hasher.finalize()),
            Hasher::Sha512(hasher) => Hash::computed(HashAlgorithm::Sha512, &hasher.finalize()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `printf abc | md5sum`, and so on.
    #[test]
    fn hashes_are_those_of_coreutils() {
        for (algorithm, expected) in [
            (HashAlgorithm::Md5, "900150983cd24fb0d6963f7d28e17f72"),
            (HashAlgorithm::Sha1, "a9993e364706816aba3e25717850c26c9cd0d89d"),
            (
                HashAlgorithm::Sha256,
                "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
            ),
            (
                HashAlgorithm::Sha512,
                "ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a\
                 2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f",
            ),
        ] {
            let mut hasher = Hasher::new(algorithm);
            hasher.update(b"a");
            hasher.update(b"bc");
            assert_eq!(Some(hasher.finish()), Hash::from_hex(algorithm, expected));
        }
    }
}
