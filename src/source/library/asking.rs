//! Requests for the names in places and merged directories, within the limits of the servers that have them.
//!
//! - While a server is in a pause after failures, its source fails at once. The first request after the pause finds out
//!   whether it is back.
//! - Where earlier names are known, a server has as long for new ones as [`Responsiveness`] gives it.
//! - **Every request ends after [`Shared::patience`].**
//!
//! [`Responsiveness`]: crate::origin::failures::responsiveness::Responsiveness

use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::time::{sleep, timeout};
use url::Url;

use super::member::{How, Layer};
use super::overlay::merge;
use super::plan::Plan;
use super::{Shared, address, unavailable};
use crate::http::{HttpErrorKind, Origin, Validator, redact};
use crate::source::{BoxFuture, Listing, SourceError, SourceErrorKind};
use crate::util::events;

/// How often a request is repeated that fails while its server answers others.
const RETRIES: u32 = 2;

/// The pause before the first repetition. Doubles each time.
const PAUSE: Duration = Duration::from_millis(500);

impl Shared {
    /// The names in the directory at this path of the library. `None` if they are still those with the validator
    /// `how.unless`. Names are passed on early where one source has them all: merged ones are certain at the end.
    pub(super) async fn list_place(
        self: &Arc<Self>,
        plan: &Arc<Plan>,
        path: &str,
        how: How<'_>,
    ) -> Result<Option<Listing>, SourceError> {
        let layers = self.layers(plan, path).await?;
        let has_places = plan.places_in(path).next().is_some();
        let url = plan.url(path);
        let is_alone = layers.len() == 1 && !has_places;
        if is_alone {
            let has_known = self.is_listed(&layers[0].key()) || self.known.last_known(&url).is_some();
            // Directories in it have one layer, too.
            return self.ask(&layers[0], has_known, how).await;
        }
        // Each layer is asked by its own validator, which is stored with its own listing.
        let is_conditional = *how.unless != Validator::None;
        let mut asking = Vec::new();
        for layer in layers {
            let shared = Arc::clone(self);
            asking.push(tokio::spawn(async move {
                let (key, is_listed) = (layer.key(), shared.is_listed(&layer.key()));
                let known = (!is_listed || is_conditional)
                    .then(|| shared.known.last_known(&key))
                    .flatten();
                let of_known = known
                    .as_ref()
                    .filter(|_| is_conditional)
                    .map(|known| known.validator.clone());
                let how = How {
                    unless: &of_known.unwrap_or_default(),
                    ..How::WHOLE
                };
                let answer = shared.ask(&layer, is_listed || known.is_some(), how).await;
                (layer, key, known, answer)
            }));
        }
        let (mut answers, mut new, mut failed) = (Vec::new(), Vec::new(), None);
        for asked in asking {
            // An error means a panic, or a runtime that is shutting down.
            let Ok((layer, key, known, answer)) = asked.await else {
                continue;
            };
            match answer {
                Ok(Some(listing)) => {
                    new.push((key, listing.clone()));
                    answers.push((layer, listing));
                }
                Ok(None) => answers.extend(known.map(|known| (layer, known))),
                // It says that it has no such directory.
                Err(error) if error.kind() == SourceErrorKind::NotFound && layer.directory.is_some() => {
                    failed.get_or_insert(error);
                }
                Err(error) => {
                    if let Some(known) = self.known.last_known(&key) {
                        answers.push((layer, known));
                    }
                    failed.get_or_insert(error);
                }
            }
        }
        if let Some(error) = &failed {
            if answers.is_empty() && !has_places {
                return Err(error.clone());
            }
            log::debug!("{}: {error}; the names of the other sources are shown", redact(&url));
        }
        let mut merged = merge(plan, path, &answers);
        self.merged.lock().extend(merged.below);
        if failed.is_some() {
            // The names that stand in for it may be older.
            merged.listing.validator = Validator::None;
        }
        if is_conditional && merged.listing.validator == *how.unless {
            return Ok(None);
        }
        self.unstored.lock().insert(url, new);
        Ok(Some(merged.listing))
    }

