//! Asking mirrors about names and versions, while the source's own URL keeps silent.
//!
//! A mirror is asked only where nothing is known that the source itself has told ([`Authority`]), and only once the source has
//! failed, or is left alone because it has: an answer of the source's own, 404 or 403 too, is the answer. Whether the source
//! is back is found out beside whoever waits here, so a server that swallows requests lets nobody wait twice.
//!
//! A mirror that answers anything but what was asked for is left out for that name for a while; one that can't be asked either
//! is left alone by its own health, and the next one is asked.

use std::sync::Arc;

use url::Url;

use crate::http::{HttpError, redact};
use crate::origin::Health;
use crate::vfs::Tree;

/// Who may answer a question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::vfs) enum Authority {
    /// The source alone.
    Source,
    /// A mirror too, while the source can't be asked.
    Anybody,
}

/// An answer, and who gave it.
pub(in crate::vfs) struct Answered<T> {
    pub answer: T,
    pub is_by_mirror: bool,
}

impl<T> Answered<T> {
    pub fn by_source(answer: T) -> Answered<T> {
        Answered {
            answer,
            is_by_mirror: false,
        }
    }
}

impl Tree {
    /// What a mirror says, if the source at `url` is left alone now because it has failed; `health` is that of its origin.
    pub(in crate::vfs) async fn ask_mirrors_instead<T, F>(
        &self,
        url: &Url,
        health: &Arc<Health>,
        question: &mut impl FnMut(Option<Url>) -> F,
    ) -> Option<Answered<T>>
    where
        F: Future<Output = Result<T, HttpError>>,
    {
        let turn = health.turn_now();
        if turn.as_ref().is_some_and(|turn| !turn.is_probe()) {
            return None;
        }
        if self.client.mirrors_of(url).is_empty() {
            return None;
        }
        if let Some(probe) = turn {
            self.client.find_out(&self.runtime, url.clone(), probe);
        }
        self.ask_mirrors(url, question).await
    }

    /// What the first mirror says that has what is at `url`; `None` if no one has it, or can be asked now.
    pub(in crate::vfs) async fn ask_mirrors<T, F>(
        &self,
        url: &Url,
        question: &mut impl FnMut(Option<Url>) -> F,
    ) -> Option<Answered<T>>
    where
        F: Future<Output = Result<T, HttpError>>,
    {
        for there in self.client.mirrors_of(url) {
            let Some(gate) = self.gate(&there) else { continue };
            let Some(turn) = self.client.health_of(&there).turn_now() else {
                continue;
            };
            let place = gate.place().await;
            let answer = question(Some(there.clone())).await;
            let failure = answer.as_ref().err().map(|error| &error.kind);
            let was_answered = turn.ended(answer.as_ref().err());
            gate.note(failure);
            place.ended(failure);
            match answer {
                Ok(answer) => {
                    log::info!("{}: it can't be asked, so {} was", redact(url), redact(&there));
                    return Some(Answered {
                        answer,
                        is_by_mirror: true,
                    });
                }
                Err(error) if was_answered => self.client.leave_mirror_out(&there, &error.kind),
                Err(error) => log::debug!("{error}; it is a mirror, another URL is asked"),
            }
        }
        None
    }
}
