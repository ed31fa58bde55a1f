//! The kind `library`: many sources in one tree, each at its place.
//!
//! [`Library`] is one [`Source`] for the whole tree, so the vfs knows nothing of libraries. It guarantees:
//!
//! - **A source that can't be asked concerns its own names alone.** Each is asked once at the start, in the background, and
//!   then when a program lists its place.
//! - **At each name the first source wins**, in the order of the library's file, and directories merge down the tree
//!   ([`overlay`]). While one of several sources at a place can't be asked, its last known names count.
//! - **The sources can be replaced while the tree is in use** ([`Library::replace`]). Files that are open are not affected:
//!   their URLs are those of their servers.
//!
//! Directories have two kinds of URLs ([`address`]): places and merged directories have a URL of the library, and this
//! module keeps to the limits of the servers that it asks for them ([`asking`]). Any other directory has the URL that its
//! source gives it, with a tag. For these the vfs keeps to the limits, as without a library.

mod address;
mod asking;
mod early_names;
pub(crate) mod filter;
mod member;
mod overlay;
mod plan;
#[cfg(test)]
mod tests;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Mutex, RwLock};
use url::Url;

use super::{
    Asked, BoxFuture, Found, ListedSize, Listing, NameKind, NameSink, Source, SourceConfig, SourceError,
    SourceErrorKind, SourceSpec,
};
use crate::http::{HttpConfig, SiteConfig, Validator, tag};
use crate::origin::{Client, Metadata, as_directory};
use filter::FilterConfig;
use member::{How, Layer, Member};
pub(crate) use member::{MemberState, MemberStatus};
pub(crate) use plan::Change;
use plan::Plan;

/// The name of the kind.
pub(crate) const LIBRARY: &str = "library";

/// The sources of a library, as its file has them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct LibraryConfig {
    /// Identifies the library in URLs of its directories: letters and digits that follow from the file's path.
    pub name: String,
    /// The sources, in the order of the file.
    pub members: Vec<MemberConfig>,
}

impl LibraryConfig {
    /// The settings for requests to each source.
    pub(crate) fn sites(&self) -> Vec<SiteConfig> {
        let site = |member: &MemberConfig| SiteConfig {
            source: member.spec.url.clone(),
            http: member.http.clone(),
        };
        self.members.iter().map(site).collect()
    }
}

/// One source of a library.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct MemberConfig {
    /// Its URL, and the kind that its scheme names.
    pub spec: SourceSpec,
    /// Its place in the tree: the names of directories; none for the root.
    pub at: Vec<super::Name>,
    /// The kind that the user named.
    pub kind: Option<String>,
    /// What its kind needs to know.
    pub settings: SourceConfig,
    /// Which names it shows.
    pub filter: FilterConfig,
    /// How it is requested.
    pub http: HttpConfig,
    /// True if a single file gets the name that its server gives it.
    pub content_disposition: bool,
}

/// What is known of directories from before, in this mount or an earlier one.
pub(crate) trait KnownListings: Send + Sync + 'static {
    /// The last known listing of the directory `directory` of a library.
    fn last_known(&self, directory: &Url) -> Option<Listing>;
}

/// The source of a library's whole tree.
pub(crate) struct Library {
    shared: Arc<Shared>,
}

/// What requests need that outlive their caller.
struct Shared {
    client: Client,
    known: Arc<dyn KnownListings>,
    /// Maximum time for the answer of one source.
    patience: Duration,
    /// Replaced as a whole. Locked for the moment of a look-up.
    plan: RwLock<Arc<Plan>>,
    /// The layers of merged directories, by their paths, since their parents were listed. Locked for the moment of a
    /// look-up.
    merged: Mutex<HashMap<String, Vec<Layer>>>,
    /// The layers that were listed in this mount, by their tagged URLs.
    listed: Mutex<HashSet<Url>>,
    /// Listings of the layers of merged directories, by these directories' URLs, until they are stored.
    unstored: Mutex<HashMap<Url, Vec<(Url, Listing)>>>,
}

impl Library {
    /// A library of these sources. No server is asked.
    pub(crate) fn new(
        config: &LibraryConfig,
        client: Client,
        known: Arc<dyn KnownListings>,
        patience: Duration,
    ) -> Arc<Library> {
        let plan = Plan::new(config, &client, None);
        let shared = Shared {
            client,
            known,
            patience,
            plan: RwLock::new(Arc::new(plan)),
            merged: Mutex::default(),
            listed: Mutex::default(),
            unstored: Mutex::default(),
        };
        Arc::new(Library {
            shared: Arc::new(shared),
        })
    }

    /// The URL of the root directory.
    pub(crate) fn root(&self) -> Url {
        self.plan().url("/")
    }

    /// Shows these sources from now on. Those that are the same stay as they are.
    pub(crate) fn replace(&self, config: &LibraryConfig) -> Change {
        let before = self.plan();
        let now = Arc::new(Plan::new(config, &self.shared.client, Some(&before)));
        *self.shared.plan.write() = Arc::clone(&now);
        self.shared.merged.lock().clear();
        now.change_since(&before)
    }

    /// The state of each source, in the order of the file.
    pub(crate) fn status(&self) -> Vec<MemberStatus> {
        let down = self.shared.client.down();
        self.plan().members.iter().map(|member| member.status(&down)).collect()
    }

