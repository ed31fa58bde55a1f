//! Unlisted names: files that the server serves but leaves out of listings. nginx omits dotfiles, Apache `README*`,
//! `*~` and whatever `IndexIgnore` names.
//!
//! **The rule.** A look-up of a name that the listing lacks asks the server once. A negative answer is cached for
//! [`ABSENT`], a positive one for the tree's `ttl`. `ls` does not show the name.
//!
//! Most such look-ups find nothing, so each server has an allowance: [`MOST`] requests at once, and one more per
//! [`REFILL`]. A name that is found restores [`HIT`] requests. So a scanner that tries thousands of names costs
//! [`MOST`] requests; the other look-ups are ENOENT at once, by the listing.
//!
//! Some servers answer any name with a page. So a page counts as a file only if the name has a page's extension. And
//! the first name that is found on a server counts only if the server answers 404 to a random name.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_encode};
use url::Url;

use super::kinds::with_slash;
use crate::http::tag::untagged;
use crate::http::{Origin, redact};
use crate::origin::{Metadata, PerOrigin};
use crate::source::{ListedSize, Name, NameKind, SourceError};
use crate::util::events;
use crate::vfs::error::TreeError;
use crate::vfs::nodes::directory::CachedLookup;
use crate::vfs::nodes::ino;
use crate::vfs::nodes::node::{Directory, Kind, Node};
use crate::vfs::nodes::remote_file::RemoteFile;
use crate::vfs::nodes::remote_file::known::Known;
use crate::vfs::request::mirror_lookup::Authority;
use crate::vfs::request::urgency::Urgency;
use crate::vfs::shared::Shared;

/// How long a negative look-up is cached.
const ABSENT: Duration = Duration::from_secs(60);

/// Most requests for unlisted names to one server at once.
const MOST: u32 = 64;

/// Above this many names, expired ones are dropped.
const MOST_KEPT: usize = 1024;

/// Time after which one more request is allowed.
const REFILL: Duration = Duration::from_secs(10);

/// Requests that a found name restores. A reader of Zarr looks for `.zarray` and `.zgroup` in each directory, and
/// finds one of them.
const HIT: u32 = 4;

/// The allowance of one server for unlisted names.
struct Allowance {
    left: u32,
    since: Instant,
    /// Whether the server answers 404 to a random name; `None` if unknown.
    answers_404: Option<bool>,
}

impl Allowance {
    fn new() -> Allowance {
        Allowance {
            left: MOST,
            since: Instant::now(),
            answers_404: None,
        }
    }

    fn has_left(&mut self) -> bool {
        let more = self.since.elapsed().as_secs() / REFILL.as_secs();
        if more > 0 {
            self.left = MOST.min(self.left.saturating_add(u32::try_from(more).unwrap_or(MOST)));
            self.since = Instant::now();
        }
        self.left > 0 && self.answers_404 != Some(false)
    }

    fn take(&mut self) -> bool {
        let may = self.has_left();
        self.left -= u32::from(may);
        may
    }

    fn restore(&mut self) {
        self.left = MOST.min(self.left + HIT);
    }
}

/// An unlisted name that the server has.
enum Unlisted {
    Directory(Url),
    File(Metadata),
}

/// The unlisted names of a mount.
pub(in crate::vfs) struct UnlistedNames {
    shared: Arc<Shared>,
    allowances: PerOrigin<Mutex<Allowance>>,
}

impl UnlistedNames {
    pub(in crate::vfs) fn new(shared: Arc<Shared>) -> UnlistedNames {
        UnlistedNames {
            shared,
            allowances: PerOrigin::new(|_| Mutex::new(Allowance::new())),
        }
    }

    /// The look-up of an unlisted name from memory; `None` if the server has to be asked.
    pub(in crate::vfs) fn look_up_now(
        &self,
        directory: &Directory,
        name: &OsStr,
    ) -> Option<Result<Arc<Node>, TreeError>> {
        match directory.state.read().unlisted.get(name) {
            Some(CachedLookup { node: None, at }) if at.elapsed() < ABSENT => return Some(Err(TreeError::NotFound)),
            Some(CachedLookup { node: Some(node), at })
                if at.elapsed() < self.shared.ttl.get() && !node.is_changed() =>
            {
                return Some(Ok(Arc::clone(node)));
            }
            _ => {}
        }
        let allowance = self.url_of(directory, name).and_then(|url| self.allowance(&url));
        let may_ask = allowance.is_some_and(|allowance| allowance.lock().has_left());
        (!may_ask).then_some(Err(TreeError::NotFound))
    }

