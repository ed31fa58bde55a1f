//! Mirrors: other URLs at which the user says that the same files are.
//!
//! A mirror is asked for bytes while the source's own URL is unavailable. Its response counts only if it proves to be
//! of the known version ([`mirror_tier`](super::mirror_tier)): the same total, and the same strong entity tag or, where one of the two has
//! none, the same date. After any other response the mirror is **left out** for this file for a while. Such a response
//! says nothing about the file itself.
//!
//! What the source said of names and versions stands, and only the source can revoke it. For a file of which the source
//! never said anything, a mirror's response is accepted while the source is unavailable, if it names a version. The
//! source is asked again as soon as it responds. **A mirror counts only while the source is silent**: a source that
//! denies a file, or says that it is gone, has decided.
//!
//! **A published hash decides instead of dates and tags**, if there is one: then a response counts if it has the size. A
//! URL whose bytes contradict the hash is left out too, the file's own URL included.
//!
//! A mirror is not a source: it receives no credentials of the source's server, unless it is on the same origin
//! ([`auth`](crate::http::auth)).

use std::{collections::HashMap, fmt::Display, time::Duration};

use parking_lot::{Mutex, RwLock};
use tokio::time::Instant;
use url::Url;

use crate::{
    http::{HttpErrorKind, MirrorConfig, redact, tag::untagged},
    util::events,
};

/// How long a mirror is left out for a file that it lacks or has in another version. Mirrors synchronise every few
/// hours, and one request per ten minutes is no burden.
const LEFT_OUT: Duration = Duration::from_secs(600);

/// Maximum number of files with a left-out mirror. A forgotten one costs one request.
const MOST: usize = 4096;

impl MirrorConfig {
    /// The URL of the file `url` on each mirror. Empty if `url` is neither the source nor below it.
    fn of(&self, url: &Url) -> Vec<Url> {
        let Some(source) = &self.source else { return Vec::new() };
        if is_same_place(url, source) {
            let mut urls = self.urls.clone();
            if url.path().ends_with('/') {
                urls.iter_mut().for_each(|url| url.set_path(&directory_path(url)));
            }
            return urls;
        }
        // Scheme and port may differ, where the source redirects.
        let Some(rest) = url.path().strip_prefix(&directory_path(source)) else {
            return Vec::new();
        };
        if url.host() != source.host() {
            return Vec::new();
        }
        let below = |mirror: &Url| {
            let mut there = mirror.clone();
            there.set_path(&format!("{}{rest}", directory_path(mirror)));
            there.set_query(url.query());
            there
        };
        self.urls.iter().map(below).collect()
    }
}

fn is_same_place(one: &Url, other: &Url) -> bool {
    let place = |url: &Url| (url.path().to_owned(), url.query().map(str::to_owned));
    one.host() == other.host() && place(one) == place(other)
}

/// The path of a URL, with a `/` at the end.
fn directory_path(url: &Url) -> String {
    let path = url.path();
    if path.ends_with('/') {
        path.to_owned()
    } else {
        format!("{path}/")
    }
}

/// A mount's mirrors and their state.
pub(crate) struct Mirrors {
    /// Those of each source. Locked for the moment of a look-up or a change.
    config: RwLock<Vec<MirrorConfig>>,
    /// Since when a mirror is left out for a file, by its URL there. **No other lock is taken under it.**
    left_out: Mutex<HashMap<Url, Instant>>,
}

impl Mirrors {
    pub(crate) fn new(config: Vec<MirrorConfig>) -> Mirrors {
        Mirrors {
            config: RwLock::new(config),
            left_out: Mutex::default(),
        }
    }

    /// The URLs of a file or directory on the mirrors, in the order in which to ask them.
    pub(crate) fn of(&self, url: &Url) -> Vec<Url> {
        let (url, config) = (untagged(url), self.config.read());
        // Those of the nearest source, where one is below another.
        let of_sources = config.iter().map(|mirrors| (mirrors, mirrors.of(&url)));
        let path = |mirrors: &MirrorConfig| mirrors.source.as_ref().map_or(0, |source| source.path().len());
        let fitting = of_sources.filter(|(_, urls)| !urls.is_empty());
        let nearest = fitting.max_by_key(|(mirrors, _)| path(mirrors));
        nearest.map(|(_, urls)| urls).unwrap_or_default()
    }

    /// The sources have these mirrors from now on.
    pub(crate) fn replace(&self, config: Vec<MirrorConfig>) {
        *self.config.write() = config;
    }

