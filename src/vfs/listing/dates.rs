//! Dates: which one is shown of a file, and how far a server's listings are from UTC.
//!
//! **The rule.** A file has the server's `Last-Modified` as soon as that is known, from HEAD or with its bytes, to this mount or an earlier
//! one; else the listing's date; else [`undated`](crate::vfs::node::undated). A directory has the date that the newest listing gives.
//! A date that was shown stays while the file is open: `tar` takes a file whose dates move while it is read for one that
//! was changed.
//!
//! **All dates of a server are shown by one clock.** Many list their local time without saying so, and `Last-Modified` is UTC. The
//! two dates of one file tell how far they are apart, and so much is added to the listed dates of the others. A zone with summer
//! time has two such distances: that of the file counts whose listed date is nearest. So a file that was written after another
//! never looks older, only because one of them was asked about.
//!
//! **Within a minute nothing is older.** Where a listing has no seconds, a file whose `Last-Modified` is not known is as young as the youngest
//! that is known of the same minute in its directory. So that of one that was read does not overtake that of its neighbour, which may be
//! its index.
//!
//! Where a listing makes it necessary to ask about some files (it rounds sizes, or leaves them out), one is asked about before the first
//! listed date is shown to `stat`. Where all sizes are exact nothing is asked: all dates are the listing's until a file is read.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use parking_lot::{Mutex, RwLock};

use crate::source::ListedTime;

/// Zones differ from UTC by whole quarters of an hour, in seconds.
const QUARTER: i64 = 900;

/// No zone is farther from UTC than this, in seconds (UTC+14).
const FARTHEST: i64 = 14 * 3600;

/// Differences that are remembered of one server. More files tell nothing new, where zones change twice a year.
const MOST_SAMPLES: usize = 256;

/// A sample this near to another one that says the same is not worth being remembered, in seconds: 10 days.
const NEAR: u64 = 10 * 86_400;

/// The clock of a server's listings.
#[derive(Default)]
pub(in crate::vfs) struct Clock {
    /// From a listed date to what it takes to make it UTC, in seconds. Taken for the moment of a look-up.
    samples: RwLock<BTreeMap<i64, i64>>,
    /// Whether there are any.
    is_known: AtomicBool,
}

impl Clock {
    /// Learns from a file of which both dates are known. Returns true if listed dates are shown differently from now on.
    pub(in crate::vfs) fn learn(&self, listed: ListedTime, modified: SystemTime) -> bool {
        let Some(offset) = offset(listed, seconds(modified)) else {
            return false;
        };
        let at = seconds(listed.time);
        let mut samples = self.samples.write();
        let before = nearest(&samples, at);
        let is_news = before.is_none_or(|(near, known)| known != offset || near.abs_diff(at) > NEAR);
        if is_news && samples.len() < MOST_SAMPLES {
            samples.insert(at, offset);
            self.is_known.store(true, Ordering::Release);
        }
        before.map_or(0, |(_, known)| known) != offset
    }

    /// A listed date by UTC, as far as is known.
    pub(in crate::vfs) fn utc(&self, listed: SystemTime) -> SystemTime {
        if !self.is_known() {
            return listed;
        }
        let offset = nearest(&self.samples.read(), seconds(listed)).map_or(0, |(_, offset)| offset);
        let distance = Duration::from_secs(offset.unsigned_abs());
        let utc = if offset < 0 {
            listed.checked_sub(distance)
        } else {
            listed.checked_add(distance)
        };
        utc.unwrap_or(listed)
    }

    /// Whether anything is known of it.
    pub(in crate::vfs) fn is_known(&self) -> bool {
        self.is_known.load(Ordering::Acquire)
    }
}

/// The dates of the files in one directory.
pub(in crate::vfs) struct Dates {
    pub(in crate::vfs) clock: Arc<Clock>,
    /// Whether some of its files have to be asked about for their sizes, which will tell dates by UTC.
    is_mixed: AtomicBool,
    /// Whether one was asked about to learn of the clock, whatever came of it.
    is_searched: AtomicBool,
    /// From a listed date without seconds to the latest Last-Modified of a file that has it. Taken for the moment of a look-up.
    minutes: Mutex<HashMap<SystemTime, SystemTime>>,
}

/// What a file's two dates have told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::vfs) enum Learnt {
    Nothing,
    /// Files with the same listed date are shown with another one.
    Minute,
    /// So are files with any listed date.
    Clock,
}

impl Dates {
    pub(in crate::vfs) fn by(clock: Arc<Clock>) -> Arc<Dates> {
        Arc::new(Dates {
            clock,
            is_mixed: AtomicBool::new(false),
            is_searched: AtomicBool::new(false),
            minutes: Mutex::default(),
        })
    }

