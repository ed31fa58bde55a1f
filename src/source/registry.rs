//! The registry of kinds of sources.
//!
//! A kind is one folder beside this file and one line in [`KINDS`]. Its source implements [`Source`]; nothing above or
//! below changes.
//!
//! The kind of a URL is the one of `--type`. Otherwise the first kind in [`KINDS`] that accepts the URL's scheme and
//! recognises the first answer from it ([`Source::open`]).

use std::sync::Arc;

use tokio::sync::OnceCell;
use url::Url;

use super::file::SingleFile;
use super::index_page::WebIndex;
use super::{Found, ListingConfig, NO_INDEX_PAGE, Source, SourceError};
use crate::origin::{Client, Metadata};

/// A kind of source.
struct Kind {
    /// Its name for `--type`.
    name: &'static str,
    /// The schemes of its URLs.
    schemes: &'static [&'static str],
    /// True if its URLs are directories, false if they are files.
    is_directory: bool,
    new: fn(&Client, ListingConfig) -> Arc<dyn Source>,
}

/// All kinds, in the order in which they are asked about an answer.
const KINDS: [Kind; 2] = [
    Kind {
        name: "index",
        schemes: WEB,
        is_directory: true,
        new: |client, listings| Arc::new(WebIndex::new(client.clone(), listings)),
    },
    Kind {
        name: "file",
        schemes: WEB,
        is_directory: false,
        new: |_, _| Arc::new(SingleFile),
    },
];

const WEB: &[&str] = &["http", "https"];

/// The names of all kinds.
pub(crate) fn kinds() -> [&'static str; KINDS.len()] {
    KINDS.map(|kind| kind.name)
}

/// Returns true if a kind of source accepts URLs with this scheme.
pub(crate) fn is_scheme(scheme: &str) -> bool {
    KINDS.iter().any(|kind| kind.schemes.contains(&scheme))
}

/// The sources of one mount, one of each kind that it may have.
pub(crate) struct Sources {
    kinds: Vec<(Kind, Arc<dyn Source>)>,
    /// True if the user has named the kind.
    is_named: bool,
}

/// What is at a URL that the user has named.
pub(crate) struct Opened {
    /// The name of the kind.
    pub kind: &'static str,
    /// Lists what is below, and knows the content of what is listed.
    pub source: Arc<dyn Source>,
    /// What it is.
    pub found: Found,
}

/// A URL that the user has named, and the first answer from it. All kinds share that one request.
pub(crate) struct Asked<'a> {
    client: &'a Client,
    /// The URL.
    pub url: &'a Url,
    /// Where it is asked: itself, or its URL on a mirror.
    pub there: &'a Url,
    /// True if the user has named the kind.
    pub is_named: bool,
    metadata: OnceCell<Metadata>,
}

impl Asked<'_> {
    /// Returns true if the source's own URL is asked, no mirror.
    pub(crate) fn is_own(&self) -> bool {
        self.url == self.there
    }

    /// The answer to a request for the first byte.
    ///
    /// # Errors
    /// As for [`Client::metadata`].
    pub(crate) async fn metadata(&self) -> Result<&Metadata, SourceError> {
        let ask = || async {
            if self.is_own() {
                self.client.metadata(self.url).await
            } else {
                self.client.metadata_of_mirror(self.there).await
            }
        };
        Ok(self.metadata.get_or_try_init(ask).await?)
    }
}

impl Sources {
    /// The sources of a mount. `kind` is the name that the user gave.
    pub(crate) fn new(client: &Client, listings: ListingConfig, kind: Option<&str>) -> Arc<Sources> {
        let kinds = KINDS
            .into_iter()
            .filter(|known| kind.is_none_or(|name| known.name == name));
        let with_source = |kind: Kind| {
            let source = (kind.new)(client, listings);
            (kind, source)
        };
        Arc::new(Sources {
            kinds: kinds.map(with_source).collect(),
            is_named: kind.is_some(),
        })
    }

    fn fitting(&self, url: &Url) -> impl Iterator<Item = &(Kind, Arc<dyn Source>)> {
        self.kinds
            .iter()
            .filter(|(kind, _)| kind.schemes.contains(&url.scheme()))
    }