    /// Looks up an unlisted name.
    ///
    /// # Errors
    /// [`TreeError::NotFound`] also if the server does not answer: then the listing decides.
    pub(in crate::vfs) async fn look_up(
        self: &Arc<Self>,
        parent: &Arc<Node>,
        name: &OsStr,
    ) -> Result<Arc<Node>, TreeError> {
        let directory = parent.directory().ok_or(TreeError::NotADirectory)?;
        if let Some(known) = self.look_up_now(directory, name) {
            return known;
        }
        let url = self.url_of(directory, name).ok_or(TreeError::NotFound)?;
        let allowance = self.allowance(&url).ok_or(TreeError::NotFound)?;
        let known = |known: &CachedLookup<Node>| known.node.clone();
        let before = directory.state.read().unlisted.get(name).and_then(known);
        if before.is_none() && !allowance.lock().take() {
            return Err(TreeError::NotFound);
        }
        let found = match self.probe(&url).await {
            Some(Ok(metadata)) => self.judge(directory, &allowance, &url, metadata).await,
            Some(Err(TreeError::NotFound)) => {
                allowance.lock().answers_404.get_or_insert(true);
                None
            }
            // No request or no answer: the earlier result stays.
            _ if before.is_some() => return before.ok_or(TreeError::NotFound),
            _ => None,
        };
        let node = found.map(|found| {
            allowance.lock().restore();
            self.node(parent, directory, url, before, found)
        });
        let lookup = CachedLookup {
            node: node.clone(),
            at: Instant::now(),
        };
        let unlisted = &mut directory.state.write().unlisted;
        if unlisted.len() >= MOST_KEPT {
            unlisted.retain(|_, lookup| lookup.node.is_some() || lookup.at.elapsed() < ABSENT);
        }
        unlisted.insert(name.to_owned(), lookup);
        node.ok_or(TreeError::NotFound)
    }

    /// Whether the server may be asked for this name.
    pub(super) fn may_ask(&self, directory: &Directory, name: &OsStr) -> bool {
        self.url_of(directory, name).is_some()
    }

    /// Looks up a name in a directory whose listing is on its way. `None` if the server does not have it for certain:
    /// then the listing decides.
    pub(super) async fn look_up_ahead(self: &Arc<Self>, parent: &Arc<Node>, name: &OsStr) -> Option<Arc<Node>> {
        let directory = parent.directory()?;
        if let Some(CachedLookup { node: Some(node), at }) = directory.state.read().unlisted.get(name)
            && at.elapsed() < self.shared.ttl.get()
        {
            return Some(Arc::clone(node));
        }
        let url = self.url_of(directory, name)?;
        let allowance = self.allowance(&url)?;
        let metadata = self.probe(&url).await?.ok()?;
        let found = self.judge(directory, &allowance, &url, metadata).await?;
        let mut state = directory.state.write();
        // Its listing has come meanwhile.
        if state.snapshot().is_some() {
            return None;
        }
        let before = state.unlisted.get(name).and_then(|lookup| lookup.node.clone());
        let node = self.node(parent, directory, url, before, found);
        let lookup = CachedLookup {
            node: Some(Arc::clone(&node)),
            at: Instant::now(),
        };
        state.unlisted.insert(name.to_owned(), lookup);
        Some(node)
    }

