//! Names of a source that are passed on before its listing is complete, as the library shows them.

use std::sync::Arc;

use url::Url;

use super::member::Member;
use crate::source::{Entries, NameSink};

/// Passes the names of one directory of one source on, without those that the filter leaves out.
pub(super) struct DressedNames {
    to: Arc<dyn NameSink>,
    member: Arc<Member>,
    directory: Url,
    /// The source's root.
    root: Option<Url>,
}

impl DressedNames {
    /// Names of `directory` that go to `to`.
    pub(super) fn on_the_way_to(
        to: &Arc<dyn NameSink>,
        member: &Arc<Member>,
        directory: &Url,
        root: Option<&Url>,
    ) -> Arc<dyn NameSink> {
        Arc::new(DressedNames {
            to: Arc::clone(to),
            member: Arc::clone(member),
            directory: directory.clone(),
            root: root.cloned(),
        })
    }
}

impl NameSink for DressedNames {
    fn begin(&self) -> u64 {
        self.to.begin()
    }

    fn are_wanted(&self) -> bool {
        self.to.are_wanted()
    }

    fn add(&self, document: u64, mut entries: Entries) {
        self.member
            .dress(&mut entries, Some(&self.directory), self.root.as_ref());
        self.to.add(document, entries);
    }
}
