//! Redirect targets: a file's final URL is requested directly until it fails.
//!
//! **A file is identified by the requested URL, not by the redirect target.** The URL that the user gave, and the URLs
//! below it, remain the keys in memory and in the cache. A redirect target is a shortcut, which is dropped when it
//! fails in any way.
//!
//! The reason: a download site answers each request with a redirect to a signed link on a CDN, which is valid for some
//! minutes. To request the first URL for each range would cost one more round trip each time, or two with TLS. To keep
//! the link for ever would end with 403 when it expires. So the link is kept until it fails; then the first URL is
//! requested, which stays valid. Metadata always comes through the first URL, which shows a new version.

use std::collections::HashMap;
use std::pin::Pin;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use url::Url;

use crate::http::HttpErrorKind;

/// Maximum number of links kept, for files that are being read. A file without one costs one redirect.
const MOST: usize = 1024;

/// Learns each target of a request before the request goes there.
///
/// Connections are counted for the origin that serves the bytes. The component that made the request learns here which
/// origin that is, and may let the request wait for its slot there.
pub trait Route: Sync {
    /// Returns when `target` may be requested: a redirect target, or a known shortcut. The request may be dropped while
    /// it waits here.
    fn leads_to<'a>(&'a self, target: &'a Url) -> Pin<Box<dyn Future<Output = ()> + Send + 'a>>;
}

/// Final URLs by requested URL. They may contain signatures, so there is no `Debug`.
#[derive(Default)]
pub(crate) struct Redirects {
    /// Of files.
    links: Mutex<HashMap<Url, FileTarget>>,
    /// Directories by URL, which ends in `/`. What is below one is requested below its target.
    directories: Mutex<HashMap<String, DirectoryTarget>>,
}

/// The redirect target of a file's URL.
struct FileTarget {
    target: Url,
    /// A redirect named it, but it was not requested yet. **It is used once**, unless it succeeds: after a failure, the
    /// URL itself may redirect elsewhere.
    is_untried: bool,
}

/// A directory and its redirect target.
struct DirectoryTarget {
    /// The URL to request to learn the target: the directory's own, or what the user gave, without the `/` at the end.
    asked: Url,
    /// The last redirect target, if known.
    leads: Option<Url>,
    /// Its own URL has failed, where that of the user did not.
    is_as_given: bool,
    /// When that was.
    learnt: Option<Instant>,
}

/// Another URL of something below a directory.
pub(crate) struct ShortCut {
    /// The URL to request; `None` if the directory's target is unknown.
    pub url: Option<Url>,
    /// The directory, and the URL to request to learn its target again; `None` if it was requested a moment ago.
    pub learn: Option<(Url, Url)>,
}

/// Minimum time between two requests to learn a directory's target.
const LEARNT: Duration = Duration::from_secs(2);

impl Redirects {
    /// The last redirect target of this URL, if any.
    pub(crate) fn of(&self, asked: &Url) -> Option<Url> {
        self.links.lock().get(asked).map(|link| link.target.clone())
    }

    /// [`Self::of`], for a request that goes to the target now.
    pub(crate) fn take(&self, asked: &Url) -> Option<Url> {
        let mut links = self.links.lock();
        if links.get(asked)?.is_untried {
            return links.remove(asked).map(|link| link.target);
        }
        links.get(asked).map(|link| link.target.clone())
    }

    /// The URL that a request for this URL would go to first, if another one.
    pub(crate) fn way(&self, asked: &Url) -> Option<Url> {
        self.of(asked).or_else(|| self.short_cut(asked)?.url)
    }

    /// The shortcut by the redirect of the nearest directory above that has one; for such a directory itself, the URL
    /// to request instead.
    pub(crate) fn short_cut(&self, asked: &Url) -> Option<ShortCut> {
        let directories = self.directories.lock();
        if directories.is_empty() {
            return None;
        }
        let place = without_query(asked);
        if let Some(directory) = directories.get(place.as_str()) {
            let mut url = directory.asked.clone();
            if asked.query().is_some() {
                url.set_query(asked.query());
            }
            if url == *asked {
                return None;
            }
            // Its own URL serves as well as the user's, unless that is known to redirect.
            let is_due = directory.learnt.is_none_or(|learnt| learnt.elapsed() >= LEARNT);
            return Some(match &directory.leads {
                Some(_) => ShortCut {
                    url: Some(url),
                    learn: None,
                },
                None => ShortCut {
                    url: None,
                    learn: is_due.then(|| (place.clone(), directory.asked.clone())),
                },
            });
        }
        let rest_of = |slash: usize| &asked.as_str()[slash + 1..];
        let (slash, directory) = place
            .as_str()
            .rmatch_indices('/')
            .find_map(|(slash, _)| Some((slash, directories.get(&place.as_str()[..=slash])?)))?;
        let is_due = directory.learnt.is_none_or(|learnt| learnt.elapsed() >= LEARNT);
        let own = Url::parse(&place.as_str()[..=slash]).ok()?;
        Some(ShortCut {
            url: directory
                .leads
                .as_ref()
                .and_then(|leads| Url::parse(&format!("{leads}{}", rest_of(slash))).ok()),
            learn: is_due.then(|| (own, directory.asked.clone())),
        })
    }