    /// Those of a file's other URLs that may be asked now.
    pub(crate) fn not_left_out(&self, urls: &[Url]) -> Vec<Url> {
        if urls.is_empty() {
            return Vec::new();
        }
        urls.iter().filter(|url| !self.is_left_out(url)).cloned().collect()
    }

    /// Returns true if this URL of a file may not be asked now.
    pub(crate) fn is_left_out(&self, url: &Url) -> bool {
        let left_out = self.left_out.lock();
        left_out.get(url).is_some_and(|since| since.elapsed() < LEFT_OUT)
    }

    /// A mirror lacks this file, this version of it, or this directory. It is not asked for it again for a while.
    pub(crate) fn leave_out(&self, there: &Url, why: &dyn Display) {
        let what = if there.path().ends_with('/') {
            "directory"
        } else {
            "file"
        };
        log::warn!(event = events::MIRROR_SKIPPED; "{}: {why}; skipping this mirror for this {what}", redact(there));
        self.leave_out_silently(there);
    }

    /// This URL, a mirror's or the file's own, has sent bytes that contradict a published hash, which was logged. It is
    /// not asked for the file's bytes for a while.
    pub(crate) fn leave_out_silently(&self, there: &Url) {
        let mut left_out = self.left_out.lock();
        if left_out.len() >= MOST {
            left_out.clear();
        }
        left_out.insert(there.clone(), Instant::now());
    }
}

/// A mirror's response does not prove that it is of the file's version.
pub(super) fn other_version() -> HttpErrorKind {
    HttpErrorKind::BadAnswer("it may have a different version of the file".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> Url {
        Url::parse(text).unwrap()
    }

    fn config(source: &str, mirrors: &[&str]) -> MirrorConfig {
        MirrorConfig {
            source: Some(url(source)),
            urls: mirrors.iter().map(|mirror| url(mirror)).collect(),
        }
    }

    fn there(config: &MirrorConfig, file: &str) -> Vec<String> {
        config.of(&url(file)).into_iter().map(String::from).collect()
    }

    #[test]
    fn only_paths_below_the_source_map_to_mirrors() {
        for source in ["http://a/pub", "http://a/pub/", "https://a:8443/pub/"] {
            let config = config(source, &["http://b/", "https://c/x/y", "https://d/z/?key=1"]);
            assert_eq!(
                there(&config, "http://a/pub/d%20e/f%2f?v=1"),
                [
                    "http://b/d%20e/f%2f?v=1",
                    "https://c/x/y/d%20e/f%2f?v=1",
                    "https://d/z/d%20e/f%2f?v=1"
                ]
            );
            for elsewhere in ["http://a/public/f", "http://a/f", "http://other/pub/f"] {
                assert!(there(&config, elsewhere).is_empty(), "{elsewhere}");
            }
        }
        assert!(there(&MirrorConfig::default(), "http://a/pub/f").is_empty());
    }

    #[test]
    fn directory_source_maps_to_mirror_directories() {
        let with_slash = config("http://a/pub/", &["http://b/copy", "http://c/?key=1"]);
        assert_eq!(
            there(&with_slash, "http://a/pub/"),
            ["http://b/copy/", "http://c/?key=1"]
        );
        let without = config("http://a/pub", &["http://b/copy"]);
        assert_eq!(there(&without, "http://a/pub"), ["http://b/copy"]);
        assert_eq!(there(&without, "http://a/pub/"), ["http://b/copy/"]);
    }

    #[test]
    fn a_single_file_may_be_called_otherwise_on_a_mirror() {
        let config = config("http://a/pub/f?key=1", &["http://b/g?sign=2"]);
        assert_eq!(there(&config, "http://a/pub/f?key=1"), ["http://b/g?sign=2"]);
        assert!(there(&config, "http://a/pub/f?key=2").is_empty());
        assert!(!format!("{config:?}").contains('2'), "{config:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_mirror_is_left_out_for_one_file_and_for_a_while() {
        let mirrors = Mirrors::new(vec![config("http://a/", &["http://b/", "http://c/"])]);
        let asked = |file: &str| mirrors.not_left_out(&mirrors.of(&url(file)));
        mirrors.leave_out(&url("http://b/f"), &"it lacks it");
        assert_eq!(asked("http://a/f"), [url("http://c/f")]);
        assert_eq!(asked("http://a/g").len(), 2);
        tokio::time::advance(LEFT_OUT).await;
        assert_eq!(asked("http://a/f").len(), 2);
    }
}
