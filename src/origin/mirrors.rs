//! Mirrors: other URLs at which the user says that the same files are.
//!
//! A mirror is asked for bytes while the source's own URL is unavailable. Its response counts only if it proves to be
//! of the known version ([`is_same`]): the same total, and the same strong entity tag or, where one of the two has
//! none, the same date. After any other response the mirror is **left out** for this file for a while. Such a response
//! says nothing about the file itself.
//!
//! What the source said of names and versions stands, and only the source can revoke it. For a file of which the source
//! never said anything, a mirror's response is accepted while the source is unavailable, if it names a version. The
//! source is asked again as soon as it responds. **A mirror counts only while the source is silent**: a source that
//! denies a file, or says that it is gone, has decided.
//!
//! A mirror is not a source: it receives no credentials of the source's server, unless it is on the same origin
//! ([`auth`](crate::http::auth)).

use std::{
    collections::HashMap,
    fmt::Display,
    ops::Range,
    time::{Duration, SystemTime},
};

use parking_lot::Mutex;
use tokio::{runtime::Handle, time::Instant};
use url::Url;

use super::{
    Client, Content, Metadata, Permit,
    client::{ranged, redirect_chain::Request},
    limits::request_class::RequestClass,
    tier::{ChunkTier, Expected, TierAnswer, TierRange},
};
use crate::http::{
    HttpError, HttpErrorKind, MirrorConfig, Validator, Version, redact,
    response::{
        head::AnswerHead,
        validation::{Verdict, judge},
    },
};
use crate::util::events;

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
                urls.iter_mut().for_each(|url| url.set_path(&as_directory(url)));
            }
            return urls;
        }
        // Scheme and port may differ, where the source redirects.
        let Some(rest) = url.path().strip_prefix(&as_directory(source)) else {
            return Vec::new();
        };
        if url.host() != source.host() {
            return Vec::new();
        }
        let below = |mirror: &Url| {
            let mut there = mirror.clone();
            there.set_path(&format!("{}{rest}", as_directory(mirror)));
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
fn as_directory(url: &Url) -> String {
    let path = url.path();
    if path.ends_with('/') {
        path.to_owned()
    } else {
        format!("{path}/")
    }
}

/// A mount's mirrors and their state.
pub(crate) struct Mirrors {
    config: MirrorConfig,
    /// Since when a mirror is left out for a file, by its URL there. **No other lock is taken under it.**
    left_out: Mutex<HashMap<Url, Instant>>,
}

impl Mirrors {
    pub(crate) fn new(config: MirrorConfig) -> Mirrors {
        Mirrors {
            config,
            left_out: Mutex::default(),
        }
    }

    fn not_left_out(&self, urls: &[Url]) -> Vec<Url> {
        if urls.is_empty() {
            return Vec::new();
        }
        let left_out = self.left_out.lock();
        let is_asked = |url: &&Url| left_out.get(url).is_none_or(|since| since.elapsed() >= LEFT_OUT);
        urls.iter().filter(is_asked).cloned().collect()
    }

    fn leave_out(&self, there: Url) {
        let mut left_out = self.left_out.lock();
        if left_out.len() >= MOST {
            left_out.clear();
        }
        left_out.insert(there, Instant::now());
    }
}

impl Client {
    /// The URLs of a file or directory on the mirrors, in the order in which to ask them.
    pub fn mirrors_of(&self, url: &Url) -> Vec<Url> {
        self.shared.mirrors.config.of(url)
    }

    /// Those of a file's other URLs that may be asked now: not left out.
    pub fn not_left_out(&self, urls: &[Url]) -> Vec<Url> {
        self.shared.mirrors.not_left_out(urls)
    }

    /// A mirror lacks this file, this version of it, or this directory. It is not asked for it again for a while.
    pub fn leave_mirror_out(&self, there: &Url, why: &dyn Display) {
        let what = if there.path().ends_with('/') {
            "directory"
        } else {
            "file"
        };
        log::warn!(event = events::MIRROR_SKIPPED; "{}: {why}; skipping this mirror for this {what}", redact(there));
        self.shared.mirrors.leave_out(there.clone());
    }

    /// [`Self::metadata`] from a mirror, of a file whose version is unknown. The response must name the version.
    ///
    /// # Errors
    /// As for [`Self::metadata`].
    pub async fn metadata_of_mirror(&self, there: &Url) -> Result<Metadata, HttpError> {
        let found = self.metadata(there).await?;
        // The URL of a directory redirects to the directory's own URL.
        let is_named = found
            .version
            .as_ref()
            .is_some_and(|version| version.validator.names_a_version_anywhere());
        if is_named || found.url.path().ends_with('/') {
            return Ok(found);
        }
        let (kind, url) = (bad(UNNAMED), redact(there));
        Err(HttpError { kind, url })
    }

    /// Probes an origin in the background. `permit` is the permit for that.
    pub fn find_out(&self, runtime: &Handle, url: Url, permit: Permit) {
        let client = self.clone();
        runtime.spawn(async move {
            let answer = client.metadata(&url).await;
            permit.ended(answer.err().as_ref());
        });
    }
}

/// The mirrors, and the other URLs that the source has of a file, as a tier: asked while the file's own URL fails.
#[derive(Debug)]
pub(crate) struct MirrorTier(Client);

impl MirrorTier {
    /// The mirrors of this client's configuration.
    pub(crate) fn new(client: Client) -> MirrorTier {
        MirrorTier(client)
    }

    async fn request(&self, there: &Url, want: Range<u64>, expected: Expected<'_>) -> Result<TierRange, HttpError> {
        let client = &self.0;
        let answer = client
            .send_for(RequestClass::Bytes, None, Request::get(ranged(&want)), there)
            .await?;
        let listed = match expected {
            Expected::Listed(Some(size)) => Some(Version {
                size,
                validator: Validator::None,
            }),
            _ => None,
        };
        let is_as_expected = |version: &Version| match expected {
            Expected::Version(known, modified) => version.size == known.size && is_same(&answer.head, known, modified),
            Expected::Listed(_) => version.validator.names_a_version_anywhere(),
        };
        let kind = match judge(&answer.head, want, listed.as_ref()) {
            Verdict::Partial { version, range } if is_as_expected(&version) => {
                return Ok(TierRange {
                    version,
                    modified: answer.head.modified(),
                    body: client.body(answer, Some(range.end - range.start)).that_gives_way(),
                });
            }
            verdict => no_answer(verdict),
        };
        Err(client.failed(answer, kind).await)
    }
}

impl ChunkTier for MirrorTier {
    fn candidates(&self, content: &Content, _: &Range<u64>) -> Vec<Url> {
        self.0.not_left_out(content.alternates())
    }

    fn range<'a>(&'a self, there: &'a Url, want: Range<u64>, expected: Expected<'a>) -> TierAnswer<'a> {
        Box::pin(async move {
            let answer = self.request(there, want, expected).await;
            if let Err(error) = &answer
                && error.kind.is_answered()
            {
                self.0.leave_mirror_out(there, &error.kind);
            }
            answer
        })
    }
}