    /// Registers a directory that the user gave as `asked`. Its target is not known yet.
    pub(crate) fn call(&self, directory: &Url, asked: &Url) {
        let (asked, learnt) = (asked.clone(), None);
        self.note(
            without_query(directory),
            DirectoryTarget {
                asked,
                leads: None,
                is_as_given: false,
                learnt,
            },
        );
    }

    /// Records a directory's target; `None` if it is unknown.
    pub(crate) fn learnt(&self, directory: &Url, answered: Option<&Url>) {
        let directory = without_query(directory);
        if !directory.path().ends_with('/') {
            return;
        }
        let known = self
            .directories
            .lock()
            .get(directory.as_str())
            .map(|known| (known.asked.clone(), known.is_as_given));
        let (asked, is_as_given) = known.unwrap_or_else(|| (directory.clone(), false));
        // Not a redirect if the response came from the requested URL. The index page may have a file name of its own.
        let leads = answered
            .map(without_query)
            .filter(|answered| is_as_given || *answered != without_query(&asked));
        let leads = leads.and_then(|answered| answered.join(".").ok());
        if answered.is_some() && leads.is_none() && asked == directory {
            self.directories.lock().remove(directory.as_str());
            return;
        }
        if leads.as_ref() == Some(&directory) {
            self.directories.lock().remove(directory.as_str());
            return;
        }
        let learnt = Some(Instant::now());
        let target = DirectoryTarget {
            asked,
            leads,
            is_as_given,
            learnt,
        };
        self.note(directory, target);
    }

    /// Records that a directory answers only at the URL that the user gave, without the `/` at the end. Links on its page
    /// are relative to the directory above, as in a browser.
    pub(crate) fn answers_as_given(&self, directory: &Url, answered: &Url) {
        let directory = without_query(directory);
        let mut directories = self.directories.lock();
        let Some(known) = directories.get_mut(directory.as_str()) else {
            return;
        };
        if without_query(&known.asked) != directory && without_query(answered) == without_query(&known.asked) {
            (known.leads, known.is_as_given) = (without_query(answered).join(".").ok(), true);
        }
    }

    fn note(&self, directory: Url, how: DirectoryTarget) {
        let mut directories = self.directories.lock();
        if directories.len() >= MOST && !directories.contains_key(directory.as_str()) {
            // A URL from the user without its slash can't be learnt again.
            directories.retain(|name, directory| *name != directory.asked.as_str());
        }
        directories.insert(directory.into(), how);
    }

    /// Records a redirect target that brought the resource.
    pub(crate) fn remember(&self, asked: &Url, answered: &Url) {
        self.note_link(asked, answered, false);
    }

    /// Records a redirect target that could not be requested yet. The next request for the URL goes there.
    pub(crate) fn remember_untried(&self, asked: &Url, target: &Url) {
        self.note_link(asked, target, true);
    }

    fn note_link(&self, asked: &Url, target: &Url, is_untried: bool) {
        let mut links = self.links.lock();
        if asked == target {
            return;
        }
        if links.len() >= MOST && !links.contains_key(asked) {
            links.clear();
        }
        let target = target.clone();
        links.insert(asked.clone(), FileTarget { target, is_untried });
    }

    /// Drops a target that has failed, unless another one was learnt meanwhile.
    pub(crate) fn forget(&self, asked: &Url, failed: &Url) {
        let mut links = self.links.lock();
        if links.get(asked).is_some_and(|link| link.target == *failed) {
            links.remove(asked);
        }
    }
}

fn without_query(url: &Url) -> Url {
    let mut url = url.clone();
    url.set_query(None);
    url.set_fragment(None);
    url
}

/// What to do after a redirect target has failed.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum AfterFailure {
    /// Keep it: the server asks for patience, and more requests would not help.
    Keep,
    /// Drop it, and request nothing: after a timeout the reader has waited long enough. The next attempt begins at the
    /// first URL.
    Forget,
    /// Drop it, and request the first URL at once.
    AskFirst,
}

