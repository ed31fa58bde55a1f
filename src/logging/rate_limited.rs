//! Rate-limited logging: a lasting condition becomes one line and a count, instead of one line per request that meets
//! it.
//!
//! [`Calm`] decides, for the warnings and errors of the whole process, so that no module has to limit its own. The unit
//! is the place: an event of a module, or a line of the code if it names no event:
//!
//! - A place may write [`BURST`] different lines. Repeated and further ones are only counted.
//! - The count is written after [`FIRST_QUIET`], then after [`GROWTH`] times as long, and so on.
//! - A place without repetitions in that time starts afresh.

use std::collections::HashMap;
use std::mem;
use std::time::{Duration, Instant};

use log::{Level, Log, Metadata, Record};
use parking_lot::Mutex;

use crate::util::events::Event;

/// The first interval in which equal lines are only counted.
const FIRST_QUIET: Duration = Duration::from_secs(10);

/// Growth of the interval while the condition lasts: a server that is down for a day causes a dozen lines.
const GROWTH: u32 = 6;

/// The longest interval, so that the end of a log always shows a lasting condition.
const LONGEST_QUIET: Duration = Duration::from_secs(3600);

/// Different lines that one place may write before they are only counted. Enough to show what they have in common.
const BURST: usize = 10;

/// A logger that counts repeated lines instead of writing them.
pub(super) struct RateLimitedLog<L> {
    sink: L,
    /// Locked for the decision, not while writing.
    rate_limited: Mutex<Calm>,
}

impl<L: Log> RateLimitedLog<L> {
    /// Wraps the logger that writes.
    pub(super) fn new(sink: L) -> RateLimitedLog<L> {
        RateLimitedLog {
            sink,
            rate_limited: Mutex::default(),
        }
    }

    fn write_counts(&self, counts: Vec<Count>) {
        for Count { place, text } in counts {
            let event = place.event.map(Event::key_value);
            self.sink.log(
                &Record::builder()
                    .level(place.level)
                    .target(&place.target)
                    .key_values(&event)
                    .args(format_args!("{text}"))
                    .build(),
            );
        }
    }
}

impl<L: Log> Log for RateLimitedLog<L> {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        self.sink.enabled(metadata)
    }

    fn log(&self, record: &Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        let now = Instant::now();
        let counts = self.rate_limited.lock().due(now);
        self.write_counts(counts);
        let is_said = record.level() > Level::Warn || {
            let (place, text) = (Place::of(record), record.args().to_string());
            self.rate_limited.lock().may_say(place, &text, now)
        };
        if is_said {
            self.sink.log(record);
        }
    }

    /// Writes all pending counts, as before the end of the process.
    fn flush(&self) {
        let counts = self.rate_limited.lock().all();
        self.write_counts(counts);
        self.sink.flush();
    }
}

/// Where a line comes from.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Place {
    level: Level,
    target: String,
    event: Option<Event>,
    /// The line of the code. `None` if there is an event.
    line: Option<u32>,
}

impl Place {
    fn of(record: &Record<'_>) -> Place {
        let event = Event::of(record);
        Place {
            level: record.level(),
            target: record.target().to_owned(),
            event,
            line: record.line().filter(|_| event.is_none()),
        }
    }
}

/// The text for lines that were held back.
#[derive(Debug, PartialEq, Eq)]
struct Count {
    place: Place,
    text: String,
}

/// Recent lines by place. Bounded by the number of places in the code that warn.
#[derive(Debug, Default)]
struct Calm(HashMap<Place, Said>);

/// What a place has written recently.
#[derive(Debug)]
struct Said {
    since: Instant,
    /// The current interval.
    quiet: Duration,
    /// Lines, and how often each was held back since. **At most [`BURST`].**
    lines: Vec<(String, u64)>,
    /// Number of other lines that were held back, and the last of them.
    others: u64,
    last: String,
}

impl Calm {
    /// Returns true if a line may be written now. Otherwise counts it.
    fn may_say(&mut self, place: Place, text: &str, now: Instant) -> bool {
        let said = self.0.entry(place).or_insert_with(|| Said {
            since: now,
            quiet: FIRST_QUIET,
            lines: Vec::new(),
            others: 0,
            last: String::new(),
        });
        if let Some((_, kept_back)) = said.lines.iter_mut().find(|(line, _)| line == text) {
            *kept_back += 1;
            return false;
        }
        if said.lines.len() < BURST {
            said.lines.push((text.to_owned(), 0));
            return true;
        }
        said.others += 1;
        text.clone_into(&mut said.last);
        false
    }

    /// The counts that are due.
    fn due(&mut self, now: Instant) -> Vec<Count> {
        let mut counts = Vec::new();
        self.0.retain(|place, said| {
            let passed = now.saturating_duration_since(said.since);
            if passed < said.quiet {
                return true;
            }
            let texts = said.take_counts(passed);
            let goes_on = !texts.is_empty();
            counts.extend(texts.into_iter().map(|text| Count {
                place: place.clone(),
                text,
            }));
            (said.since, said.quiet) = (now, (said.quiet * GROWTH).min(LONGEST_QUIET));
            goes_on
        });
        counts
    }

