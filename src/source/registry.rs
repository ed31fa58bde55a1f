//! The registry of kinds of sources.
//!
//! A kind is one folder beside this file and one line in [`KINDS`]. Its source implements [`Source`]; nothing above or
//! below changes.
//!
//! The kind of a URL is the one of `--type`. Otherwise the first kind in [`KINDS`] that accepts the URL's scheme and
//! recognises the first answer from it ([`Source::open`]).

use std::path::{Path, PathBuf};
use std::sync::Arc;

use url::Url;

use super::asked::Asked;
use super::document::{DocumentSource, Format, archive, list, m3u, metalink};
use super::file::{FILE, SingleFile};
use super::library::{LIBRARY, Library};
use super::local::{self, LocalContent};
use super::local_directory::{LOCAL, LocalTrees};
use super::s3::{Buckets, S3};
use super::web_index::{INDEX, WebIndex};
use super::webdav::{Collections, WEBDAV};
use super::{Found, NO_INDEX_PAGE, Quota, Source, SourceConfig, SourceError, SourceErrorKind};
use crate::http::{HttpError, HttpErrorKind};
use crate::origin::Client;

/// A kind of source.
struct Kind {
    /// Its name for `--type` and in stored listings.
    name: &'static str,
    /// The schemes of its URLs.
    schemes: &'static [&'static str],
    /// Schemes that name this kind, each with the scheme of the requests: `dav` is WebDAV over `http`.
    own_schemes: &'static [(&'static str, &'static str)],
    new: fn(&Client, &SourceConfig) -> Arc<dyn Source>,
}

/// All kinds, in the order in which they are asked about an answer. The last one takes anything.
const KINDS: [Kind; 9] = [
    Kind {
        // Before documents, which are files.
        name: LOCAL,
        schemes: &[local::FILE_SCHEME],
        own_schemes: &[],
        new: |client, config| Arc::new(LocalTrees::new(client.clone(), config.listings)),
    },
    Kind {
        // Before index pages, because there is one of each item.
        name: archive::FORMAT.kind,
        schemes: WEB,
        own_schemes: &[],
        new: |client, config| of_documents(archive::FORMAT, client, config),
    },
    Kind {
        name: INDEX,
        schemes: WEB,
        own_schemes: &[],
        new: |client, config| Arc::new(WebIndex::new(client.clone(), config.listings)),
    },
    Kind {
        name: metalink::FORMAT.kind,
        schemes: WEB_AND_LOCAL,
        own_schemes: &[],
        new: |client, config| of_documents(metalink::FORMAT, client, config),
    },
    Kind {
        name: m3u::FORMAT.kind,
        schemes: WEB_AND_LOCAL,
        own_schemes: &[],
        new: |client, config| of_documents(m3u::FORMAT, client, config),
    },
    Kind {
        name: list::FORMAT.kind,
        schemes: WEB_AND_LOCAL,
        own_schemes: &[],
        new: |client, config| of_documents(list::FORMAT, client, config),
    },
    Kind {
        name: WEBDAV,
        schemes: WEB,
        own_schemes: &[("dav", "http"), ("davs", "https")],
        new: |client, config| Arc::new(Collections::new(client.clone(), config.listings)),
    },
    Kind {
        name: S3,
        schemes: &[S3],
        own_schemes: &[("s3", "s3")],
        new: |client, config| Arc::new(Buckets::new(client.clone(), config.listings, config.s3.clone())),
    },
    Kind {
        name: FILE,
        schemes: WEB,
        own_schemes: &[],
        new: |_, _| Arc::new(SingleFile),
    },
];

const WEB: &[&str] = &["http", "https"];

/// The schemes of documents.
const WEB_AND_LOCAL: &[&str] = &["http", "https", local::FILE_SCHEME, local::STDIN];

fn of_documents(format: Format, client: &Client, config: &SourceConfig) -> Arc<dyn Source> {
    Arc::new(DocumentSource::new(format, client.clone(), config.clone()))
}

/// The names of all kinds.
pub(crate) fn kinds() -> [&'static str; KINDS.len()] {
    KINDS.map(|kind| kind.name)
}

