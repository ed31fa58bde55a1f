//! What a listing says of a file, in as few bytes as hold it: the kernel may reference a million files.

use crate::source::{ListedSize, ListedTime, seconds, time};

/// A listing's size and date of a file, packed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Listed {
    /// Bytes, or 0.
    size: u64,
    /// Seconds since 1970, or 0.
    pub(super) seconds: i64,
    /// Nanoseconds after `seconds`.
    pub(super) nanoseconds: u32,
    /// Whether the size is exact; `None` if there is none.
    is_exact: Option<bool>,
    /// Whether the date has seconds; `None` if there is none.
    is_exact_time: Option<bool>,
}

impl Listed {
    pub(super) fn new(size: ListedSize, listed: Option<ListedTime>) -> Listed {
        let (size, is_exact) = match size {
            ListedSize::Exact(size) => (size, Some(true)),
            ListedSize::Rounded(size) => (size, Some(false)),
            ListedSize::Unknown => (0, None),
        };
        let (seconds, nanoseconds) = listed.map_or((0, 0), |listed| seconds(listed.time));
        Listed {
            size,
            seconds,
            nanoseconds,
            is_exact,
            is_exact_time: listed.map(|listed| listed.exact),
        }
    }

    pub(super) fn size(&self) -> ListedSize {
        match self.is_exact {
            Some(true) => ListedSize::Exact(self.size),
            Some(false) => ListedSize::Rounded(self.size),
            None => ListedSize::Unknown,
        }
    }

    pub(super) fn time(&self) -> Option<ListedTime> {
        let exact = self.is_exact_time?;
        let time = time(self.seconds, self.nanoseconds)?;
        Some(ListedTime { time, exact })
    }
}