    /// Asks each source what it is, so that [`Self::status`] and the log can say which ones can't be asked.
    pub(crate) async fn find_out(&self) {
        let plan = self.plan();
        let mut asking = tokio::task::JoinSet::new();
        for member in &plan.members {
            let (shared, layer) = (Arc::clone(&self.shared), member.root());
            asking.spawn(async move { drop(shared.ask(&layer, false, How::WHOLE).await) });
        }
        asking.join_all().await;
    }

    fn plan(&self) -> Arc<Plan> {
        Arc::clone(&self.shared.plan.read())
    }

    /// The source that has listed the directory or file at this URL, and the URL without its tag.
    fn member_of(&self, url: &Url) -> Option<(Arc<Member>, Url)> {
        let plan = self.plan();
        match tag::split(url) {
            Some((id, own)) => Some((Arc::clone(plan.by_id(id)?), own)),
            None => Some((Arc::clone(plan.nearest(url)?), url.clone())),
        }
    }

    async fn list_any(&self, directory: &Url, how: How<'_>) -> Result<Option<Listing>, SourceError> {
        let plan = self.plan();
        if let Some(path) = plan.path_of(directory) {
            // A place has no mirror of its own: its sources' mirrors are asked.
            return self.shared.list_place(&plan, &path, How { there: None, ..how }).await;
        }
        let gone = || SourceError::not_found(directory);
        let (member, own) = self.member_of(directory).ok_or_else(gone)?;
        member.list(&self.shared.client, Some(&own), how).await
    }

    /// [`Self::list_any`], whatever is known.
    async fn list_anew(
        &self,
        directory: &Url,
        there: &Url,
        names: Option<&Arc<dyn NameSink>>,
    ) -> Result<Listing, SourceError> {
        let how = How {
            there: (there != directory).then_some(there),
            names,
            ..How::WHOLE
        };
        let listing = self.list_any(directory, how).await?;
        listing.ok_or_else(|| SourceError::not_a_listing(directory, "it was not sent"))
    }
}

impl Source for Library {
    fn kind(&self) -> &'static str {
        LIBRARY
    }

    fn open<'a>(&'a self, asked: &'a Asked<'a>) -> BoxFuture<'a, Result<Option<Found>, SourceError>> {
        Box::pin(async move { Err(SourceError::not_a_listing(asked.url, "a library is no URL")) })
    }

    fn list<'a>(&'a self, directory: &'a Url, there: &'a Url) -> BoxFuture<'a, Result<Listing, SourceError>> {
        Box::pin(self.list_anew(directory, there, None))
    }

    fn list_early<'a>(
        &'a self,
        directory: &'a Url,
        there: &'a Url,
        names: &'a Arc<dyn NameSink>,
    ) -> BoxFuture<'a, Result<Listing, SourceError>> {
        Box::pin(self.list_anew(directory, there, Some(names)))
    }

    fn list_if_changed<'a>(
        &'a self,
        directory: &'a Url,
        known: &'a Validator,
    ) -> BoxFuture<'a, Result<Option<Listing>, SourceError>> {
        let how = How {
            unless: known,
            ..How::WHOLE
        };
        Box::pin(self.list_any(directory, how))
    }

    fn list_now(&self, directory: &Url) -> Option<Result<Listing, SourceError>> {
        let plan = self.plan();
        if let Some(path) = plan.path_of(directory) {
            return plan.is_bare(&path).then(|| Ok(plan.bare_listing(&path)));
        }
        let (member, own) = self.member_of(directory)?;
        member.list_now(&own)
    }

    fn fresh_for(&self, directory: &Url, ttl: Duration) -> Duration {
        let plan = self.plan();
        if let Some(path) = plan.path_of(directory) {
            let members = plan.members.iter().filter(|member| path.starts_with(&member.place));
            return members
                .map(|member| member.config.settings.ttl.get())
                .min()
                .unwrap_or(ttl);
        }
        self.member_of(directory)
            .map_or(ttl, |(member, own)| member.fresh_for(&own))
    }

    fn store_others(&self, directory: &Url, store: &mut dyn FnMut(&Url, &Listing) -> bool) {
        let layers = self.shared.unstored.lock().remove(directory);
        for (url, listing) in layers.iter().flatten() {
            // The next listing of the directory brings it again.
            let _ = store(url, listing);
        }
    }

    fn expire(&self) {
        self.plan().members.iter().for_each(|member| member.expire());
    }

    fn may_omit_names(&self, directory: &Url) -> bool {
        match tag::split(directory) {
            Some(_) => self
                .member_of(directory)
                .is_some_and(|(member, own)| member.may_omit_names(&own)),
            None => false,
        }
    }

    fn tell_apart<'a>(&'a self, file: &'a Url, size: ListedSize, answer: &'a Metadata) -> BoxFuture<'a, NameKind> {
        Box::pin(async move {
            match self.member_of(file).and_then(|(member, _)| member.opened_source()) {
                Some(source) => source.tell_apart(file, size, answer).await,
                None => NameKind::File,
            }
        })
    }
}

/// The error for a source that can't be asked now.
fn unavailable(url: &Url, why: impl Into<String>) -> SourceError {
    SourceError::of(SourceErrorKind::Unavailable, url, why)
}

/// The directory's URL, with a `/` at its end.
fn directory_url(url: &Url) -> Url {
    if url.cannot_be_a_base() {
        url.clone()
    } else {
        as_directory(url)
    }
}
