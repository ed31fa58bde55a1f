//! Headers that a source wants in the requests for single files, such as a playlist's `User-Agent` and `Referer`.

use std::collections::HashMap;

use parking_lot::Mutex;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use url::Url;

use crate::origin::Content;

/// Maximum number of URLs with headers. Beyond it, all are forgotten; an open or a request for metadata notes them
/// again.
const MOST: usize = 100_000;

/// The headers by URL. Locked for a look-up only.
#[derive(Default)]
pub(crate) struct FileHeaders(Mutex<HashMap<Url, HeaderMap>>);

impl FileHeaders {
    /// Adds the headers of a URL to those of a request.
    pub(super) fn add(&self, url: &Url, headers: &mut HeaderMap) {
        if let Some(more) = self.0.lock().get(url) {
            headers.extend(more.clone());
        }
    }

    /// Returns true if requests for this URL carry headers of their own.
    pub(crate) fn has(&self, url: &Url) -> bool {
        self.0.lock().contains_key(url)
    }

    /// Notes the headers that a file's source publishes. Requests for any of its URLs carry them from now on.
    pub(crate) fn note(&self, content: &Content) {
        let Some(published) = content.published().filter(|published| !published.headers.is_empty()) else {
            return;
        };
        let headers: HeaderMap = published.headers.iter().filter_map(valid).collect();
        let mut all = self.0.lock();
        if all.len() >= MOST {
            all.clear();
        }
        for url in std::iter::once(content.url()).chain(&published.alternates) {
            all.insert(url.clone(), headers.clone());
        }
    }
}

/// A header as HTTP has it. `None` if it can't be sent.
fn valid((name, value): &(String, String)) -> Option<(HeaderName, HeaderValue)> {
    Some((name.parse().ok()?, value.parse().ok()?))
}
