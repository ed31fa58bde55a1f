//! From the sources that the user names to the root of the tree.
//!
//! A source that an earlier mount has stored is taken as stored, so the mount is ready at once, with or without the
//! server. Any other source is asked once before the mount attaches. So its errors appear on the terminal, and its
//! answer is the first listing or the file's metadata.

use std::fmt::Display;

use percent_encoding::percent_decode_str;
use url::Url;

use crate::cache::Catalog;
use crate::http::{HttpError, HttpErrorKind, redact};
use crate::origin::{Client, as_directory};
use crate::source::{Listing, NO_INDEX_PAGE, Name, Source};
use crate::vfs::file::Known;
use crate::vfs::listing::kinds::{marked_index, with_slash};
use crate::vfs::listing::stored;

/// What the root of the tree shows.
pub enum Top {
    /// One directory: the root shows its names.
    Directory {
        /// Its URL, ending in `/`.
        url: Url,
        /// Its listing.
        listing: Box<TopListing>,
    },
    /// One name for each source.
    Names(Vec<(Name, TopEntry)>),
}

impl Top {
    /// The URL, if the root is one directory.
    pub(in crate::vfs) fn url(&self) -> Option<&Url> {
        match self {
            Top::Directory { url, .. } => Some(url),
            Top::Names(_) => None,
        }
    }
}

/// One of several sources, or a single file.
pub enum TopEntry {
    /// A directory and its listing.
    Directory(Url, TopListing),
    /// A file, and the origin's answer, from now or an earlier mount. The URL is the given one, not the end of its
    /// redirects, because that one stays valid.
    File(Url, Option<Known>),
}

/// A listing of the root or of a source.
pub enum TopListing {
    /// The source's answer from now.
    Answered(Listing),
    /// A mirror's answer, because the source could not be asked.
    ByMirror(Listing),
    /// The answer that an earlier mount stored.
    Stored(Listing),
}

/// Why a source can't be mounted.
#[derive(Debug, thiserror::Error)]
pub enum TopError {
    /// The origin answered with an error, or did not answer.
    #[error("can't mount {}: {}{}", .0.url, .0.kind, advice(&.0.kind))]
    Http(HttpError),
    /// The origin refused the credentials.
    #[error("can't mount {}: {}; check the user name and password, or the token, that it was given", .0.url, .0.kind)]
    Login(HttpError),
    /// No connection to the origin; a configured proxy may be the cause.
    #[error(
        "can't mount {}: {}; it may be the proxy that is meant: one is set, by --proxy or in the environment (http_proxy, \
         https_proxy, all_proxy)", .0.url, .0.kind
    )]
    Proxied(HttpError),
    /// Two sources would have one name.
    #[error("two sources are both called {0:?}; mount them on two mountpoints")]
    SameName(String),
    /// The URL gives no name.
    #[error("{0} has no last part that could be a file's name; mount it alone")]
    NoName(String),
}

impl From<HttpError> for TopError {
    fn from(error: HttpError) -> TopError {
        TopError::Http(error)
    }
}

/// Advice for the user, as the end of the sentence.
fn advice(kind: &HttpErrorKind) -> impl Display {
    match kind {
        HttpErrorKind::UnknownHost => "; check its spelling and your network",
        HttpErrorKind::Refused => "; is the server running, and is the port right?",
        HttpErrorKind::NoTls => "; should the URL begin with http://, or is the port another one?",
        HttpErrorKind::TimedOut(_) | HttpErrorKind::Unreachable(_) => "; is the server up, and reachable from here?",
        HttpErrorKind::Denied(401) => "; give a user name and password, by --login and --password-file for example",
        HttpErrorKind::Denied(407) => {
            "; the proxy wants a user name and password: --proxy http://USER:PASSWORD@HOST:PORT"
        }
        HttpErrorKind::Denied(_) => "; the server does not let you see this",
        HttpErrorKind::NoCredentials(_) => "",
        // The error itself says what to do, if anything.
        HttpErrorKind::Untrusted(_) | HttpErrorKind::Handshake(_) => "",
        HttpErrorKind::NotFound(_) => "; check the URL",
        // The reason says what to do.
        HttpErrorKind::BadAnswer(_) => "",
        HttpErrorKind::Offline => {
            ", and no earlier mount has left anything of it in this cache; mount it once without --offline"
        }
        HttpErrorKind::NoDescriptors => "; allow it more, or let it mount less",
        HttpErrorKind::Unanswered => "; is the server behind it running?",
        // Servers send it to a client that speaks no TLS on a TLS port.
        HttpErrorKind::Status { status: 400, .. } => "; check the URL, and whether it should begin with https://",
        kind if kind.is_temporary() => "; try again later",
        _ => "; check the URL",
    }
}

/// How a single file gets its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Naming {
    /// The last part of the URL's path.
    ByUrl,
    /// Content-Disposition, or the URL without one.
    ByServer,
}

