//! What the answer to a request for a directory is: its listing in HTML, JSON or XML, or something else.

use percent_encoding::percent_decode_str;
use url::Url;

use super::data_index::{self, NotAListing};
use super::form::{self, Form, NOT_ACCEPTABLE};
use super::index_page::{self, NotAnIndex, OtherPages, PageParser};
use crate::http::redact;
use crate::http::response::link::next_page;
use crate::origin::Document;
use crate::source::receiving::{CutOff, EarlyNames, NamesTo, Pieces};
use crate::source::{EntryKind, ListedSize, Listing, ListingConfig, NO_INDEX_PAGE};

/// Text in listings of another kind, and what to do about them.
const OTHER_KINDS: [(&str, &str); 1] = [(
    "<ListBucketResult",
    "it is the listing of an S3 bucket; mount it as s3://BUCKET, or an index page of it",
)];

/// Maximum bytes of a response that are searched for texts.
const SEARCHED: usize = 16 << 10;

/// What was read of an answer.
#[derive(Debug)]
pub(super) struct Reading {
    /// The listing, or why there is none.
    pub(super) listing: Result<Listing, String>,
    /// Forms in which the server may have a listing, or a better one; the best first.
    pub(super) others: Vec<Form>,
    /// The other pages of the listing.
    pub(super) pages: OtherPages,
    /// Bytes of the answer.
    pub(super) length: u64,
}

impl Reading {
    fn listing(listing: Listing) -> Reading {
        Reading {
            listing: Ok(listing),
            others: Vec::new(),
            pages: OtherPages::default(),
            length: 0,
        }
    }

    /// The answer is no listing.
    pub(super) fn refused(why: impl ToString) -> Reading {
        Reading {
            listing: Err(why.to_string()),
            others: Vec::new(),
            pages: OtherPages::default(),
            length: 0,
        }
    }

    /// The same with the forms to ask for instead.
    fn or_ask_for(self, others: Vec<Form>) -> Reading {
        Reading { others, ..self }
    }
}

/// Reads a document that came for `asked`.
///
/// Its content decides what it is, not its media type: scripts send JSON as HTML, and nginx sends its XML as `text/xml`.
/// Text of the media type of HTML that only begins like JSON is HTML.
pub(super) fn read(asked: &Url, document: &Document, config: &ListingConfig) -> Reading {
    if document.status == NOT_ACCEPTABLE {
        return Reading::refused(format_args!("status {NOT_ACCEPTABLE}")).or_ask_for(vec![Form::HTML]);
    }
    let mut reading = match data_index::parse(&document.url, &document.body, config) {
        Some(Ok(listing)) => Reading::listing(listing),
        Some(Err(why)) => not_data(asked, document, config, &why),
        None => read_html(asked, document, config),
    };
    reading.length = document.body.len() as u64;
    with_head(reading, document)
}

/// Returns true if a document can be read while it is received, by its beginning: if that shows which language it is in, and
/// another one will not be tried.
pub(super) fn can_be_read_early(beginning: &Document) -> bool {
    let is_telling = !beginning.body.trim_ascii_start().is_empty();
    let is_html = !data_index::is_data(&beginning.body);
    beginning.status != NOT_ACCEPTABLE
        && is_telling
        && (is_html || data_index::is_json(&beginning.body) && !says_html(beginning))
}

/// [`read`] for a document that [`can_be_read_early`] and is being received. Names that are certain go to `to`.
pub(super) fn read_long(
    asked: &Url,
    beginning: &Document,
    pieces: Pieces,
    to: Option<NamesTo>,
    config: &ListingConfig,
) -> Reading {
    let early = EarlyNames::new(to);
    let reading = if data_index::is_json(&beginning.body) {
        match data_index::parse_incoming(&beginning.url, pieces, &early, config) {
            Ok(listing) => Reading::listing(listing),
            Err(why) => not_data(asked, beginning, config, &why),
        }
    } else {
        read_long_html(asked, beginning, pieces, &early, config)
    };
    with_head(reading, beginning)
}

fn read_long_html(
    asked: &Url,
    beginning: &Document,
    mut pieces: Pieces,
    early: &EarlyNames,
    config: &ListingConfig,
) -> Reading {
    let mut parser = PageParser::new(&beginning.url, beginning.charset.as_deref(), config, early.clone());
    let parsed = loop {
        match pieces.next(early) {
            Ok(Some(piece)) => {
                if let Err(error) = parser.push(&piece) {
                    break Err(error);
                }
            }
            Ok(None) => break parser.finish(),
            Err(CutOff) => return Reading::refused("it was not received to its end"),
        }
        if parser.has_enough() {
            break parser.finish();
        }
    };
    html_reading(asked, beginning, parsed)
}

/// Adds what the head of the response says.
fn with_head(mut reading: Reading, document: &Document) -> Reading {
    if let Ok(listing) = &mut reading.listing {
        listing.modified = document.modified;
        let next = || next_page(&document.headers, &document.url);
        reading.pages.next = reading.pages.next.take().or_else(next);
        // Of several pages, it is the first one's.
        if reading.pages == OtherPages::default() {
            listing.validator = document.validator.clone();
        }
    }
    reading
}