    /// Learns from a file of which both dates are known.
    pub(in crate::vfs) fn learn(&self, listed: ListedTime, modified: SystemTime) -> Learnt {
        let mut learnt = Learnt::Nothing;
        if !listed.exact && offset(listed, seconds(modified)).is_some() {
            let mut minutes = self.minutes.lock();
            let latest = minutes.entry(listed.time).or_insert(UNIX_EPOCH);
            if *latest < modified {
                (*latest, learnt) = (modified, Learnt::Minute);
            }
        }
        if self.clock.learn(listed, modified) {
            learnt = Learnt::Clock;
        }
        learnt
    }

    /// The date to show of a file of which only this is known.
    pub(in crate::vfs) fn shown(&self, listed: ListedTime) -> SystemTime {
        let date = self.clock.utc(listed.time);
        if listed.exact {
            return date;
        }
        let latest = self.minutes.lock().get(&listed.time).copied();
        latest.map_or(date, |latest| latest.max(date))
    }

    pub(in crate::vfs) fn set_mixed(&self, is_mixed: bool) {
        self.is_mixed.store(is_mixed, Ordering::Relaxed);
    }

    pub(in crate::vfs) fn set_searched(&self) {
        self.is_searched.store(true, Ordering::Relaxed);
    }

    /// Whether a listed date can be shown beside the dates that the directory's other files will have.
    pub(in crate::vfs) fn are_ready(&self) -> bool {
        self.clock.is_known() || !self.is_mixed.load(Ordering::Relaxed) || self.is_searched.load(Ordering::Relaxed)
    }
}

/// What it takes to make this listed date the other one. `None` if no zone does: the listing is of another version, or has no time of
/// day.
fn offset(listed: ListedTime, modified: i64) -> Option<i64> {
    let (at, unit) = (seconds(listed.time), if listed.exact { 1 } else { 60 });
    let is_date_alone = at.rem_euclid(86_400) == 0;
    let offset = modified - modified.rem_euclid(unit) - at;
    (!is_date_alone && offset % QUARTER == 0 && offset.abs() <= FARTHEST).then_some(offset)
}

fn nearest(samples: &BTreeMap<i64, i64>, at: i64) -> Option<(i64, i64)> {
    let before = samples.range(..=at).next_back();
    let after = samples.range(at..).next();
    let near = before
        .into_iter()
        .chain(after)
        .min_by_key(|(sample, _)| sample.abs_diff(at));
    near.map(|(&sample, &offset)| (sample, offset))
}

/// Whole seconds since 1970.
fn seconds(time: SystemTime) -> i64 {
    match time.duration_since(UNIX_EPOCH) {
        Ok(after) => after.as_secs().try_into().unwrap_or(i64::MAX),
        Err(before) => -i64::try_from(before.duration().as_secs()).unwrap_or(i64::MAX),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: i64 = 3600;
    const DAY: i64 = 86_400;

    fn at(seconds: i64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(seconds.cast_unsigned())
    }

    fn listed(seconds: i64) -> ListedTime {
        ListedTime {
            time: at(seconds),
            exact: false,
        }
    }

    #[test]
    fn listed_dates_are_moved_by_what_the_nearest_file_tells() {
        let clock = Clock::default();
        let (winter, summer) = (1000 * DAY + 10 * HOUR, 1180 * DAY + 10 * HOUR);
        assert_eq!(clock.utc(at(winter)), at(winter));
        assert!(clock.learn(listed(winter), at(winter + 5 * HOUR + 37)));
        assert!(
            !clock.learn(listed(winter + 60), at(winter + 60 + 5 * HOUR)),
            "it says the same"
        );
        assert!(clock.learn(listed(summer), at(summer + 4 * HOUR + 59)));
        assert_eq!(clock.utc(at(winter + DAY)), at(winter + DAY + 5 * HOUR));
        assert_eq!(clock.utc(at(summer - DAY)), at(summer - DAY + 4 * HOUR));
    }

    #[test]
    fn a_difference_that_no_zone_has_tells_nothing() {
        let clock = Clock::default();
        let noon = 1000 * DAY + 12 * HOUR;
        for modified in [noon + 7 * 60, noon + 15 * HOUR, noon - 3 * DAY] {
            assert!(!clock.learn(listed(noon), at(modified)));
        }
        assert!(
            !clock.learn(listed(1000 * DAY), at(1000 * DAY + HOUR)),
            "it has no time of day"
        );
        assert!(!clock.is_known());
        assert!(
            !clock.learn(listed(noon), at(noon + 31)),
            "UTC: nothing is shown differently"
        );
        assert!(clock.is_known());
    }
}
