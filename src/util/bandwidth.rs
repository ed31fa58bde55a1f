//! A bandwidth limit: one rate, or a timetable of rates over the week.
//!
//! A value without a clock of its own: the throttle of a mount asks it for the rate of the local time. The times of a
//! timetable are those of the machine's time zone, so they follow daylight saving time.

use jiff::Zoned;

/// Minutes of a week.
pub(crate) const WEEK: u16 = 7 * DAY;

/// Minutes of a day.
pub(crate) const DAY: u16 = 24 * 60;

/// Maximum bytes per second, which may depend on the time of the week.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct BandwidthLimit {
    /// As the user has written it.
    text: String,
    /// The rates, each from its minute of the week on (0 is Monday, 00:00), in order; the last one holds until the first.
    /// `None` is no limit, and no rate is 0. **At least one.**
    rates: Vec<(u16, Option<u64>)>,
}

impl BandwidthLimit {
    /// The same rate at all times, above 0.
    pub(crate) fn constant(bytes_per_second: u64) -> BandwidthLimit {
        BandwidthLimit::written(&bytes_per_second.to_string(), bytes_per_second)
    }

    /// The same, with the user's notation.
    pub(crate) fn written(text: &str, bytes_per_second: u64) -> BandwidthLimit {
        BandwidthLimit {
            text: text.trim().to_owned(),
            rates: vec![(0, Some(bytes_per_second))],
        }
    }

    /// A timetable: from each of these minutes of the week on, this rate; 0 is no limit. `None` without a time.
    pub(crate) fn timetable(text: &str, mut rates: Vec<(u16, u64)>) -> Option<BandwidthLimit> {
        rates.sort_by_key(|(minute, _)| *minute);
        let rates: Vec<_> = rates
            .into_iter()
            .map(|(minute, rate)| (minute, Some(rate).filter(|rate| *rate > 0)))
            .collect();
        (!rates.is_empty()).then(|| BandwidthLimit {
            text: text.trim().to_owned(),
            rates,
        })
    }

    /// The user's notation.
    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    /// Returns true if the rate depends on the time.
    pub(crate) fn is_timetable(&self) -> bool {
        self.rates.len() > 1
    }

    /// Bytes per second at a minute of the week; `None` is no limit.
    pub(crate) fn rate_at(&self, minute: u16) -> Option<u64> {
        let current = self.rates.iter().rev().find(|(from, _)| *from <= minute);
        current.or(self.rates.last()).and_then(|(_, rate)| *rate)
    }

    /// Bytes per second now.
    pub(crate) fn rate_now(&self) -> Option<u64> {
        match self.is_timetable() {
            true => self.rate_at(minute_of_week(&Zoned::now())),
            false => self.rate_at(0),
        }
    }
}

fn minute_of_week(now: &Zoned) -> u16 {
    let day = now.weekday().to_monday_zero_offset().unsigned_abs();
    let (hour, minute) = (now.hour().unsigned_abs(), now.minute().unsigned_abs());
    u16::from(day) * DAY + u16::from(hour) * 60 + u16::from(minute)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn last_rate_of_the_week_holds_until_the_first() {
        let limit = BandwidthLimit::timetable("x", vec![(18 * 60, 0), (8 * 60, 5)]).unwrap();
        let at = |minute| limit.rate_at(minute);
        assert_eq!((at(0), at(8 * 60 - 1), at(8 * 60)), (None, None, Some(5)));
        assert_eq!((at(18 * 60 - 1), at(18 * 60), at(WEEK - 1)), (Some(5), None, None));
        let late = BandwidthLimit::timetable("x", vec![(60, 7), (120, 9)]).unwrap();
        assert_eq!(late.rate_at(0), Some(9));
    }

    #[test]
    fn minute_is_that_of_the_local_week() {
        let zone = jiff::tz::TimeZone::fixed(jiff::tz::offset(2));
        // A Sunday.
        let sunday = jiff::civil::date(2026, 11, 29).at(23, 59, 59, 0);
        assert_eq!(minute_of_week(&sunday.to_zoned(zone.clone()).unwrap()), WEEK - 1);
        let monday = jiff::civil::date(2026, 11, 30).at(8, 5, 0, 0);
        assert_eq!(minute_of_week(&monday.to_zoned(zone).unwrap()), 8 * 60 + 5);
    }
}
