//! One result of an examination.

use serde::Serialize;

/// How well something is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum State {
    /// As it should be.
    Good,
    /// A mount works, and could work better.
    Note,
    /// A mount fails, or is hardly of use.
    Bad,
}

/// What was found out about one thing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Finding {
    /// One or two words. Stable, for programs.
    pub(super) subject: &'static str,
    pub(super) state: State,
    /// A sentence without its full stop.
    pub(super) text: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) advice: Option<String>,
}

impl Finding {
    /// It is well.
    pub(super) fn good(subject: &'static str, text: impl Into<String>) -> Finding {
        Finding {
            subject,
            state: State::Good,
            text: text.into(),
            advice: None,
        }
    }

    /// It could be better.
    pub(super) fn note(subject: &'static str, text: impl Into<String>, advice: impl Into<String>) -> Finding {
        Finding {
            subject,
            state: State::Note,
            text: text.into(),
            advice: Some(advice.into()),
        }
    }

    /// Something must be done.
    pub(super) fn bad(subject: &'static str, text: impl Into<String>, advice: impl Into<String>) -> Finding {
        Finding {
            state: State::Bad,
            ..Finding::note(subject, text, advice)
        }
    }

    /// Something must be done, which the sentence says itself after its last semicolon.
    pub(super) fn failed(subject: &'static str, sentence: &str) -> Finding {
        let (text, advice) = match sentence.rsplit_once("; ") {
            Some((text, advice)) => (text, Some(advice.to_owned())),
            None => (sentence, None),
        };
        Finding {
            subject,
            state: State::Bad,
            text: text.to_owned(),
            advice,
        }
    }

    pub(super) fn is_bad(&self) -> bool {
        self.state == State::Bad
    }
}
