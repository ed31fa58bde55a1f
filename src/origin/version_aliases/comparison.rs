//! The requests that decide on a doubtful response: heads, and small parts whose bytes are known.

use std::{
    ops::Range,
    sync::atomic::Ordering,
    time::{Duration, SystemTime},
};

use url::Url;

use super::{
    aliases::{AliasedFile, VersionAliases},
    decision::{Doubt, Observations, RecognisedBy, decide},
    label::VersionLabel,
    samples::{SAMPLE, Sample, SamplesCompared, compare},
};
use crate::{
    http::{
        HttpError, HttpErrorKind, Validator, Version, redact,
        response::validation::{Verdict, judge},
    },
    origin::request::transport::{HttpRequest, Transport},
};

/// Rounds of requests, each one HEAD and one part. With fewer, two machines would often not both respond.
const ROUNDS: usize = 3;

/// For a file that only comes as a whole: the farthest offset of a compared part, in bytes.
const FARTHEST: u64 = 1 << 20;

/// Time after which a clock shows another second.
const NEXT_SECOND: Duration = Duration::from_millis(1100);

/// What a doubtful response turned out to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Comparison {
    /// It is of the known version.
    Same,
    /// The file has another version now.
    Another,
    /// The known version is current, and this response may be of an older one: request it again.
    Again,
}

impl VersionAliases {
    /// Finds out whether a response about `url` with the label `told` is of the version `known`, last modified at
    /// `modified`. Sends requests to the server. `samples` are bytes of that version, as far as the cache has any.
    ///
    /// # Errors
    /// If no request brings anything to compare.
    pub(crate) async fn compare(
        &self,
        transport: &Transport,
        url: &Url,
        (known, modified): (&Version, Option<SystemTime>),
        told: &VersionLabel,
        samples: &[Sample],
    ) -> Result<Comparison, HttpError> {
        let observer = Observer { transport, url, known };
        let file = self.file(url);
        let _one_at_a_time = file.comparing.lock().await;
        let (label, by, was_known) = {
            let mut state = file.state.lock();
            state.begin(known, modified);
            (state.label(), state.by.clone(), state.has(told, SystemTime::now()))
        };
        if was_known {
            return Ok(Comparison::Same);
        }
        // If a part has no validator, or a different one each time, HEAD decides.
        if told.is_empty() || matches!(by, Some(RecognisedBy::Head(_))) {
            let head = observer.label_of_whole().await?;
            let has = |head: &VersionLabel| {
                head.is(&label)
                    || by == Some(RecognisedBy::Head(head.clone()))
                    || file.state.lock().has(head, SystemTime::now())
            };
            if !head.is_empty() && has(&head) {
                return Ok(Comparison::Same);
            }
            if matches!(by, Some(RecognisedBy::Head(_))) && !head.is_empty() && observer.label_of_whole().await? == head
            {
                return Ok(Comparison::Another);
            }
        }
        let doubt = Doubt {
            of_all: by == Some(RecognisedBy::Bytes),
            of_dates: false,
        };
        if !doubt.of_all && told.tag != label.tag && told.date == label.date && label.date.is_some() {
            // Only the tag differs. Two requests show whether it changes each time.
            let observations = observer.observe(&[], Ask::Heads).await;
            if observations.heads.len() > 1
                && decide(&label, told, &observations, doubt, SystemTime::now()) == Some(RecognisedBy::Date)
            {
                return Ok(self.learn(url, &file, told, RecognisedBy::Date, &observations));
            }
        }
        let ask = if doubt.of_all && !samples.is_empty() {
            Ask::Parts
        } else {
            Ask::All
        };
        let mut observations = observer.observe(samples, ask).await;
        if observations.heads.is_empty() && observations.gets.is_empty() {
            return Err(unnamed(url));
        }
        let seen = || observations.heads.iter().chain(&observations.gets);
        // The response was the last of an older version, or of a seldom-used machine: nothing shows that it is of this
        // version.
        if !told.is_empty() && seen().all(|seen| seen.is(&label)) && file.state.lock().asks_again() {
            return Ok(Comparison::Again);
        }
        // Several machines responded in turn before; none of them has the version any more.
        if by == Some(RecognisedBy::Labels)
            && !seen().any(|seen| seen.is(&label) || file.state.lock().has(seen, SystemTime::now()))
        {
            return Ok(Comparison::Another);
        }
        let mut doubt = doubt;
        let last = seen().last().map(|last| last.date.clone());
        let is_undecided =
            observations.bytes == SamplesCompared::Alike && told.tag.is_none() && seen().all(|seen| seen.tag.is_none());
        let may_be_its_own = is_undecided || (!doubt.of_all && seen().all(|seen| seen.date == told.date));
        if told.is_recent(SystemTime::now()) && may_be_its_own {
            // A date that is the response's own differs one second later.
            tokio::time::sleep(NEXT_SECOND).await;
            let head = observer.label_of_whole().await?;
            doubt.of_dates = Some(&head.date) != last.as_ref() && head.is_recent(SystemTime::now());
            observations.heads.push(head);
        }
        match decide(&label, told, &observations, doubt, SystemTime::now()) {
            Some(by) => Ok(self.learn(url, &file, told, by, &observations)),
            None if told.is_empty() && observations.heads.iter().all(VersionLabel::is_empty) => Err(unnamed(url)),
            None => Ok(Comparison::Another),
        }
    }

