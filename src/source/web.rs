//! Directories as web servers show them: index pages, one GET each.
//!
//! Some servers send a page that a script fills in, and one without scripts if they are asked for it by a query. Such a page says so
//! itself (`<noscript>`), or is known by what is in it ([`KNOWN_FORMS`]). Then the plain one is asked for, and from there on that
//! query goes with each question for a directory of that origin. The names' own URLs do not have it.

use std::collections::HashMap;

use parking_lot::Mutex;
use percent_encoding::percent_decode_str;
use url::Url;

use super::index_page::{self, NotAnIndex};
use super::{BoxFuture, Entries, Entry, Listing, ListingConfig, NO_INDEX_PAGE, Source};
use crate::http::{HttpError, HttpErrorKind, Origin, redact};
use crate::origin::{Client, Page};

/// How a plain page is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Form {
    query: String,
    /// As what program, if not as this one.
    user_agent: Option<&'static str>,
}

/// What is in the pages of servers that have another form of them; and the query, and the name of a program, to ask for that with.
const KNOWN_FORMS: [(&str, &str, Option<&str>); 2] = [
    // dufs: its script's name has the version in it.
    ("__dufs_v", "noscript", None),
    // copyparty, which sends coloured text to programs whose names begin with `fetch`, for FreeBSD's.
    ("# acct: ", "b", Some("Mozilla/5.0 (compatible; fetchfs)")),
];

/// What is in answers that are listings of another kind, and what to do about it.
const OTHER_KINDS: [(&str, &str); 4] = [
    (
        "<ListBucketResult",
        "it is the listing of an S3 bucket, which is not read; mount an index page of it",
    ),
    (
        "<list>",
        "it is a listing in XML, which is not read; for nginx, `autoindex_format html` gives one that is",
    ),
    (
        "[",
        "it is a listing in JSON, which is not read; for nginx, `autoindex_format html` gives one that is",
    ),
    (
        "{",
        "it is an answer in JSON, which is not read; mount a URL whose answer is a page",
    ),
];

/// How much of an answer is searched for what tells its kind, in bytes.
const SEARCHED: usize = 16 << 10;

/// Index pages of whatever server.
pub struct WebIndex {
    client: Client,
    config: ListingConfig,
    /// How a page without scripts is asked for, by origin. Taken for a look-up only.
    plain_forms: Mutex<HashMap<Origin, Form>>,
}

/// Why a page was not read.
struct Refusal {
    why: String,
    /// How another form of it is asked for.
    plain_form: Option<Form>,
}

impl WebIndex {
    /// Index pages, asked for with this client.
    pub fn new(client: Client, config: ListingConfig) -> WebIndex {
        WebIndex {
            client,
            config,
            plain_forms: Mutex::default(),
        }
    }

    /// The listing at `there`, asked for in this form.
    async fn ask(
        &self,
        directory: &Url,
        there: &Url,
        form: Option<&Form>,
    ) -> Result<Result<Listing, Refusal>, HttpError> {
        let mut asked = there.clone();
        if let Some(form) = form {
            asked.set_query(Some(&form.query));
        }
        let user_agent = form.and_then(|form| form.user_agent);
        let page = self.client.page_as(&asked, user_agent).await?;
        let (config, asked, answered) = (self.config, there.clone(), page.url.clone());
        let home = directory.clone();
        let query = form.map(|form| form.query.clone());
        // A long page takes seconds, in which the threads of the runtime have bodies to move.
        let reading = tokio::task::spawn_blocking(move || {
            let mut listing = read(&asked, &page, &config)?;
            // Which form of a page was asked for is no part of what it names.
            if let Some(query) = &query {
                change_urls(&mut listing.entries, &asked, |mut url| {
                    if url.query() == Some(query) {
                        url.set_query(None);
                    }
                    url
                });
            }
            // What a directory has is called by the directory's own URL, wherever redirects or a mirror have led.
            if page.url.path() != home.path() || page.url.origin() != home.origin() {
                bring_home(&mut listing, &page.url, &home);
            }
            Ok(listing)
        });
        // It fails only if it panics, or if the runtime is going down.
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
    fn list<'a>(&'a self, directory: &'a Url, there: &'a Url) -> BoxFuture<'a, Result<Listing, HttpError>> {
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
                    "{origin}: its pages are asked for with ?{}, which gives them without scripts",
                    form.query
                );
                self.plain_forms.lock().insert(origin, form);
                return Ok(listing);
            }
            Err(HttpError {
                kind: HttpErrorKind::BadAnswer(refusal.why),
                url: redact(there),
            })
        })
    }
}

