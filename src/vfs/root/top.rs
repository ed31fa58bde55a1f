//! From the sources that the user names to the root of the tree.
//!
//! A source that an earlier mount has stored is taken as stored, so the mount is ready at once, with or without the
//! server. Any other source is asked once before the mount attaches. So its errors appear on the terminal, and its
//! answer is the first listing or the file's metadata.

use std::sync::Arc;

use url::Url;

use crate::cache::Catalog;
use crate::http::{HttpError, HttpErrorKind, Origin, redact};
use crate::origin::Client;
use crate::source::{Found, INDEX, LIBRARY, Library, Listing, Name, Opened, Source, SourceError, SourceSpec, Sources};
use crate::util::events;
use crate::vfs::listing::stored;
use crate::vfs::nodes::remote_file::known::Known;
use crate::vfs::root::stored_kind;

/// What the root of the tree shows.
pub(crate) enum Top {
    /// One directory: the root shows its names.
    Directory {
        /// The name of its kind of source.
        kind: &'static str,
        /// Its source.
        source: Arc<dyn Source>,
        /// Its URL, ending in `/`.
        url: Url,
        /// Its listing.
        listing: Box<TopListing>,
    },
    /// One name for each source.
    Names(Vec<(Name, TopEntry)>),
}

impl Top {
    /// The names of the kinds of its sources, each once.
    pub(crate) fn kinds(&self) -> Vec<&'static str> {
        let mut kinds = match self {
            Top::Directory { kind, .. } => vec![*kind],
            Top::Names(entries) => entries.iter().map(|(_, entry)| entry.kind).collect(),
        };
        kinds.sort_unstable();
        kinds.dedup();
        kinds
    }
}

/// One of several sources, or a single file.
pub(crate) struct TopEntry {
    /// The name of its kind of source.
    pub(in crate::vfs) kind: &'static str,
    pub(in crate::vfs) source: Arc<dyn Source>,
    pub(in crate::vfs) what: TopFound,
}

impl TopEntry {
    /// What a source has answered just now, itself or by a mirror.
    fn of(opened: Opened, url: &Url, listing: impl FnOnce(Listing) -> TopListing) -> TopEntry {
        let Opened { kind, source, found } = opened;
        let what = match found {
            Found::Directory(url, names) => TopFound::Directory(url, Box::new(listing(names))),
            Found::File(metadata) => TopFound::File(url.clone(), Known::of(metadata)),
        };
        TopEntry { kind, source, what }
    }
}

/// What a source is.
pub(in crate::vfs) enum TopFound {
    /// A directory and its listing.
    Directory(Url, Box<TopListing>),
    /// A file, and the origin's answer, from now or an earlier mount. The URL is the given one, not the end of its
    /// redirects, because that one stays valid.
    File(Url, Option<Known>),
}

/// A listing of the root or of a source.
pub(crate) enum TopListing {
    /// The source's answer from now.
    Answered(Listing),
    /// A mirror's answer, because the source could not be asked.
    ByMirror(Listing),
    /// The answer that an earlier mount stored.
    Stored(Listing),
    /// None yet: it is requested when a program lists the directory.
    Unasked,
}

/// Why a source can't be mounted.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TopError {
    /// The source has no usable answer.
    #[error("can't mount {}{}", .0, advice(.0.http()))]
    Source(SourceError),
    /// The origin refused the credentials.
    #[error("can't mount {}; check the user name and password, or the token", .0)]
    Login(SourceError),
    /// Another server than the source's wants a login, which is not to receive that of the source.
    #[error(
        "can't mount {}; that is not the source's own server: a login for it belongs in a netrc file, under its name \
         (--netrc-file)", .0
    )]
    LoginHost(SourceError),
    /// No connection to the origin; a configured proxy may be the cause.
    #[error(
        "can't mount {}; this may be the proxy, which is set by --proxy or in the environment (http_proxy, \
         https_proxy, all_proxy)", .0
    )]
    Proxied(SourceError),
    /// Two sources would have one name.
    #[error("two sources have the same name, {0:?}; mount them on separate mountpoints")]
    SameName(String),
    /// The URL gives no name.
    #[error("{0} does not end in a valid file name; mount it alone")]
    NoName(String),
}

