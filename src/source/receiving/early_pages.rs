//! The names of a listing whose answers come one after the other, before the last one.

use std::sync::Arc;
use std::time::Duration;

use super::early_names::NameSink;
use super::pace::Pace;
use crate::source::Entries;

/// The names of a listing that is collected page by page, on their way to a [`NameSink`].
pub(in crate::source) struct EarlyPages<'a> {
    sink: Option<&'a Arc<dyn NameSink>>,
    document: u64,
    /// Number of entries that were passed on.
    passed_on: usize,
    pace: Pace,
}

impl<'a> EarlyPages<'a> {
    /// Names that go to `sink`, if there is one.
    pub(in crate::source) fn new(sink: Option<&'a Arc<dyn NameSink>>) -> EarlyPages<'a> {
        EarlyPages {
            document: sink.map_or(0, |sink| sink.begin()),
            sink,
            passed_on: 0,
            pace: Pace::new(),
        }
    }

    /// The listing has these entries so far, and more follow. Passes on the new ones, if they are wanted and due.
    pub(in crate::source) async fn pass_on(&mut self, entries: &Entries) {
        let Some(sink) = self.sink else { return };
        if self.passed_on == entries.len() || self.pace.due_in() > Duration::ZERO || !sink.are_wanted() {
            return;
        }
        let mut new = Entries::empty_like(entries);
        while self.passed_on < entries.len() && new.push_copy(entries, self.passed_on) {
            self.passed_on += 1;
        }
        let (sink, document) = (Arc::clone(sink), self.document);
        // An error means a panic, or a runtime that is shutting down.
        let _ = tokio::task::spawn_blocking(move || sink.add(document, new)).await;
        self.pace.note();
    }
}
