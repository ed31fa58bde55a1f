//! The state of a mount for the rest of the program: for the log, systemd and the status page.

use bytesize::ByteSize;

use super::context::Control;
use super::status::{Status, measure};
use crate::util::plural::count;

impl Control {
    /// The state of the mount, as `fetchfs status --json` has it, in one line.
    pub(crate) async fn report(&self) -> String {
        let status = measure(self, false).await;
        serde_json::to_string(&status).unwrap_or_else(|error| error.to_string())
    }

    /// The state of the mount, without a sample of the rate.
    pub(crate) async fn status_now(&self) -> Status {
        measure(self, true).await
    }

    /// Takes the lock that every fetch needs. Does not return if the mount hangs.
    pub(crate) fn check_responsive(&self) {
        let _ = self.cache.manager().status();
    }

    /// What matters most, for people.
    pub(crate) async fn summary(&self) -> String {
        let fetched = self.cache.counters().fetched_bytes.get();
        let cached = self.with_cache(|cache| (cache.cached_bytes(), cache.limit())).await;
        let (cached, limit) = cached.unwrap_or_default();
        let down = match self.tree.servers_down().len() {
            0 => String::new(),
            down => format!(", {} down", count(down as u64, "server")),
        };
        format!(
            "{} on {}: {} of {} cached, {} fetched{down}",
            self.about.source,
            self.about.mountpoint.display(),
            ByteSize(cached).display().iec(),
            ByteSize(limit).display().iec(),
            ByteSize(fetched).display().iec(),
        )
    }
}
