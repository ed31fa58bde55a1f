//! Whether HEAD is trusted, and which probe form works, for each origin.
//!
//! **GET decides.** Readers get their bytes by GET, so GET determines whether a file exists, its size and its version.
//! HEAD is a hint. Many servers answer it differently, because another handler, a cache or a gateway does: with an
//! error, with length 0, with the length of something else, or never.
//!
//! So a HEAD counts only where it agrees with an earlier GET. After one contradiction the origin gets no more HEAD
//! requests.
//!
//! The origin is that of the requested URL, not of the redirect target: signed links from a redirector are valid for
//! GET alone.

use parking_lot::Mutex;
use url::Url;

use super::per_origin::PerOrigin;
use crate::http::redact;

/// How far the HEAD responses of an origin are trusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum HeadTrust {
    /// No HEAD was compared with a GET yet.
    #[default]
    Unproven,
    /// The last HEAD that was compared with a GET agreed with it.
    Proven,
    /// A GET contradicted what was known of a file, perhaps from a HEAD. The next HEAD counts only together with a GET
    /// that agrees, so that a HEAD from a stale cache never leads a reader back to the old version.
    Doubted,
    /// A HEAD contradicted a GET, or got no response although GET did: no more HEAD requests.
    Distrusted,
}

/// The forms of a GET that learns a file's size, in the order in which they are tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(crate) enum ProbeForm {
    /// `bytes=0-0`. Some servers reject a range of one byte as malformed, or send the whole file.
    #[default]
    OneByte,
    /// `bytes=0-1`.
    TwoBytes,
    /// No Range header. The connection is closed after the head unless the file is short.
    Whole,
}

impl ProbeForm {
    /// This form, and those to try after it brought no size.
    pub(crate) fn onwards(self) -> impl Iterator<Item = ProbeForm> {
        let all = [ProbeForm::OneByte, ProbeForm::TwoBytes, ProbeForm::Whole];
        all.into_iter().filter(move |form| *form >= self)
    }
}

#[derive(Debug, Clone, Copy, Default)]
struct Experience {
    head: HeadTrust,
    probe: ProbeForm,
}

/// What was learnt of each origin.
#[derive(Default)]
pub(crate) struct HeadTrusts(PerOrigin<Mutex<Experience>>);

impl HeadTrusts {
    /// How far HEAD is trusted for this URL's origin.
    pub(crate) fn of(&self, url: &Url) -> HeadTrust {
        self.0.of_url(url).lock().head
    }

    /// The probe form that brought a size from this URL's origin.
    pub(crate) fn probe_form(&self, url: &Url) -> ProbeForm {
        self.0.of_url(url).lock().probe
    }

    /// Records whether a HEAD agreed with a GET of the same URL.
    pub(crate) fn note_head(&self, url: &Url, agrees: bool) {
        let experience = self.0.of_url(url);
        let trust = &mut experience.lock().head;
        *trust = match (*trust, agrees) {
            // One contradiction is enough: a HEAD that is right for one file may be wrong for the next.
            (HeadTrust::Distrusted, _) => HeadTrust::Distrusted,
            (_, true) => HeadTrust::Proven,
            (_, false) => {
                log::debug!("{}: responses to HEAD and GET differ; using only GET", redact(url));
                HeadTrust::Distrusted
            }
        };
    }

    /// Records that a GET contradicted what was known of a file.
    pub(crate) fn doubt(&self, url: &Url) {
        let experience = self.0.of_url(url);
        let trust = &mut experience.lock().head;
        if *trust != HeadTrust::Distrusted {
            *trust = HeadTrust::Doubted;
        }
    }

    /// Records a probe form that brought a size.
    pub(crate) fn note_probe(&self, url: &Url, form: ProbeForm) {
        self.0.of_url(url).lock().probe = form;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(host: usize) -> Url {
        Url::parse(&format!("http://h{host}/f")).unwrap()
    }

    #[test]
    fn contradiction_ends_trust_in_one_origin() {
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
    fn successful_probe_form_is_tried_first() {
        let trusts = HeadTrusts::default();
        trusts.note_probe(&url(0), ProbeForm::TwoBytes);
        let forms: Vec<_> = trusts.probe_form(&url(0)).onwards().collect();
        assert_eq!(forms, [ProbeForm::TwoBytes, ProbeForm::Whole]);
    }
}
