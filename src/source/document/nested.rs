//! Documents in documents: a playlist that a playlist names becomes a directory with its files.
//!
//! A URL that looks like one of the same kind is requested when the outer document is. It becomes a directory if it is a
//! document of files. Otherwise it stays a file: an HLS playlist in an M3U is a stream, which a player opens.
//!
//! A document does not contain itself, and documents are nested [`DEEPEST`] deep at most.

use std::collections::{HashMap, HashSet};

use parking_lot::Mutex;
use tokio::task::JoinSet;
use url::Url;
use xxhash_rust::xxh3::Xxh3;

use super::file::{DocumentFile, Parsed};
use super::format::Format;
use crate::http::redact;
use crate::origin::{Client, DocumentRequest};
use crate::source::{LeftOut, Name, SourceConfig, SourceError};
use crate::util::events;

/// Maximum depth of nested documents.
const DEEPEST: usize = 4;

/// Maximum number of URLs in one document that are requested to find out what they are. A playlist with more of them is
/// one of streams.
const MOST: usize = 64;

/// Requests at the same time. They take turns with all others at their servers.
const AT_ONCE: usize = 8;

/// The nested documents of one document.
#[derive(Default)]
pub(super) struct Nested {
    /// What was at URLs that look like nested documents. Locked for a look-up only.
    known: Mutex<HashMap<Url, Known>>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Known {
    /// A document of files, at some time.
    Document,
    /// Something else. It is not requested again.
    Other,
}

/// Files of a document and of those that are nested in it.
pub(super) struct Expanded {
    pub parsed: Parsed,
    /// A hash of the nested documents; `None` if there are none.
    pub hash: Option<u64>,
}

/// A file that may be a nested document: its position, and the documents that it is in.
struct Candidate {
    at: usize,
    within: Vec<Url>,
}

impl Nested {
    /// Replaces the files that are nested documents by directories with their files.
    ///
    /// # Errors
    /// If the server of a directory can't be asked now: without its files, a part of the tree would seem to be gone. One
    /// that could never be asked is a file.
    pub(super) async fn expand(
        &self,
        format: &Format,
        client: &Client,
        config: &SourceConfig,
        document: &Url,
        parsed: Parsed,
    ) -> Result<Expanded, SourceError> {
        let Some(may_be_nested) = format.may_be_nested else {
            return Ok(Expanded { parsed, hash: None });
        };
        let Parsed {
            mut files,
            mut left_out,
        } = parsed;
        let (mut hash, mut has_nested) = (Xxh3::new(), false);
        let of_document = |at, file: &DocumentFile, within: &[Url]| {
            let is_other = || self.known.lock().get(&file.url) == Some(&Known::Other);
            let is_one = may_be_nested(&file.url) && !within.contains(&file.url) && !is_other();
            is_one.then(|| Candidate {
                at,
                within: [within, std::slice::from_ref(&file.url)].concat(),
            })
        };
        let outer = [document.clone()];
        let all = files.iter().enumerate();
        let mut candidates: Vec<Candidate> = all.filter_map(|(at, file)| of_document(at, file, &outer)).collect();
        for _ in 0..DEEPEST {
            if candidates.is_empty() {
                break;
            }
            if candidates.len() > MOST {
                log::warn!(
                    event = events::PLAYLIST_NOT_OPENED;
                    "{}: it has {} playlists, which is too many to look into them; they are shown as files",
                    redact(document),
                    candidates.len()
                );
                break;
            }
            let urls = candidates.iter().map(|candidate| files[candidate.at].url.clone());
            let mut found = self.request(format, client, config, urls.collect()).await?;
            let within: HashMap<usize, Vec<Url>> = candidates
                .drain(..)
                .map(|candidate| (candidate.at, candidate.within))
                .collect();
            let mut all = Vec::with_capacity(files.len());
            for (at, file) in files.into_iter().enumerate() {
                let nested = within
                    .get(&at)
                    .and_then(|within| Some((within, found.remove(&file.url)?)));
                let Some((within, (parsed, body))) = nested else {
                    all.push(file);
                    continue;
                };
                has_nested = true;
                hash.update(&body.to_ne_bytes());
                left_out.change(LeftOut::default(), parsed.left_out);
                for below in parsed.files.clone() {
                    candidates.extend(of_document(all.len(), &below, within));
                    all.push(inside(&file, below));
                }
                // Another entry may have the same URL.
                found.insert(file.url, (parsed, body));
            }
            files = all;
        }
        Ok(Expanded {
            parsed: Parsed { files, left_out },
            hash: has_nested.then(|| hash.digest()),
        })
    }

    /// Requests these URLs. Returns those that are documents of files, with hashes of them.
    async fn request(
        &self,
        format: &Format,
        client: &Client,
        config: &SourceConfig,
        urls: HashSet<Url>,
    ) -> Result<HashMap<Url, (Parsed, u64)>, SourceError> {
        let (mut waiting, mut requests, mut found) = (urls.into_iter(), JoinSet::new(), HashMap::new());
        loop {
            while requests.len() < AT_ONCE
                && let Some(url) = waiting.next()
            {
                let (client, config, parse) = (client.clone(), config.clone(), format.parse);
                requests.spawn(async move {
                    let answer = client.document(&url, DocumentRequest::default()).await;
                    let parsed = answer.map(|answer| {
                        let parsed = parse(&answer.url, &answer.body, &config);
                        parsed.map(|parsed| (parsed, xxhash_rust::xxh3::xxh3_64(&answer.body)))
                    });
                    (url, parsed)
                });
            }
            // An error means a panic, or a runtime that is shutting down.
            let Some(Ok((url, answer))) = requests.join_next().await else {
                return Ok(found);
            };
            let known = self.known.lock().get(&url).copied();
            match answer {
                Ok(Ok(parsed)) => {
                    self.known.lock().insert(url.clone(), Known::Document);
                    found.insert(url, parsed);
                }
                Ok(Err(why)) => {
                    log::debug!("{}: shown as a file: {why}", redact(&url));
                    self.known.lock().insert(url, Known::Other);
                }
                Err(error) if known.is_some() && error.kind.is_temporary() => return Err(error.into()),
                Err(error) => log::warn!(
                    event = events::PLAYLIST_NOT_OPENED;
                    "{error}; this playlist is shown as a file"
                ),
            }
        }
    }
}

/// A file of a nested document, in the directory that is named like that document without its extension.
fn inside(nested: &DocumentFile, mut file: DocumentFile) -> DocumentFile {
    let mut path = nested.path.clone();
    if let Some(name) = path.last_mut() {
        let bytes = name.as_bytes();
        let stem = [&b".m3u8"[..], b".m3u"].into_iter().find(|extension| {
            bytes.len() > extension.len() && bytes[bytes.len() - extension.len()..].eq_ignore_ascii_case(extension)
        });
        let stem = stem.and_then(|extension| Name::new(bytes[..bytes.len() - extension.len()].to_vec()));
        if let Some(stem) = stem {
            *name = stem;
        }
    }
    path.append(&mut file.path);
    DocumentFile { path, ..file }
}
