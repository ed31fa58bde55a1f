//! The client: metadata, documents and ranges of any origin, over one connection pool per origin.
//!
//! `vfs` and `source` request metadata ([`metadata`]) and documents; `cache` requests ranges ([`ranges`]). What the
//! client guarantees:
//!
//! - Every response is validated before the caller receives it ([`validation`](crate::http::response::validation)).
//! - Every wait ends after [`HttpConfig::timeout`] without data from the server.
//! - No error contains credentials or query values.
//!
//! The client does not retry, except on a new connection after one that broke unanswered. It does not queue by urgency
//! either, except names before bytes ([`connection_limit`](super::limits::connection_limit)): its callers do both, because
//! they know how urgent a request is.
//!
//! HTTP/1.1 by default: one connection per range is faster than many ranges multiplexed over one connection.

pub(super) mod answers;
pub(super) mod document;
mod long_documents;
mod metadata;
mod probe;
mod ranges;
mod versions;

use std::{fmt, sync::Arc, time::Duration};

use tokio::{runtime::Handle, sync::Semaphore};
use url::Url;

use self::long_documents::LongDocuments;
use super::{
    content::Content,
    digests::Digests,
    failures::{
        health::{DownOrigin, Health, Permit},
        responsiveness::Responsiveness,
    },
    head_trust::HeadTrusts,
    limits::name_slots::NameSlots,
    local::LocalDirectory,
    mirrors::Mirrors,
    per_origin::PerOrigin,
    published::Hash,
    request::{
        body::Body,
        signers::Signer,
        transport::{HttpRequest, Transport},
    },
    shared_tier::TierNodes,
    version_aliases::VersionAliases,
};
use crate::http::{
    AccessConfig, HttpConfig, HttpError, HttpErrorKind, MirrorConfig, Origin, SetupError, SiteConfig, Version,
    response::head::is_elsewhere, tag::untagged,
};
use crate::stats::{RequestTotals, TierTotals};

/// Sends requests to origins. Clones share connections and credentials.
#[derive(Clone)]
pub struct Client {
    shared: Arc<ClientState>,
}

/// The state that all clones share.
struct ClientState {
    transport: Transport,
    mirrors: Mirrors,
    tier: Arc<TierNodes>,
    name_slots: PerOrigin<NameSlots>,
    responsiveness: PerOrigin<Responsiveness>,
    aliases: VersionAliases,
    head_trusts: HeadTrusts,
    digests: Digests,
    /// The hashes of checksum files that files were found to have.
    compared: Digests,
    /// The permit to hold a large document.
    large_page: Arc<Semaphore>,
    long_documents: Arc<LongDocuments>,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("config", &self.transport().config)
            .finish_non_exhaustive()
    }
}

impl Client {
    /// A client with its own connection pools.
    ///
    /// # Errors
    /// If a file that the configuration names can't be used, or the system's root certificates can't be read.
    pub fn new(config: HttpConfig) -> Result<Client, SetupError> {
        let connections = config.max_connections;
        super::shared_tier::warn(&config);
        Ok(Client {
            shared: Arc::new(ClientState {
                mirrors: Mirrors::new(mirrors(&config)),
                tier: Arc::new(TierNodes::new(config.tier.clone())),
                transport: Transport::new(config)?,
                name_slots: PerOrigin::new(move |_| NameSlots::new(connections)),
                responsiveness: PerOrigin::new(Responsiveness::new),
                aliases: VersionAliases::default(),
                head_trusts: HeadTrusts::default(),
                digests: Digests::default(),
                compared: Digests::default(),
                large_page: Arc::new(Semaphore::new(1)),
                long_documents: Arc::default(),
            }),
        })
    }

    /// Sends single requests, for what is built on them.
    pub(super) fn transport(&self) -> &Transport {
        &self.shared.transport
    }

    /// Removes `user:password` from a URL and registers them for its origin; without them, registers the credentials
    /// that the configuration has for the sources' servers.
    ///
    /// Only for URLs that the user gave, never for a link or redirect from a server.
    pub fn adopt(&self, url: Url) -> Url {
        self.transport().site(&url).access.adopt(url)
    }

    /// [`Self::adopt`] for a source of a library: `source` is its URL as the user has written it, `url` that of its
    /// requests.
    pub(crate) fn adopt_for(&self, source: &Url, url: Url) -> Url {
        self.transport().sites().adopt_for(source, url)
    }

    /// Sends requests with the settings of these sources from now on.
    ///
    /// # Errors
    /// If a file that a configuration names can't be used. Then nothing has changed.
    pub(crate) fn replace_sites(&self, sources: Vec<SiteConfig>) -> Result<(), SetupError> {
        let mirrors = sources.iter().map(|site| site.http.mirrors.clone()).collect();
        self.transport().replace_sites(sources)?;
        self.mirrors().replace(mirrors);
        Ok(())
    }

    /// Signs requests for what is below a directory, whose path ends in `/`. Not for a target of a redirect to elsewhere.
    pub(crate) fn sign_below(&self, directory: &Url, signer: Arc<dyn Signer>) {
        self.transport().signers.add(directory, signer);
    }