    /// All counts, due or not.
    fn all(&mut self) -> Vec<Count> {
        let now = Instant::now();
        let places = mem::take(&mut self.0).into_iter();
        let counts = places.flat_map(|(place, mut said)| {
            let texts = said.take_counts(now.saturating_duration_since(said.since));
            texts.into_iter().map(move |text| Count {
                place: place.clone(),
                text,
            })
        });
        counts.collect()
    }
}

impl Said {
    /// Takes the counts of this interval. A line that was not repeated counts as new again.
    fn take_counts(&mut self, passed: Duration) -> Vec<String> {
        let passed = humantime::format_duration(Duration::from_secs(passed.as_secs()));
        let mut texts = Vec::new();
        self.lines.retain_mut(|(line, kept_back)| {
            let count = mem::take(kept_back);
            if count > 0 {
                let times = if count == 1 { "time" } else { "times" };
                texts.push(format!("{line} ({count} more {times} in {passed})"));
            }
            count > 0
        });
        let (others, last) = (mem::take(&mut self.others), mem::take(&mut self.last));
        if others > 0 {
            texts.push(format!("{last} (the last of {others} like it in {passed})"));
        }
        texts
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::util::events;

    fn place(target: &str) -> Place {
        Place {
            level: Level::Warn,
            target: target.to_owned(),
            event: None,
            line: Some(1),
        }
    }

    /// The output for lines at these seconds.
    fn written(lines: &[(u64, &str, &str)]) -> Vec<String> {
        let (mut rate_limited, start) = (Calm::default(), Instant::now());
        let mut written = Vec::new();
        for (second, target, text) in lines {
            let now = start + Duration::from_secs(*second);
            written.extend(rate_limited.due(now).into_iter().map(|count| count.text));
            if rate_limited.may_say(place(target), text, now) {
                written.push((*text).to_owned());
            }
        }
        written
    }

    #[test]
    fn repeated_line_is_logged_once_and_counted() {
        let lines: Vec<_> = (0..500).map(|second| (second, "a", "away")).collect();
        assert_eq!(
            written(&lines),
            [
                "away",
                "away (9 more times in 10s)",
                "away (60 more times in 1m)",
                "away (360 more times in 6m)",
            ]
        );
    }

    #[test]
    fn what_has_ended_is_news_when_it_comes_again() {
        let lines = [
            (0, "a", "away"),
            (1, "b", "gone"),
            (2, "b", "gone"),
            (20, "a", "away"),
            (21, "b", "else"),
        ];
        assert_eq!(
            written(&lines),
            ["away", "gone", "gone (1 more time in 19s)", "away", "else"]
        );
    }

    #[test]
    fn many_different_lines_are_counted_in_bounded_memory() {
        let (mut rate_limited, now) = (Calm::default(), Instant::now());
        let said = (0..10_000)
            .filter(|number| rate_limited.may_say(place("a"), &number.to_string(), now))
            .count();
        assert_eq!((said, rate_limited.0[&place("a")].lines.len()), (BURST, BURST));
        assert!(rate_limited.may_say(place("b"), "another place", now));
        let counts: Vec<_> = rate_limited.all().into_iter().map(|count| count.text).collect();
        assert_eq!(counts, ["9999 (the last of 9990 like it in 0s)"]);
    }

    /// Collects the output.
    #[derive(Default)]
    struct Sink(Mutex<Vec<String>>);

    impl Log for Sink {
        fn enabled(&self, metadata: &Metadata<'_>) -> bool {
            metadata.level() <= Level::Info
        }
        fn log(&self, record: &Record<'_>) {
            let event = Event::of(record).map(|event| format!(" {event}"));
            let line = format!("{} {}{}", record.level(), record.args(), event.unwrap_or_default());
            self.0.lock().push(line);
        }
        fn flush(&self) {}
    }

    #[test]
    fn only_warnings_and_errors_are_rate_limited() {
        let log = RateLimitedLog::new(Sink::default());
        for level in [Level::Warn, Level::Warn, Level::Info, Level::Info, Level::Debug] {
            log.log(&Record::builder().level(level).args(format_args!("x")).build());
        }
        log.flush();
        assert_eq!(
            *log.sink.0.lock(),
            ["WARN x", "INFO x", "INFO x", "WARN x (1 more time in 0s)"]
        );
    }

    #[test]
    fn an_event_is_counted_over_lines_of_code() {
        let log = RateLimitedLog::new(Sink::default());
        for line in [1, 2] {
            let event = events::READ_FAILED.key_value();
            let mut record = Record::builder();
            record.level(Level::Warn).line(Some(line)).key_values(&event);
            log.log(&record.args(format_args!("x")).build());
        }
        log.flush();
        assert_eq!(
            *log.sink.0.lock(),
            [
                "WARN x event=read_failed",
                "WARN x (1 more time in 0s) event=read_failed"
            ]
        );
    }
}