    /// What the directory at this path consists of.
    fn layers<'a>(
        self: &'a Arc<Self>,
        plan: &'a Arc<Plan>,
        path: &'a str,
    ) -> BoxFuture<'a, Result<Vec<Layer>, SourceError>> {
        Box::pin(async move {
            let members = plan.members.iter();
            let mut layers: Vec<Layer> = members
                .filter(|member| member.place == path)
                .map(|member| member.root())
                .collect();
            let has_above = |above: &str| plan.members.iter().any(|member| above.starts_with(&member.place));
            if let Some((above, _)) = address::above(path).filter(|(above, _)| has_above(above)) {
                let known = self.merged.lock().get(path).cloned();
                let of_above = match known {
                    Some(known) => known,
                    // The listing of the directory above is an earlier mount's.
                    None => {
                        let listed = self.list_place(plan, above, How::WHOLE).await;
                        // Nothing asks for them: the directory above is listed again when a program looks there.
                        self.unstored.lock().remove(&plan.url(above));
                        let found = self.merged.lock().get(path).cloned();
                        match (found, listed) {
                            (Some(found), _) => found,
                            (None, Err(error)) if layers.is_empty() && !plan.has_place(path) => return Err(error),
                            (None, _) => Vec::new(),
                        }
                    }
                };
                layers.extend(of_above);
            }
            layers.sort_by_key(|layer| layer.member.index);
            if layers.is_empty() && !plan.has_place(path) {
                return Err(SourceError::not_found(&plan.url(path)));
            }
            Ok(layers)
        })
    }

    fn is_listed(&self, key: &Url) -> bool {
        self.listed.lock().contains(key)
    }

    /// The names in one directory of one source; `None` if they are still those with the validator `how.unless`.
    /// `has_known`: earlier ones are known.
    pub(super) async fn ask(
        self: &Arc<Self>,
        layer: &Layer,
        has_known: bool,
        how: How<'_>,
    ) -> Result<Option<Listing>, SourceError> {
        let Some(origin) = Origin::of(layer.url()) else {
            let directory = layer.directory.as_ref();
            let listing = layer.member.list(&self.client, directory, how).await?;
            self.listed.lock().insert(layer.key());
            return Ok(listing);
        };
        let (shared, asked, server) = (Arc::clone(self), layer.clone(), origin.clone());
        let (unless, names) = (how.unless.clone(), how.names.cloned());
        let ask = async move {
            let how = How {
                unless: &unless,
                there: None,
                names: names.as_ref(),
            };
            match timeout(shared.patience, shared.ask_server(&asked, &server, how)).await {
                Ok(Ok(listing)) => {
                    shared.listed.lock().insert(asked.key());
                    Ok(listing)
                }
                Ok(Err(error)) => Err(error),
                Err(_) => Err(late(asked.url())),
            }
        };
        if !has_known {
            return ask.await;
        }
        let answer = self.client.responsiveness(&origin).ask(&Handle::current(), ask).await;
        answer.unwrap_or_else(|| Err(late(layer.url())))
    }

    /// Asks the server of a source, or its mirrors while that can't be asked.
    async fn ask_server(&self, layer: &Layer, origin: &Origin, how: How<'_>) -> Result<Option<Listing>, SourceError> {
        let (client, member) = (&self.client, &layer.member);
        let mut tries = 0;
        let error = loop {
            let health = client.health(origin);
            let Some(permit) = health.permit_now() else {
                let down = client.down().into_iter().find(|down| down.origin == *origin);
                let why = down.map_or_else(|| "the server is down".to_owned(), |down| down.why.to_string());
                break unavailable(layer.url(), format!("{why}; it is asked again after a pause"));
            };
            let slots = client.name_slots(origin);
            let slot = slots.slot().await;
            let answer = member.list(client, layer.directory.as_ref(), how).await;
            let failed = answer.as_ref().err().and_then(SourceError::http);
            // The failure may be that of the server to which this one redirects.
            let failed = failed.filter(|error| error.url.origin().as_ref() == Some(origin));
            let failure = failed.map(|error| &error.kind);
            permit.ended(failed);
            client.responsiveness(origin).note(failure);
            slot.ended(failure);
            let error = match answer {
                Ok(listing) => return Ok(listing),
                Err(error) => error,
            };
            let may_retry = error.http().is_some_and(|error| is_passing(&error.kind));
            if tries >= RETRIES || !may_retry {
                break error;
            }
            sleep(PAUSE * 2_u32.pow(tries)).await;
            tries += 1;
        };
        let may_be_elsewhere = error.http().is_none_or(|error| error.kind.may_be_had_elsewhere());
        if error.is_temporary() && may_be_elsewhere {
            for there in client.mirrors().not_left_out(&client.mirrors().of(layer.url())) {
                let how = How {
                    unless: &Validator::None,
                    there: Some(&there),
                    ..how
                };
                match member.list(client, layer.directory.as_ref(), how).await {
                    Ok(listing) => {
                        log::warn!(event = events::MIRROR_USED; "{error}; using {} instead", redact(&there));
                        return Ok(listing);
                    }
                    Err(error) => client.mirrors().leave_out(&there, error.reason()),
                }
            }
        }
        Err(error)
    }
}

/// Whether a failure may be over in a moment, although the server can be reached.
fn is_passing(kind: &HttpErrorKind) -> bool {
    kind.is_temporary() && !kind.is_connect_failure() && !matches!(kind, HttpErrorKind::TimedOut(_))
}

fn late(url: &Url) -> SourceError {
    SourceError::of(SourceErrorKind::TimedOut, url, "the server does not respond in time")
}
