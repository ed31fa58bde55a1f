//! What a listing says of a file, in as few bytes as hold it: the kernel may reference a million files.

use crate::source::{ListedSize, ListedTime, seconds, time};

/// A listing's size and date of a file, packed. **Two are equal exactly if a listing says the same**, except for dates
/// that are more than 292 years from 1970, which are all one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Listed {
    /// Bytes, or 0.
    pub(super) size: u64,
    /// Nanoseconds since 1970, or 0.
    pub(super) nanoseconds: i64,
    /// Which of these there are, and how exact; see the constants below.
    pub(super) said: u8,
}

impl Listed {
    const EXACT_SIZE: u8 = 1;
    const ROUNDED_SIZE: u8 = 2;
    const EXACT_TIME: u8 = 4;
    const TIME_WITHOUT_SECONDS: u8 = 8;
    /// The bits of `said` that have a meaning. The others are the file's.
    pub(super) const BITS: u8 = 15;

    pub(super) fn new(size: ListedSize, listed: Option<ListedTime>) -> Listed {
        let (size, said) = match size {
            ListedSize::Exact(size) => (size, Self::EXACT_SIZE),
            ListedSize::Rounded(size) => (size, Self::ROUNDED_SIZE),
            ListedSize::Unknown => (0, 0),
        };
        let Some(ListedTime { time, exact }) = listed else {
            return Listed {
                size,
                nanoseconds: 0,
                said,
            };
        };
        let (seconds, nanoseconds) = seconds(time);
        let exactly = i128::from(seconds) * 1_000_000_000 + i128::from(nanoseconds);
        Listed {
            size,
            nanoseconds: exactly.clamp(i64::MIN.into(), i64::MAX.into()) as i64,
            said: said
                | if exact {
                    Self::EXACT_TIME
                } else {
                    Self::TIME_WITHOUT_SECONDS
                },
        }
    }

    pub(super) fn size(self) -> ListedSize {
        if self.said & Self::EXACT_SIZE != 0 {
            ListedSize::Exact(self.size)
        } else if self.said & Self::ROUNDED_SIZE != 0 {
            ListedSize::Rounded(self.size)
        } else {
            ListedSize::Unknown
        }
    }

    pub(super) fn time(self) -> Option<ListedTime> {
        if self.said & (Self::EXACT_TIME | Self::TIME_WITHOUT_SECONDS) == 0 {
            return None;
        }
        let (seconds, nanoseconds) = self.seconds();
        let time = time(seconds, nanoseconds)?;
        Some(ListedTime {
            time,
            exact: self.said & Self::EXACT_TIME != 0,
        })
    }

    /// The date in whole seconds since 1970, and the nanoseconds after them.
    pub(super) fn seconds(self) -> (i64, u32) {
        let (seconds, rest) = (
            self.nanoseconds.div_euclid(1_000_000_000),
            self.nanoseconds.rem_euclid(1_000_000_000),
        );
        // A remainder is below a thousand million.
        (seconds, rest as u32)
    }
}
