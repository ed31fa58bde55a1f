//! Saying a thing once: a state that lasts is a line in the log and a count, not a line for each read that meets it.

use std::collections::HashMap;
use std::time::{Duration, Instant};

/// How long a line stands for all that are the same.
const LASTS: Duration = Duration::from_secs(10);

/// Lines that are remembered at most. More different ones than this at a time are news each.
const REMEMBERED: usize = 256;

/// The lines of the last moments, and how often each was kept back.
#[derive(Debug, Default)]
pub struct Complaints(HashMap<String, (Instant, u64)>);

impl Complaints {
    /// What to log of this line at this moment: itself if it is news, with a count if it was kept back before, or
    /// nothing.
    pub fn say(&mut self, line: &str, now: Instant) -> Option<String> {
        let news = match self.0.get_mut(line) {
            Some((said, kept_back)) if now.duration_since(*said) < LASTS => {
                *kept_back += 1;
                return None;
            }
            Some((_, 0)) | None => line.to_owned(),
            Some((_, kept_back)) => format!("{line} ({kept_back} more times since it was last said)"),
        };
        if self.0.len() >= REMEMBERED {
            self.0.retain(|_, (said, _)| now.duration_since(*said) < LASTS);
        }
        if self.0.len() < REMEMBERED {
            self.0.insert(line.to_owned(), (now, 0));
        }
        Some(news)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_line_is_said_once_and_counted() {
        let (mut complaints, start) = (Complaints::default(), Instant::now());
        let mut at = |seconds, line| complaints.say(line, start + Duration::from_secs(seconds));
        assert_eq!(at(0, "a").as_deref(), Some("a"));
        assert_eq!(at(1, "a"), None);
        assert_eq!(at(2, "b").as_deref(), Some("b"));
        assert_eq!(at(9, "a"), None);
        assert_eq!(at(10, "a").as_deref(), Some("a (2 more times since it was last said)"));
        assert_eq!(at(11, "a"), None);
        assert_eq!(at(60, "b").as_deref(), Some("b"), "none was kept back");
    }

    #[test]
    fn many_different_lines_are_said_and_do_not_pile_up() {
        let (mut complaints, now) = (Complaints::default(), Instant::now());
        assert!((0..10_000).all(|number| complaints.say(&number.to_string(), now).is_some()));
        assert!(complaints.0.len() <= REMEMBERED);
    }
}
