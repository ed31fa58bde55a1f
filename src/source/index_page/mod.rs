//! Reads the index pages of web servers.
//!
//! A web server that lists a directory does so in HTML, made for people: each server in its own way, and
//! each with options, themes and templates. What they have in common is that an entry is a link one
//! level down in a row of a table, a list or lines. So that is what makes an entry here, and no server is told from another. What
//! else a page says, a size, a date, that it is a directory, is taken where its row says it plainly.
//!
//! [`parse`] is pure: the source that fetched a page calls it with the whole of it. It guarantees:
//!
//! * Each entry's name is one path component ([`Name::new`](super::Name::new)); the others are counted
//!   in [`Listing::left_out`].
//! * Each entry's URL is at the page's origin, exactly one level below it, and asks the server for that
//!   very entry; or, only if the caller wants such, it has a query, or is elsewhere, and at another origin has its user info stripped.
//! * A size is [`Exact`](super::ListedSize::Exact) only where the page gives every digit of it.
//! * A page that is no listing is an error, for an empty listing would say that everything is gone. One that may be
//!   that of an empty directory, and does not say so, is not marked.
//! * Time and memory grow with the page's length, whatever it holds, and memory no further than the most names allow.
//!
//! **Dates** are taken as UTC unless the page names a zone. nginx writes UTC unless `autoindex_localtime`
//! is on, and Caddy names it; but Apache and lighttpd write the server's local time and do not say which,
//! so a listed date may be off by up to 14 hours, also when it shows seconds. A caller may show it until
//! the file itself was asked, and may compare it with the date in an earlier listing of the same page. It
//! must not compare it with a `Last-Modified`: that the two differ is no sign of a change.
//!
//! **Charset.** It matters little, as every server known percent-encodes what it links to. It is the one
//! from the `Content-Type`, else UTF-8; `<meta charset>` is not looked at.
//!
//! The way through: `feed` pushes the page through the HTML tokenizer; `reader` cuts it into rows; `link`
//! decides which file a link means, and `name` what it is called; `row` says what a row says of its file, by means of `size` and
//! `date`; `collect` takes up each file once, and decides at the end which rows are the listing.

mod collect;
mod date;
mod feed;
mod link;
mod name;
mod reader;
mod row;
mod size;
#[cfg(test)]
mod tests;

use std::borrow::Cow;

use encoding_rs::{Encoding, UTF_8};
use url::Url;

use super::{Listing, ListingConfig};

/// Why a page is not an index page.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotAnIndex {
    /// It links to other pages of its server, and to nothing that it could list: a home page or an error page.
    #[error("the page is no directory listing: none of its {links} links leads to something directly below it")]
    NothingListed {
        /// Its links to other pages.
        links: usize,
    },
    /// Nothing that could be a page at all, or no HTML.
    #[error("it is no HTML page")]
    NoHtml,
    /// It asks for a password.
    #[error("it is a login page")]
    Login,
    /// A script fills the page in; there may be a form of it without.
    #[error("it is a page that a script fills in, with no names in it")]
    Scripted {
        /// Where the page sends clients that run no scripts.
        plain_form: Option<Url>,
    },
    /// A tag has thousands of attributes, which no server writes and which would take for ever to read.
    #[error(
        "the page can't be read: it has a tag with more than {} attributes",
        feed::MOST_ATTRIBUTES
    )]
    EndlessTag,
    /// More names than the caller allows.
    #[error("it has more than {0} names; --max-entries allows more")]
    TooManyNames(usize),
}

/// Reads the page that came from `page`, after redirects.
///
/// As in a browser, links are relative to the last `/` of `page`: the URL of a directory has to end in one.
/// `charset` is the one from the answer's `Content-Type`, if any. [`Listing::modified`] is left empty; it
/// is in the answer's head.
///
/// A page without names is the listing of an empty directory if it is marked as a listing: by a title such as `Index of /`, by
/// links to itself in another order, or by a link to the directory above that is called `..`, `Parent Directory` or the like. If it is not, it is
/// given as an empty listing that is not [marked](Listing::is_marked), unless something speaks against it; then it is for the caller to know whether
/// there is a directory at all.
///
/// # Errors
/// When the page is not an index page. Says nothing about whether the directory is there.
pub fn parse(page: &Url, body: &[u8], charset: Option<&str>, config: &ListingConfig) -> Result<Listing, NotAnIndex> {
    let text = decode(body, charset);
    let page = link::Page::new(page, config);
    let mut reader = reader::Reader::new(page, config.max_entries);
    feed::feed(&text, &mut reader).map_err(|feed::EndlessTag| NotAnIndex::EndlessTag)?;
    let contents = reader.finish();
    if contents.is_too_long {
        return Err(NotAnIndex::TooManyNames(config.max_entries));
    }
    let listing = contents.listing;
    let is_listing = !listing.entries.is_empty() || !listing.left_out.is_nothing() || contents.marked;
    if is_listing && contents.plain_form.is_none() || !listing.entries.is_empty() {
        return Ok(listing);
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
    Ok(listing)
}

/// The page as text. A byte order mark decides, then the charset; bytes that make no sense become U+FFFD.
fn decode<'a>(body: &'a [u8], charset: Option<&str>) -> Cow<'a, str> {
    let named = charset.and_then(|label| Encoding::for_label_no_replacement(label.as_bytes()));
    named.unwrap_or(UTF_8).decode(body).0
}
