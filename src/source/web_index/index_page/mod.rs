//! Parses the index pages of web servers.
//!
//! A web server lists a directory as HTML for people. Each server has its own layout, and each has options, themes and
//! templates. What they have in common is that an entry is a link one level down, in a row of a table, a list or lines.
//! So such a link is an entry here, and servers are not distinguished. A size, a date, or that an entry is a directory
//! are taken from the row if it shows them plainly.
//!
//! [`parse`] is pure: the source that fetched a page calls it with the whole page. It guarantees:
//!
//! - Each entry's name is one path component ([`Name::new`](crate::source::Name::new)); the others are counted in
//!   [`Listing::left_out`].
//! - Each entry's URL is at the page's origin, exactly one level below it, and requests that very entry. Only by the
//!   caller's options may it have a query, or be elsewhere; at another origin its user info is removed.
//! - A size is [`Exact`](crate::source::ListedSize::Exact) only if the page shows every digit of it.
//! - A page that is not a listing is an error, because an empty listing would mean that everything is gone. A page that
//!   may be an empty directory's, but does not say so, is not marked.
//! - Time and memory are linear in the page's length, and memory is bounded by the maximum number of names.
//!
//! **Dates** count as UTC unless the page names a zone. nginx writes UTC unless `autoindex_localtime` is on, and Caddy
//! names the zone. Apache and lighttpd write the server's local time without a zone, so a listed date may be wrong by
//! up to 14 hours, even if it has seconds. A caller may show it until the file itself was requested, and may compare it
//! with an earlier listing of the same page. It must not compare it with a `Last-Modified`: a difference between these
//! is no sign of a change.
//!
//! **Charset.** The charset of the `Content-Type` counts, else UTF-8; `<meta charset>` is ignored. It matters little:
//! every known server percent-encodes its links.
//!
//! A page can be parsed while it is received ([`PageParser`]). A name is certain before the end of the page if its row has a size or
//! a date: such a row is always one of the listing (`collect`). Where no row has, names are after the first hundred of a list.
//!
//! The pipeline: `feed` sends the page through the HTML tokenizer; `reader` cuts it into rows; `link` resolves links to
//! files, whose names [`segment`](crate::source::listing::segment) decodes; `row` finds a row's facts with `size` and
//! [`date`](crate::source::listing::date); `collect` keeps each file once, and decides at the end which rows are the listing.

mod collect;
mod feed;
mod link;
mod reader;
mod row;
mod size;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use encoding_rs::{Decoder, Encoding, UTF_8};
use url::Url;

use crate::source::receiving::EarlyNames;
use crate::source::{Listing, ListingConfig};

/// Why a page is not an index page.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotAnIndex {
    /// It links to other pages of its server, and has no entry: a home page or an error page.
    #[error("the page is not a directory listing: none of its {links} links is directly below it")]
    NothingListed {
        /// Number of its links to other pages.
        links: usize,
    },
    /// It is empty, or not HTML.
    #[error("it is not an HTML page")]
    NoHtml,
    /// It asks for a password.
    #[error("it is a login page")]
    Login,
    /// A script fills the page in; the server may have a form of it without scripts.
    #[error("it is a page that needs JavaScript and has no names in it")]
    Scripted {
        /// The URL for clients without scripts, if the page names one.
        plain_form: Option<Url>,
    },
    /// A tag has thousands of attributes, which no server writes and which would take hours to parse.
    #[error(
        "the page can't be read: it has a tag with more than {} attributes",
        feed::MOST_ATTRIBUTES
    )]
    EndlessTag,
    /// More names than the caller allows.
    #[error("it has more than {0} names; raise --max-entries")]
    TooManyNames(usize),
}

/// The other pages of a listing that has several, as far as one of them links to them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(in crate::source) struct OtherPages {
    /// The page after this one, if a link says so (`rel=next`).
    pub(in crate::source) next: Option<Url>,
    /// Pages by the numbers in their URLs (`?page=2`). Some servers count from 0, others from 1.
    pub(in crate::source) numbered: BTreeMap<u32, Url>,
}

impl OtherPages {
    /// Maximum number of pages of one listing.
    pub(in crate::source) const MOST: usize = 1000;

    fn add(&mut self, number: u32, url: Url) {
        if self.numbered.len() < Self::MOST {
            self.numbered.entry(number).or_insert(url);
        }
    }
}

