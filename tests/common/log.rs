//! The daemon's log, by the names of its events. The wording of lines is not stable, and no test depends on it.

use fetchfs::internals::events::Event;

/// The lines of an event, without its name.
pub fn lines_of(log: &str, event: Event) -> Vec<&str> {
    let end = format!(" {event}");
    log.lines().filter_map(|line| line.strip_suffix(&end)).collect()
}

/// The number of times that an event has happened, with those that were counted instead of logged.
pub fn occurrences(log: &str, event: Event) -> usize {
    lines_of(log, event).iter().map(|line| occurrences_in(line)).sum()
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