    /// Records what was learnt of a version that is the same.
    fn learn(
        &self,
        url: &Url,
        file: &AliasedFile,
        told: &VersionLabel,
        by: RecognisedBy,
        observations: &Observations,
    ) -> Comparison {
        self.log(url, &by);
        let labels = [told].into_iter().chain(&observations.heads).chain(&observations.gets);
        file.state.lock().learn(by, labels);
        Comparison::Same
    }

    /// Version and date of a file of this size, from HEAD; `None` if HEAD has no validator either, or its origin never
    /// sends one.
    pub(crate) async fn named_by_head(
        &self,
        transport: &Transport,
        url: &Url,
        size: u64,
    ) -> Option<(Version, Option<SystemTime>)> {
        let origin = self.origins.of_url(url);
        if origin.is_nameless.load(Ordering::Acquire) {
            return None;
        }
        if let Ok(answer) = transport.head(url).await {
            let (validator, is_size) = (
                answer.head.validator(),
                answer.head.content_length.is_none_or(|told| told == size),
            );
            if answer.head.status == 200 && is_size && validator != Validator::None {
                return Some((Version { size, validator }, answer.head.modified()));
            }
        }
        origin.is_nameless.store(true, Ordering::Release);
        None
    }
}

/// Sends requests about one version of a file.
struct Observer<'a> {
    transport: &'a Transport,
    url: &'a Url,
    known: &'a Version,
}

