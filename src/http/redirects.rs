//! Where redirects have led: the final URL of a file is asked directly until it fails.
//!
//! A download site answers each request with a redirect to a signed link on a delivery network, which is good for some
//! minutes. To go through the first URL for each range would cost a round trip, or two with TLS, each time; to keep the
//! link for good would end with 403 when it expires. So it is kept until an answer says otherwise, and then the first URL
//! is asked, which stays good. Metadata always comes through the first URL: it is what tells of a new version.

use std::collections::HashMap;

use parking_lot::Mutex;
use url::Url;

use super::HttpErrorKind;

/// Links that are kept: those of the files that are being read. A file that is opened later pays one redirect.
const MOST: usize = 1024;

/// Final URLs by the URL that was asked. They may hold signatures, so there is no `Debug`.
#[derive(Default)]
pub(super) struct Redirects(Mutex<HashMap<Url, Url>>);

impl Redirects {
    /// Where this URL last led, if anywhere else.
    pub fn of(&self, asked: &Url) -> Option<Url> {
        self.0.lock().get(asked).cloned()
    }

    /// Notes where a URL has led to what was wanted.
    pub fn remember(&self, asked: &Url, answered: &Url) {
        let mut links = self.0.lock();
        if asked == answered {
            return;
        }
        if links.len() >= MOST && !links.contains_key(asked) {
            links.clear();
        }
        links.insert(asked.clone(), answered.clone());
    }

    /// Forgets a final URL that has failed, unless another was learnt meanwhile.
    pub fn forget(&self, asked: &Url, failed: &Url) {
        let mut links = self.0.lock();
        if links.get(asked) == Some(failed) {
            links.remove(asked);
        }
    }
}

/// What to do after a failure of a final URL.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum AfterFailure {
    /// Keep it: the server asks for patience, and asking more often is no answer to that.
    Keep,
    /// Forget it, and leave it at that: after a silence whoever waits has waited long enough. The next try begins at the
    /// first URL.
    Forget,
    /// Forget it, and ask the first URL at once.
    AskFirst,
}

impl AfterFailure {
    pub fn of(kind: &HttpErrorKind) -> AfterFailure {
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
        assert!(links.0.lock().len() <= MOST);
        assert_eq!(links.of(&url(3 * MOST - 1)), Some(url(3 * MOST)));
    }
}