/// Why a mirror's response is rejected.
fn no_answer(verdict: Verdict) -> HttpErrorKind {
    match verdict {
        Verdict::Partial { .. } | Verdict::Changed(_) | Verdict::PastEnd { .. } => bad(UNNAMED),
        Verdict::Whole { .. } | Verdict::Refused(_) => bad("it does not send the requested range"),
        Verdict::Failed(kind) => kind,
    }
}

const UNNAMED: &str = "it may have a different version of the file";

fn bad(why: &str) -> HttpErrorKind {
    HttpErrorKind::BadAnswer(why.to_owned())
}

/// Returns true if a response of another server is of this version, by its validators. A strong tag decides if both
/// have one. Otherwise the date must be the same. A weak tag proves nothing between two servers, nor does the size
/// alone.
fn is_same(head: &AnswerHead, known: &Version, modified: Option<SystemTime>) -> bool {
    match (&known.validator, head.validator()) {
        (Validator::Strong(known), Validator::Strong(tag)) => *known == tag,
        (Validator::Dated(known), _) => head.last_modified.as_deref().is_some_and(|date| {
            let known = Validator::Dated(known.clone());
            known.compare(None, Some(date)) == crate::http::response::version::Sameness::Same
        }),
        _ => modified.is_some() && head.modified() == modified,
    }
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
        let mirrors = Mirrors::new(config("http://a/", &["http://b/", "http://c/"]));
        let asked = |file: &str| mirrors.not_left_out(&mirrors.config.of(&url(file)));
        mirrors.leave_out(url("http://b/f"));
        assert_eq!(asked("http://a/f"), [url("http://c/f")]);
        assert_eq!(asked("http://a/g").len(), 2);
        tokio::time::advance(LEFT_OUT).await;
        assert_eq!(asked("http://a/f").len(), 2);
    }

    #[test]
    fn only_a_strong_tag_or_the_date_proves_the_version() {
        const DAY: &str = "Sun, 06 Nov 1994 08:49:37 GMT";
        const NEXT: &str = "Mon, 07 Nov 1994 08:49:37 GMT";
        let strong = || Validator::Strong("\"a\"".into());
        let dated = || Validator::Dated(DAY.into());
        let weak = || Validator::Weak("W/\"a\"".into());
        for (known, modified, etag, date, same) in [
            (strong(), Some(DAY), Some("\"a\""), Some(NEXT), true),
            (strong(), Some(DAY), Some("\"b\""), Some(DAY), false),
            (strong(), Some(DAY), None, Some(DAY), true),
            (strong(), Some(DAY), Some("W/\"a\""), Some(DAY), true),
            (strong(), Some(DAY), Some("W/\"a\""), Some(NEXT), false),
            (strong(), Some(DAY), None, Some(NEXT), false),
            (strong(), None, None, Some(DAY), false),
            (strong(), None, None, None, false),
            (
                dated(),
                Some(DAY),
                Some("\"x\""),
                Some("Sunday, 06-Nov-94 08:49:37 GMT"),
                true,
            ),
            (dated(), Some(DAY), Some("\"x\""), Some(NEXT), false),
            (dated(), Some(DAY), None, None, false),
            (weak(), None, Some("W/\"a\""), None, false),
            (Validator::None, None, None, Some(DAY), false),
            (Validator::None, None, None, None, false),
        ] {
            let head = AnswerHead {
                etag: etag.map(str::to_owned),
                last_modified: date.map(str::to_owned),
                ..AnswerHead::default()
            };
            let version = Version {
                size: 1,
                validator: known,
            };
            let modified = modified.map(|date| httpdate::parse_http_date(date).unwrap());
            assert_eq!(
                is_same(&head, &version, modified),
                same,
                "{version:?} {etag:?} {date:?}"
            );
        }
    }
}