impl Observer<'_> {
    /// The label of the whole file: from HEAD, else from the head of a GET whose body is not read.
    async fn label_of_whole(&self) -> Result<VersionLabel, HttpError> {
        let mut last = None;
        // Some servers send a validator only now and then.
        for is_head in [true, false, true] {
            let answer = match is_head {
                true => self.transport.head(self.url).await,
                false => self.transport.send(HttpRequest::whole(), self.url).await,
            };
            match answer {
                Ok(answer) if answer.head.status == 200 => {
                    let label = VersionLabel::of(&answer.head);
                    let is_size = answer.head.content_length.is_none_or(|size| size == self.known.size);
                    if is_size && !label.is_empty() {
                        return Ok(label);
                    }
                    last = None;
                }
                Ok(answer) => {
                    let kind = HttpErrorKind::BadAnswer("it does not identify its version".to_owned());
                    last = Some(answer.failed(kind).await);
                }
                Err(error) => last = Some(error),
            }
        }
        last.map_or(Ok(VersionLabel::default()), Err)
    }

    /// Sends a few requests. A failed one is no observations.
    async fn observe(&self, samples: &[Sample], ask: Ask) -> Observations {
        let mut observations = Observations {
            heads: Vec::new(),
            gets: Vec::new(),
            bytes: SamplesCompared::Unknown,
            is_other_size: false,
        };
        let mut parts = Vec::new();
        let rounds = match ask {
            Ask::Heads => 2,
            Ask::Parts => samples.len().min(ROUNDS),
            Ask::All => ROUNDS,
        };
        for round in 0..rounds {
            let (at, len) = match samples.get(round % samples.len().max(1)) {
                Some(sample) => (sample.at, sample.bytes.len() as u64),
                None => (0, self.known.size.min(SAMPLE)),
            };
            // Never the same part twice: a tag may be of the part.
            let skip = (round as u64).min(len.saturating_sub(1));
            let part = async {
                let want = if ask == Ask::Heads { at..at } else { at + skip..at + len };
                self.part(want).await
            };
            let head = async {
                let is_wanted = ask != Ask::Parts;
                if is_wanted {
                    self.transport.head(self.url).await.ok()
                } else {
                    None
                }
            };
            let (head, part) = tokio::join!(head, part);
            if let Some(answer) = head.filter(|answer| answer.head.status == 200) {
                observations.heads.push(VersionLabel::of(&answer.head));
            }
            match part {
                Some(PartResponse::OtherSize) => observations.is_other_size = true,
                Some(PartResponse::Same(label, sample)) => {
                    observations.gets.push(label);
                    parts.extend(sample);
                }
                None => {}
            }
            observations.bytes = compare(samples, &parts);
            if observations.bytes == SamplesCompared::Differ || observations.is_other_size {
                break;
            }
        }
        // With machines that respond in turn, one could have answered each HEAD and the other each GET.
        if ask == Ask::All
            && observations.bytes != SamplesCompared::Differ
            && let Some(PartResponse::Same(label, _)) = self.part(0..self.known.size.min(SAMPLE)).await
        {
            observations.gets.push(label);
        }
        observations
    }

    /// Requests a small part and its label.
    async fn part(&self, want: Range<u64>) -> Option<PartResponse> {
        if want.is_empty() {
            return None;
        }
        let answer = self.transport.send(HttpRequest::range(&want), self.url).await.ok()?;
        let size_alone = Version {
            size: self.known.size,
            validator: Validator::None,
        };
        let label = VersionLabel::of(&answer.head);
        let (from, due) = match judge(&answer.head, want.clone(), Some(&size_alone)) {
            Verdict::Partial { range, .. } => (range.start, Some(range.end - range.start)),
            Verdict::Whole { .. } if want.end > FARTHEST => return Some(PartResponse::Same(label, None)),
            Verdict::Whole { size, .. } => (0, size),
            Verdict::Changed(_) => return Some(PartResponse::OtherSize),
            _ => return None,
        };
        let mut body = self.transport.body(answer, due);
        let mut bytes = Vec::new();
        while from + (bytes.len() as u64) < want.end
            && let Ok(Some(piece)) = body.next().await
        {
            bytes.extend_from_slice(&piece);
        }
        bytes.truncate((want.end - from).min(bytes.len() as u64) as usize);
        let skip = ((want.start - from) as usize).min(bytes.len());
        let sample = Sample {
            at: want.start,
            bytes: bytes.split_off(skip),
        };
        Some(PartResponse::Same(label, (!sample.bytes.is_empty()).then_some(sample)))
    }
}

/// Which requests to send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ask {
    Heads,
    Parts,
    All,
}

/// The response to a request for a small part.
enum PartResponse {
    /// The file has another size now.
    OtherSize,
    /// Its label, and its bytes if the response had them.
    Same(VersionLabel, Option<Sample>),
}

fn unnamed(url: &Url) -> HttpError {
    let kind = HttpErrorKind::BadAnswer("it does not identify the version of the file".to_owned());
    HttpError { kind, url: redact(url) }
}
