//! What an origin said of a file, to this mount or to an earlier one.

use std::time::{Instant, SystemTime};

use crate::cache::StoredFile;
use crate::http::Version;
use crate::origin::Metadata;

/// What an origin said of a file.
#[derive(Clone)]
pub(crate) struct Known {
    /// The current version.
    pub version: Version,
    /// Modification time, if the origin gave one.
    pub modified: Option<SystemTime>,
    /// When the origin answered; `None` if an earlier mount received the answer.
    pub at: Option<Instant>,
}

impl Known {
    /// What the origin answered just now.
    pub(crate) fn of(metadata: Metadata) -> Option<Known> {
        let version = metadata.version?;
        Some(Known {
            version,
            modified: metadata.modified,
            at: Some(Instant::now()),
        })
    }

    /// What an earlier mount stored.
    pub(crate) fn stored(StoredFile { version, modified }: StoredFile) -> Known {
        Known {
            version,
            modified,
            at: None,
        }
    }
}
