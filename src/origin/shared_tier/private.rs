//! Sources with credentials (`--tier-private`): what a node gets with a request for one of their files.
//!
//! - **The credentials themselves**, in the headers that the origin would get, and nothing that it would not get for this
//!   URL. The node passes them on to that origin alone.
//! - **A hash of them**, which the node makes part of its cache key. So what was fetched with other credentials is never
//!   an answer, and the node keeps nothing from which a token could be read.
//! - **Which headers** they are, so that a node that would drop one of them refuses.
//!
//! The hash gives access to what the node has fetched with the credentials, so it is as secret as the bytes.
//!
//! Not passed on: a client certificate, Digest authentication, cookies that a server has set, and headers that a playlist
//! wants for a file. The first two are proofs for one connection or request. Cookies from a server are of this mount's
//! session, so no other machine would have the same hash. A signature is passed on in headers, and the hash is of its keys.

use std::{collections::HashMap, num::NonZeroU32, time::SystemTime};

use parking_lot::Mutex;
use reqwest::header::{self, HeaderMap, HeaderName, HeaderValue};
use ring::pbkdf2;
use sha2::{Digest, Sha256};
use url::Url;

use crate::{
    http::{HttpConfig, Origin},
    origin::{
        Client, SignedHeaders,
        tier::{PASSED_ALWAYS, is_passable},
    },
    util::{events, hex::hex},
};

/// The header with the hash of the credentials.
const HASH: HeaderName = HeaderName::from_static("x-fetchfs-credentials");

/// The header with the names of the credentials' headers but [`PASSED_ALWAYS`], sorted, with commas.
const NAMES: HeaderName = HeaderName::from_static("x-fetchfs-headers");

/// Stands for the keys of signatures among the headers that are hashed. It is not sent.
const KEYS: HeaderName = HeaderName::from_static("x-fetchfs-keys");

/// The header of each response to a request whose credentials were passed on.
pub(super) const MARK: HeaderName = HeaderName::from_static("x-fetchfs-private");

/// What the hash is for. A different one, for a different way to compute it, gives different hashes.
const LABEL: &[u8] = b"fetchfs: credentials in a tier, 1";

/// Rounds of the hash: guessing a weak password from a hash that was found on a node's disk takes so many times longer.
/// They are computed once for each set of credentials, before its first request.
const ROUNDS: NonZeroU32 = NonZeroU32::new(10_000).unwrap();

/// Most hashes that are remembered. A forgotten one is computed again.
const MOST_HASHES: usize = 64;

/// The hashes of the credentials that were passed on so far, by a quick hash of them. Locked for the moment of a look-up.
#[derive(Default)]
pub(super) struct CredentialHashes(Mutex<HashMap<[u8; 32], HeaderValue>>);

impl CredentialHashes {
    /// The hash of these headers for this origin.
    async fn of(&self, origin: &Origin, headers: &HeaderMap) -> Option<HeaderValue> {
        let quick = quick_hash(origin, headers);
        if let Some(known) = self.0.lock().get(&quick) {
            return Some(known.clone());
        }
        let slow = move || {
            let mut hash = [0; 32];
            pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA256, ROUNDS, LABEL, &quick, &mut hash);
            hex(&hash)
        };
        let hash = tokio::task::spawn_blocking(slow).await.ok()?;
        let hash = sensitive(hash.as_bytes())?;
        let mut known = self.0.lock();
        if known.len() >= MOST_HASHES {
            known.clear();
        }
        known.insert(quick, hash.clone());
        Some(hash)
    }
}

/// The SHA-256 of these headers, whatever their order. Each part begins with its length, so that no two sets of headers are
/// the same text.
fn quick_hash(origin: &Origin, headers: &HeaderMap) -> [u8; 32] {
    let mut hash = Sha256::new();
    let mut add = |part: &[u8]| {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    };
    add(origin.to_string().as_bytes());
    let mut headers: Vec<_> = headers
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_bytes()))
        .collect();
    headers.sort_unstable();
    for (name, value) in headers {
        add(name.as_bytes());
        add(value);
    }
    hash.finalize().into()
}

impl Client {
    /// Returns true if a node can pass on what requests for this URL carry.
    pub(super) fn can_pass_on(&self, url: &Url) -> bool {
        let (transport, site) = (self.transport(), self.transport().site(url));
        let mut names = site.config.access.headers.keys().map(HeaderName::as_str);
        site.config.tls.client_cert.is_none()
            && site.access.can_be_passed_on(url)
            && !site.cookies.has_received(url, SystemTime::now())
            && names.all(|name| PASSED_ALWAYS.contains(&name) || is_passable(name))
            && !transport.file_headers.has(url)
    }

    /// The headers with which a node passes on the credentials for this URL. `None` if there are none now that it could
    /// pass on: a token's command fails, say.
    pub(super) async fn passed_on(&self, url: &Url) -> Option<HeaderMap> {
        if !self.can_pass_on(url) {
            return None;
        }
        let site = self.transport().site(url);
        let mut given = site.access.passed_on(url).await.ok()??;
        if let Some(cookies) = site.cookies.header_of_the_file(url, SystemTime::now()) {
            given.append(header::COOKIE, sensitive(cookies.as_bytes())?);
        }
        let signature = match self.transport().signers.signs(url) {
            true => Some(self.transport().signers.headers(url).await?),
            false => None,
        };
        let mut headers = joined(&given)?;
        let mut names: Vec<&str> = headers.keys().map(HeaderName::as_str).collect();
        names.retain(|name| !PASSED_ALWAYS.contains(name));
        names.sort_unstable();
        let names = (!names.is_empty()).then(|| HeaderValue::from_str(&names.join(",")));
        let names = names.transpose().ok()?;
        let mut hashed = headers.clone();
        if let Some(SignedHeaders { headers: signed, keys }) = signature {
            // Of a signature, what stays the same.
            hashed.insert(KEYS, sensitive(keys.expose().as_bytes())?);
            headers.extend(signed);
        }
        if hashed.is_empty() {
            return None;
        }
        let hash = self.tier().hashes.of(&Origin::of(url)?, &hashed).await?;
        headers.insert(HASH, hash);
        headers.extend(names.map(|names| (NAMES, names)));
        Some(headers)
    }
}

