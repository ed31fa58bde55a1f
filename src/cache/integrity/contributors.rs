//! Contributors: the URLs that the bytes of a cached file came from, so that wrong bytes can be attributed.

use url::Url;

/// Maximum number of URLs that are told apart. Of more, none is to blame.
const MOST: usize = 8;

/// Where the bytes of a file came from.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Contributors {
    urls: Vec<Url>,
    /// Some came from elsewhere: with another process, or before this one began.
    has_unknown: bool,
}

impl Contributors {
    /// Some bytes came from a URL that is not known.
    pub(crate) fn note_unknown(&mut self) {
        self.has_unknown = true;
    }

    /// Bytes come from this URL.
    pub(crate) fn note(&mut self, url: &Url) {
        if self.urls.iter().all(|known| known != url) {
            if self.urls.len() < MOST {
                self.urls.push(url.clone());
            } else {
                self.has_unknown = true;
            }
        }
    }

    /// The URLs that must not be asked again after the bytes were found to be wrong. `all` are those that have the file,
    /// the preferred one first.
    ///
    /// - If one URL has sent everything, it is to blame.
    /// - If several have, it may be any of them. All but the most preferred one are left out: so the next bytes come from
    ///   one URL, and are right or can be attributed.
    /// - If that is unknown, and there is a choice, none is left out: the next bytes can be attributed.
    pub(crate) fn to_leave_out(&self, all: &[&Url]) -> Vec<Url> {
        match (&self.urls[..], self.has_unknown) {
            ([one], false) => vec![one.clone()],
            (_, _) if all.len() <= 1 => all.iter().map(|&url| url.clone()).collect(),
            (_, true) | ([], _) => Vec::new(),
            (several, false) => {
                let place = |url: &Url| all.iter().position(|known| *known == url).unwrap_or(usize::MAX);
                let mut several = several.to_vec();
                several.sort_by_key(place);
                several.split_off(1)
            }
        }
    }

    /// The URLs, if all are known.
    pub(crate) fn known(&self) -> Option<&[Url]> {
        (!self.has_unknown && !self.urls.is_empty()).then_some(&self.urls[..])
    }
}

#[cfg(test)]
mod tests {
    use std::slice;

    use super::*;

    #[test]
    fn blame_needs_a_single_sender() {
        let urls = ["http://a/f", "http://b/f", "http://c/f"].map(|url| Url::parse(url).unwrap());
        let [a, b, c] = &urls;
        let from = |sent: &[&Url], has_unknown: bool| {
            let mut contributors = Contributors::default();
            sent.iter().for_each(|url| contributors.note(url));
            if has_unknown {
                contributors.note_unknown();
            }
            contributors
        };
        let all = [a, b, c];
        assert_eq!(from(&[b, b], false).to_leave_out(&all), slice::from_ref(b));
        assert_eq!(from(&[c, a, b], false).to_leave_out(&all), [b.clone(), c.clone()]);
        assert!(from(&[b], true).to_leave_out(&all).is_empty());
        assert!(from(&[], true).to_leave_out(&all).is_empty());
        assert_eq!(
            from(&[a], true).to_leave_out(&[a]),
            slice::from_ref(a),
            "there is no other"
        );
        assert_eq!(from(&[], true).to_leave_out(&[a]), slice::from_ref(a));
    }
}
