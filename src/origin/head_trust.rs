//! Whether HEAD can be believed, and how a size is asked for by GET, as an origin's answers have shown.
//!
//! **GET decides.** Readers get their bytes by GET, so what GET answers is what a file is: gone or not, its size, its
//! version. HEAD is a hint. Many servers answer it otherwise, because another handler, a cache or a gateway does: with an
//! error, with length 0, with the length of something else, or never. A HEAD counts only where it says what GET has said
//! before. Where it contradicts GET once, its origin gets no more of them.
//!
//! The origin is that of the URL that was asked, not of where it redirects: a redirector's signed links are good for GET alone.

use std::collections::HashMap;

use parking_lot::Mutex;
use url::Url;

use crate::http::{MOST_ORIGINS, Origin};

/// What the HEADs of an origin have proved to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum HeadTrust {
    /// No HEAD was compared with a GET yet.
    #[default]
    Unproven,
    /// The last HEAD that was compared with a GET agreed with it.
    Proven,
    /// A GET has contradicted what was known of a file, perhaps from a HEAD: the next HEAD counts only with a GET that agrees. So a
    /// HEAD that a cache on the way goes on giving never leads a reader to the old version again.
    Doubted,
    /// A HEAD contradicted a GET, or was not answered although the GET was: no more HEADs.
    Distrusted,
}

/// The ways to ask by GET how long a file is, in the order in which they are tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(crate) enum ProbeForm {
    /// `bytes=0-0`. Some servers take a range of one byte for a malformed one, or send the whole file.
    #[default]
    OneByte,
    /// `bytes=0-1`.
    TwoBytes,
    /// No Range at all. The connection is closed after the head unless the file is short.
    Whole,
}

impl ProbeForm {
    /// This form, and those to try when it brings no size.
    pub fn onwards(self) -> impl Iterator<Item = ProbeForm> {
        let all = [ProbeForm::OneByte, ProbeForm::TwoBytes, ProbeForm::Whole];
        all.into_iter().filter(move |form| *form >= self)
    }
}

#[derive(Debug, Clone, Copy, Default)]
struct Experience {
    head: HeadTrust,
    probe: ProbeForm,
}

/// What was found out of each origin.
#[derive(Default)]
pub(crate) struct HeadTrusts(Mutex<HashMap<Origin, Experience>>);

impl HeadTrusts {
    /// What the HEADs of this URL's origin have proved to be.
    pub fn of(&self, url: &Url) -> HeadTrust {
        self.get(url).head
    }

    /// The form of question that this URL's origin has answered with a size.
    pub fn probe_form(&self, url: &Url) -> ProbeForm {
        self.get(url).probe
    }

    /// Notes whether a HEAD agreed with a GET of the same URL.
    pub fn note_head(&self, url: &Url, agrees: bool) {
        let trust = if agrees {
            HeadTrust::Proven
        } else {
            HeadTrust::Distrusted
        };
        self.change(url, |experience| {
            // Once is enough: an answer that is right for one file may be wrong for the next.
            if experience.head != HeadTrust::Distrusted {
                if trust == HeadTrust::Distrusted {
                    log::debug!(
                        "{}: HEAD is answered otherwise than GET, so GET alone is asked",
                        crate::http::redact(url)
                    );
                }
                experience.head = trust;
            }
        });
    }

    /// Notes that a GET has contradicted what was known of a file.
    pub fn doubt(&self, url: &Url) {
        if self.of(url) != HeadTrust::Distrusted {
            self.change(url, |experience| experience.head = HeadTrust::Doubted);
        }
    }

    /// Notes a form of question that was answered with a size.
    pub fn note_probe(&self, url: &Url, form: ProbeForm) {
        // The usual one needs no entry.
        if self.probe_form(url) != form {
            self.change(url, |experience| experience.probe = form);
        }
    }

    fn get(&self, url: &Url) -> Experience {
        let all = self.0.lock();
        let origin = Origin::of(url);
        origin.and_then(|origin| all.get(&origin).copied()).unwrap_or_default()
    }

    fn change(&self, url: &Url, change: impl FnOnce(&mut Experience)) {
        let Some(origin) = Origin::of(url) else { return };
        let mut all = self.0.lock();
        // What is forgotten is found out again.
        if all.len() >= MOST_ORIGINS && !all.contains_key(&origin) {
            all.clear();
        }
        change(all.entry(origin).or_default());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(host: usize) -> Url {
        Url::parse(&format!("http://h{host}/f")).unwrap()
    }

    #[test]
    fn one_contradiction_ends_the_trust_in_an_origin_and_in_no_other() {
        let trusts = HeadTrusts::default();
        trusts.note_head(&url(1), true);
        trusts.note_head(&url(2), true);
        assert_eq!(trusts.of(&url(1)), HeadTrust::Proven);
        trusts.doubt(&url(1));
        assert_eq!(trusts.of(&url(1)), HeadTrust::Doubted);
        trusts.note_head(&url(1), true);
        assert_eq!(trusts.of(&url(1)), HeadTrust::Proven);
        trusts.note_head(&url(1), false);
        trusts.note_head(&url(1), true);
        trusts.doubt(&url(1));
        assert_eq!(trusts.of(&url(1)), HeadTrust::Distrusted);
        assert_eq!(trusts.of(&url(2)), HeadTrust::Proven);
        assert_eq!(trusts.of(&url(3)), HeadTrust::Unproven);
    }

    #[test]
    fn the_form_that_was_answered_is_tried_first_and_only_so_many_origins_are_kept() {
        let trusts = HeadTrusts::default();
        trusts.note_probe(&url(0), ProbeForm::TwoBytes);
        let forms: Vec<_> = trusts.probe_form(&url(0)).onwards().collect();
        assert_eq!(forms, [ProbeForm::TwoBytes, ProbeForm::Whole]);
        for number in 0..3 * MOST_ORIGINS {
            trusts.note_probe(&url(number), ProbeForm::Whole);
        }
        assert!(trusts.0.lock().len() <= MOST_ORIGINS);
    }
}