/// The same with one line for each header: nginx has the first one in its variable, or all, as its version decides.
fn joined(given: &HeaderMap) -> Option<HeaderMap> {
    let mut headers = HeaderMap::new();
    for name in given.keys() {
        let values: Vec<&[u8]> = given.get_all(name).iter().map(HeaderValue::as_bytes).collect();
        // RFC 6265 §5.4, and RFC 9110 §5.3 for all others.
        let separator: &[u8] = if name == header::COOKIE { b"; " } else { b", " };
        headers.insert(name.clone(), sensitive(&values.join(separator))?);
    }
    Some(headers)
}

/// A header value that `Debug` does not show.
fn sensitive(bytes: &[u8]) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_bytes(bytes).ok()?;
    value.set_sensitive(true);
    Some(value)
}

/// Says once what `--tier-private` means here that a user may not expect.
pub(in crate::origin) fn warn(config: &HttpConfig) {
    if !config.tier.is_private {
        return;
    }
    let mut nodes = config.tier.nodes();
    if let Some(node) = nodes.find(|node| is_overheard(node)) {
        log::warn!(
            event = events::TIER_PLAINTEXT;
            "--tier-private: credentials go to {node} without TLS and can be read on the network; give it a certificate \
             (`fetchfs tier config --certificate`) and name it as https://"
        );
    }
    let mut sites = std::iter::once(config).chain(config.sites.iter().map(|site| &site.http));
    if sites.any(|site| site.tls.client_cert.is_some()) {
        log::warn!(
            event = events::TIER_BYPASSED;
            "--tier-private: sources with a client certificate are read from their servers, because no node can show it"
        );
    }
}

/// Returns true if others on the network can read what is sent to a node.
fn is_overheard(node: &Url) -> bool {
    let is_here = match node.host() {
        Some(url::Host::Domain(name)) => name == "localhost",
        Some(url::Host::Ipv4(address)) => address.is_loopback(),
        Some(url::Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    };
    node.scheme() == "http" && !is_here
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(given: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in given {
            headers.append(*name, HeaderValue::from_static(value));
        }
        headers
    }

    #[test]
    fn hash_is_of_the_origin_and_all_headers() {
        let origin = |text: &str| Origin::of(&Url::parse(text).unwrap()).unwrap();
        let of = |origin: &Origin, given: &[_]| quick_hash(origin, &headers(given));
        let here = origin("https://h/a");
        let both = of(&here, &[("authorization", "a"), ("x-key", "b")]);
        assert_eq!(
            of(&origin("https://h:443/b"), &[("x-key", "b"), ("authorization", "a")]),
            both
        );
        for other in [
            of(&origin("https://h:444/"), &[("authorization", "a"), ("x-key", "b")]),
            of(&origin("http://h:443/"), &[("authorization", "a"), ("x-key", "b")]),
            of(&here, &[("authorization", "a")]),
            of(&here, &[("authorization", "b"), ("x-key", "a")]),
            of(&here, &[("authorization", "ax-keyb")]),
            of(&here, &[("authorization", "a"), ("x-kez", "b")]),
        ] {
            assert_ne!(other, both);
        }
    }

    /// All machines must compute the same, whatever their version of fetchfs.
    #[tokio::test]
    async fn hash_stays_the_same() {
        let origin = Origin::of(&Url::parse("https://example.org/").unwrap()).unwrap();
        let hashes = CredentialHashes::default();
        let given = headers(&[("authorization", "Basic YW5uOnMzY3JldA==")]);
        let hash = hashes.of(&origin, &given).await.unwrap();
        assert!(hash.is_sensitive());
        assert_eq!(hashes.of(&origin, &given).await, Some(hash.clone()));
        insta::assert_snapshot!(hash.to_str().unwrap(), @"9de8409c5a0c4f9fcb4c9ac408eb03720eb81d93316d700c37fd8cc883d993e9");
    }

    #[test]
    fn headers_of_one_name_are_one_line() {
        let given = headers(&[("x-key", "a"), ("cookie", "a=1"), ("x-key", "b"), ("cookie", "b=2")]);
        let joined = joined(&given).unwrap();
        assert_eq!(joined, headers(&[("x-key", "a, b"), ("cookie", "a=1; b=2")]));
    }

    #[test]
    fn only_loopback_is_safe_without_tls() {
        for (node, is_unsafe) in [
            ("http://10.0.0.5:8080", true),
            ("http://tier", true),
            ("http://127.0.0.9:8080", false),
            ("http://[::1]:8080", false),
            ("http://localhost:8080", false),
            ("https://10.0.0.5", false),
        ] {
            assert_eq!(is_overheard(&Url::parse(node).unwrap()), is_unsafe, "{node}");
        }
    }
}
