//! What a new listing has that the names before it had not.

use super::node::Snapshot;

/// Number of names that a refresh found to be different.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Changes {
    /// Names that were not known before.
    pub new: u64,
    /// Names that the server has no more.
    pub gone: u64,
    /// Names with another size, date, kind or URL than before.
    pub changed: u64,
}

impl Changes {
    /// The changes from the names `before` to the names `now`. Without earlier names, all are new.
    pub(in crate::vfs) fn between(before: Option<&Snapshot>, now: &Snapshot) -> Changes {
        let Some(before) = before else {
            return Changes {
                new: now.len() as u64,
                ..Changes::default()
            };
        };
        let (mut changes, mut same, mut near) = (Changes::default(), 0, 0);
        for at in 0..now.len() {
            let Some(there) = before.listed.find_near(now.name(at), near) else {
                changes.new += 1;
                continue;
            };
            near = there + 1;
            if before.listed.entries().is_same_at(there, now.listed.entries(), at) {
                same += 1;
            } else {
                changes.changed += 1;
            }
        }
        changes.gone = (before.len() as u64).saturating_sub(same + changes.changed);
        changes
    }
}
