//! Mirror look-ups: names and versions from a mirror while the source's own URL is silent.
//!
//! A mirror is asked only if the source has never answered for the name ([`Authority`]), and only once the source has
//! failed or is paused after a failure. Any answer of the source counts, a 404 or 403 too. The source is probed in
//! the background, so a server that swallows requests delays no caller twice.
//!
//! A mirror that answers anything but the file asked for is skipped for that name for a while. A mirror that can't be
//! asked either is paused by its own health, and the next one is asked.

use std::sync::Arc;

use url::Url;

use crate::http::redact;
use crate::origin::Health;
use crate::source::SourceError;
use crate::vfs::Tree;

/// Which servers may answer a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::vfs) enum Authority<'a> {
    /// The source's own URL alone.
    Source,
    /// These URLs too, in this order, while the source's own can't be asked.
    OrElsewhere(&'a [Url]),
}

/// An answer and the server that gave it.
pub(in crate::vfs) struct Answered<T> {
    pub answer: T,
    pub is_by_mirror: bool,
}

impl<T> Answered<T> {
    pub(crate) fn by_source(answer: T) -> Answered<T> {
        Answered {
            answer,
            is_by_mirror: false,
        }
    }
}

impl Tree {
    /// A mirror's answer, if the source at `url` is paused after a failure. `health` is that of the source's origin.
    pub(in crate::vfs) async fn ask_mirrors_instead<T, F>(
        &self,
        url: &Url,
        mirrors: &[Url],
        health: &Arc<Health>,
        question: &mut impl FnMut(Option<Url>) -> F,
    ) -> Option<Answered<T>>
    where
        F: Future<Output = Result<T, SourceError>>,
    {
        if self.client.not_left_out(mirrors).is_empty() {
            return None;
        }
        let permit = health.permit_now();
        if permit.as_ref().is_some_and(|permit| !permit.is_probe()) {
            return None;
        }
        if let Some(probe) = permit {
            self.client.find_out(&self.runtime, url.clone(), probe);
        }
        self.ask_mirrors(url, mirrors, question).await
    }

    /// The answer of the first mirror that has what is at `url`. `None` if no mirror has it or can be asked now.
    pub(in crate::vfs) async fn ask_mirrors<T, F>(
        &self,
        url: &Url,
        mirrors: &[Url],
        question: &mut impl FnMut(Option<Url>) -> F,
    ) -> Option<Answered<T>>
    where
        F: Future<Output = Result<T, SourceError>>,
    {
        for there in self.client.not_left_out(mirrors) {
            let Some(gate) = self.gate(&there) else { continue };
            let Some(permit) = self.client.health_of(&there).permit_now() else {
                continue;
            };
            let place = gate.place().await;
            let answer = question(Some(there.clone())).await;
            let error = answer.as_ref().err().and_then(SourceError::http);
            let failure = error.map(|error| &error.kind);
            let was_answered = permit.ended(error);
            gate.note(failure);
            place.ended(failure);
            match answer {
                Ok(answer) => {
                    log::info!("{}: not available; using {} instead", redact(url), redact(&there));
                    return Some(Answered {
                        answer,
                        is_by_mirror: true,
                    });
                }
                Err(error) if was_answered => self.client.leave_mirror_out(&there, error.reason()),
                Err(error) => log::debug!("{error}; trying another URL instead of this mirror"),
            }
        }
        None
    }
}
