//! Versions of a remote file: which one a node shows, and when another one takes its place.

use std::sync::{Arc, Weak};
use std::time::{Duration, SystemTime};

use super::known::Known;
use super::listed::Listed;
use super::state::Successor;
use super::{CHANGED, RemoteFile, SUCCESSOR};
use crate::cache::{CacheEntry, Confirmed};
use crate::http::Version;
use crate::source::{Entries, EntryKind, ListedSize, ListedTime, seconds};

impl RemoteFile {
    /// The same URL for the version that follows this one.
    pub(in crate::vfs) fn next_version(&self) -> RemoteFile {
        let known = self.look(|state| {
            let shown = state.shown().map(|shown| &shown.version);
            let is_news = |known: &&Known| match shown {
                Some(shown) => known.version != *shown,
                None => Some(known.version.size) != state.shown_size,
            };
            state.known.as_ref().filter(is_news).cloned()
        });
        // The listing may describe either version. While it stays the same, it says nothing new of this one.
        let (context, rest) = (Arc::clone(&self.context), self.rest.clone());
        let next = RemoteFile::at(context, rest, self.is_below(), self.listed_facts());
        next.set(SUCCESSOR);
        next.change(|state| state.known = known);
        next
    }

    /// The version, if it is known.
    pub(in crate::vfs) fn version(&self) -> Option<Version> {
        self.look(|state| {
            let shown = state.shown().map(|shown| &shown.version);
            shown.or(state.known.as_ref().map(|known| &known.version)).cloned()
        })
    }

    /// See [`Node::is_changed`](super::node::Node::is_changed).
    pub(in crate::vfs) fn is_changed(&self) -> bool {
        if self.has(CHANGED) {
            return true;
        }
        if self.state.lock().is_none() {
            return false;
        }
        let entry = self.live_entry();
        entry.is_some_and(|entry| entry.is_changed()) || self.is_rejected() || self.is_succeeded()
    }

    /// Whether a newer listing's size and date at this position can be true of this version.
    pub(in crate::vfs) fn still_fits(&self, entries: &Entries, at: usize) -> bool {
        if !self.context.is_of_listing() {
            return self.url() == entries.url(at) && entries.published(at).is_none() && self.may_be(entries, at);
        }
        let EntryKind::File(size) = entries.kind(at) else {
            return false;
        };
        Listed::new(size, entries.modified(at)) == self.listed_facts()
            && entries.published(at) == self.published()
            && self.is_at(entries, at)
    }

    /// Whether what a listing says at this position can be true of a file that was found before it was listed. Notes
    /// what the first listing says, with which later ones are compared.
    fn may_be(&self, entries: &Entries, at: usize) -> bool {
        let EntryKind::File(size) = entries.kind(at) else {
            return false;
        };
        let listed = (size, entries.modified(at));
        self.change(|state| {
            let is_true = match state.listed {
                Some(before) => before == listed,
                None => {
                    let version = state.shown().map(|shown| &shown.version);
                    let version = version.or(state.known.as_ref().map(|known| &known.version));
                    let has_size = match size {
                        ListedSize::Exact(size) => version.is_some_and(|version| version.size == size),
                        ListedSize::Rounded(_) | ListedSize::Unknown => true,
                    };
                    let dates = listed.1.zip(state.modified());
                    has_size && dates.is_none_or(|(listed, modified)| may_be_date(listed, modified))
                }
            };
            if is_true {
                state.listed = Some(listed);
            }
            is_true
        })
    }

    /// What the origin said within `ttl`, in a metadata answer or with the file's bytes.
    pub(in crate::vfs) fn freshly_known(&self, ttl: Duration) -> Option<Known> {
        let known = self.look(|state| state.known.clone());
        known
            .into_iter()
            .chain(self.shown())
            .find(|known| known.at.is_some_and(|at| at.elapsed() < ttl))
    }

    /// The version whose bytes were read under this node, if any were. The kernel may still cache them.
    pub(in crate::vfs) fn shown(&self) -> Option<Known> {
        let shown = self.look(|state| state.shown().cloned());
        shown.map(
            |Confirmed {
                 version, modified, at, ..
             }| Known {
                version,
                modified,
                at: Some(at),
            },
        )
    }

    /// The open entry, if its version was confirmed within `ttl`, or is unknown because the first range is still in
    /// flight.
    pub(in crate::vfs) fn open_entry(&self, ttl: Duration) -> Option<Arc<CacheEntry>> {
        let entry = self.live_entry()?;
        (entry.settled().is_none() || self.freshly_known(ttl).is_some()).then_some(entry)
    }

    /// Notes the origin's answer.
    pub(in crate::vfs) fn note(&self, known: Known) {
        self.change(|state| state.known = Some(known));
    }

    /// The entry, while a handle or the cache keeps it open. Its version may be long unconfirmed.
    pub(in crate::vfs) fn live_entry(&self) -> Option<Arc<CacheEntry>> {
        self.state.lock().as_ref()?.entry.upgrade()
    }

    /// Notes that this entry was opened for the file.
    pub(in crate::vfs) fn opened(&self, entry: &Arc<CacheEntry>) {
        self.change(|state| {
            state.entry = Arc::downgrade(entry);
            if state.shown().is_none() {
                state.shown = Some(Arc::clone(entry.confirmed()));
            }
        });
    }

    /// Whether the bytes that were read under this node turned out not to be the file's.
    fn is_rejected(&self) -> bool {
        self.look(|state| state.shown().is_some_and(|shown| shown.rejected.is_set()))
    }

    /// Notes the node that a later listing has in its place. The listing may differ although the version is the same.
    pub(in crate::vfs::nodes) fn set_successor(&self, next: Weak<dyn Successor>) {
        self.change(|state| _ = state.successor.get_or_insert(next));
    }

    /// Whether the origin has confirmed another version under the node that replaced this one.
    fn is_succeeded(&self) -> bool {
        let next = self.look(|state| state.successor.as_ref().and_then(Weak::upgrade));
        let next = next.and_then(|next| next.shown_version());
        self.shown()
            .zip(next)
            .is_some_and(|(shown, next)| shown.version != next)
    }

    /// Notes that it replaced another version that was shown under this name.
    pub(in crate::vfs::nodes) fn set_is_successor(&self) {
        self.set(SUCCESSOR);
    }

    /// Whether it replaced another version that was shown under this name.
    pub(in crate::vfs) fn is_successor(&self) -> bool {
        self.has(SUCCESSOR)
    }

    /// Whether this version can be shown here; if not, the file is marked as changed.
    pub(in crate::vfs) fn admits(&self, version: &Version) -> bool {
        let admits = self.look(|state| match (state.shown(), &state.stored, state.shown_size) {
            (Some(shown), ..) => shown.version == *version,
            (None, Some(stored), _) => stored == version,
            (None, None, Some(size)) => size == version.size,
            (None, None, None) => true,
        });
        if !admits {
            self.set(CHANGED);
        }
        admits
    }
}

/// Whether a listing's date can be this one. The listing may be in the server's local time, and lack the seconds.
fn may_be_date(listed: ListedTime, modified: SystemTime) -> bool {
    /// Offsets from UTC are multiples of it, in seconds.
    const ZONES: i64 = 900;
    /// The largest offset.
    const FARTHEST: i64 = 14 * 3600;
    let resolution = if listed.exact { 1 } else { 60 };
    let apart = (seconds(listed.time).0 - seconds(modified).0).abs();
    let beside = (apart % ZONES).min(ZONES - apart % ZONES);
    beside <= resolution && apart <= FARTHEST + resolution
}
