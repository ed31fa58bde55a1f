//! Directories as index pages of web servers, one GET each.
//!
//! A server may list its directories in HTML, or for programs in JSON or XML ([`data_index`]). The content shows which.
//!
//! Some servers send a page that a script fills in, and a page without scripts for a certain query. The page itself
//! says so (`<noscript>`), or is recognised by its content ([`KNOWN_FORMS`]). Then the plain page is requested, and
//! from then on each directory request to that origin has that query. The URLs of the entries do not have it.

use std::collections::HashMap;

use parking_lot::Mutex;
use percent_encoding::percent_decode_str;
use reqwest::header::{self, HeaderValue};
use url::Url;

use super::directory::{is_page_in_place_of_a_file, is_redirected_to_directory};
use super::{NotAnIndex, parse};
use crate::http::{Origin, redact};
use crate::origin::{Client, Document, DocumentRequest, Metadata, as_directory};
use crate::source::data_index;
use crate::source::{
    Asked, BoxFuture, Entries, Entry, Found, ListedSize, Listing, ListingConfig, NO_INDEX_PAGE, NameKind, Source,
    SourceError,
};
use crate::util::events;

/// How to request a plain page.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Form {
    query: String,
    /// Another `User-Agent`, if needed.
    user_agent: Option<&'static str>,
}

/// Text in the pages of servers with a plain form, and the query and `User-Agent` that request it.
const KNOWN_FORMS: [(&str, &str, Option<&str>); 2] = [
    // dufs: the name of its script contains the version.
    ("__dufs_v", "noscript", None),
    // copyparty sends coloured text to programs whose names begin with `fetch`, because of FreeBSD's fetch.
    ("# acct: ", "b", Some("Mozilla/5.0 (compatible; fetchfs)")),
];

/// Text in listings of another kind, and what to do about them.
const OTHER_KINDS: [(&str, &str); 1] = [(
    "<ListBucketResult",
    "listings of S3 buckets are not supported; mount an index page of the bucket",
)];

/// Maximum bytes of a response that are searched for these texts.
const SEARCHED: usize = 16 << 10;

/// The name of the kind: that of listings which were stored before kinds were.
pub(crate) const INDEX: &str = "index";

/// The source of index pages.
pub(crate) struct WebIndex {
    client: Client,
    config: ListingConfig,
    /// How to request plain pages, by origin. Locked for a look-up only.
    plain_forms: Mutex<HashMap<Origin, Form>>,
}

/// Why a page was refused.
struct Refusal {
    why: String,
    /// How to request another form of it.
    plain_form: Option<Form>,
}

impl WebIndex {
    /// A source of index pages that sends requests through this client.
    pub(crate) fn new(client: Client, config: ListingConfig) -> WebIndex {
        WebIndex {
            client,
            config,
            plain_forms: Mutex::default(),
        }
    }

    /// A directory that the user has named, and its listing at `there`.
    async fn root(&self, directory: Url, there: &Url) -> Result<Found, SourceError> {
        let listing = self.list(&directory, there).await?;
        if !listing.is_evident() {
            // Only the parent's listing could show that this is an empty directory; a home page looks the same.
            return Err(SourceError::not_a_listing(there, NO_INDEX_PAGE));
        }
        if !listing.is_marked {
            log::warn!(
                event = events::NOT_AN_INDEX;
                "{}: this page does not look like a directory index (no title such as `Index of`, no link upwards, \
                 no sizes or dates); its links are shown as files and directories",
                redact(there)
            );
        }
        Ok(Found::Directory(directory, listing))
    }

    /// The listing of a directory whose URL without `/` returned a page. `None` if the page does not mark itself as an
    /// index.
    async fn marked_index(&self, url: &Url, answer: &Metadata) -> Option<Listing> {
        if !is_page_in_place_of_a_file(url, answer) {
            return None;
        }
        let directory = as_directory(url);
        let listing = self.list(&directory, &directory).await.ok()?;
        listing.is_marked.then_some(listing)
    }

    /// The listing at `there`, requested in this form.
    async fn ask(
        &self,
        directory: &Url,
        there: &Url,
        form: Option<&Form>,
    ) -> Result<Result<Listing, Refusal>, SourceError> {
        let mut asked = there.clone();
        if let Some(form) = form {
            asked.set_query(Some(&form.query));
        }
        let user_agent = form.and_then(|form| form.user_agent);
        let mut request = DocumentRequest::default();
        if let Some(user_agent) = user_agent {
            let value = HeaderValue::from_static(user_agent);
            request.headers.insert(header::USER_AGENT, value);
        }
        let page = self.client.document(&asked, request).await?;
        let (config, asked, answered) = (self.config, there.clone(), page.url.clone());
        let home = directory.clone();
        let query = form.map(|form| form.query.clone());
        // A long page takes seconds, and the runtime's threads have to move bodies.
        let reading = tokio::task::spawn_blocking(move || {
            let mut listing = read(&asked, &page, &config)?;
            // The query of the page's form is no part of the entries' URLs.
            if let Some(query) = &query {
                change_urls(&mut listing.entries, &asked, |mut url| {
                    if url.query() == Some(query) {
                        url.set_query(None);
                    }
                    url
                });
            }
            // Entries have URLs below the directory's own URL, whatever redirect or mirror sent the page.
            if page.url.path() != home.path() || page.url.origin() != home.origin() {
                bring_home(&mut listing, &page.url, &home);
            }
            Ok(listing)
        });
        // An error means a panic, or a runtime that is shutting down.
        let read = reading
            .await
            .unwrap_or_else(|error| Err(Refusal::new(error.to_string())));
        if read.is_ok() {
            self.client.found_directory(there, &answered);
        }
        Ok(read)
    }
}

