//! Gives the entries of a listing the URLs below the directory's own, wherever the listing came from.

use percent_encoding::percent_decode_str;
use url::Url;

use super::answer::Reading;
use crate::source::{Entries, Entry};

/// Where a page of a directory came from, and where its entries belong.
#[derive(Clone)]
pub(super) struct Homing {
    /// The directory's own URL.
    pub(super) directory: Url,
    /// The URL that was requested for it, without the query of the form.
    pub(super) asked: Url,
    /// The URL after redirects.
    pub(super) answered: Url,
    /// The query of the form of the page.
    pub(super) query: Option<String>,
}

impl Homing {
    /// Gives the entries of a listing their URLs.
    pub(super) fn of_reading(&self, mut reading: Reading) -> Reading {
        if let Ok(listing) = &mut reading.listing {
            self.of_entries(&mut listing.entries);
        }
        reading
    }

    /// Gives the entries of the page their URLs.
    pub(super) fn of_entries(&self, entries: &mut Entries) {
        // The query of the page's form is no part of the entries' URLs.
        if let Some(query) = &self.query {
            change_urls(entries, &self.asked, |mut url| {
                if url.query() == Some(query) {
                    url.set_query(None);
                }
                url
            });
        }
        // Entries have URLs below the directory's own URL, whatever redirect or mirror sent the page.
        let (page, home) = (&self.answered, &self.directory);
        if page.path() != home.path() || page.origin() != home.origin() {
            bring_home(entries, page, &self.asked, home);
        }
    }
}

/// Rewrites entries that were found at `page` (on a mirror, or after a redirect) when `asked` was requested: entries get
/// the URLs that the same names have below `directory`. URLs on other servers stay.
fn bring_home(entries: &mut Entries, page: &Url, asked: &Url, directory: &Url) {
    // A program that lists directories by queries (`/list?dir=x`), which is asked without a `/` at the end.
    let is_program = page.path() != asked.path() && Some(page.path()) == asked.path().strip_suffix('/');
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
    change_urls(entries, directory, |there| {
        if there.origin() != page.origin() {
            return there;
        }
        if is_program && there.path() == page.path() {
            let mut url = directory.clone();
            url.set_query(there.query());
            return url;
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::ListingConfig;
    use crate::source::web_index::index_page::parse;

    #[test]
    fn queries_of_a_program_stay_its_own() {
        let config = ListingConfig {
            query_links: true,
            ..ListingConfig::default()
        };
        for (page, asked, expected) in [
            ("http://host/list", "http://host/list/", "http://host/list/?dir=x"),
            ("http://mirror/l?dir=", "http://mirror/l/", "http://host/list/?dir=x"),
            (
                "http://host/list/index.php",
                "http://host/list/",
                "http://host/list/index.php?dir=x",
            ),
        ] {
            let (page, asked) = (Url::parse(page).unwrap(), Url::parse(asked).unwrap());
            let mut listing = parse(
                &page,
                b"<title>Index of /</title><a href='?dir=x'>x/</a>",
                None,
                &config,
            )
            .unwrap();
            bring_home(
                &mut listing.entries,
                &page,
                &asked,
                &Url::parse("http://host/list/").unwrap(),
            );
            assert_eq!(listing.entries.url(0).as_str(), expected);
        }
    }

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
        bring_home(
            &mut listing.entries,
            &at,
            &at,
            &Url::parse("http://host:81/pub/d%20/").unwrap(),
        );
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
}
