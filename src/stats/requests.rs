//! Requests to one origin, and what came back: listings, metadata and bytes together.

use std::collections::BTreeMap;

use parking_lot::Mutex;

use super::counter::Counter;

/// Counts the requests to one origin.
#[derive(Debug, Default)]
pub(crate) struct RequestCounters {
    /// Locked for the moment of one count.
    answered: Mutex<BTreeMap<u16, u64>>,
    unanswered: Counter,
    received_bytes: Counter,
}

/// The requests to one origin so far.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct RequestTotals {
    /// Number of responses by HTTP status, redirects included.
    pub answered: BTreeMap<u16, u64>,
    /// Requests without a response: no connection, or none in time.
    pub unanswered: u64,
    /// Bytes of the bodies of its responses.
    pub received_bytes: u64,
}

impl RequestCounters {
    /// The origin has responded with this status.
    pub(crate) fn note_answer(&self, status: u16) {
        *self.answered.lock().entry(status).or_default() += 1;
    }

    /// A request got no response.
    pub(crate) fn note_unanswered(&self) {
        self.unanswered.add(1);
    }

    /// Bytes of a body have come.
    pub(crate) fn note_received(&self, bytes: u64) {
        self.received_bytes.add(bytes);
    }

    /// The requests so far.
    pub(crate) fn totals(&self) -> RequestTotals {
        RequestTotals {
            answered: self.answered.lock().clone(),
            unanswered: self.unanswered.get(),
            received_bytes: self.received_bytes.get(),
        }
    }
}