/// All schemes that a source's URL may have when the user writes it.
pub(crate) fn schemes() -> Vec<&'static str> {
    let of_kind = |kind: &Kind| {
        kind.own_schemes
            .iter()
            .map(|(own, _)| *own)
            .chain(kind.schemes.iter().copied())
            .filter(|scheme| *scheme != local::STDIN)
    };
    let mut schemes: Vec<_> = KINDS.iter().flat_map(of_kind).collect();
    schemes.sort_unstable();
    schemes.dedup();
    schemes
}

/// A source as the user named it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SourceSpec {
    /// Its URL, by which it is requested. **May contain a user name and password.**
    pub url: Url,
    /// The kind, if the URL's scheme names it.
    pub kind: Option<&'static str>,
    /// The document itself, if it can be read only once: standard input, or a pipe.
    pub content: Option<LocalContent>,
}

impl SourceSpec {
    fn at(url: Url) -> SourceSpec {
        SourceSpec {
            url,
            kind: None,
            content: None,
        }
    }

    /// A document or a directory on this machine, by its absolute path. `None` if the path is relative.
    pub(crate) fn of_file(path: &Path) -> Option<SourceSpec> {
        local::url_of(path).map(SourceSpec::at)
    }

    /// Standard input, before it is read.
    pub(crate) fn of_stdin() -> SourceSpec {
        SourceSpec::at(local::url_of_stdin(None))
    }

    /// A document that can't be read again.
    pub(crate) fn of_content(content: Vec<u8>) -> SourceSpec {
        let url = local::url_of_stdin(Some(&content));
        SourceSpec {
            content: Some(LocalContent(content.into())),
            ..SourceSpec::at(url)
        }
    }

    /// Returns true if it is a document on this machine.
    pub(crate) fn is_document(&self) -> bool {
        local::is_local(&self.url) && self.directory().is_none()
    }

    /// The path of a directory on this machine.
    pub(crate) fn directory(&self) -> Option<PathBuf> {
        self.path().filter(|_| self.url.path().ends_with('/'))
    }

    /// Returns true if it is on this machine.
    pub(crate) fn is_local(&self) -> bool {
        local::is_local(&self.url)
    }

    /// The path of a file on this machine.
    pub(crate) fn path(&self) -> Option<PathBuf> {
        local::path_of(&self.url)
    }

    /// A source by its URL as written. A scheme that names a kind becomes the scheme of its requests.
    ///
    /// # Errors
    /// If it is not a URL.
    pub(crate) fn of(text: &str) -> Result<SourceSpec, url::ParseError> {
        let (scheme, rest) = text.split_once(':').unwrap_or(("", text));
        let scheme = scheme.to_ascii_lowercase();
        let own = |kind: &Kind| {
            let (_, requests) = kind.own_schemes.iter().find(|(own, _)| *own == scheme)?;
            Some((kind.name, *requests))
        };
        let (kind, url) = match KINDS.iter().find_map(own) {
            // Replaced as text: a URL whose scheme the standard does not know is not normalised.
            Some((kind, requests)) => (Some(kind), Url::parse(&format!("{requests}:{rest}"))?),
            None => (None, Url::parse(text)?),
        };
        Ok(SourceSpec {
            kind,
            ..SourceSpec::at(url)
        })
    }
}

/// A library, whose directories have URLs of their own and of all kinds of sources.
const OF_LIBRARIES: Kind = Kind {
    name: LIBRARY,
    schemes: &[LIBRARY, "http", "https"],
    own_schemes: &[],
    new: |_, _| Arc::new(SingleFile),
};

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

impl Sources {
    /// The sources of a mount. `kind` is the name that the user gave.
    pub(crate) fn new(client: &Client, config: &SourceConfig, kind: Option<&str>) -> Arc<Sources> {
        let kinds = KINDS
            .into_iter()
            .filter(|known| kind.is_none_or(|name| known.name == name));
        let with_source = |kind: Kind| {
            let source = (kind.new)(client, config);
            (kind, source)
        };
        Arc::new(Sources {
            kinds: kinds.map(with_source).collect(),
            is_named: kind.is_some(),
        })
    }

    /// The sources of a mount of a library.
    pub(crate) fn of_library(library: Arc<Library>) -> Arc<Sources> {
        Arc::new(Sources {
            kinds: vec![(OF_LIBRARIES, library)],
            is_named: false,
        })
    }