impl Top {
    /// Finds out what each source is. A single directory becomes the root itself; a file or several sources become
    /// names in the root.
    ///
    /// # Errors
    /// If any source fails: a mount that silently lacks one would be worse than none.
    pub async fn of(
        client: &Client,
        source: &dyn Source,
        catalogue: &Catalog,
        urls: Vec<Url>,
        naming: Naming,
    ) -> Result<Top, TopError> {
        let is_alone = urls.len() == 1;
        let mut names: Vec<(Name, TopEntry)> = Vec::with_capacity(urls.len());
        for url in urls {
            let url = client.adopt(url);
            client.call_directory(&url);
            let entry = match stored_entry(catalogue, &url) {
                Some(entry) => entry,
                None => match entry_of(client, source, &url).await {
                    Err(error) if error.kind == HttpErrorKind::Denied(401) && client.logs_in_at(&url) => {
                        return Err(TopError::Login(error));
                    }
                    Err(error) if error.kind.is_connect_failure() && client.may_use_a_proxy() => {
                        return Err(TopError::Proxied(error));
                    }
                    entry => entry?,
                },
            };
            match entry {
                TopEntry::Directory(url, listing) if is_alone => {
                    return Ok(Top::Directory {
                        url,
                        listing: listing.into(),
                    });
                }
                entry => {
                    let by_server = match (&entry, naming) {
                        (TopEntry::File(..), Naming::ByServer) => name_by_server(client, &url).await,
                        _ => None,
                    };
                    let name = by_server.or_else(|| name_of(&url));
                    let name = name.ok_or_else(|| TopError::NoName(redact(&url).into()))?;
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

async fn entry_of(client: &Client, source: &dyn Source, url: &Url) -> Result<TopEntry, HttpError> {
    let error = match told_by_source(client, source, url).await {
        Err(error) if error.kind.may_be_had_elsewhere() => error,
        answer => return answer,
    };
    for there in client.mirrors_of(url) {
        match told_by_mirror(client, source, url, &there).await {
            Ok(entry) => {
                log::warn!("{error}; what there is was told by {}", redact(&there));
                if error.kind.is_of_the_origin() {
                    client.health_of(url).has_failed(&error);
                }
                return Ok(entry);
            }
            Err(error) => log::warn!("{error}; it is a mirror, and can't stand in"),
        }
    }
    Err(error)
}

async fn told_by_source(client: &Client, source: &dyn Source, url: &Url) -> Result<TopEntry, HttpError> {
    if url.path().ends_with('/') {
        return Ok(TopEntry::Directory(url.clone(), told(source, url, url).await?));
    }
    let metadata = client.metadata(url).await?;
    // Servers redirect from a directory's name to the name with a slash.
    if metadata.url.path().ends_with('/') {
        let directory = as_directory(url);
        let listing = told(source, &directory, &directory).await?;
        return Ok(TopEntry::Directory(directory, listing));
    }
    if let Some(listing) = marked_index(source, url, &metadata).await {
        return Ok(TopEntry::Directory(with_slash(url), TopListing::Answered(listing)));
    }
    Ok(TopEntry::File(url.clone(), Known::of(metadata)))
}

/// A mirror's answer for a source. It is shown under the source's URL.
async fn told_by_mirror(client: &Client, source: &dyn Source, url: &Url, there: &Url) -> Result<TopEntry, HttpError> {
    if url.path().ends_with('/') {
        return Ok(TopEntry::Directory(url.clone(), told(source, url, there).await?));
    }
    let metadata = client.metadata_of_mirror(there).await?;
    if metadata.url.path().ends_with('/') {
        let directory = as_directory(url);
        let listing = told(source, &directory, &metadata.url).await?;
        return Ok(TopEntry::Directory(directory, listing));
    }
    Ok(TopEntry::File(url.clone(), Known::of(metadata)))
}

/// The listing of a directory, from its own URL or a mirror's.
async fn told(source: &dyn Source, directory: &Url, there: &Url) -> Result<TopListing, HttpError> {
    let listing = source.list(directory, there).await?;
    if !listing.is_evident() {
        // Only the parent's listing could show that this is an empty directory; a home page looks the same.
        return Err(HttpError {
            kind: HttpErrorKind::BadAnswer(NO_INDEX_PAGE.to_owned()),
            url: redact(there),
        });
    }
    if !listing.is_marked {
        log::warn!(
            "{}: nothing on this page says that it is the index of a directory (a title such as `Index of`, a link upwards, a \
             size or a date); what it links to is shown as files and directories",
            redact(there)
        );
    }
    Ok(if directory == there {
        TopListing::Answered(listing)
    } else {
        TopListing::ByMirror(listing)
    })
}

/// What earlier mounts stored of a source.
fn stored_entry(catalogue: &Catalog, url: &Url) -> Option<TopEntry> {
    if !url.path().ends_with('/')
        && let Some(file) = catalogue.file(url)
    {
        return Some(TopEntry::File(url.clone(), Some(Known::stored(file))));
    }
    let directory = as_directory(url);
    let listing = stored::read(&directory, &catalogue.listing(&directory)?)?;
    Some(TopEntry::Directory(directory, TopListing::Stored(listing)))
}

/// The name that the server gives a file. Falls back to the URL while the server can't be asked: a cached file must
/// appear in any case.
async fn name_by_server(client: &Client, url: &Url) -> Option<Name> {
    match client.file_name(url).await {
        Ok(name) => name.and_then(Name::new),
        Err(error) => {
            log::warn!("{error}; the file is called by its URL");
            None
        }
    }
}

/// The last part of the path, or the host for a server's root.
fn name_of(url: &Url) -> Option<Name> {
    let last = url.path_segments()?.rfind(|segment| !segment.is_empty());
    match last {
        Some(segment) => Name::new(percent_decode_str(segment).collect()),
        None => Name::new(url.host_str()?.as_bytes().to_vec()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_is_called_by_the_last_part_of_its_path_or_by_its_host() {
        let name =
            |url: &str| name_of(&Url::parse(url).unwrap()).map(|name| name.as_os_str().to_str().unwrap().to_owned());
        assert_eq!(name("http://h/films/a%20b%23.mkv?token=x").as_deref(), Some("a b#.mkv"));
        assert_eq!(name("http://h/films/").as_deref(), Some("films"));
        assert_eq!(name("http://host.example:81/").as_deref(), Some("host.example"));
        assert_eq!(name("http://h/a%2fb").as_deref(), Some("a%2Fb"), "one path component");
    }
}