impl Refusal {
    fn new(why: String) -> Refusal {
        Refusal { why, plain_form: None }
    }
}

impl Source for WebIndex {
    fn kind(&self) -> &'static str {
        INDEX
    }

    fn open<'a>(&'a self, asked: &'a Asked<'a>) -> BoxFuture<'a, Result<Option<Found>, SourceError>> {
        Box::pin(async move {
            let directory = as_directory(asked.url);
            if asked.is_named || *asked.url == directory {
                return Ok(Some(self.root(directory, &as_directory(asked.there)).await?));
            }
            let answer = asked.metadata().await?;
            // Servers redirect from a directory's name to the name with a slash.
            if answer.url.path().ends_with('/') {
                let there = if asked.is_own() { &directory } else { &answer.url };
                return Ok(Some(self.root(directory.clone(), there).await?));
            }
            if asked.is_own()
                && let Some(listing) = self.marked_index(asked.url, answer).await
            {
                return Ok(Some(Found::Directory(directory, listing)));
            }
            Ok(None)
        })
    }

    fn may_omit_names(&self) -> bool {
        true
    }

    fn tell_apart<'a>(&'a self, file: &'a Url, size: ListedSize, answer: &'a Metadata) -> BoxFuture<'a, NameKind> {
        Box::pin(async move {
            // No server gives the exact size of a page that it generates.
            let may_be_index = !matches!(size, ListedSize::Exact(_));
            if is_redirected_to_directory(file, &answer.url) {
                NameKind::Directory
            } else if !may_be_index || !is_page_in_place_of_a_file(file, answer) {
                NameKind::File
            } else if self.marked_index(file, answer).await.is_some() {
                NameKind::Directory
            } else {
                NameKind::Page
            }
        })
    }

    fn list<'a>(&'a self, directory: &'a Url, there: &'a Url) -> BoxFuture<'a, Result<Listing, SourceError>> {
        Box::pin(async move {
            let origin = Origin::of(there).unwrap_or_else(Origin::nowhere);
            let known = self.plain_forms.lock().get(&origin).cloned();
            let known = known.filter(|_| there.query().is_none());
            let refusal = match self.ask(directory, there, known.as_ref()).await? {
                Ok(listing) => return Ok(listing),
                Err(refusal) => refusal,
            };
            let form = refusal
                .plain_form
                .filter(|_| known.is_none() && there.query().is_none());
            if let Some(form) = form
                && let Ok(listing) = self.ask(directory, there, Some(&form)).await?
            {
                log::info!(
                    event = events::PLAIN_INDEX_USED;
                    "{origin}: requesting index pages with ?{}, their form without scripts",
                    form.query
                );
                self.plain_forms.lock().insert(origin, form);
                return Ok(listing);
            }
            Err(SourceError::not_a_listing(there, refusal.why))
        })
    }
}

/// The listing in a document that came for `asked`; or why there is none.
///
/// Its content decides what it is, not its media type: scripts send JSON as HTML, and nginx sends its XML as `text/xml`.
/// Text of the media type of HTML that only begins like JSON is HTML.
fn read(asked: &Url, page: &Document, config: &ListingConfig) -> Result<Listing, Refusal> {
    let says_html = page.content_type.as_deref().is_some_and(|kind| kind.contains("html"));
    let mut listing = match data_index::parse(&page.url, &page.body, config) {
        Some(Ok(listing)) => listing,
        Some(Err(why)) if !says_html => return Err(Refusal::new(why.to_string())),
        Some(Err(why)) => read_html(asked, page, config).map_err(|_| Refusal::new(why.to_string()))?,
        None => read_html(asked, page, config)?,
    };
    listing.modified = page.modified;
    Ok(listing)
}