    /// The kinds that a source may have.
    fn fitting(&self, spec: &SourceSpec) -> impl Iterator<Item = &(Kind, Arc<dyn Source>)> {
        let scheme = spec.url.scheme().to_owned();
        let named = spec.kind.filter(|_| !self.is_named);
        self.kinds.iter().filter(move |(kind, _)| match named {
            Some(named) => kind.name == named,
            None => kind.schemes.contains(&scheme.as_str()) || spec.kind == Some(kind.name),
        })
    }

    /// The source by the URL of its requests. A kind with URLs of its own is then the source's.
    ///
    /// # Errors
    /// If no kind that the mount may have has such URLs, or the kind finds a fault in it.
    pub(crate) fn resolve(&self, spec: SourceSpec) -> Result<SourceSpec, SourceError> {
        let Some((kind, source)) = self.fitting(&spec).next() else {
            let why = "--type names a kind that has no such URLs";
            return Err(SourceError::of(SourceErrorKind::BadAnswer, &spec.url, why));
        };
        let url = source.address(&spec.url)?;
        let kind = if url == spec.url { spec.kind } else { Some(kind.name) };
        Ok(SourceSpec { url, kind, ..spec })
    }

    /// The source of a file that no listing has. It may turn out to be a directory, which index pages show; of a scheme
    /// without them, it does not.
    pub(crate) fn of_file(&self, url: &Url) -> Arc<dyn Source> {
        let spec = SourceSpec::at(url.clone());
        match self
            .fitting(&spec)
            .find(|(kind, _)| matches!(kind.name, INDEX | LIBRARY))
        {
            Some((_, source)) => Arc::clone(source),
            None => Arc::new(SingleFile),
        }
    }

    /// How much room there is, if one kind of source says so.
    pub(crate) fn quota(&self) -> Option<Quota> {
        self.kinds.iter().find_map(|(_, source)| source.quota())
    }

    /// No earlier answer counts as fresh any more.
    pub(crate) fn expire(&self) {
        self.kinds.iter().for_each(|(_, source)| source.expire());
    }

    /// Returns true if the user has named the kind of this source, by `--type` or by its scheme.
    pub(crate) fn is_named(&self, spec: &SourceSpec) -> bool {
        self.is_named || spec.kind.is_some()
    }

    /// The directories whose listings an earlier mount may have stored of a source, with their sources.
    pub(crate) fn stored_directories(&self, spec: &SourceSpec) -> Vec<(Url, &'static str, Arc<dyn Source>)> {
        let of_kind =
            |(kind, source): &(Kind, Arc<dyn Source>)| (source.directory(&spec.url), kind.name, Arc::clone(source));
        self.fitting(spec)
            .filter(|(kind, _)| kind.name != FILE)
            .map(of_kind)
            .collect()
    }

    /// The kind of a file that an earlier mount has stored, and its source. `None` if this mount has no such kind.
    pub(crate) fn stored_file(&self, spec: &SourceSpec) -> Option<(&'static str, Arc<dyn Source>)> {
        let is_named = self.is_named(spec);
        // Without the user's word, a `/` at the end makes a directory.
        if !is_named && spec.url.path().ends_with('/') {
            return None;
        }
        let has_files = |(kind, _): &&(Kind, _)| matches!(kind.name, FILE | S3);
        match self.fitting(spec).find(has_files)? {
            (kind, _) if kind.name == FILE => Some((kind.name, self.of_file(&spec.url))),
            (kind, source) => Some((kind.name, Arc::clone(source))),
        }
    }

    /// Finds out what is at a URL that the user has named, by the answers from `there`: the URL itself, or its URL on a
    /// mirror. Asks one kind after the other, until one recognises its own.
    ///
    /// # Errors
    /// If the server does not answer or refuses, or if the answer is of none of the kinds: what the first kind says.
    pub(crate) async fn open(&self, client: &Client, spec: &SourceSpec, there: &Url) -> Result<Opened, SourceError> {
        let is_named = self.is_named(spec);
        let asked = Asked::new(client, spec.content.as_ref(), &spec.url, there, is_named);
        let mut first_error = None;
        for (kind, source) in self.fitting(spec) {
            if first_error.is_some() && kind.name == FILE {
                // It would take the answer that the others have refused.
                break;
            }
            match source.open(&asked).await {
                Ok(None) => {}
                Ok(Some(found)) => {
                    let source = match &found {
                        Found::Directory(..) => Arc::clone(source),
                        // It may become a directory, which a kind before this one would recognise.
                        Found::File(_) if kind.name == FILE => self.of_file(&spec.url),
                        Found::File(_) => Arc::clone(source),
                    };
                    let kind = kind.name;
                    return Ok(Opened { kind, source, found });
                }
                Err(error) if may_be_of_another_kind(&error) => {
                    first_error.get_or_insert(error);
                }
                Err(error) => return Err(first_error.unwrap_or(error)),
            }
        }
        Err(first_error.unwrap_or_else(|| SourceError::not_a_listing(there, NO_INDEX_PAGE)))
    }
}

