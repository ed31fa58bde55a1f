//! The requests that decide on a doubtful response: heads, and small parts whose bytes are known.

use super::*;
use crate::origin::client::redirect_chain::Request;

impl Client {
    /// Finds out whether a response about `url` with the name `told` is of the version `known`, last modified at
    /// `modified`. Sends requests to the server. `samples` are bytes of that version, as far as the cache has any.
    ///
    /// # Errors
    /// If no request brings evidence.
    pub async fn weigh(
        &self,
        url: &Url,
        known: &Version,
        modified: Option<SystemTime>,
        told: &AliasName,
        samples: Vec<Sample>,
    ) -> Result<Weighed, HttpError> {
        let file = self.shared.aliases.file(url);
        let _one_at_a_time = file.asking.lock().await;
        let (name, by, was_known) = {
            let mut state = file.state.lock();
            state.begin(known, modified);
            (state.name(), state.by.clone(), state.has(&told.0, SystemTime::now()))
        };
        if was_known {
            return Ok(Weighed::Same);
        }
        // If a part has no validator, or a different one each time, HEAD decides.
        if told.0.is_empty() || matches!(by, Some(By::Head(_))) {
            let head = self.name_of_whole(url, known).await?;
            let has = |head: &Name| {
                head.is(&name) || by == Some(By::Head(head.clone())) || file.state.lock().has(head, SystemTime::now())
            };
            if !head.is_empty() && has(&head) {
                return Ok(Weighed::Same);
            }
            if matches!(by, Some(By::Head(_))) && !head.is_empty() && self.name_of_whole(url, known).await? == head {
                return Ok(self.another(url));
            }
        }
        let doubt = Doubt {
            of_all: by == Some(By::Bytes),
            of_dates: false,
        };
        if !doubt.of_all && told.0.tag != name.tag && told.0.date == name.date && name.date.is_some() {
            // Only the tag differs. Two requests show whether it changes each time.
            let evidence = self.evidence(url, known, &[], Ask::Heads).await;
            if evidence.heads.len() > 1 && decide(&name, told, &evidence, doubt, SystemTime::now()) == Some(By::Date) {
                return Ok(self.learn(url, &file, told, By::Date, &evidence));
            }
        }
        let ask = if doubt.of_all && !samples.is_empty() {
            Ask::Parts
        } else {
            Ask::All
        };
        let mut evidence = self.evidence(url, known, &samples, ask).await;
        if evidence.heads.is_empty() && evidence.gets.is_empty() {
            return Err(unnamed(url));
        }
        let seen = || evidence.heads.iter().chain(&evidence.gets);
        // The response was the last of an older version, or of a seldom-used machine: nothing shows that it is of this
        // version.
        if !told.0.is_empty() && seen().all(|seen| seen.is(&name)) && file.state.lock().asks_again() {
            return Ok(Weighed::Again);
        }
        // Several machines responded in turn before; none of them has the version any more.
        if by == Some(By::Names) && !seen().any(|seen| seen.is(&name) || file.state.lock().has(seen, SystemTime::now()))
        {
            return Ok(self.another(url));
        }
        let mut doubt = doubt;
        let last = seen().last().map(|last| last.date.clone());
        let is_undecided =
            evidence.bytes == Bytes::Alike && told.0.tag.is_none() && seen().all(|seen| seen.tag.is_none());
        let may_be_its_own = is_undecided || (!doubt.of_all && seen().all(|seen| seen.date == told.0.date));
        if told.0.is_recent(SystemTime::now()) && may_be_its_own {
            // A date that is the response's own differs one second later.
            tokio::time::sleep(NEXT_SECOND).await;
            let head = self.name_of_whole(url, known).await?;
            doubt.of_dates = Some(&head.date) != last.as_ref() && head.is_recent(SystemTime::now());
            evidence.heads.push(head);
        }
        match decide(&name, told, &evidence, doubt, SystemTime::now()) {
            Some(by) => Ok(self.learn(url, &file, told, by, &evidence)),
            None if told.0.is_empty() && evidence.heads.iter().all(Name::is_empty) => Err(unnamed(url)),
            None => Ok(self.another(url)),
        }
    }

    /// The file has changed: earlier HEAD responses no longer count.
    fn another(&self, url: &Url) -> Weighed {
        self.shared.head_trusts.doubt(url);
        Weighed::Another
    }

    /// Records what was learnt of a version that is the same.
    fn learn(&self, url: &Url, file: &File, told: &AliasName, by: By, evidence: &Evidence) -> Weighed {
        self.shared.aliases.log(url, &by);
        let names = [&told.0].into_iter().chain(&evidence.heads).chain(&evidence.gets);
        file.state.lock().learn(by, names);
        Weighed::Same
    }

    /// Returns true if some responses had a validator for the version `known`, which has none.
    pub fn is_named_now_and_then(&self, url: &Url, known: &Version) -> bool {
        known.validator == Validator::None
            && self.shared.aliases.found(url).is_some_and(|file| {
                let state = file.state.lock();
                state.known.as_ref() == Some(known) && !state.names.is_empty()
            })
    }

    /// Restates metadata as the version `known`, if it was found under an alias.
    pub fn restated(&self, url: &Url, known: &Version, found: &mut Metadata) {
        let mut head = found.as_head();
        self.shared.aliases.restate(url, known, &mut head);
        let is_told = || {
            known
                .validator
                .compare(head.etag.as_deref(), head.last_modified.as_deref())
                == Sameness::Same
        };
        if found.size == Some(known.size) && known.validator != Validator::None && is_told() {
            found.version = Some(known.clone());
            found.validator = known.validator.clone();
            found.modified = head.modified().or(found.modified);
        }
    }