/// Reads what begins like a listing in JSON or XML and is none.
fn not_data(asked: &Url, document: &Document, config: &ListingConfig, why: &NotAListing) -> Reading {
    if says_html(document)
        && let reading @ Reading { listing: Ok(_), .. } = read_html(asked, document, config)
    {
        return reading;
    }
    let others = match why {
        // Perhaps the server has an API at the same URL, or JSON without sizes.
        NotAListing::OtherJson(_) | NotAListing::Syntax { .. } => vec![Form::HTML],
        NotAListing::OtherXml(_) | NotAListing::TooManyNames(_) => Vec::new(),
    };
    Reading::refused(why).or_ask_for(others)
}

/// Returns true if a document has the media type of HTML.
fn says_html(document: &Document) -> bool {
    let kind = document.content_type.as_deref();
    kind.is_some_and(|kind| kind.contains("html"))
}

/// Reads a page of HTML.
///
/// The media type does not matter if the page has names or a mark: lighttpd without a table of types sends its pages as
/// octet streams.
fn read_html(asked: &Url, page: &Document, config: &ListingConfig) -> Reading {
    let parsed = index_page::parse_page(&page.url, &page.body, page.charset.as_deref(), config);
    html_reading(asked, page, parsed)
}

/// What a page of HTML is that was parsed. Of its body, the beginning is enough.
fn html_reading(asked: &Url, page: &Document, parsed: Result<(Listing, OtherPages), NotAnIndex>) -> Reading {
    let is_html = page.content_type.as_deref().is_none_or(|kind| kind.contains("html"));
    let (listing, pages) = match parsed {
        Ok((listing, pages)) if listing.is_evident() || is_html => (listing, pages),
        Ok(_) => return refuse(page, &NotAnIndex::NoHtml, is_html),
        Err(error @ NotAnIndex::TooManyNames(_)) => return Reading::refused(error),
        Err(error) => return refuse(page, &error, is_html),
    };
    if !listing.is_marked && !is_same_directory(asked, &page.url) {
        // A captive portal redirects all requests to its own page, and a link there is not a file of the directory.
        return Reading::refused(format_args!(
            "it redirects to {}, which does not look like an index page; is a login needed?",
            redact(&page.url)
        ));
    }
    let is_rounded = |position| matches!(listing.entries.kind(position), EntryKind::File(ListedSize::Rounded(_)));
    let others = match form::exact(&page.headers) {
        Some(form) if (0..listing.entries.len()).any(is_rounded) => vec![form],
        _ => Vec::new(),
    };
    Reading {
        pages,
        ..Reading::listing(listing).or_ask_for(others)
    }
}

/// Why a page is refused, and the forms of it that may be accepted.
fn refuse(page: &Document, error: &NotAnIndex, is_html: bool) -> Reading {
    let start = String::from_utf8_lossy(&page.body[..page.body.len().min(SEARCHED)]);
    let mut others = form::known(&start);
    if let NotAnIndex::Scripted { plain_form: Some(url) } = error
        && others.is_empty()
    {
        others.extend(url.query().map(Form::of_query));
    }
    let other_kind = || OTHER_KINDS.iter().find(|(mark, _)| start.contains(mark));
    let why = match error {
        _ if !is_html && let Some((_, why)) = other_kind() => *why,
        NotAnIndex::Scripted { .. } => {
            "it is a page that needs JavaScript, and no form of it without scripts is known; mount the URL of a \
             plain HTML listing"
        }
        NotAnIndex::Login => "it is a login page; use --login, --netrc, --cookie-file or --header",
        _ => NO_INDEX_PAGE,
    };
    Reading::refused(why).or_ask_for(others)
}

/// Returns true if the page at `answered` may be the one requested at `asked`: the same directory of the same host,
/// over TLS or not, in any notation, with or without the file name of the index page.
pub(super) fn is_same_directory(asked: &Url, answered: &Url) -> bool {
    let directory = |url: &Url| {
        let path = url.path();
        let end = path.rfind('/').map_or(0, |slash| slash + 1);
        percent_decode_str(&path[..end]).collect::<Vec<u8>>()
    };
    asked.host() == answered.host() && directory(asked) == directory(answered)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_the_same_whatever_it_is_called_by() {
        let asked = Url::parse("http://host/pub/~ann/").unwrap();
        for (answered, is_same) in [
            ("http://host/pub/~ann/", true),
            ("https://host/pub/%7Eann/", true),
            ("http://host:8080/pub/~ann/index.html?page=1", true),
            ("http://host/pub/", false),
            ("http://host/pub/~ann/login/", false),
            ("http://portal/pub/~ann/", false),
        ] {
            let answered = Url::parse(answered).unwrap();
            assert_eq!(is_same_directory(&asked, &answered), is_same, "{answered}");
        }
    }
}