impl AfterFailure {
    pub(crate) fn of(kind: &HttpErrorKind) -> AfterFailure {
        match kind {
            HttpErrorKind::NotReady { .. }
            | HttpErrorKind::Status {
                status: 408 | 425 | 429,
                ..
            } => AfterFailure::Keep,
            HttpErrorKind::TimedOut(_) => AfterFailure::Forget,
            _ => AfterFailure::AskFirst,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(number: usize) -> Url {
        Url::parse(&format!("http://host/{number}")).unwrap()
    }

    #[test]
    fn only_what_failed_is_forgotten_and_only_so_much_is_kept() {
        let links = Redirects::default();
        links.remember(&url(0), &url(0));
        assert_eq!(links.of(&url(0)), None, "that is no redirect");
        links.remember(&url(0), &url(1));
        links.forget(&url(0), &url(2));
        assert_eq!(links.of(&url(0)), Some(url(1)));
        links.forget(&url(0), &url(1));
        assert_eq!(links.of(&url(0)), None);
        for number in 0..3 * MOST {
            links.remember(&url(number), &url(number + 1));
        }
        assert!(links.links.lock().len() <= MOST);
        assert_eq!(links.of(&url(3 * MOST - 1)), Some(url(3 * MOST)));
    }

    #[test]
    fn link_that_was_not_tried_is_taken_once() {
        let links = Redirects::default();
        links.remember_untried(&url(0), &url(1));
        assert_eq!(links.of(&url(0)), Some(url(1)));
        assert_eq!(links.take(&url(0)), Some(url(1)));
        assert_eq!(links.take(&url(0)), None, "the URL itself is asked again");
        links.remember(&url(0), &url(1));
        assert_eq!(links.take(&url(0)), Some(url(1)));
        assert_eq!(links.take(&url(0)), Some(url(1)), "it has proved good");
    }

    #[test]
    fn paths_below_a_redirected_directory_follow_it() {
        let parse = |text: &str| Url::parse(text).unwrap();
        let redirects = Redirects::default();
        let way = |text: &str| redirects.way(&parse(text)).map(String::from);
        redirects.call(&parse("http://p/top/"), &parse("http://p/top"));
        assert_eq!(way("http://p/top/"), None, "its own URL may do");
        assert_eq!(way("http://p/top/a"), None, "it is not known yet");
        assert!(redirects.short_cut(&parse("http://p/top/a")).unwrap().learn.is_some());
        redirects.learnt(&parse("http://p/top/"), Some(&parse("http://q/there/index.html?x")));
        for (asked, there) in [
            ("http://p/top/a%20b?k=v", Some("http://q/there/a%20b?k=v")),
            ("http://p/top/d/", Some("http://q/there/d/")),
            ("http://p/topmost", None),
            ("http://p/", None),
            ("http://p/top/", Some("http://p/top")),
            ("http://p/top/?plain", Some("http://p/top?plain")),
        ] {
            assert_eq!(way(asked).as_deref(), there, "{asked}");
        }
        assert!(
            redirects.short_cut(&parse("http://p/top/a")).unwrap().learn.is_none(),
            "a moment ago"
        );
        redirects.learnt(&parse("http://p/top/"), Some(&parse("http://p/top")));
        assert_eq!(way("http://p/top/a"), None, "it is answered without a slash");
        redirects.learnt(&parse("http://p/top/"), Some(&parse("http://p/top/")));
        assert_eq!(way("http://p/top/a"), None, "it leads nowhere else");
        redirects.call(&parse("http://p/top/"), &parse("http://p/top"));
        redirects.answers_as_given(&parse("http://p/top/"), &parse("http://q/there"));
        assert_eq!(way("http://p/top/?plain"), None, "it is a redirect");
        redirects.answers_as_given(&parse("http://p/top/"), &parse("http://p/top?k"));
        assert_eq!(way("http://p/top/?plain").as_deref(), Some("http://p/top?plain"));
        assert_eq!(
            way("http://p/top/a").as_deref(),
            Some("http://p/a"),
            "only without a slash"
        );
        redirects.learnt(&parse("http://p/top/"), Some(&parse("http://p/top")));
        assert_eq!(way("http://p/top/a").as_deref(), Some("http://p/a"), "it stays so");
        for number in 0..3 * MOST {
            redirects.learnt(&parse(&format!("http://p/{number}/")), Some(&parse("http://q/")));
        }
        assert!(redirects.directories.lock().len() <= MOST);
    }
}
