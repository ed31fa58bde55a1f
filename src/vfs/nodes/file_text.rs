//! What a listing says of a file, as text: to tell whether a later listing says the same, and in stored listings.

use std::fmt;
use std::time::SystemTime;

use crate::source::{ListedSize, ListedTime, seconds};

/// A file's size and date: `f SIZE date`.
pub(in crate::vfs) struct FileText(pub(in crate::vfs) ListedSize, pub(in crate::vfs) Option<ListedTime>);

impl fmt::Display for FileText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", SizeText(self.0), DateText(self.1))
    }
}

/// A file's size in bytes: `f 123`, `f ~123` if it is rounded, or `f ?`.
pub(in crate::vfs) struct SizeText(pub(in crate::vfs) ListedSize);

impl fmt::Display for SizeText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            ListedSize::Exact(size) => write!(f, "f {size}"),
            ListedSize::Rounded(size) => write!(f, "f ~{size}"),
            ListedSize::Unknown => f.write_str("f ?"),
        }
    }
}

/// A date in nanoseconds since 1970, after a `~` if it has no seconds; or `-`.
pub(in crate::vfs) struct DateText(pub(in crate::vfs) Option<ListedTime>);

impl fmt::Display for DateText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            None => f.write_str("-"),
            Some(ListedTime { time, exact }) => write!(f, "{}{}", if exact { "" } else { "~" }, nanoseconds(time)),
        }
    }
}

fn nanoseconds(time: SystemTime) -> i128 {
    let (seconds, nanoseconds) = seconds(time);
    i128::from(seconds) * 1_000_000_000 + i128::from(nanoseconds)
}
