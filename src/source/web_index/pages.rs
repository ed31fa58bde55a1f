//! Listings of several pages: which page comes next, and the listing of them all.
//!
//! A page links to the next one by `rel=next`, in its text or in a `Link` header, or to others by their numbers
//! (`?page=2`). Some servers count from 0 and others from 1, and the first page may have no number. So the pages are
//! requested in the order of their numbers, from 1 on, and one that comes twice adds nothing. A page may name numbers
//! below its own: servers link the first and the last one, and the neighbours.
//!
//! **Half of a listing would mean that the other half is gone.** So a page that can't be had or read makes the listing
//! fail, except one that is 404: the listing has become shorter since it was linked to.
//!
//! Limit: the pages are those of several moments. A name that moves to an earlier page between two requests, because
//! another one was deleted, is in the listing again when it is requested the next time.

use std::collections::{BTreeMap, HashSet};

use url::Url;

use crate::source::listing::builder::{ListingBuilder, TooManyNames};
use crate::source::web_index::index_page::OtherPages;
use crate::source::{LeftOut, Listing};

/// Number of pages in sequence without a new name after which a listing ends: a server may have a page for any number.
const BARREN: usize = 2;

/// A listing whose pages are being requested.
pub(super) struct Pages {
    first: Listing,
    builder: ListingBuilder,
    left_out: LeftOut,
    /// The pages that were named and not requested, by their numbers; at most [`OtherPages::MOST`], the first ones.
    numbered: BTreeMap<u32, Url>,
    next: Option<Url>,
    requested: HashSet<Url>,
    /// Number of pages in sequence that had no new name.
    barren: usize,
}

impl Pages {
    /// A listing of `directory` with other pages, by its first page, which came from `url`.
    ///
    /// # Errors
    /// If the limit of names is exceeded.
    pub(super) fn new(
        directory: &Url,
        url: &Url,
        first: Listing,
        others: OtherPages,
        most: usize,
    ) -> Result<Pages, TooManyNames> {
        let mut pages = Pages {
            builder: ListingBuilder::new(directory, most),
            left_out: LeftOut::default(),
            numbered: BTreeMap::new(),
            next: None,
            requested: HashSet::from([url.clone()]),
            barren: 0,
            first,
        };
        let listing = pages.first.clone();
        pages.take(&listing, others)?;
        Ok(pages)
    }

    /// The URL of the next page. `None` behind the last one.
    pub(super) fn next(&mut self) -> Option<Url> {
        if self.barren >= BARREN {
            return None;
        }
        let mut next = self.next.take();
        loop {
            let candidate = match next.take() {
                Some(next) => next,
                None => self.numbered.pop_first()?.1,
            };
            if self.requested.insert(candidate.clone()) {
                return Some(candidate);
            }
        }
    }

    /// There is no such page.
    pub(super) fn skip(&mut self) {
        self.barren += 1;
    }

    /// Number of pages so far.
    pub(super) fn count(&self) -> usize {
        self.requested.len()
    }

    /// Adds the names of a page.
    ///
    /// # Errors
    /// If the limit of names is exceeded.
    pub(super) fn take(&mut self, listing: &Listing, others: OtherPages) -> Result<(), TooManyNames> {
        let mut is_new = false;
        for entry in listing.entries.iter() {
            is_new |= self.builder.add_entry(&entry)?;
        }
        self.barren = if is_new { 0 } else { self.barren + 1 };
        self.left_out.change(LeftOut::default(), listing.left_out);
        self.first.is_marked |= listing.is_marked;
        self.first.has_external |= listing.has_external;
        self.next = others.next;
        for (number, url) in others.numbered {
            // If pages count from 0, the first one is that without a number.
            if number > 0 && !self.requested.contains(&url) {
                self.numbered.insert(number, url);
            }
        }
        while self.numbered.len() > OtherPages::MOST {
            self.numbered.pop_last();
        }
        Ok(())
    }

