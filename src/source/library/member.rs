//! One source of a library: what it is, once it was asked, and the listings of its directories.

use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use url::Url;
use xxhash_rust::xxh3::xxh3_64;

use super::early_names::DressedNames;
use super::filter::{Filter, Newer};
use super::{MemberConfig, address, directory_url};
use crate::http::Validator;
use crate::http::{Origin, redact, tag};
use crate::origin::{Client, DownOrigin, Metadata};
use crate::source::registry::Opened;
use crate::source::{
    Entries, Entry, EntryKind, Found, ListedSize, ListedTime, Listing, Name, NameSink, Source, SourceError,
    SourceErrorKind, SourceSpec, Sources,
};
use crate::util::events;

/// A source of a library.
pub(super) struct Member {
    /// Identifies it in URLs.
    pub(super) id: String,
    /// Its position in the file.
    pub(super) index: usize,
    pub(super) config: MemberConfig,
    /// The path of its place.
    pub(super) place: String,
    /// By the URL of its requests; the error if there is none.
    spec: Result<SourceSpec, SourceError>,
    filter: Filter,
    /// Identifies what decides which of the server's names a listing has; `None` if that changes with time.
    view: Option<String>,
    sources: Arc<Sources>,
    /// Locked for the moment of a look-up or a change.
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    opened: Option<Known>,
    last: MemberState,
}

/// What a source is.
#[derive(Clone)]
struct Known {
    kind: &'static str,
    source: Arc<dyn Source>,
    /// Its root directory; `None` for a single file.
    root: Option<Url>,
}

/// Whether a source can be asked, by its last answer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) enum MemberState {
    /// It was not asked yet.
    #[default]
    Unasked,
    /// Its last answer was its names.
    Up,
    /// It gives no names, for this reason, since then.
    Down {
        /// A sentence without its full stop.
        reason: String,
        /// Since when.
        since: Instant,
    },
}

/// What `fetchfs status` shows of a source.
#[derive(Debug, Clone)]
pub(crate) struct MemberStatus {
    /// Its place, without `/` at both ends; empty for the root.
    pub place: String,
    /// Its URL, without secrets.
    pub url: String,
    /// Its kind, if that is known.
    pub kind: Option<&'static str>,
    /// Whether it can be asked.
    pub state: MemberState,
}

/// How a listing is requested.
#[derive(Clone, Copy)]
pub(super) struct How<'a> {
    /// The validator of the listing that is known.
    pub(super) unless: &'a Validator,
    /// The directory's URL on a mirror, if that is asked.
    pub(super) there: Option<&'a Url>,
    /// Where names go before the listing is complete.
    pub(super) names: Option<&'a Arc<dyn NameSink>>,
}

impl How<'_> {
    /// The whole listing, from the source itself.
    pub(super) const WHOLE: How<'static> = How {
        unless: &Validator::None,
        there: None,
        names: None,
    };
}

/// One directory of one source, which a directory of the library shows, maybe together with others.
#[derive(Clone)]
pub(super) struct Layer {
    pub(super) member: Arc<Member>,
    /// Its URL; `None` for the source's root.
    pub(super) directory: Option<Url>,
}

impl Layer {
    /// Its tagged URL, by which its listing is known.
    pub(super) fn key(&self) -> Url {
        let url = self
            .directory
            .clone()
            .unwrap_or_else(|| directory_url(self.member.url()));
        tag::tagged(&self.member.id, &url).unwrap_or(url)
    }

    /// The URL to ask.
    pub(super) fn url(&self) -> &Url {
        self.directory.as_ref().unwrap_or_else(|| self.member.url())
    }
}

/// Identifies the URL, the filter and the settings by which a listing of this source is made. `None` if the age of files
/// counts: they leave the listing without a change on the server.
fn view_of(config: &MemberConfig) -> Option<String> {
    if matches!(config.filter.newer, Some(Newer::Than(_))) {
        return None;
    }
    let what = (
        config.spec.url.as_str(),
        &config.kind,
        config.spec.kind,
        &config.filter,
        &config.settings.listings,
    );
    Some(format!("{:016x}", xxh3_64(format!("{what:?}").as_bytes())))
}

impl Member {
    pub(super) fn new(id: String, index: usize, config: &MemberConfig, client: &Client) -> Member {
        let named = config.kind.as_deref();
        let sources = Sources::new(client, &config.settings, named);
        let spec = sources.resolve(config.spec.clone()).map(|spec| {
            let url = client.adopt_for(&config.spec.url, spec.url.clone());
            client.call_directory(&url);
            SourceSpec { url, ..spec }
        });
        let mut place = "/".to_owned();
        for name in &config.at {
            place = address::below(&place, name.as_bytes());
        }
        Member {
            id,
            index,
            place,
            spec,
            filter: Filter::new(&config.filter),
            view: view_of(config),
            sources,
            config: config.clone(),
            state: Mutex::default(),
        }
    }