    /// The first source that accepts a URL; of another scheme than any, a source that lists nothing.
    pub(crate) fn first(&self, url: &Url) -> Arc<dyn Source> {
        match self.fitting(url).next() {
            Some((_, source)) => Arc::clone(source),
            None => Arc::new(SingleFile),
        }
    }

    /// The name of the kind of what an earlier mount has stored of a URL. `None` if this mount has no such kind.
    pub(crate) fn kind_of_stored(&self, url: &Url, is_directory: bool) -> Option<&'static str> {
        let mut kinds = self.fitting(url).map(|(kind, _)| kind);
        // Without the user's word, a `/` at the end makes a directory.
        if !is_directory && !self.is_named && url.path().ends_with('/') {
            return None;
        }
        Some(kinds.find(|kind| kind.is_directory == is_directory)?.name)
    }

    /// Finds out what is at a URL that the user has named, by an answer from `there`: the URL itself, or its URL on a
    /// mirror.
    ///
    /// # Errors
    /// If the server does not answer or refuses, or if the answer is of none of the kinds.
    pub(crate) async fn open(&self, client: &Client, url: &Url, there: &Url) -> Result<Opened, SourceError> {
        let asked = Asked {
            client,
            url,
            there,
            is_named: self.is_named,
            metadata: OnceCell::new(),
        };
        for (kind, source) in self.fitting(url) {
            if let Some(found) = source.open(&asked).await? {
                let source = match &found {
                    Found::Directory(..) => Arc::clone(source),
                    // It may become a directory, which a kind before this one would recognise.
                    Found::File(_) => self.first(url),
                };
                let kind = kind.name;
                return Ok(Opened { kind, source, found });
            }
        }
        Err(SourceError::not_a_listing(there, NO_INDEX_PAGE))
    }
}

#[cfg(test)]
impl Sources {
    /// One kind, of directories, whose name and scheme are `name`.
    pub(crate) fn of_tests(name: &'static str, source: Arc<dyn Source>) -> Arc<Sources> {
        let kind = Kind {
            name,
            schemes: Vec::leak(vec![name]),
            is_directory: true,
            new: |_, _| unreachable!("there is one already"),
        };
        Arc::new(Sources {
            kinds: vec![(kind, source)],
            is_named: false,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::HttpConfig;
    use crate::http::testing::{Server, says};

    const PAGE: &str = "<title>Index of /</title><a href=\"f\">f</a>";

    /// A server with an index page of one file at any URL.
    async fn server() -> Server {
        Server::start(|_| {
            let length = PAGE.len();
            says(format!(
                "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: {length}\r\n\r\n{PAGE}"
            ))
        })
        .await
    }

    async fn kind_at(url: &Url, kind: Option<&str>) -> (&'static str, bool) {
        let client = Client::new(HttpConfig::default()).unwrap();
        let sources = Sources::new(&client, ListingConfig::default(), kind);
        let opened = sources.open(&client, url, url).await.unwrap();
        (opened.kind, matches!(opened.found, Found::Directory(..)))
    }

    #[tokio::test]
    async fn first_answer_or_type_decides_the_kind() {
        let server = server().await;
        for (path, by_answer) in [
            ("d/", ("index", true)),
            ("d", ("index", true)),
            ("d.html", ("file", false)),
        ] {
            let url = server.at(path);
            assert_eq!(kind_at(&url, None).await, by_answer, "{path}");
            assert_eq!(kind_at(&url, Some("file")).await, ("file", false), "{path}");
            assert_eq!(kind_at(&url, Some("index")).await, ("index", true), "{path}");
        }
    }

    #[test]
    fn stored_names_count_for_a_mount_of_their_kind() {
        let client = Client::new(HttpConfig::default()).unwrap();
        let stored = |url: &str, kind, is_directory| {
            let sources = Sources::new(&client, ListingConfig::default(), kind);
            sources.kind_of_stored(&Url::parse(url).unwrap(), is_directory)
        };
        assert_eq!(stored("http://h/x", None, false), Some("file"));
        assert_eq!(stored("http://h/x", None, true), Some("index"));
        assert_eq!(stored("http://h/x/", None, false), None);
        assert_eq!(stored("http://h/x/", Some("file"), false), Some("file"));
        assert_eq!(stored("http://h/x/", Some("file"), true), None);
        assert_eq!(stored("http://h/x", Some("index"), false), None);
    }
}