    /// The listing of all pages.
    pub(super) fn finish(self) -> Listing {
        let mut listing = self.builder.finish(self.first.modified);
        listing.left_out.change(LeftOut::default(), self.left_out);
        (listing.is_marked, listing.has_external) = (self.first.is_marked, self.first.has_external);
        listing
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::ListingConfig;
    use crate::source::web_index::index_page::parse_page;

    /// The queries of the pages that are requested of a directory with these pages, by query, and the names.
    fn walk(pages: &[(&str, &str)]) -> (Vec<String>, Vec<String>) {
        let page = |url: &Url| {
            let (_, body) = pages
                .iter()
                .find(|(query, _)| *query == url.query().unwrap_or_default())
                .unwrap();
            parse_page(
                url,
                format!("<title>Index of /</title>{body}").as_bytes(),
                None,
                &ListingConfig::default(),
            )
            .unwrap()
        };
        let url = Url::parse("http://host/d/").unwrap();
        let (first, others) = page(&url);
        let mut all = Pages::new(&url, &url, first, others, 100).unwrap();
        let mut queries = Vec::new();
        while let Some(next) = all.next() {
            queries.push(next.query().unwrap_or_default().to_owned());
            let (listing, others) = page(&next);
            all.take(&listing, others).unwrap();
        }
        let listing = all.finish();
        assert!(listing.is_marked && listing.left_out.is_nothing(), "{listing:?}");
        let name = |position| listing.entries.name(position).to_str().unwrap().to_owned();
        (queries, (0..listing.entries.len()).map(name).collect())
    }

    #[test]
    fn numbers_count_from_one_or_from_zero() {
        let from_one = [
            (
                "",
                "<a href=a>a</a> <a href='?page=1'>1</a> <a href='?page=2'>2</a> <a href='?page=3'>3</a>",
            ),
            ("page=1", "<a href=a>a</a> <a href='?page=2'>2</a>"),
            (
                "page=2",
                "<a href=b>b</a> <a href='?page=1'>1</a> <a href='?page=3'>3</a>",
            ),
            ("page=3", "<a href=c>c</a> <a href='?page=4'>4</a>"),
            ("page=4", "<a href=d>d</a>"),
        ];
        let (queries, names) = walk(&from_one);
        assert_eq!(queries, ["page=1", "page=2", "page=3", "page=4"]);
        assert_eq!(names, ["a", "b", "c", "d"]);
        let from_zero = [
            ("", "<a href=a>a</a> <a href='?page=0'>1</a> <a href='?page=1'>2</a>"),
            ("page=1", "<a href=b>b</a> <a href='?page=0'>1</a>"),
        ];
        assert_eq!(
            walk(&from_zero),
            (vec!["page=1".to_owned()], vec!["a".to_owned(), "b".to_owned()])
        );
    }

    #[test]
    fn next_link_leads_on_and_other_queries_stay() {
        let pages = [
            (
                "",
                "<link rel=next href='?n=10&amp;key=x'><a href=a>a</a> <a href='?page=7'>7</a>",
            ),
            (
                "n=10&key=x",
                "<a href=b>b</a> <a rel='nofollow NEXT' href='?n=20&amp;key=x'>more</a>",
            ),
            (
                "n=20&key=x",
                "<a href=c>c</a> <a rel=next href='?n=10&amp;key=x'>again</a>",
            ),
            ("page=7", "<a href=a>a</a>"),
        ];
        let (queries, names) = walk(&pages);
        assert_eq!(queries, ["n=10&key=x", "n=20&key=x", "page=7"]);
        assert_eq!(names, ["a", "b", "c"]);
    }

    /// A server links the first page, the last one and the neighbours.
    #[test]
    fn pages_between_the_first_and_the_last_are_found() {
        let pages: Vec<(String, String)> = (0..=6)
            .map(|number: u32| {
                let query = if number == 0 {
                    String::new()
                } else {
                    format!("page={number}")
                };
                let link = |number: u32| format!("<a href='?page={number}'>{number}</a>");
                let neighbours = [1, number.saturating_sub(1).max(1), 6].map(link).concat();
                (query, format!("<a href=f{}>f{0}</a> {neighbours}", number.max(1)))
            })
            .collect();
        let pages: Vec<(&str, &str)> = pages.iter().map(|(query, body)| (&**query, &**body)).collect();
        let (queries, names) = walk(&pages);
        assert_eq!(queries, ["page=1", "page=6", "page=5", "page=4", "page=3", "page=2"]);
        assert_eq!(names.len(), 6);
    }

    #[test]
    fn a_server_can_name_only_so_many_pages() {
        let links: String = (0..3 * OtherPages::MOST)
            .map(|number| format!("<a href='?page={number}'>x</a>"))
            .collect();
        let url = Url::parse("http://host/d/").unwrap();
        let empty = || ListingBuilder::new(&url, 1).finish(None);
        let mut others = OtherPages::default();
        for own in [0, 1] {
            let page = format!("<title>Index of /</title>{links}<a href=f{own}>f{own}</a>");
            let page = parse_page(&url, page.as_bytes(), None, &ListingConfig::default()).unwrap();
            others = page.1;
            assert!(others.numbered.len() <= OtherPages::MOST);
        }
        let mut pages = Pages::new(&url, &url, empty(), others.clone(), 100).unwrap();
        others.numbered = (1..9)
            .map(|number| (5000 + number, url.join(&format!("?page={number}&x")).unwrap()))
            .collect();
        pages.take(&empty(), others).unwrap();
        assert_eq!(pages.numbered.len(), OtherPages::MOST);
    }

    #[test]
    fn pages_without_names_end_it() {
        let endless: Vec<(String, String)> = (0..9)
            .map(|number| {
                let query = if number == 0 {
                    String::new()
                } else {
                    format!("page={number}")
                };
                (
                    query,
                    format!("<a href=a>a</a> <a href='?page={}'>next</a>", number + 1),
                )
            })
            .collect();
        let endless: Vec<(&str, &str)> = endless.iter().map(|(query, body)| (&**query, &**body)).collect();
        let (queries, names) = walk(&endless);
        assert_eq!((queries.len(), names.len()), (BARREN, 1));
    }
}