    /// Its root, as a layer.
    pub(super) fn root(self: &Arc<Self>) -> Layer {
        Layer {
            member: Arc::clone(self),
            directory: None,
        }
    }

    /// The URL of its requests; the one that the user has written, if there is none.
    pub(super) fn url(&self) -> &Url {
        match &self.spec {
            Ok(spec) => &spec.url,
            Err(_) => &self.config.spec.url,
        }
    }

    /// The source of its kind, once that is known.
    pub(super) fn opened_source(&self) -> Option<Arc<dyn Source>> {
        self.state.lock().opened.as_ref().map(|known| Arc::clone(&known.source))
    }

    /// Requests the names in one of its directories; in its root without a URL. `None` if they are still those with the
    /// validator `how.unless`. The listing has only the names that the filter keeps, and the URLs of its directories have the
    /// source's tag.
    pub(super) async fn list(
        self: &Arc<Self>,
        client: &Client,
        directory: Option<&Url>,
        how: How<'_>,
    ) -> Result<Option<Listing>, SourceError> {
        let listing = self.list_unnoted(client, directory, how).await;
        self.note(listing.as_ref().err(), directory.is_none());
        listing
    }

    async fn list_unnoted(
        self: &Arc<Self>,
        client: &Client,
        directory: Option<&Url>,
        how: How<'_>,
    ) -> Result<Option<Listing>, SourceError> {
        let known = self.state.lock().opened.clone();
        let known = match known {
            Some(known) => known,
            // Any kind of source is found by its root.
            None => {
                let (known, listing) = self.open(client, how.there.filter(|_| directory.is_none())).await?;
                self.state.lock().opened = Some(known.clone());
                if directory.is_none() || directory == known.root.as_ref() {
                    return Ok(Some(self.dressed(known.root.as_ref(), known.root.as_ref(), listing)));
                }
                known
            }
        };
        let root = known.root.as_ref();
        let Some(asked) = directory.or(root) else {
            // It may have become a directory.
            let (known, listing) = self.open(client, how.there).await?;
            let root = known.root.clone();
            self.state.lock().opened = Some(known);
            return Ok(Some(self.dressed(root.as_ref(), root.as_ref(), listing)));
        };
        let unless = self.server_s(how.unless);
        let there = how.there.unwrap_or(asked);
        let listing = match how.names {
            _ if how.there.is_none() && unless != Validator::None => {
                known.source.list_if_changed(asked, &unless).await?
            }
            Some(names) => {
                let names = DressedNames::on_the_way_to(names, self, asked, root);
                Some(known.source.list_early(asked, there, &names).await?)
            }
            None => Some(known.source.list(asked, there).await?),
        };
        Ok(listing.map(|listing| self.dressed(Some(asked), root, listing)))
    }

    /// Finds out what the source is. A single file becomes a listing of one name.
    async fn open(&self, client: &Client, there: Option<&Url>) -> Result<(Known, Listing), SourceError> {
        let spec = self.spec.as_ref().map_err(Clone::clone)?;
        let Opened { kind, source, found } = self.sources.open(client, spec, there.unwrap_or(&spec.url)).await?;
        let (root, listing) = match found {
            Found::Directory(root, listing) => (Some(root), listing),
            Found::File(metadata) => (None, self.file(client, &spec.url, &metadata).await?),
        };
        Ok((Known { kind, source, root }, listing))
    }

    async fn file(&self, client: &Client, url: &Url, metadata: &Metadata) -> Result<Listing, SourceError> {
        let by_server = match self.config.content_disposition {
            // A file without that name is named by its URL.
            true => client.file_name(url).await.ok().flatten().and_then(Name::new),
            false => None,
        };
        let no_name = || SourceError::of(SourceErrorKind::BadAnswer, url, "it does not end in a valid file name");
        let name = by_server.or_else(|| Name::of_url(url)).ok_or_else(no_name)?;
        let mut entries = Entries::of(url);
        let fits = entries.push(&Entry {
            name,
            url: url.clone(),
            kind: EntryKind::File(metadata.size.map_or(ListedSize::Unknown, ListedSize::Exact)),
            modified: metadata.modified.map(|time| ListedTime { time, exact: true }),
            published: None,
        });
        debug_assert!(fits, "one name always fits");
        Ok(Listing::of(entries))
    }

    /// The listing as the library shows it.
    fn dressed(&self, directory: Option<&Url>, root: Option<&Url>, mut listing: Listing) -> Listing {
        self.dress(&mut listing.entries, directory, root);
        listing.validator = self.own(&listing.validator);
        listing
    }

