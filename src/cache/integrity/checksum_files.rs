//! The hashes in checksum files beside a file, such as `SHA256SUMS`.
//!
//! A checksum file is requested when a file of its directory is complete, never for a listing. It is kept for a moment, so
//! that one request serves a directory that is copied, and after that it is revalidated by its entity tag.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use reqwest::header::{ETAG, HeaderMap, HeaderValue, IF_NONE_MATCH};
use tokio::runtime::Handle;
use url::Url;

use super::checks::Checks;
use crate::http::redact;
use crate::origin::{Client, Content, DocumentRequest, Hash, hash_in};

/// How long a checksum file is not asked for again.
const FRESH: Duration = Duration::from_secs(60);

/// Maximum number of checksum files that are kept. Beyond it, all are dropped.
const MOST: usize = 16;

/// Maximum bytes of one that is kept: some 20,000 lines.
const MOST_BYTES: usize = 2 << 20;

/// The checksum files of a mount.
pub(super) struct ChecksumFiles {
    client: Client,
    runtime: Handle,
    kept: HashMap<Url, Kept>,
}

struct Kept {
    at: Instant,
    tag: Option<HeaderValue>,
    text: Arc<[u8]>,
}

impl ChecksumFiles {
    pub(super) fn new(client: Client, runtime: Handle) -> ChecksumFiles {
        ChecksumFiles {
            client,
            runtime,
            kept: HashMap::new(),
        }
    }

    /// The hash of a file in the first of its checksum files that has one, and which that is. Blocks for requests, until
    /// the checks end.
    pub(super) fn hash_of(&mut self, content: &Content, checks: &Checks) -> Option<(Hash, Url)> {
        let beside = content.checksum_files()?;
        beside.urls.iter().find_map(|url| {
            let text = self.text(url, checks)?;
            Some((hash_in(&text, &beside.name)?, url.clone()))
        })
    }

    fn text(&mut self, url: &Url, checks: &Checks) -> Option<Arc<[u8]>> {
        let kept = self.kept.get(url);
        if let Some(kept) = kept.filter(|kept| kept.at.elapsed() < FRESH) {
            return Some(Arc::clone(&kept.text));
        }
        let mut headers = HeaderMap::new();
        if let Some(tag) = kept.and_then(|kept| kept.tag.clone()) {
            headers.insert(IF_NONE_MATCH, tag);
        }
        let request = DocumentRequest {
            headers,
            accepts: &[200, 304],
            ..DocumentRequest::default()
        };
        let answer = self.runtime.block_on(async {
            tokio::select! {
                answer = self.client.document(url, request) => Some(answer),
                () = checks.ended() => None,
            }
        });
        match answer? {
            Ok(document) if document.status == 304 => {
                let kept = self.kept.get_mut(url)?;
                kept.at = Instant::now();
                Some(Arc::clone(&kept.text))
            }
            Ok(document) => {
                let text: Arc<[u8]> = document.body.into();
                if self.kept.len() >= MOST {
                    self.kept.clear();
                }
                if text.len() <= MOST_BYTES {
                    let kept = Kept {
                        at: Instant::now(),
                        tag: document.headers.get(ETAG).cloned(),
                        text: Arc::clone(&text),
                    };
                    self.kept.insert(url.clone(), kept);
                }
                Some(text)
            }
            Err(error) => {
                log::debug!("{}: {error}; no hash from it", redact(url));
                None
            }
        }
    }
}
