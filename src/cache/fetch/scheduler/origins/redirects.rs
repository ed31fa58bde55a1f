//! Redirects: a fetch has a slot of the origin that its bytes come from.
//!
//! The URL of a file does not show that origin. So a fetch begins with a slot of the origin where
//! the entry's bytes came from last, or else of the one that the entry names. **When a redirect
//! leads to another origin, the slot moves there**, and the previous slot is free for other files
//! at once. So files that lead to a slow, silent or failing server hold that server's slots and no
//! others. The connection limit of a server is learnt from the requests that it really gets.
//!
//! If the other origin has no slot left, the fetch ends, and its bytes are wanted of that origin:
//! they come when it is their turn. The caller remembers the redirect, so the next fetch goes
//! straight there. So each slot that an entry gets makes progress.
//!
//! A request that goes back to the entry's own URL, to learn where it leads now, keeps its slot. It
//! is short, and the layer below counts connections for each origin. The slot moves only if that
//! origin answers with bytes, or fails. In that case no fetch ends, though the origin may have one
//! fetch too many for a while.

use std::collections::HashMap;

use super::origin_state::OriginNumber;
use crate::cache::key::EntryId;

/// Maximum number of entries whose redirect target is remembered. A forgotten entry pays one redirect.
const MOST_REDIRECTED: usize = 1024;

/// The last redirect target of entries, if it is not the origin that the entry names. Outlives their
/// queues.
#[derive(Debug, Default)]
pub(super) struct RedirectTargets(HashMap<EntryId, OriginNumber>);

impl RedirectTargets {
    pub(super) fn of(&self, id: EntryId) -> Option<OriginNumber> {
        self.0.get(&id).copied()
    }

    /// The entry's bytes come from this origin; `None` is the one that it names.
    pub(super) fn note(&mut self, id: EntryId, target: Option<OriginNumber>) {
        let Some(target) = target else {
            self.0.remove(&id);
            return;
        };
        if self.0.len() >= MOST_REDIRECTED && !self.0.contains_key(&id) {
            self.0.clear();
        }
        self.0.insert(id, target);
    }
}
