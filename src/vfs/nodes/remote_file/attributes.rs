//! Size and date of a remote file: what is shown, and whether it is certain.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::state::State;
use super::{NOT_SHOWN, RemoteFile};
use crate::source::{ListedSize, seconds, time};
use crate::vfs::nodes::attributes::{Attributes, undated};
use crate::vfs::nodes::dates::Learnt;
use crate::vfs::nodes::ino::Ino;

/// How long a file without a date is not asked about again after the origin could not be asked for the date.
const DATE_ASKED_AGAIN: Duration = Duration::from_secs(10);

impl RemoteFile {
    /// The state that an absent one stands for.
    pub(super) fn plain_state(&self) -> State {
        let after = self.shown_plainly.load(Ordering::Relaxed);
        if after == NOT_SHOWN {
            return State::default();
        }
        let (seconds, nanoseconds) = self.listed_facts().seconds();
        let date = match self.listed_time() {
            Some(_) => time(seconds.saturating_add(after.into()), nanoseconds),
            None => Some(undated()),
        };
        State {
            shown_size: match self.listed_size() {
                ListedSize::Exact(size) => Some(size),
                ListedSize::Rounded(_) | ListedSize::Unknown => None,
            },
            shown_date: date,
            ..State::default()
        }
    }

    /// Records the shown date of a file without a state. Returns false if only a state can hold it.
    fn note_shown_plainly(&self, date: SystemTime) -> bool {
        let after = match self.listed_time() {
            None => Some(0),
            Some(_) => {
                let (shown, nanoseconds) = seconds(date);
                let listed = self.listed_facts().seconds();
                let after = shown.checked_sub(listed.0);
                let after = after.and_then(|after| i32::try_from(after).ok());
                after.filter(|_| nanoseconds == listed.1)
            }
        };
        let Some(after) = after.filter(|&after| after != NOT_SHOWN) else {
            return false;
        };
        self.shown_plainly.store(after, Ordering::Relaxed);
        true
    }

    /// The size in bytes, or the best estimate; and whether it is exact.
    pub(super) fn size(&self) -> (u64, bool) {
        self.look(|state| self.size_by(state))
    }

    pub(super) fn size_by(&self, state: &State) -> (u64, bool) {
        match (state.shown(), &state.known, self.listed_size()) {
            (Some(shown), ..) => (shown.version.size, true),
            (None, Some(known), _) => (known.version.size, true),
            (None, None, ListedSize::Exact(size)) => (size, true),
            (None, None, ListedSize::Rounded(size)) => (size, false),
            (None, None, ListedSize::Unknown) => (0, false),
        }
    }

    /// The size that is shown now, in bytes.
    pub(in crate::vfs) fn shown_size(&self) -> u64 {
        self.size().0
    }

    /// The exact size that the listing gives now, in bytes. It may be another version's.
    pub(in crate::vfs) fn exactly_listed(&self) -> Option<u64> {
        match self.listed_facts().size() {
            ListedSize::Exact(size) => Some(size),
            ListedSize::Rounded(_) | ListedSize::Unknown => None,
        }
    }

    /// The exact size in bytes, if it is known.
    pub(in crate::vfs) fn exact_size(&self) -> Option<u64> {
        let (size, is_exact) = self.size();
        is_exact.then_some(size)
    }

    /// The attributes that `stat` shows.
    pub(in crate::vfs) fn attributes(&self, ino: Ino) -> Attributes {
        let mut state = self.state.lock();
        let (size, modified, is_exact, has_date) = match state.as_deref_mut() {
            None => {
                let plain = State::default();
                let (size, is_exact) = self.size_by(&plain);
                (size, self.date(&plain), is_exact, self.has_date(&plain))
            }
            Some(state) => {
                let (size, is_exact) = self.size_by(state);
                let modified = match state.shown_date {
                    Some(date) if state.handles > 0 => date,
                    _ => self.date(state),
                };
                (size, modified, is_exact, self.has_date(state))
            }
        };
        if state.is_some() || !self.note_shown_plainly(modified) {
            let state = state.get_or_insert_default();
            if is_exact {
                state.shown_size = Some(size);
            }
            state.shown_date = Some(modified);
        }
        Attributes {
            ino,
            is_directory: false,
            size,
            is_exact: is_exact && has_date,
            modified,
            links: 1,
        }
    }

    /// The date to show; see [`dates`](super::dates) for the rules.
    fn date(&self, state: &State) -> SystemTime {
        let listed = || self.listed_time().map(|listed| self.dates().shown(listed));
        let date = state.modified().or_else(listed);
        date.unwrap_or_else(undated).max(UNIX_EPOCH)
    }

    /// Whether the date can be shown without a request.
    pub(super) fn has_date(&self, state: &State) -> bool {
        match self.listed_time() {
            Some(_) => state.modified().is_some() || self.dates().are_ready(),
            None => {
                state.known.is_some()
                    || state.shown().is_some()
                    || state.date_asked.is_some_and(|at| at.elapsed() < DATE_ASKED_AGAIN)
            }
        }
    }

    /// See [`Node::is_ready`](super::node::Node::is_ready).
    pub(in crate::vfs) fn is_ready(&self) -> bool {
        self.look(|state| self.size_by(state).1 && self.has_date(state))
    }

    /// Whether the size is known, but the date only by a listing whose clock is unknown.
    pub(in crate::vfs) fn lacks_clock(&self) -> bool {
        let lacks_clock = |state: &State| self.size_by(state).1 && !self.has_date(state);
        self.listed_time().is_some() && self.look(lacks_clock)
    }

    /// Notes that the origin was asked for the date.
    pub(in crate::vfs) fn note_date_asked(&self) {
        self.change(|state| state.date_asked = Some(Instant::now()));
    }

    /// Derives the clock of the directory's dates from the listed and the exact date, if both are known.
    pub(in crate::vfs) fn teach_dates(&self) -> Learnt {
        let modified = self.look(State::modified);
        let dates = self.listed_time().zip(modified);
        dates.map_or(Learnt::Nothing, |(listed, modified)| {
            self.dates().learn(listed, modified)
        })
    }

    /// Whether the date that was shown differs from the one to show now.
    pub(in crate::vfs) fn has_another_date(&self) -> bool {
        self.look(|state| state.shown_date.is_some_and(|shown| shown != self.date(state)))
    }
}
