//! Mirror look-ups: names and versions from a mirror while the source's own URL is silent.
//!
//! A mirror is asked only if the source has never answered for the name ([`Authority`]), and only once the source has
//! failed or is paused after a failure. Any answer of the source counts, a 404 or 403 too. The source is probed in
//! the background, so a server that swallows requests delays no caller twice.
//!
//! A mirror that answers anything but the file asked for is skipped for that name for a while. A mirror that can't be
//! asked either is paused by its own health, and the next one is asked.

use std::sync::Arc;

use tokio::runtime::Handle;
use url::Url;

use crate::http::{Origin, redact};
use crate::origin::{Client, Health};
use crate::source::SourceError;
use crate::util::events;

/// Which servers may answer a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::vfs) enum Authority<'a> {
    /// The source's own URL alone.
    Source,
    /// These URLs too, in this order, while the source's own can't be asked.
    OrElsewhere(&'a [Url]),
}

/// An answer and the server that gave it.
pub(in crate::vfs) struct Answer<T> {
    /// What it says.
    pub value: T,
    /// Whether a mirror gave it.
    pub is_by_mirror: bool,
}

/// The mirrors that may answer one request.
pub(super) struct MirrorLookup<'a> {
    pub(super) client: &'a Client,
    /// The source's own URL.
    pub(super) url: &'a Url,
    /// The same name on the mirrors, in the order in which to ask them.
    pub(super) mirrors: &'a [Url],
}

impl MirrorLookup<'_> {
    /// A mirror's answer, if the source is paused after a failure. `health` is that of the source's origin.
    pub(super) async fn ask_instead<T, F>(
        &self,
        health: &Arc<Health>,
        runtime: &Handle,
        request: &mut impl FnMut(Option<Url>) -> F,
    ) -> Option<Answer<T>>
    where
        F: Future<Output = Result<T, SourceError>>,
    {
        if self.client.mirrors().not_left_out(self.mirrors).is_empty() {
            return None;
        }
        let permit = health.permit_now();
        if permit.as_ref().is_some_and(|permit| !permit.is_probe()) {
            return None;
        }
        if let Some(probe) = permit {
            self.client.find_out(runtime, self.url.clone(), probe);
        }
        self.ask(request).await
    }

    /// The answer of the first mirror that has what is at the URL. `None` if no mirror has it or can be asked now.
    pub(super) async fn ask<T, F>(&self, request: &mut impl FnMut(Option<Url>) -> F) -> Option<Answer<T>>
    where
        F: Future<Output = Result<T, SourceError>>,
    {
        for there in self.client.mirrors().not_left_out(self.mirrors) {
            let Some(origin) = Origin::of(&there) else { continue };
            let Some(permit) = self.client.health_of(&there).permit_now() else {
                continue;
            };
            let slots = self.client.name_slots(&origin);
            let slot = slots.slot().await;
            let answer = request(Some(there.clone())).await;
            let error = answer.as_ref().err().and_then(SourceError::http);
            let failure = error.map(|error| &error.kind);
            let was_answered = permit.ended(error);
            self.client.responsiveness(&origin).note(failure);
            slot.ended(failure);
            match answer {
                Ok(value) => {
                    log::info!(
                        event = events::MIRROR_USED;
                        "{}: not available; using {} instead", redact(self.url), redact(&there)
                    );
                    return Some(Answer {
                        value,
                        is_by_mirror: true,
                    });
                }
                Err(error) if was_answered => self.client.mirrors().leave_out(&there, error.reason()),
                Err(error) => log::debug!("{error}; trying another URL instead of this mirror"),
            }
        }
        None
    }
}