/// Parses the page that came from `page`, after redirects.
///
/// As in a browser, links are relative to the last `/` of `page`, so the URL of a directory must end in one. `charset`
/// is the one of the response's `Content-Type`, if any. [`Listing::modified`] is left empty; it is in the response's
/// head.
///
/// A page without names is an empty directory's listing if it is marked as a listing. The marks are: a title such as
/// `Index of /`, links to itself in another order, or a link to the parent directory that is called `..`, `Parent
/// Directory` or the like. Without a mark, and without a sign against it, the result is an empty listing that is not
/// [marked](Listing::is_marked). The caller must then know whether the directory exists.
///
/// # Errors
/// If the page is not an index page. That does not say whether the directory exists.
pub fn parse(page: &Url, body: &[u8], charset: Option<&str>, config: &ListingConfig) -> Result<Listing, NotAnIndex> {
    parse_page(page, body, charset, config).map(|(listing, _)| listing)
}

/// As [`parse`], with the other pages of the listing.
///
/// # Errors
/// As for [`parse`].
pub(in crate::source) fn parse_page(
    page: &Url,
    body: &[u8],
    charset: Option<&str>,
    config: &ListingConfig,
) -> Result<(Listing, OtherPages), NotAnIndex> {
    let mut parser = PageParser::new(page, charset, config, EarlyNames::default());
    parser.push(body)?;
    parser.finish()
}

/// A page that is parsed part by part, as [`parse_page`] does with a whole one.
pub(in crate::source) struct PageParser {
    /// Makes text of the page. A byte order mark decides, then the charset; invalid bytes become U+FFFD.
    decoder: Decoder,
    text: String,
    feeder: feed::Feeder<reader::Reader>,
    max_entries: usize,
}

impl PageParser {
    /// A page that came from `page`. Names that are certain go to `early`.
    pub(in crate::source) fn new(
        page: &Url,
        charset: Option<&str>,
        config: &ListingConfig,
        early: EarlyNames,
    ) -> PageParser {
        let named = charset.and_then(|label| Encoding::for_label_no_replacement(label.as_bytes()));
        let page = link::Page::new(page, config);
        PageParser {
            decoder: named.unwrap_or(UTF_8).new_decoder(),
            text: String::new(),
            feeder: feed::Feeder::new(reader::Reader::new(page, config.max_entries, early)),
            max_entries: config.max_entries,
        }
    }

    /// Parses the next bytes.
    ///
    /// # Errors
    /// If the page can't be read.
    pub(in crate::source) fn push(&mut self, bytes: &[u8]) -> Result<(), NotAnIndex> {
        self.decode(bytes, false)
    }

    /// Returns true if the rest of the page is not needed.
    pub(in crate::source) fn has_enough(&self) -> bool {
        self.feeder.has_enough()
    }

    fn decode(&mut self, bytes: &[u8], is_last: bool) -> Result<(), NotAnIndex> {
        self.text.clear();
        // A part is at most a page long, so the length fits.
        self.text
            .reserve(self.decoder.max_utf8_buffer_length(bytes.len()).unwrap_or(0));
        let _ = self.decoder.decode_to_string(bytes, &mut self.text, is_last);
        let fed = self.feeder.feed(&self.text);
        fed.map_err(|feed::EndlessTag| NotAnIndex::EndlessTag)
    }

    /// The listing and its other pages, after the whole page.
    ///
    /// # Errors
    /// As for [`parse`].
    pub(in crate::source) fn finish(mut self) -> Result<(Listing, OtherPages), NotAnIndex> {
        self.decode(&[], true)?;
        let reader = self
            .feeder
            .finish()
            .map_err(|feed::EndlessTag| NotAnIndex::EndlessTag)?;
        listing_of(reader.finish(), self.max_entries)
    }
}

/// The listing of a page with these contents.
fn listing_of(contents: reader::Contents, max_entries: usize) -> Result<(Listing, OtherPages), NotAnIndex> {
    if contents.is_too_long {
        return Err(NotAnIndex::TooManyNames(max_entries));
    }
    let listing = contents.listing;
    let is_listing = !listing.entries.is_empty() || !listing.left_out.is_nothing() || contents.marked;
    if is_listing && contents.plain_form.is_none() || !listing.entries.is_empty() {
        return Ok((listing, contents.others));
    }
    if !contents.has_tags {
        return Err(NotAnIndex::NoHtml);
    }
    if contents.has_login {
        return Err(NotAnIndex::Login);
    }
    if contents.plain_form.is_some() || (contents.has_scripts && !contents.has_text) {
        let plain_form = contents.plain_form;
        return Err(NotAnIndex::Scripted { plain_form });
    }
    if contents.links_away > 0 {
        let links = contents.links_away;
        return Err(NotAnIndex::NothingListed { links });
    }
    Ok((listing, contents.others))
}