    /// Removes the names that the library does not show, and tags the directories.
    pub(super) fn dress(&self, entries: &mut Entries, directory: Option<&Url>, root: Option<&Url>) {
        self.filter.apply(entries, directory, root);
        for at in 0..entries.len() {
            if !entries.is_directory(at) {
                continue;
            }
            if let Some(url) = tag::tagged(&self.id, &entries.url(at)) {
                // If it does not fit, the directory is found by its URL alone.
                let _ = entries.replace(at, EntryKind::Directory, &url);
            }
        }
    }

    /// The validator of a listing as the library shows it. The server's says nothing of the filter, which the user may change.
    fn own(&self, validator: &Validator) -> Validator {
        let (Some(view), false) = (&self.view, *validator == Validator::None) else {
            return Validator::None;
        };
        let own = Validator::Strong(format!("{view} {}", validator.to_key()));
        // One that is too long can't be stored.
        Validator::parse(&own.to_key()).unwrap_or_default()
    }

    /// The server's validator of a listing with this one ([`Self::own`]); none if it was made with another filter.
    fn server_s(&self, own: &Validator) -> Validator {
        let (Some(view), Validator::Strong(own)) = (&self.view, own) else {
            return Validator::None;
        };
        let key = own.strip_prefix(view.as_str()).and_then(|rest| rest.strip_prefix(' '));
        key.and_then(Validator::parse).unwrap_or_default()
    }

    /// The listing of a directory, if the source knows it without a request.
    pub(super) fn list_now(&self, directory: &Url) -> Option<Result<Listing, SourceError>> {
        let known = self.state.lock().opened.clone()?;
        let listing = known.source.list_now(directory)?;
        Some(listing.map(|listing| self.dressed(Some(directory), known.root.as_ref(), listing)))
    }

    /// How long a listing of the directory counts as fresh.
    pub(super) fn fresh_for(&self, directory: &Url) -> Duration {
        let ttl = self.config.settings.ttl.get();
        self.opened_source()
            .map_or(ttl, |source| source.fresh_for(directory, ttl))
    }

    /// Whether names that a listing lacks may exist. Not if the filter may have left them out.
    pub(super) fn may_omit_names(&self, directory: &Url) -> bool {
        let may_omit = || {
            self.opened_source()
                .is_some_and(|source| source.may_omit_names(directory))
        };
        self.filter.is_open() && may_omit()
    }

    pub(super) fn expire(&self) {
        self.sources.expire();
    }

    /// Notes how a request for names ended. The log has the first failure, and the first answer after it. A failure counts
    /// for the root alone: of another directory it says nothing of the source.
    fn note(&self, error: Option<&SourceError>, is_root: bool) {
        let reason = match error {
            None => None,
            Some(error)
                if is_root && !matches!(error.kind(), SourceErrorKind::Offline | SourceErrorKind::NoDescriptors) =>
            {
                Some(error.reason().to_string())
            }
            Some(_) => return,
        };
        let (before, now) = {
            let mut state = self.state.lock();
            let now = match (reason, &state.last) {
                (None, _) => MemberState::Up,
                (Some(reason), MemberState::Down { since, .. }) => MemberState::Down { reason, since: *since },
                (Some(reason), _) => MemberState::Down {
                    reason,
                    since: Instant::now(),
                },
            };
            (std::mem::replace(&mut state.last, now.clone()), now)
        };
        match (before, now) {
            (MemberState::Down { .. }, MemberState::Up) => {
                log::info!(event = events::SOURCE_AVAILABLE; "{}: its names can be listed again", self.shown());
            }
            (MemberState::Up | MemberState::Unasked, MemberState::Down { reason, .. }) => {
                log::warn!(
                    event = events::SOURCE_UNAVAILABLE;
                    "{}: {reason}; at /{} it shows what is cached, or errors, until it answers",
                    self.shown(),
                    self.shown_place()
                );
            }
            _ => {}
        }
    }

    fn shown(&self) -> String {
        redact(&self.config.spec.url).into()
    }

    fn shown_place(&self) -> String {
        let names = self.config.at.iter().map(|name| name.as_os_str().to_string_lossy());
        names.collect::<Vec<_>>().join("/")
    }

    /// Its state. `down` are the origins that can't be asked now.
    pub(super) fn status(&self, down: &[DownOrigin]) -> MemberStatus {
        let (kind, last) = {
            let state = self.state.lock();
            (state.opened.as_ref().map(|known| known.kind), state.last.clone())
        };
        let origin = Origin::of(self.url());
        let its = down.iter().find(|down| Some(&down.origin) == origin.as_ref());
        let state = match (its, last) {
            (Some(down), MemberState::Up) => MemberState::Down {
                reason: down.why.to_string(),
                since: Instant::now().checked_sub(down.time).unwrap_or_else(Instant::now),
            },
            (_, last) => last,
        };
        MemberStatus {
            place: self.shown_place(),
            url: self.shown(),
            kind: kind.or(self.config.spec.kind),
            state,
        }
    }
}
