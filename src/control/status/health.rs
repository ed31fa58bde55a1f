//! Whether a mount does its work: what `fetchfs status --check` and the health check over HTTP say.

use std::fmt;

use serde::Serialize;

use super::Down;
use crate::control::context::Control;

/// Whether a mount does its work.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Health {
    /// The mountpoint.
    pub mountpoint: String,
    /// Whether it does its work.
    pub healthy: bool,
    /// Why not: a sentence without its full stop.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// What it has to do without, if it is healthy: one sentence each, without its full stop.
    pub notes: Vec<String>,
}

/// In one line.
impl fmt::Display for Health {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.reason {
            Some(reason) => write!(f, "{}: not well: {reason}", self.mountpoint)?,
            None => write!(f, "{}: well", self.mountpoint)?,
        }
        self.notes.iter().try_for_each(|note| write!(f, "; {note}"))
    }
}

impl Control {
    /// Whether the mount does its work. Blocks for the lock that every fetch needs, so for ever if the mount hangs.
    pub(crate) fn check_health(&self) -> Health {
        self.check_responsive();
        Health {
            notes: self.notes(),
            ..self.health(None)
        }
    }

    /// It does not do its work, for this reason.
    pub(crate) fn unwell(&self, reason: &str) -> Health {
        self.health(Some(reason.to_owned()))
    }

    fn health(&self, reason: Option<String>) -> Health {
        Health {
            mountpoint: self.about.mountpoint.display().to_string(),
            healthy: reason.is_none(),
            reason,
            notes: Vec::new(),
        }
    }

    /// What the mount has to do without. Neither asks a server nor waits for the disk.
    pub(in crate::control) fn notes(&self) -> Vec<String> {
        let trouble = self.cache.disk_failure();
        let trouble = trouble.map(|why| format!("reads bypass the cache: {why}"));
        let down = self.tree.servers_down().into_iter().map(Down::from);
        let down = down.map(|down| format!("{} is down: {}", down.origin, down.reason));
        trouble.into_iter().chain(down).collect()
    }
}