    /// What was found, with HEAD's version if GET had none: some servers send a validator for the whole file only.
    pub(crate) async fn named(&self, url: &Url, found: Metadata) -> Metadata {
        let Some(size) = found.size.filter(|_| found.validator == Validator::None) else {
            return found;
        };
        match self.named_by_head(url, size).await {
            Some((version, modified)) => Metadata {
                validator: version.validator.clone(),
                version: Some(version),
                modified: modified.or(found.modified),
                ..found
            },
            None => found,
        }
    }

    /// Version and date of a file of this size, from HEAD; `None` if HEAD has no validator either, or its origin never
    /// sends one.
    pub async fn named_by_head(&self, url: &Url, size: u64) -> Option<(Version, Option<SystemTime>)> {
        let (origin, nameless) = (Origin::of(url)?, &self.shared.aliases.nameless);
        if nameless.lock().contains(&origin) {
            return None;
        }
        if let Ok(answer) = self.head(url).await {
            let (validator, is_size) = (
                answer.head.validator(),
                answer.head.content_length.is_none_or(|told| told == size),
            );
            if answer.head.status == 200 && is_size && validator != Validator::None {
                return Some((Version { size, validator }, answer.head.modified()));
            }
        }
        let mut nameless = nameless.lock();
        if nameless.len() >= MOST_ORIGINS {
            nameless.clear();
        }
        nameless.insert(origin);
        None
    }

    /// The name of the whole file: from HEAD, else from the head of a GET whose body is not read.
    async fn name_of_whole(&self, url: &Url, known: &Version) -> Result<Name, HttpError> {
        let mut last = None;
        // Some servers send a validator only now and then.
        for method in [Method::HEAD, Method::GET, Method::HEAD] {
            let answer = match method {
                Method::HEAD => self.head(url).await,
                method => self.send(Request::of(method, identity()), url).await,
            };
            match answer {
                Ok(answer) if answer.head.status == 200 => {
                    let name = Name::of(&answer.head);
                    let is_size = answer.head.content_length.is_none_or(|size| size == known.size);
                    if is_size && !name.is_empty() {
                        return Ok(name);
                    }
                    last = None;
                }
                Ok(answer) => {
                    last = Some(
                        self.failed(
                            answer,
                            HttpErrorKind::BadAnswer("it does not identify its version".to_owned()),
                        )
                        .await,
                    )
                }
                Err(error) => last = Some(error),
            }
        }
        last.map_or(Ok(Name::default()), Err)
    }

    /// Sends a few requests. A failed one is no evidence.
    async fn evidence(&self, url: &Url, known: &Version, samples: &[Sample], ask: Ask) -> Evidence {
        let mut evidence = Evidence {
            heads: Vec::new(),
            gets: Vec::new(),
            bytes: Bytes::Unknown,
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
                None => (0, known.size.min(SAMPLE)),
            };
            // Never the same part twice: a tag may be of the part.
            let skip = (round as u64).min(len.saturating_sub(1));
            let part = async {
                let want = if ask == Ask::Heads { at..at } else { at + skip..at + len };
                self.part(url, known, want).await
            };
            let head = async {
                let is_wanted = ask != Ask::Parts;
                if is_wanted { self.head(url).await.ok() } else { None }
            };
            let (head, part) = tokio::join!(head, part);
            if let Some(answer) = head.filter(|answer| answer.head.status == 200) {
                evidence.heads.push(Name::of(&answer.head));
            }
            match part {
                Some(Part::OtherSize) => evidence.is_other_size = true,
                Some(Part::Same(name, sample)) => {
                    evidence.gets.push(name);
                    parts.extend(sample);
                }
                None => {}
            }
            evidence.bytes = compare(samples, &parts);
            if evidence.bytes == Bytes::Differ || evidence.is_other_size {
                break;
            }
        }
        // With machines that respond in turn, one could have answered each HEAD and the other each GET.
        if ask == Ask::All
            && evidence.bytes != Bytes::Differ
            && let Some(Part::Same(name, _)) = self.part(url, known, 0..known.size.min(SAMPLE)).await
        {
            evidence.gets.push(name);
        }
        evidence
    }

    /// Requests a small part and its name.
    async fn part(&self, url: &Url, known: &Version, want: Range<u64>) -> Option<Part> {
        if want.is_empty() {
            return None;
        }
        let answer = self.send(Request::get(ranged(&want)), url).await.ok()?;
        let size_alone = Version {
            size: known.size,
            validator: Validator::None,
        };
        let name = Name::of(&answer.head);
        let (from, due) = match judge(&answer.head, want.clone(), Some(&size_alone)) {
            Verdict::Partial { range, .. } => (range.start, Some(range.end - range.start)),
            Verdict::Whole { .. } if want.end > FARTHEST => return Some(Part::Same(name, None)),
            Verdict::Whole { size, .. } => (0, size),
            Verdict::Changed(_) => return Some(Part::OtherSize),
            _ => return None,
        };
        let mut body = self.body(answer, due);
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
        Some(Part::Same(name, (!sample.bytes.is_empty()).then_some(sample)))
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
enum Part {
    /// The file has another size now.
    OtherSize,
    /// Its name, and its bytes if the response had them.
    Same(Name, Option<Sample>),
}

fn unnamed(url: &Url) -> HttpError {
    let kind = HttpErrorKind::BadAnswer("it does not identify the version of the file".to_owned());
    HttpError { kind, url: redact(url) }
}