    /// Answers requests for files in a directory of this machine from now on.
    pub(crate) fn serve_local(&self, directory: LocalDirectory) {
        self.transport().local.add(directory);
    }

    /// The directory of this machine that a URL is in.
    pub(crate) fn local_directory(&self, url: &Url) -> Option<Arc<LocalDirectory>> {
        self.transport().local.of(url)
    }

    /// Maximum time to wait for an answer.
    pub(crate) fn timeout(&self) -> Duration {
        self.transport().config.timeout
    }

    /// This URL of a file has sent bytes that contradict a published hash, which was logged. The file's bytes are not
    /// asked for there for a while.
    pub fn leave_out(&self, url: &Url) {
        self.mirrors().leave_out_silently(url);
    }

    /// The hash that the server of a file gives of this version of it, in the responses so far.
    pub(crate) fn digest_of(&self, url: &Url, version: &Version) -> Option<Hash> {
        self.shared.digests.of(url, version)
    }

    /// This version of a file was found to have the hash that a checksum file has of it.
    pub(crate) fn note_compared(&self, url: &Url, version: &Version, hash: Hash) {
        self.shared.compared.note(url, version, hash);
    }

    /// The hash of this version of a file that its server gives, or a checksum file if the file was compared with it. No
    /// request is sent.
    pub(crate) fn known_hash(&self, url: &Url, version: &Version) -> Option<Hash> {
        self.digest_of(url, version)
            .or_else(|| self.shared.compared.of(url, version))
    }

    /// Returns true if the file's bytes may not be asked for at this URL of it now.
    pub fn is_left_out(&self, url: &Url) -> bool {
        self.mirrors().is_left_out(url)
    }

    /// Returns true if a proxy is set. Then a failed connection may be the proxy's.
    pub fn may_use_a_proxy(&self) -> bool {
        self.transport().sites().may_use_a_proxy()
    }

    /// Returns true if bodies of some sources come at a limited rate.
    pub(crate) fn has_rates(&self) -> bool {
        self.transport().sites().has_rates()
    }

    /// Returns true if requests to this URL's origin carry a login or a token.
    pub fn logs_in_at(&self, url: &Url) -> bool {
        self.transport().site(url).access.logs_in_at(url)
    }

    /// Registers a directory URL that the user gave, if it is one. Requests keep the form that the user gave, with or
    /// without a `/` at the end.
    pub fn call_directory(&self, url: &Url) {
        self.transport().redirects.call(&as_directory(url), url);
    }

    /// Records the URL at which a directory's listing was found. Requests for what is below the directory go there.
    pub fn found_directory(&self, directory: &Url, found: &Url) {
        self.transport().redirects.learnt(directory, Some(found));
    }

    /// The health of an origin, as all requests to it have found. Callers that retry must follow it.
    pub fn health(&self, origin: &Origin) -> Arc<Health> {
        self.transport().healths.of(origin)
    }

    /// The slots of an origin for requests for names. Callers take one before they call the client.
    pub(crate) fn name_slots(&self, origin: &Origin) -> Arc<NameSlots> {
        self.shared.name_slots.of(origin)
    }

    /// Whether an origin responds in time. Callers that know an older answer must follow it.
    pub(crate) fn responsiveness(&self, origin: &Origin) -> Arc<Responsiveness> {
        self.shared.responsiveness.of(origin)
    }

    /// The requests to each origin so far: listings, metadata and bytes together.
    pub(crate) fn requests(&self) -> Vec<(Origin, RequestTotals)> {
        let requests = self.transport().requests.named();
        let mut totals: Vec<_> = requests.map(|(origin, requests)| (origin, requests.totals())).collect();
        totals.sort_by(|(one, _), (other, _)| one.cmp(other));
        totals
    }

    /// The origins whose circuit breaker is open: down, unreachable or overloaded.
    pub fn down(&self) -> Vec<DownOrigin> {
        let healths = self.transport().healths.all();
        let mut down: Vec<_> = healths.iter().filter_map(|health| health.down()).collect();
        down.sort_by(|one, other| one.origin.cmp(&other.origin));
        down
    }

    /// The health of the origin that a range request for this URL would go to now: the target of its last redirects.
    pub fn health_of(&self, url: &Url) -> Arc<Health> {
        // A redirect target that is unavailable does not count.
        let link = self
            .transport()
            .redirects
            .way(url)
            .map(|link| self.transport().healths.of_url(&link));
        let link = link.filter(|health| !health.is_down());
        link.unwrap_or_else(|| self.transport().healths.of_url(url))
    }

    /// Sends a request for another resource of the origin in the background: the directory of what has just failed. The
    /// result shows whether the origin is at fault. A refused connection shows nothing: a server that redirects to its
    /// data servers may refuse at once.
    pub fn ask_for_something_else(&self, runtime: &Handle, failed: &Url, health: Arc<Health>) {
        let Some(other) = directory_of(failed).filter(|_| health.finds_out()) else {
            return;
        };
        let client = self.clone();
        runtime.spawn(async move {
            let error = match client.transport().head(&other).await {
                Ok(answer) if answer.response.status().is_success() => None,
                Ok(answer) => Some(answer.refused().await),
                Err(error) => Some(error),
            };
            match error {
                None => health.answered(),
                Some(error) if error.kind.is_of_the_origin() => drop(health.has_failed(&error)),
                Some(_) => {}
            }
            health.has_found_out();
        });
    }