impl TopError {
    fn of(error: SourceError, client: &Client, url: &Url) -> TopError {
        let is_elsewhere = error.http().is_some_and(|error| error.url.origin() != Origin::of(url));
        match error.http().map(|error| &error.kind) {
            Some(HttpErrorKind::Denied(401)) if is_elsewhere => TopError::LoginHost(error),
            Some(HttpErrorKind::Denied(401)) if client.logs_in_at(url) => TopError::Login(error),
            Some(kind) if kind.is_connect_failure() && client.may_use_a_proxy() => TopError::Proxied(error),
            _ => TopError::Source(error),
        }
    }
}

/// Advice for the user, as the end of the sentence.
fn advice(error: Option<&HttpError>) -> &'static str {
    // Other errors say what to do themselves.
    let Some(HttpError { kind, .. }) = error else { return "" };
    match kind {
        HttpErrorKind::UnknownHost => "; check its spelling and your network",
        HttpErrorKind::Refused => "; is the server running, and is the port right?",
        HttpErrorKind::NoTls => "; should the URL begin with http://, or is the port another one?",
        HttpErrorKind::TimedOut(_) | HttpErrorKind::Unreachable(_) => "; is the server up, and reachable from here?",
        HttpErrorKind::Denied(401) => "; give a user name and password, by --login and --password-file for example",
        HttpErrorKind::Denied(407) => {
            "; the proxy requires a user name and password: --proxy http://USER:PASSWORD@HOST:PORT"
        }
        HttpErrorKind::Denied(403) => {
            "; listings may be turned off there (mount a file's URL then), or a login is wanted (--login, --password-file)"
        }
        HttpErrorKind::Denied(_) => "; the server denies you access",
        HttpErrorKind::NoCredentials(_) => "",
        // The error itself says what to do, if anything.
        HttpErrorKind::Untrusted(_) | HttpErrorKind::Handshake(_) => "",
        HttpErrorKind::NotFound(_) => "; check the URL",
        // The reason says what to do.
        HttpErrorKind::BadAnswer(_) => "",
        HttpErrorKind::Offline => ", and the cache has no listing of it; mount it once without --offline",
        HttpErrorKind::NoDescriptors => "; raise the limit, or use fewer mounts",
        HttpErrorKind::Unanswered => "; is the server behind it running?",
        // Servers send it to a client that speaks no TLS on a TLS port.
        HttpErrorKind::Status { status: 400, .. } => "; check the URL, and whether it should begin with https://",
        kind if kind.is_temporary() => "; try again later",
        _ => "; check the URL",
    }
}

/// How a single file gets its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Naming {
    /// The last part of the URL's path.
    ByUrl,
    /// Content-Disposition, or the URL without one.
    ByServer,
}

impl Top {
    /// The root of a library. No source is asked, so the mount is ready whatever its servers do.
    pub(crate) fn of_library(library: Arc<Library>, catalog: &Catalog) -> Top {
        let url = library.root();
        let stored = || stored::read(&url, LIBRARY, &catalog.listing(&url)?);
        let listing = match library.list_now(&url) {
            Some(Ok(listing)) => TopListing::Answered(listing),
            _ => stored().map_or(TopListing::Unasked, TopListing::Stored),
        };
        Top::Directory {
            kind: LIBRARY,
            source: library,
            url,
            listing: Box::new(listing),
        }
    }

    /// Finds out what each source is. A single directory becomes the root itself; a file or several sources become
    /// names in the root.
    ///
    /// # Errors
    /// If any source fails: a mount that silently lacks one would be worse than none.
    pub(crate) async fn of(
        client: &Client,
        sources: &Sources,
        catalog: &Catalog,
        specs: Vec<SourceSpec>,
        naming: Naming,
    ) -> Result<Top, TopError> {
        let is_alone = specs.len() == 1;
        let mut names: Vec<(Name, TopEntry)> = Vec::with_capacity(specs.len());
        for spec in specs {
            let asked = spec.url.clone();
            let spec = sources.resolve(spec);
            let spec = spec.map_err(|error| TopError::of(error, client, &asked))?;
            let url = client.adopt(spec.url.clone());
            let spec = SourceSpec { url, ..spec };
            let url = &spec.url;
            client.call_directory(url);
            let entry = match stored_entry(sources, catalog, &spec) {
                Some(entry) => entry,
                None => {
                    let answer = entry_of(client, sources, catalog, &spec).await;
                    answer.map_err(|error| TopError::of(error, client, url))?
                }
            };
            match entry {
                TopEntry {
                    kind,
                    source,
                    what: TopFound::Directory(url, listing),
                } if is_alone => {
                    return Ok(Top::Directory {
                        kind,
                        source,
                        url,
                        listing,
                    });
                }
                entry => {
                    let by_server = match (&entry.what, naming) {
                        (TopFound::File(..), Naming::ByServer) => name_by_server(client, url).await,
                        _ => None,
                    };
                    let name = by_server.or_else(|| Name::of_url(url));
                    let name = name.ok_or_else(|| TopError::NoName(redact(url).into()))?;
                    if names.iter().any(|(other, _)| *other == name) {
                        return Err(TopError::SameName(name.as_os_str().to_string_lossy().into_owned()));
                    }
                    names.push((name, entry));
                }
            }
        }
        Ok(Top::Names(names))
    }
}

