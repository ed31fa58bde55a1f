//! Directories as web servers show them: index pages, one GET each.

use percent_encoding::percent_decode_str;
use url::Url;

use super::index_page::{self, NotAnIndex};
use super::{BoxFuture, Listing, ListingConfig, Source};
use crate::http::{Client, HttpError, HttpErrorKind, Page, redact};

/// Index pages of whatever server.
pub struct WebIndex {
    client: Client,
    config: ListingConfig,
}

impl WebIndex {
    /// Index pages, asked for with this client.
    pub fn new(client: Client, config: ListingConfig) -> WebIndex {
        WebIndex { client, config }
    }
}

impl Source for WebIndex {
    fn list<'a>(&'a self, directory: &'a Url, there: &'a Url) -> BoxFuture<'a, Result<Listing, HttpError>> {
        Box::pin(async move {
            let page = self.client.page(there).await?;
            let (config, asked, is_mirror) = (self.config, there.clone(), there != directory);
            let home = directory.clone();
            // A long page takes seconds, in which the threads of the runtime have bodies to move.
            let reading = tokio::task::spawn_blocking(move || {
                let mut listing = read(&asked, &page, &config)?;
                if is_mirror {
                    bring_home(&mut listing, &page.url, &home);
                }
                Ok(listing)
            });
            // It fails only if it panics, or if the runtime is going down.
            let read = reading.await.unwrap_or_else(|error| Err(error.to_string()));
            read.map_err(|why| HttpError {
                kind: HttpErrorKind::BadAnswer(why),
                url: redact(there),
            })
        })
    }
}

/// The listing on a page that came when `asked` was asked for; or why there is none.
///
/// Whatever type the server gives it: lighttpd without a table of types calls its pages octet streams.
fn read(asked: &Url, page: &Page, config: &ListingConfig) -> Result<Listing, String> {
    let listing = index_page::parse(&page.url, &page.body, page.charset.as_deref(), config);
    let mut listing = listing.map_err(|error| match error {
        NotAnIndex::TooManyNames(_) => error.to_string(),
        NotAnIndex::NothingListed { .. } | NotAnIndex::EndlessTag => {
            "it is not an index page of a directory".to_owned()
        }
    })?;
    if !listing.is_marked && !is_same_directory(asked, &page.url) {
        // A portal sends everybody to its own page, and a link on that is no file of the directory.
        return Err(format!(
            "it leads to {}, and nothing there says that it is an index page; is a login needed?",
            redact(&page.url)
        ));
    }
    listing.modified = page.modified;
    Ok(listing)
}

/// Makes the URLs of a mirror's listing, which was found at `page`, those that the source has for the same names in its
/// `directory`. What is on other servers is there for both.
fn bring_home(listing: &mut Listing, page: &Url, directory: &Url) {
    for entry in &mut listing.entries {
        if entry.url.origin() != page.origin() {
            continue;
        }
        // What is on the page's own origin is one level below it, without a query.
        let path = entry.url.path();
        let (name, slash) = path.strip_suffix('/').map_or((path, ""), |path| (path, "/"));
        let name = name.rsplit('/').next().unwrap_or(name);
        let mut url = directory.clone();
        url.set_path(&format!("{}{name}{slash}", directory.path()));
        url.set_query(None);
        entry.url = url;
    }
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
        let urls: Vec<_> = listing.entries.iter().map(|entry| entry.url.as_str()).collect();
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
