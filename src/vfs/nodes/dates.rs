//! Dates: which date a file shows, and the offset of a server's listings from UTC.
//!
//! **The rule.** The date of a file is the first that is known of these:
//!
//! 1. The server's `Last-Modified`, from HEAD or with its bytes, from this mount or an earlier one.
//! 2. The listing's date.
//! 3. [`undated`](super::attributes::undated).
//!
//! A directory has the date from the newest listing. A date does not change while the file is open: `tar` takes a
//! file whose date moves during a read for a changed one.
//!
//! **All dates of a server are shown by one clock.** Many servers list their local time without a zone, while
//! `Last-Modified` is UTC. The two dates of one file give the offset, which is added to the listed dates of the
//! others. A zone with summer time has two offsets: the one of the file with the nearest listed date applies. So a
//! file never looks older than one that was written before it, only because one of them was requested.
//!
//! **Within a minute no file is older.** If a listing has no seconds, a file without a known `Last-Modified` gets the
//! latest date known in that minute in its directory. So a file that was read does not overtake its neighbour, which
//! may be its index.
//!
//! If some sizes must be requested, because the listing rounds or omits them, one file is requested before `stat`
//! shows the first listed date. If all sizes are exact, nothing is requested: all dates are the listing's until a
//! file is read.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use parking_lot::{Mutex, RwLock};
use url::Url;

use crate::origin::PerOrigin;
use crate::source::ListedTime;

/// Time zones differ from UTC by whole quarters of an hour, in seconds.
const QUARTER: i64 = 900;

/// Largest offset of a time zone from UTC, in seconds (UTC+14).
const FARTHEST: i64 = 14 * 3600;

/// Most offsets kept of one server. More files give nothing new, because zones change twice a year.
const MOST_SAMPLES: usize = 256;

/// Seconds to an equal sample within which a new sample is dropped: 10 days.
const NEAR: u64 = 10 * 86_400;

/// The clock of a server's listings.
#[derive(Default)]
pub(in crate::vfs) struct Clock {
    /// From a listed date to its offset from UTC, in seconds. Locked for a look-up only.
    samples: RwLock<BTreeMap<i64, i64>>,
    /// Whether there are any samples.
    is_known: AtomicBool,
}

impl Clock {
    /// Learns from a file with both dates. Returns true if listed dates are shown differently from now on.
    pub(super) fn learn(&self, listed: ListedTime, modified: SystemTime) -> bool {
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

    /// A listed date converted to UTC, as far as the offset is known.
    pub(super) fn utc(&self, listed: SystemTime) -> SystemTime {
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

    /// Whether any offset is known.
    pub(super) fn is_known(&self) -> bool {
        self.is_known.load(Ordering::Acquire)
    }
}

/// The clocks of all servers.
pub(in crate::vfs) type Clocks = PerOrigin<Clock>;

/// The dates of the files in one directory.
pub(in crate::vfs) struct Dates {
    pub(in crate::vfs) clock: Arc<Clock>,
    /// Whether sizes of some of its files must be requested, which also gives their dates in UTC.
    is_mixed: AtomicBool,
    /// Whether a file was requested to learn the clock, successfully or not.
    is_searched: AtomicBool,
    /// From a listed date without seconds to the latest Last-Modified of a file with that date. Locked for a look-up
    /// only.
    minutes: Mutex<HashMap<SystemTime, SystemTime>>,
}

/// What a file's two dates change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::vfs) enum Learnt {
    Nothing,
    /// Files with the same listed date are shown with another date.
    Minute,
    /// Files with any listed date are shown with another date.
    Clock,
}

impl Dates {
    /// The dates of a directory at this URL.
    pub(in crate::vfs) fn at(clocks: &Clocks, url: &Url) -> Arc<Dates> {
        Dates::by(clocks.of_url(url))
    }

    pub(super) fn by(clock: Arc<Clock>) -> Arc<Dates> {
        Arc::new(Dates {
            clock,
            is_mixed: AtomicBool::new(false),
            is_searched: AtomicBool::new(false),
            minutes: Mutex::default(),
        })
    }

    /// Learns from a file with both dates.
    pub(super) fn learn(&self, listed: ListedTime, modified: SystemTime) -> Learnt {
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

    /// The date to show for a file that has only a listed date.
    pub(super) fn shown(&self, listed: ListedTime) -> SystemTime {
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

    /// Whether listed dates can be shown next to the dates that the directory's other files will get.
    pub(super) fn are_ready(&self) -> bool {
        self.clock.is_known() || !self.is_mixed.load(Ordering::Relaxed) || self.is_searched.load(Ordering::Relaxed)
    }
}

/// The offset from this listed date to the other date. `None` if no zone has such an offset: the listing is of
/// another version, or has no time of day.
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
    fn listed_dates_shift_by_the_nearest_known_file() {
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
    fn impossible_zone_offset_is_ignored() {
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