/// Returns true if a source of another kind may answer where this one failed. Without a connection or a login, all kinds
/// fail.
fn may_be_of_another_kind(error: &SourceError) -> bool {
    match error.kind() {
        SourceErrorKind::NotAListing | SourceErrorKind::BadAnswer | SourceErrorKind::NotFound => true,
        SourceErrorKind::Denied => {
            matches!(
                error.http(),
                Some(HttpError {
                    kind: HttpErrorKind::Denied(403),
                    ..
                })
            )
        }
        _ => false,
    }
}

#[cfg(test)]
impl Sources {
    /// One kind, of directories, whose name and scheme are `name`.
    pub(crate) fn of_tests(name: &'static str, source: Arc<dyn Source>) -> Arc<Sources> {
        let kind = Kind {
            name,
            schemes: Vec::leak(vec![name]),
            own_schemes: &[],
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

    fn spec(url: &str) -> SourceSpec {
        SourceSpec::of(url).unwrap()
    }

    async fn kind_at(url: &Url, kind: Option<&str>) -> (&'static str, bool) {
        let client = Client::new(HttpConfig::default()).unwrap();
        let sources = Sources::new(&client, &SourceConfig::default(), kind);
        let opened = sources.open(&client, &spec(url.as_str()), url).await.unwrap();
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
        let stored = |url: &str, kind| {
            let sources = Sources::new(&client, &SourceConfig::default(), kind);
            let directories = sources.stored_directories(&spec(url));
            let kinds: Vec<_> = directories.into_iter().map(|(_, kind, _)| kind).collect();
            (kinds, sources.stored_file(&spec(url)).is_some())
        };
        let directories: Vec<_> = kinds()
            .into_iter()
            .filter(|kind| ![FILE, S3, LOCAL].contains(kind))
            .collect();
        assert_eq!(stored("http://h/x", None), (directories.clone(), true));
        assert_eq!(stored("http://h/x/", None), (directories, false));
        assert_eq!(stored("http://h/x/", Some("file")), (vec![], true));
        assert_eq!(stored("http://h/x", Some("index")), (vec!["index"], false));
    }

    #[test]
    fn file_without_listing_may_be_an_index_page() {
        let client = Client::new(HttpConfig::default()).unwrap();
        for (kind, expected) in [
            (None, INDEX),
            (Some(INDEX), INDEX),
            (Some(FILE), FILE),
            (Some(WEBDAV), FILE),
        ] {
            let sources = Sources::new(&client, &SourceConfig::default(), kind);
            let url = Url::parse("http://h/x").unwrap();
            assert_eq!(sources.of_file(&url).kind(), expected);
        }
    }

    #[tokio::test]
    async fn refused_answer_is_not_taken_for_a_file() {
        let server = Server::start(|_| says("HTTP/1.1 403 No\r\nContent-Length: 0\r\n\r\n")).await;
        let client = Client::new(HttpConfig::default()).unwrap();
        let sources = Sources::new(&client, &SourceConfig::default(), None);
        let url = server.at("d/");
        let error = sources.open(&client, &spec(url.as_str()), &url).await.err().unwrap();
        assert_eq!(error.kind(), SourceErrorKind::Denied);
    }

    #[test]
    fn own_scheme_names_the_kind() {
        for (name, requests) in KINDS.iter().flat_map(|kind| kind.own_schemes) {
            let named = spec(&format!("{name}://us:pw@Host/a%20b"));
            assert_eq!(
                named.url.as_str().to_lowercase(),
                format!("{requests}://us:pw@host/a%20b")
            );
            assert!(named.kind.is_some());
        }
        assert_eq!(spec("HTTP://h").kind, None);
    }
}
