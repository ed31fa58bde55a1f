//! Listings of several pages: which page comes next, and the listing of them all.
//!
//! A page links to the next one by `rel=next`, or to others by their numbers (`?page=2`). Some servers count from 0 and
//! others from 1, and the first page may have no number. So the pages are requested in the order of their numbers, from
//! 1 on, and one that comes twice adds nothing.

use std::collections::{BTreeMap, HashSet};

use url::Url;

use crate::source::index_page::OtherPages;
use crate::source::listing_builder::{ListingBuilder, TooManyNames};
use crate::source::{LeftOut, Listing};

/// Number of pages in sequence without a new name after which a listing ends: a server may have a page for any number.
const BARREN: usize = 2;

/// A listing whose pages are being requested.
pub(super) struct Pages {
    first: Listing,
    builder: ListingBuilder,
    left_out: LeftOut,
    /// All pages that were named, by their numbers.
    numbered: BTreeMap<u32, Url>,
    next: Option<Url>,
    requested: HashSet<Url>,
    /// Number of the page that was taken last; 0 for the first one.
    number: u32,
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
            number: 0,
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
        let requested = &self.requested;
        let by_number = || {
            let mut later = self.numbered.range(self.number + 1..);
            later.find(|(_, url)| !requested.contains(*url))
        };
        let next = match self.next.take() {
            Some(next) if !requested.contains(&next) => next,
            Some(_) => return None,
            None => {
                let (&number, url) = by_number()?;
                self.number = number;
                url.clone()
            }
        };
        self.requested.insert(next.clone());
        Some(next)
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
        self.numbered.extend(others.numbered);
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
    use crate::source::index_page::parse_page;

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
        ];
        let (queries, names) = walk(&pages);
        assert_eq!(queries, ["n=10&key=x", "n=20&key=x"]);
        assert_eq!(names, ["a", "b", "c"]);
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
