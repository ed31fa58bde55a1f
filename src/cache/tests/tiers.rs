//! A tier that is asked before the origin, made for these tests.

use std::ops::Range;

use parking_lot::Mutex;

use super::*;
use crate::http::{HttpError, HttpErrorKind, redact};
use crate::origin::tier::{TierAnswer, TierRange};
use crate::origin::{ChunkTier, Content, Expected, RangeAnswer};

/// A cache nearby that has a part of the file.
#[derive(Debug)]
struct Nearby {
    client: Client,
    url: Url,
    /// The part of the file that it has, as far as is known. End exclusive.
    has: Mutex<Range<u64>>,
}

impl ChunkTier for Nearby {
    fn is_asked_first(&self) -> bool {
        true
    }

    fn candidates(&self, _: &Content, bytes: &Range<u64>, _: Option<&Version>) -> Vec<Url> {
        let has_it = self.has.lock().contains(&bytes.start);
        has_it.then(|| self.url.clone()).into_iter().collect()
    }

    fn range<'a>(&'a self, candidate: &'a Url, bytes: Range<u64>, expected: Expected<'a>) -> TierAnswer<'a> {
        Box::pin(async move {
            let known = match expected {
                Expected::Version(version, _) => Some(version),
                Expected::Hashed(_) | Expected::Listed(_) => None,
            };
            let bytes = bytes.start..bytes.end.min(self.has.lock().end);
            match self.client.range(candidate, bytes, known).await? {
                RangeAnswer::Partial {
                    version,
                    modified,
                    body,
                    ..
                } => Ok(TierRange {
                    version,
                    modified,
                    body,
                }),
                _ => {
                    *self.has.lock() = 0..0;
                    let (kind, url) = (HttpErrorKind::BadAnswer("a miss".into()), redact(candidate));
                    Err(HttpError { kind, url })
                }
            }
        })
    }
}

/// Reads a file of eight chunks, of which the tier at this URL claims to have the first four. Returns what the origin
/// was asked for.
fn asked_of_origin(tier: &Url) -> Vec<Range<u64>> {
    let (dir, file) = (tempfile::tempdir().unwrap(), content(8 * C));
    let origin = Server::start(file.clone(), |_, _| Honest);
    let tier = Arc::new(Nearby {
        client: Client::new(HttpConfig::default()).unwrap(),
        url: tier.clone(),
        has: Mutex::new(0..4 * C),
    });
    let mount = Mount::with_tiers(dir.path(), Folder::open(dir.path()).unwrap(), vec![tier]);
    let reader = mount.listed(&origin, 8 * C);
    assert_eq!(read(&reader, 0, 8 * C).unwrap(), file);
    drop(reader);
    mount.end();
    origin.asked()
}

#[test]
fn tier_asked_first_spares_the_origin() {
    let nearby = Server::start(content(8 * C), |_, _| Honest);
    let asked = asked_of_origin(&nearby.url);
    assert!(asked.iter().all(|range| range.start >= 4 * C), "{asked:?}");
    assert!(nearby.asked().iter().all(|range| range.end <= 4 * C));
    assert!(!nearby.asked().is_empty());
}

#[test]
fn what_a_tier_lacks_comes_from_the_origin() {
    let nearby = Server::start(content(8 * C), |_, _| Whole(usize::MAX));
    let asked = asked_of_origin(&nearby.url);
    assert!(asked.iter().any(|range| range.start == 0), "{asked:?}");
}

#[test]
fn unreachable_tier_leaves_all_to_the_origin() {
    let closed = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let asked = asked_of_origin(&Url::parse(&format!("http://{closed}/f")).unwrap());
    assert!(asked.iter().any(|range| range.start == 0), "{asked:?}");
}
