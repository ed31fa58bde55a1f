//! What a response of a node means that is not the requested range.

use std::time::Duration;

/// Why a node did not give a range.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Finding {
    /// Its server has not allowed the file's origin.
    NotAllowed,
    /// It does not pass on the credentials of the request, or not all of them.
    NotPrivate,
    /// It can't reach the file's origin.
    OriginUnreachable,
    /// The origin's own answer, passed on: a redirect, a refusal, another version, the whole file.
    OfTheOrigin,
    /// The origin's refusal of the credentials, passed on. They may have expired, or there are none now.
    Refused,
    /// It can't do its work: its disk fails, say.
    Fails,
    /// No tier answers so.
    Wrong,
}

impl Finding {
    /// Of a response with this status that does not prove to be the requested range. `is_passed_on`: it names a cache
    /// status, so the node has looked for the file. `is_private`: the request had credentials, and whether the node says
    /// that it has passed them on.
    pub(super) fn of(status: u16, is_passed_on: bool, is_private: Option<bool>) -> Finding {
        let is_not_allowed = status == 403 && !is_passed_on;
        if is_private == Some(false) && status < 500 && !is_not_allowed {
            // Whatever it is of, the origin was not asked with the credentials.
            return Finding::NotPrivate;
        }
        match (status, is_passed_on) {
            (401 | 403, true) if is_private == Some(true) => Finding::Refused,
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
            Finding::NotAllowed | Finding::NotPrivate => 600,
            // The direct request renews a token that has expired.
            Finding::Refused => 60,
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
            Finding::NotPrivate => {
                "it does not pass on the credentials for this server, which is read directly; add --private to \
                 `fetchfs tier config`, and --private-header for each header but Authorization and Cookie"
            }
            Finding::Refused => "the file's server refuses the credentials",
            Finding::OriginUnreachable => "it can't reach the file's server",
            Finding::OfTheOrigin => "it has no bytes of this version of the file",
            Finding::Fails => "it reports an error of its own",
            Finding::Wrong => "it does not answer as a tier does",
        }
    }
}