/// What the source's server answers; else a mirror, or what the cache has.
async fn entry_of(
    client: &Client,
    sources: &Sources,
    catalog: &Catalog,
    spec: &SourceSpec,
) -> Result<TopEntry, SourceError> {
    let url = &spec.url;
    let error = match sources.open(client, spec, url).await {
        Ok(opened) => {
            if !sources.is_named(spec) && !spec.is_document() {
                stored_kind::note(catalog, url, opened.kind);
            }
            return Ok(TopEntry::of(opened, url, TopListing::Answered));
        }
        Err(error) => error,
    };
    let is_unanswered = |kind: &HttpErrorKind| kind.may_be_had_elsewhere() || *kind == HttpErrorKind::Offline;
    let failed = error.http().filter(|error| is_unanswered(&error.kind));
    let Some(failed) = failed else { return Err(error) };
    if let Some(entry) = stored_entries(sources, catalog, spec).next() {
        return Ok(entry);
    }
    for there in client.mirrors().of(url) {
        match sources.open(client, spec, &there).await {
            Ok(opened) => {
                log::warn!(event = events::MIRROR_USED; "{error}; using {} instead", redact(&there));
                if failed.kind.is_of_the_origin() {
                    client.health_of(url).has_failed(failed);
                }
                return Ok(TopEntry::of(opened, url, TopListing::ByMirror));
            }
            Err(error) => log::warn!(event = events::MIRROR_UNUSABLE; "{error}; this mirror can't replace the source"),
        }
    }
    Err(error)
}

/// What earlier mounts stored of a source, if the server need not be asked what it is.
fn stored_entry(sources: &Sources, catalog: &Catalog, spec: &SourceSpec) -> Option<TopEntry> {
    let mut entries = stored_entries(sources, catalog, spec);
    if sources.is_named(spec) {
        return entries.next();
    }
    match stored_kind::of(catalog, &spec.url) {
        Some(kind) => entries.find(|entry| entry.kind == kind),
        // A directory above it was mounted, perhaps. The first answer is asked whether it is an index page before
        // anything else.
        None => entries.find(|entry| entry.kind == INDEX),
    }
}

/// All that earlier mounts stored of a source, as far as it may be of the kind.
fn stored_entries<'a>(
    sources: &Sources,
    catalog: &'a Catalog,
    spec: &'a SourceSpec,
) -> impl Iterator<Item = TopEntry> + use<'a> {
    let url = &spec.url;
    // A local document is read in no time, and may have changed.
    let is_stored = !spec.is_document();
    let file = sources.stored_file(spec).filter(|_| is_stored);
    let directories = sources.stored_directories(spec).into_iter().filter(move |_| is_stored);
    let file = file.into_iter().filter_map(|(kind, source)| {
        let what = TopFound::File(url.clone(), Some(Known::stored(catalog.file(url)?)));
        Some(TopEntry { kind, source, what })
    });
    file.chain(directories.filter_map(|(directory, kind, source)| {
        let listing = stored::read(&directory, kind, &catalog.listing(&directory)?)?;
        let what = TopFound::Directory(directory, Box::new(TopListing::Stored(listing)));
        Some(TopEntry { kind, source, what })
    }))
}

/// The name that the server gives a file. Falls back to the URL while the server can't be asked: a cached file must
/// appear in any case.
async fn name_by_server(client: &Client, url: &Url) -> Option<Name> {
    match client.file_name(url).await {
        Ok(name) => name.and_then(Name::new),
        Err(error) => {
            log::warn!(event = events::NAME_UNKNOWN; "{error}; naming the file by its URL");
            None
        }
    }
}