/// The listing on a page of HTML.
///
/// The media type does not matter if the page has names or a mark: lighttpd without a table of types sends its pages as
/// octet streams.
fn read_html(asked: &Url, page: &Document, config: &ListingConfig) -> Result<Listing, Refusal> {
    let is_html = page.content_type.as_deref().is_none_or(|kind| kind.contains("html"));
    let listing = parse(&page.url, &page.body, page.charset.as_deref(), config);
    let listing = listing.map_err(|error| match error {
        NotAnIndex::TooManyNames(_) => Refusal::new(error.to_string()),
        _ => refuse(page, error, is_html),
    });
    let listing = match listing? {
        listing if listing.is_evident() || is_html => listing,
        _ => return Err(refuse(page, NotAnIndex::NoHtml, is_html)),
    };
    if !listing.is_marked && !is_same_directory(asked, &page.url) {
        // A captive portal redirects all requests to its own page, and a link there is not a file of the directory.
        return Err(Refusal::new(format!(
            "it redirects to {}, which does not look like an index page; is a login needed?",
            redact(&page.url)
        )));
    }
    Ok(listing)
}

/// Why a page is refused, and the query for a form of it that may be accepted.
fn refuse(page: &Document, error: NotAnIndex, is_html: bool) -> Refusal {
    let start = String::from_utf8_lossy(&page.body[..page.body.len().min(SEARCHED)]);
    let by_page = match &error {
        NotAnIndex::Scripted { plain_form: Some(url) } => url.query().map(str::to_owned),
        _ => None,
    };
    let by_page = by_page.map(|query| Form {
        query,
        user_agent: None,
    });
    let known = || {
        let (_, query, user_agent) = KNOWN_FORMS.iter().find(|(mark, ..)| start.contains(mark))?;
        Some(Form {
            query: (*query).to_owned(),
            user_agent: *user_agent,
        })
    };
    let plain_form = by_page.or_else(known);
    let other_kind = || OTHER_KINDS.iter().find(|(mark, _)| start.contains(mark));
    let why = match error {
        _ if !is_html && let Some((_, why)) = other_kind() => (*why).to_owned(),
        NotAnIndex::Scripted { .. } => {
            "it is a page that needs JavaScript, and no form of it without scripts is known; mount the URL of a \
             plain HTML listing"
                .to_owned()
        }
        NotAnIndex::Login => "it is a login page; use --login, --cookie-file or --header".to_owned(),
        _ => NO_INDEX_PAGE.to_owned(),
    };
    Refusal { why, plain_form }
}

/// Rewrites a listing that was found at `page` (on a mirror, or after a redirect): entries get the URLs that the same
/// names have below `directory`. URLs on other servers stay.
fn bring_home(listing: &mut Listing, page: &Url, directory: &Url) {
    let split = |path: &str| {
        let name = path
            .strip_suffix('/')
            .unwrap_or(path)
            .rfind('/')
            .map_or(0, |slash| slash + 1);
        let (above, name) = path.split_at(name);
        (percent_decode_str(above).collect::<Vec<u8>>(), name.to_owned())
    };
    // The file name of the page itself, if any, is beside those of the entries.
    let (above, _) = split(&format!(
        "{}x",
        &page.path()[..page.path().rfind('/').map_or(0, |slash| slash + 1)]
    ));
    change_urls(&mut listing.entries, directory, |there| {
        if there.origin() != page.origin() {
            return there;
        }
        // Entries one level below the page are below the source's directory; only links that the user's options include
        // are elsewhere.
        let (entry_above, name) = split(there.path());
        if entry_above != above {
            return there;
        }
        let mut url = directory.clone();
        url.set_path(&format!("{}{name}", directory.path()));
        url.set_query(there.query());
        url
    });
}

/// Gives the entries other URLs, most of them in `directory`.
fn change_urls(entries: &mut Entries, directory: &Url, change: impl Fn(Url) -> Url) {
    let mut changed = Entries::of(directory);
    for entry in entries.iter() {
        let url = change(entry.url);
        // There is room for as many as there were before.
        let _ = changed.push(&Entry { url, ..entry });
    }
    changed.shrink_to_fit();
    *entries = changed;
}

/// Returns true if the page at `answered` may be the one requested at `asked`: the same directory of the same host,
/// over TLS or not, in any notation, with or without the file name of the index page.
fn is_same_directory(asked: &Url, answered: &Url) -> bool {
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
    fn mirror_listing_urls_map_to_the_source() {
        let page = "<title>Index of /copy</title><a href=\"a%20b\">x</a> <a href=\"/copy/sub/\">x</a> \
                    <a href=\"http://cdn/f\">x</a>";
        let at = Url::parse("https://mirror/copy/").unwrap();
        let config = ListingConfig {
            external_links: true,
            ..ListingConfig::default()
        };
        let mut listing = parse(&at, page.as_bytes(), None, &config).unwrap();
        bring_home(&mut listing, &at, &Url::parse("http://host:81/pub/d%20/").unwrap());
        let urls: Vec<_> = listing.entries.iter().map(|entry| entry.url.to_string()).collect();
        assert_eq!(
            urls,
            [
                "http://host:81/pub/d%20/a%20b",
                "http://host:81/pub/d%20/sub/",
                "http://cdn/f"
            ]
        );
    }

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