    /// The node of an unlisted name: the earlier one, if it is still the same.
    fn node(
        &self,
        parent: &Arc<Node>,
        directory: &Directory,
        url: Url,
        before: Option<Arc<Node>>,
        found: Unlisted,
    ) -> Arc<Node> {
        let known = match found {
            Unlisted::Directory(below) => {
                let same = before.filter(|node| node.url().as_ref() == Some(&below));
                return same.unwrap_or_else(|| {
                    let number = ino::of_directory(&below);
                    let kind = self.shared.nodes.directory(&directory.source, parent.ino, below, None);
                    self.shared.nodes.add(number, kind)
                });
            }
            Unlisted::File(metadata) => Known::of(metadata),
        };
        let version = known.as_ref().map(|known| &known.version);
        if let (Some(node), Some(known)) = (&before, &known)
            && let Some(file) = node.file()
            && !node.is_changed()
            && file.version().as_ref() == version
        {
            file.note(known.clone());
            return Arc::clone(node);
        }
        let number = ino::of_file(&url, version);
        if let Some(Known { version, modified, .. }) = &known {
            self.shared.cache.catalog().keep_file(&url, version.clone(), *modified);
        }
        let (dates, source) = (Arc::clone(&directory.dates), Arc::clone(&directory.source));
        let file = RemoteFile::known(&url, parent.ino, known, dates, source);
        self.shared.nodes.add(number, Kind::File(file))
    }

    /// Requests the metadata at a URL, with the short wait of a revalidation.
    async fn probe(self: &Arc<Self>, url: &Url) -> Option<Result<Metadata, TreeError>> {
        let (this, url_of_ask) = (Arc::clone(self), url.clone());
        let ask = async move {
            let url = &url_of_ask;
            let request = |_| async {
                this.shared
                    .client
                    .confirm(url, None, None)
                    .await
                    .map_err(SourceError::from)
            };
            let answer = this
                .shared
                .requests
                .ask(url, Authority::Source, Urgency::Refreshing, request);
            answer.await.map(|answer| answer.value)
        };
        self.shared.requests.ask_for_newer(url, ask).await
    }

    /// What the answer means; `None` if the server answers any name like this.
    async fn judge(
        self: &Arc<Self>,
        directory: &Directory,
        allowance: &Mutex<Allowance>,
        url: &Url,
        metadata: Metadata,
    ) -> Option<Unlisted> {
        let kind = directory.source.tell_apart(url, ListedSize::Unknown, &metadata).await;
        let found = match kind {
            NameKind::Directory => Unlisted::Directory(with_slash(url)),
            NameKind::File => Unlisted::File(metadata),
            NameKind::Page => return None,
        };
        self.answers_404(allowance, url).await.then_some(found)
    }

    /// Whether the server at `url` answers 404 to a name that can't exist.
    async fn answers_404(self: &Arc<Self>, allowance: &Mutex<Allowance>, url: &Url) -> bool {
        let known = allowance.lock().answers_404;
        if let Some(known) = known {
            return known;
        }
        let mut random = url.clone();
        let path = url.path().trim_end_matches('/');
        random.set_path(&format!("{path}-{:x}", ino::of_directory(url)));
        let answers_404 = match self.probe(&random).await {
            Some(Err(TreeError::NotFound)) => true,
            Some(Ok(_)) => {
                log::info!(
                    event = events::UNLISTED_NAMES_OFF;
                    "{}: the server returns a file for any name, so only names in its listings exist",
                    redact(url)
                );
                false
            }
            // No clear answer: the next name that is found asks again.
            _ => return true,
        };
        allowance.lock().answers_404 = Some(answers_404);
        answers_404
    }

    /// The URL of an unlisted name; `None` if it must not be requested.
    fn url_of(&self, directory: &Directory, name: &OsStr) -> Option<Url> {
        /// Unreserved characters of a path segment (RFC 3986 §2.3).
        const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
        let url = directory.url.as_ref().filter(|url| url.query().is_none())?;
        if self.shared.client.is_offline() || !directory.source.may_omit_names(url) {
            return None;
        }
        Name::new(name.as_bytes().to_vec())?;
        let mut asked = untagged(url).into_owned();
        asked.set_path(&format!("{}{}", asked.path(), percent_encode(name.as_bytes(), ENCODED)));
        Some(asked)
    }

    fn allowance(&self, url: &Url) -> Option<Arc<Mutex<Allowance>>> {
        Some(self.allowances.of(&Origin::of(url)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unlisted_lookups_are_bounded() {
        let mut allowance = Allowance::new();
        let taken = (0..1000).filter(|_| allowance.take()).count();
        assert_eq!(taken, MOST as usize);
        allowance.restore();
        let taken = (0..1000).filter(|_| allowance.take()).count();
        assert_eq!(taken, HIT as usize);
    }
}