    /// Probes an origin in the background. `permit` is the permit for that.
    pub fn find_out(&self, runtime: &Handle, url: Url, permit: Permit) {
        let client = self.clone();
        runtime.spawn(async move {
            let answer = client.metadata(&url).await;
            permit.ended(answer.err().as_ref());
        });
    }

    /// How many connections at a time an origin is seen to serve, at most as many as are allowed.
    pub fn serves(&self, origin: &Origin) -> usize {
        self.transport().limits.of(origin).serves()
    }

    /// The origin that a range of this URL would be requested from now: the last target of its
    /// redirects. `None` if the scheme is neither http nor https.
    pub fn origin_of(&self, url: &Url) -> Option<Origin> {
        let link = self.transport().redirects.way(url);
        Origin::of(link.as_ref().unwrap_or(url))
    }

    /// Records the redirect target of a file's URL, for the next request for the file.
    pub fn note_redirect(&self, url: &Url, target: &Url) {
        self.transport().redirects.remember_untried(url, target);
    }

    /// The nodes of the cache that several machines share.
    pub(super) fn tier(&self) -> &Arc<TierNodes> {
        &self.shared.tier
    }

    /// What that cache did so far; `None` if there is none.
    pub(crate) fn tier_totals(&self) -> Option<TierTotals> {
        self.tier().totals(self.transport())
    }

    /// The mirrors of the sources.
    pub(crate) fn mirrors(&self) -> &Mirrors {
        &self.shared.mirrors
    }

    /// Notes the headers that a file's source publishes. Requests for any of its URLs carry them from now on.
    pub(crate) fn note_headers(&self, content: &Content) {
        self.transport().file_headers.note(content);
    }

    /// Maximum size of a document, in bytes.
    pub(crate) fn max_page(&self) -> u64 {
        self.transport().config.max_page
    }

    /// Returns true if the network must not be used (`--offline`).
    pub fn is_offline(&self) -> bool {
        self.transport().is_offline()
    }

    /// Forbids the use of the network, or allows it. Requests under way go on.
    pub(crate) fn set_offline(&self, is_offline: bool) {
        self.transport().set_offline(is_offline);
    }

    /// Most connections to one origin, for what is no source of a library with a limit of its own.
    pub(crate) fn max_connections(&self) -> usize {
        self.transport().sites().own().config.max_connections
    }

    /// The credentials of the mount.
    pub(crate) fn access(&self) -> AccessConfig {
        self.transport().sites().own().config.access.clone()
    }

    /// Changes the number of connections and the credentials of the mount, for requests from now on. Sources of a library
    /// with settings of their own keep them.
    pub(crate) fn change_own(&self, max_connections: usize, access: AccessConfig) {
        self.transport().change_own(max_connections, access);
    }

    /// Requests a whole file of any size.
    ///
    /// # Errors
    /// `BadAnswer` for a response that fails validation; otherwise as the response or its absence demands.
    pub async fn whole(&self, url: &Url) -> Result<Body, HttpError> {
        let answer = self.transport().send(HttpRequest::whole(), url).await?;
        if answer.head.status != 200 {
            return Err(answer.refused().await);
        }
        if let Err(kind) = answer.head.refuse_coding(None) {
            return Err(answer.failed(kind).await);
        }
        if answer.head.is_web_page() && is_elsewhere(url, &answer.url) {
            let kind = HttpErrorKind::BadAnswer("a web page instead of the file; is a login needed?".to_owned());
            return Err(answer.failed(kind).await);
        }
        let due = answer.head.content_length;
        Ok(self.transport().body(answer, due))
    }
}

/// The mirrors of all sources.
fn mirrors(config: &HttpConfig) -> Vec<MirrorConfig> {
    let of_sources = config.sites.iter().map(|site| &site.http.mirrors);
    of_sources.chain([&config.mirrors]).cloned().collect()
}

/// The same URL with a `/` at the end.
pub(crate) fn as_directory(url: &Url) -> Url {
    let mut directory = url.clone();
    if !url.path().ends_with('/') {
        directory.set_path(&format!("{}/", url.path()));
    }
    directory
}

/// The parent directory's URL; `None` for the root of a server. For a directory in a document, which the server does not
/// know, the server's root.
fn directory_of(url: &Url) -> Option<Url> {
    let url = &*untagged(url);
    if let Some((_, requests)) = url.scheme().split_once('+') {
        let root = format!("{requests}{}", &url.as_str()[url.scheme().len()..]);
        return Url::parse(&root).ok()?.join("/").ok();
    }
    let above = if url.path().ends_with('/') { ".." } else { "." };
    url.join(above).ok().filter(|directory| directory.path() != url.path())
}

#[cfg(test)]
mod tests;
