//! The daemon's log, by the names of its events. The wording of lines is not stable, so tests can't see it.

use std::fs;
use std::path::Path;

use fetchfs::internals::events::Event;

/// What a daemon has logged so far.
pub struct Log(String);

impl Log {
    /// Reads a log. It is empty if there is no file yet.
    pub fn read(path: &Path) -> Log {
        Log(fs::read_to_string(path).unwrap_or_default())
    }

    /// Number of lines of the event.
    pub fn events(&self, event: Event) -> usize {
        self.lines_of(event).count()
    }

    /// Number of lines of the event that contain a value: a number, a URL, an option, a level.
    #[track_caller]
    pub fn events_with(&self, event: Event, value: &str) -> usize {
        assert!(!value.trim().contains(' '), "{value:?} is wording, not a value");
        self.lines_of(event).filter(|line| line.contains(value)).count()
    }

    /// The number of times that an event has happened, with those that were counted instead of logged.
    pub fn occurrences(&self, event: Event) -> usize {
        self.lines_of(event).map(occurrences_in).sum()
    }

    /// Number of lines at level error.
    pub fn errors(&self) -> usize {
        let level = |line: &str| line.split(' ').nth(1).is_some_and(|level| level == "ERROR");
        self.0.lines().filter(|line| level(line)).count()
    }

    /// Asserts that a secret is not in it.
    #[track_caller]
    pub fn assert_hides(&self, secret: &str) {
        let line = self.0.lines().find(|line| line.contains(secret));
        assert_eq!(line, None, "{secret:?} is in the log");
    }

    /// Prints the last lines.
    pub fn show(&self, name: &str, most: usize) {
        let lines: Vec<&str> = self.0.lines().collect();
        eprintln!("--- the daemon's {name}, last lines of {}:", lines.len());
        let last = lines.len().saturating_sub(most);
        lines[last..].iter().for_each(|line| eprintln!("{line}"));
    }

    /// The lines of the event, without its name.
    fn lines_of(&self, event: Event) -> impl Iterator<Item = &str> {
        let end = format!(" {event}");
        self.0.lines().filter_map(move |line| line.strip_suffix(&end))
    }
}

/// `(9 more times in 10s)` and `(the last of 9 like it in 10s)` are written by `logging::rate_limited`, whose own tests
/// hold this form.
fn occurrences_in(line: &str) -> usize {
    let Some((_, end)) = line.strip_suffix(')').and_then(|line| line.rsplit_once(" (")) else {
        return 1;
    };
    let number = end.strip_prefix("the last of ").unwrap_or(end).split(' ').next();
    let is_count = end.contains(" more time") || end.contains(" like it in ");
    number
        .filter(|_| is_count)
        .and_then(|number| number.parse().ok())
        .unwrap_or(1)
}
