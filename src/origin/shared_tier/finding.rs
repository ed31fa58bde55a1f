//! What a response of a node means that is not the requested range.

use std::time::Duration;

/// Why a node did not give a range.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Finding {
    /// Its server has not allowed the file's origin.
    NotAllowed,
    /// It can't reach the file's origin.
    OriginUnreachable,
    /// The origin's own answer, passed on: a redirect, a refusal, another version, the whole file.
    OfTheOrigin,
    /// It can't do its work: its disk fails, say.
    Fails,
    /// No tier answers so.
    Wrong,
}

impl Finding {
    /// Of a response with this status that does not prove to be the requested range. `is_passed_on`: it names a cache
    /// status, so the node has looked for the file.
    pub(super) fn of(status: u16, is_passed_on: bool) -> Finding {
        match (status, is_passed_on) {
            (403, false) => Finding::NotAllowed,
            (502 | 504, _) => Finding::OriginUnreachable,
            (500.., _) => Finding::Fails,
            (_, true) => Finding::OfTheOrigin,
            (_, false) => Finding::Wrong,
        }
    }

    /// How long the node is not asked for what the response was about.
    pub(super) fn time(self) -> Duration {
        Duration::from_secs(match self {
            // Someone has to change its configuration.
            Finding::NotAllowed => 600,
            // The origin is asked once, by this fetch. If it answers, the node may have met an accident.
            Finding::OriginUnreachable => 5,
            // As for a mirror.
            Finding::OfTheOrigin | Finding::Wrong => 600,
            Finding::Fails => 10,
        })
    }

    /// For a message.
    pub(super) fn text(self) -> &'static str {
        match self {
            Finding::NotAllowed => "it does not allow this server; add it to `fetchfs tier config --allow`",
            Finding::OriginUnreachable => "it can't reach the file's server",
            Finding::OfTheOrigin => "it has no bytes of this version of the file",
            Finding::Fails => "it reports an error of its own",
            Finding::Wrong => "it does not answer as a tier does",
        }
    }
}