/// The listing on a page that came when `asked` was asked for; or why there is none.
///
/// Whatever type the server gives it, if there are names on it or a mark: lighttpd without a table of types calls its pages octet streams.
fn read(asked: &Url, page: &Page, config: &ListingConfig) -> Result<Listing, Refusal> {
    let is_html = page.content_type.as_deref().is_none_or(|kind| kind.contains("html"));
    let listing = index_page::parse(&page.url, &page.body, page.charset.as_deref(), config);
    let listing = listing.map_err(|error| match error {
        NotAnIndex::TooManyNames(_) => Refusal::new(error.to_string()),
        _ => refuse(page, error, is_html),
    });
    let mut listing = match listing? {
        listing if listing.is_evident() || is_html => listing,
        _ => return Err(refuse(page, NotAnIndex::NoHtml, is_html)),
    };
    if !listing.is_marked && !is_same_directory(asked, &page.url) {
        // A portal sends everybody to its own page, and a link on that is no file of the directory.
        return Err(Refusal::new(format!(
            "it leads to {}, and nothing there says that it is an index page; is a login needed?",
            redact(&page.url)
        )));
    }
    listing.modified = page.modified;
    Ok(listing)
}

/// Why a page is none that is read, and by which query there may be one that is.
fn refuse(page: &Page, error: NotAnIndex, is_html: bool) -> Refusal {
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
    let other_kind = || {
        let text = start.trim_start();
        OTHER_KINDS.iter().find(|(mark, _)| {
            if mark.len() > 1 {
                text.contains(mark)
            } else {
                text.starts_with(mark)
            }
        })
    };
    let why = match error {
        _ if !is_html && let Some((_, why)) = other_kind() => (*why).to_owned(),
        NotAnIndex::Scripted { .. } => {
            "it is a page that a script fills in, and no form of it without scripts is known; mount a URL that lists names \
             without them"
                .to_owned()
        }
        NotAnIndex::Login => "it is a page to log in at; --login, --cookie-file or --header may help".to_owned(),
        _ => NO_INDEX_PAGE.to_owned(),
    };
    Refusal { why, plain_form }
}

/// Makes the URLs of a listing that was found at `page`, a mirror's or where a redirect led, those that the same names have in
/// `directory`. What is on other servers is there for both.
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
    // The page's own name, if it has one, is beside those of the entries.
    let (above, _) = split(&format!(
        "{}x",
        &page.path()[..page.path().rfind('/').map_or(0, |slash| slash + 1)]
    ));
    change_urls(&mut listing.entries, directory, |there| {
        if there.origin() != page.origin() {
            return there;
        }
        // What is one level below the page is so at the source; only what the user wants shown besides is anywhere else.
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

/// Whether a page at `answered` can be what was asked for at `asked`: the same directory of the same host, over TLS or
/// not, written in whatever way, with the index page's own name or without.
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
    fn the_names_of_a_mirror_are_asked_for_at_the_source() {
        let page = "<title>Index of /copy</title><a href=\"a%20b\">x</a> <a href=\"/copy/sub/\">x</a> \
                    <a href=\"http://cdn/f\">x</a>";
        let at = Url::parse("https://mirror/copy/").unwrap();
        let config = ListingConfig {
            external_links: true,
            ..ListingConfig::default()
        };
        let mut listing = index_page::parse(&at, page.as_bytes(), None, &config).unwrap();
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
