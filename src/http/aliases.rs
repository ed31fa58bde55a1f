//! Several names for one version: validators that differ although the bytes do not.
//!
//! Machines behind one name may each have an ETag of their own (made of the inode) or a date of their own (of the copy). Some servers
//! send the moment of the answer as a date, or an ETag of the part that they send, or name a version only now and then. By such
//! validators nearly every answer would be of another version, and nothing but a file's first bytes could ever be read.
//!
//! So an answer that fits in size and range, and is contradicted by its validators alone, is [doubtful](super::RangeAnswer::Doubtful). The
//! server is then asked a few times more for the file's head and for small parts of which the bytes are known, and [`decide`] has the rule:
//! **bytes that differ, or a validator that is steady and another one, mean another version; validators that change from answer to answer
//! while the bytes are the same mean nothing.** What is found out counts for this version of this file. A later validator that was not seen
//! before is doubtful again, so a file that is replaced is noticed by what is left to go by: its date, what HEAD says, or
//! its bytes in three places.
//!
//! An answer that names no version at all is checked by HEAD each time, after its own head has come: what the version was then, it was
//! when the answer was made, because it was the same before.

use std::{
    collections::{HashMap, HashSet},
    ops::Range,
    sync::Arc,
    time::{Duration, SystemTime},
};

use parking_lot::Mutex;
use reqwest::Method;
use url::Url;

use super::{
    Client, HttpError, HttpErrorKind, MOST_ORIGINS, Metadata, Origin, Validator, Version,
    client::{identity, ranged},
    head::AnswerHead,
    judge::{Verdict, judge},
    redact,
    version::{Sameness, parse_date, plain_tag},
};

/// Files of which it is remembered what else their versions are called. What is forgotten is found out again.
const MOST_FILES: usize = 1024;

/// Names of one version that are remembered.
const MOST_NAMES: usize = 64;

/// Answers about one version that are asked for again because nothing speaks for them.
const MOST_AGAIN: u32 = 16;

/// Rounds of questions: one HEAD and one part each. With fewer, two machines would often not both answer.
const ROUNDS: usize = 3;

/// Bytes of a part that is compared.
pub const SAMPLE: u64 = 16 << 10;

/// How far into a file that only comes as a whole a part is compared, in bytes.
const FARTHEST: u64 = 1 << 20;

/// How long ago a date has to be for two versions not to share it: a date has a resolution of one second, and clocks differ.
const LONG_AGO: Duration = Duration::from_secs(60);

/// A date may be that of the answer if it is no older. Clocks of servers may be wrong by minutes.
const RECENT: Duration = Duration::from_secs(600);

/// After so long a clock shows another second.
const NEXT_SECOND: Duration = Duration::from_millis(1100);

/// Bytes that are known to be of a version: `bytes` from byte offset `at` on.
#[derive(Debug, Clone)]
pub struct Sample {
    /// Byte offset.
    pub at: u64,
    /// At most [`SAMPLE`] bytes.
    pub bytes: Vec<u8>,
}

/// What an answer calls its version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told(Name);

impl Told {
    pub(super) fn by(head: &AnswerHead) -> Told {
        Told(Name::of(head))
    }

    /// What an answer said of which this is known.
    pub fn as_version(version: &Version, modified: Option<SystemTime>) -> Told {
        Told(Name::known(version, modified))
    }

    /// What an answer said of which this was taken.
    pub fn as_metadata(metadata: &Metadata) -> Told {
        Told(Name::of(&metadata.as_head()))
    }
}

/// What a doubtful answer turned out to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Weighed {
    /// It is of the known version.
    Same,
    /// The file is another one now.
    Another,
    /// The known version is the current one, and this answer may be of an older one: it has to be asked for again.
    Again,
}

/// Validators, written in one way: a tag without its quotes, its `W/` and the mark of a coding; a date in HTTP's first form.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct Name {
    tag: Option<String>,
    date: Option<String>,
}

impl Name {
    fn new(tag: Option<&str>, date: Option<&str>) -> Name {
        let plain = |date: &str| parse_date(date).map_or_else(|| date.to_owned(), httpdate::fmt_http_date);
        Name {
            tag: tag.map(|tag| plain_tag(tag).to_owned()),
            date: date.map(plain),
        }
    }

    fn of(head: &AnswerHead) -> Name {
        Name::new(head.etag.as_deref(), head.last_modified.as_deref())
    }

    fn known(version: &Version, modified: Option<SystemTime>) -> Name {
        let modified = modified.map(httpdate::fmt_http_date);
        match &version.validator {
            Validator::Strong(tag) | Validator::Weak(tag) => Name::new(Some(tag), modified.as_deref()),
            Validator::Dated(date) => Name::new(None, Some(date)),
            Validator::None => Name::new(None, modified.as_deref()),
        }
    }

    fn is_empty(&self) -> bool {
        *self == Name::default()
    }

    /// Whether an answer with this name is of the version that is called `known`.
    fn is(&self, known: &Name) -> bool {
        match known {
            Name { tag: Some(_), .. } => self.tag == known.tag,
            Name { date: Some(_), .. } => self.date == known.date,
            _ => self.is_empty(),
        }
    }

    /// The time since its date; `None` without one, or if it is in the future.
    fn age(&self, now: SystemTime) -> Option<Duration> {
        now.duration_since(parse_date(self.date.as_deref()?)?).ok()
    }
}

/// What else the versions of files are called.
#[derive(Default)]
pub(super) struct Aliases {
    /// The origins that name no version, not even when HEAD is asked.
    nameless: Mutex<HashSet<Origin>>,
    /// By the URL that was asked for.
    files: Mutex<HashMap<Url, Arc<File>>>,
    /// The origins of which the log has said it.
    logged: Mutex<HashSet<Origin>>,
}

#[derive(Default)]
struct File {
    /// Held by the one that asks.
    asking: tokio::sync::Mutex<()>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    known: Option<Version>,
    modified: Option<SystemTime>,
    /// What else the version is called.
    names: Vec<Name>,
    /// What is left to go by, once its validators were found to differ.
    by: Option<By>,
    /// Answers that were asked for again.
    again: u32,
}

/// What a version is told by when its validators do not agree.
#[derive(Debug, Clone, PartialEq, Eq)]
enum By {
    /// The server goes on telling the known validator too.
    Names,
    /// The tags differ, the date does not.
    Date,
    /// What HEAD says is steady, and is this.
    Head(Name),
    /// The bytes alone.
    Bytes,
}

/// How the bytes compare that several answers have in common with each other and with what is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Bytes {
    Equal,
    Differ,
    /// There were none to compare.
    Unknown,
}

/// What a few answers that came one after the other have said of a file.
struct Evidence {
    heads: Vec<Name>,
    gets: Vec<Name>,
    bytes: Bytes,
    is_other_size: bool,
}

/// What is known to say nothing, whether it is steady at this moment or not.
#[derive(Debug, Clone, Copy, Default)]
struct Doubt {
    /// Dates: they are those of the answers.
    of_dates: bool,
    /// All validators.
    of_all: bool,
}

/// What the evidence says of an answer of the version `known` that was `told` to be another one: `None` if it is another one, else what is
/// left to go by. The rows are tried in their order:
///
/// | what came | verdict |
/// |---|---|
/// | bytes that differ, or another size | another version |
/// | the new validator in each answer to GET | another version, whatever HEAD says |
/// | the known validator, again, beside others, and equal bytes | the same: several machines answer |
/// | one tag in all answers, and it is not the known one | another version |
/// | one date in all answers, a minute old or more | the same if it is the known one, else another version |
/// | validators that change from answer to answer, and equal bytes | the same |
/// | anything else | another version |
fn decide(known: &Name, told: &Told, evidence: &Evidence, doubt: Doubt, now: SystemTime) -> Option<By> {
    let Evidence {
        heads,
        gets,
        bytes,
        is_other_size,
    } = evidence;
    if *bytes == Bytes::Differ || *is_other_size {
        return None;
    }
    // GET decides: a HEAD that is out of date is no word for the old version.
    if !told.0.is_empty()
        && !gets.is_empty()
        && gets.iter().all(|name| *name == told.0)
        && !doubt.of_all
        && !doubt.of_dates
    {
        return None;
    }
    let steady_head = heads
        .first()
        .filter(|first| heads.len() > 1 && !first.is_empty() && heads.iter().all(|name| name == *first));
    let all = || [&told.0].into_iter().chain(heads).chain(gets);
    let named = || all().filter(|name| !name.is_empty());
    let is_told_again = heads.iter().chain(gets).any(|name| name.is(known));
    if is_told_again && *bytes == Bytes::Equal {
        return Some(match steady_head {
            Some(head) if head.is(known) => By::Head(head.clone()),
            _ => By::Names,
        });
    }
    let one = |part: fn(&Name) -> &Option<String>| {
        let mut values = named().map(part);
        let first = values.next()?;
        values.all(|value| value == first).then_some(first.as_ref()).flatten()
    };
    if known.tag.is_some() && !doubt.of_all && one(|name| &name.tag).is_some() {
        return None;
    }
    if let Some(date) = one(|name| &name.date)
        && known.date.is_some()
        && !doubt.of_dates
        && !doubt.of_all
    {
        if known.date.as_ref() != Some(date) {
            return None;
        }
        if known.age(now).is_some_and(|age| age >= LONG_AGO) {
            return Some(By::Date);
        }
    }
    let varies = doubt.of_dates || doubt.of_all || all().any(|name| *name != told.0);
    (*bytes == Bytes::Equal && varies).then(|| match steady_head {
        Some(head) => By::Head(head.clone()),
        None => By::Bytes,
    })
}

impl State {
    /// Begins anew if it is about another version.
    fn begin(&mut self, known: &Version, modified: Option<SystemTime>) {
        if self.known.as_ref() != Some(known) {
            *self = State {
                known: Some(known.clone()),
                modified,
                ..State::default()
            };
        }
    }

    /// Whether an answer that nothing speaks for may be asked for again; if that helps, it is soon not needed any more.
    fn asks_again(&mut self) -> bool {
        self.again += 1;
        self.again <= MOST_AGAIN
    }

    fn name(&self) -> Name {
        self.known
            .as_ref()
            .map_or_else(Name::default, |known| Name::known(known, self.modified))
    }

    /// Whether an answer that is called this is of the version, by what was found out.
    fn has(&self, name: &Name, now: SystemTime) -> bool {
        let known = self.name();
        let has_date =
            self.by == Some(By::Date) && name.date == known.date && known.age(now).is_some_and(|age| age >= LONG_AGO);
        !name.is_empty() && (has_date || self.names.contains(name))
    }

    fn learn<'a>(&mut self, by: By, names: impl Iterator<Item = &'a Name>) {
        self.by = Some(by);
        for name in names {
            if !name.is_empty() && !self.names.contains(name) {
                self.names.push(name.clone());
            }
        }
        let surplus = self.names.len().saturating_sub(MOST_NAMES);
        self.names.drain(..surplus);
    }
}

impl Aliases {
    fn file(&self, url: &Url) -> Arc<File> {
        let mut files = self.files.lock();
        if files.len() >= MOST_FILES && !files.contains_key(url) {
            files.retain(|_, file| Arc::strong_count(file) > 1);
        }
        Arc::clone(files.entry(url.clone()).or_default())
    }

    fn found(&self, url: &Url) -> Option<Arc<File>> {
        self.files.lock().get(url).cloned()
    }

    /// Gives the head of an answer about `url` the validators of the version `known`, if what it calls that is known to be the same.
    pub fn restate(&self, url: &Url, known: &Version, head: &mut AnswerHead) {
        let Some(file) = self.found(url) else { return };
        let state = file.state.lock();
        if state.known.as_ref() != Some(known) || !state.has(&Name::of(head), SystemTime::now()) {
            return;
        }
        let date = state.modified.map(httpdate::fmt_http_date);
        (head.etag, head.last_modified) = match &known.validator {
            Validator::Strong(tag) | Validator::Weak(tag) => (Some(tag.clone()), date),
            Validator::Dated(date) => (None, Some(date.clone())),
            Validator::None => (None, None),
        };
    }

    /// Whether HEAD is what the version `known` of a file is told by, because what GET says changes from answer to answer.
    pub fn goes_by_head(&self, url: &Url, known: &Version) -> bool {
        self.found(url).is_some_and(|file| {
            let state = file.state.lock();
            state.known.as_ref() == Some(known) && matches!(state.by, Some(By::Head(_)))
        })
    }

    /// Says it once for each server.
    fn log(&self, url: &Url, by: &By) {
        let Some(origin) = Origin::of(url) else { return };
        let mut logged = self.logged.lock();
        if logged.len() >= MOST_ORIGINS {
            logged.clear();
        }
        if logged.insert(origin.clone()) {
            let by = match by {
                By::Names => "all that are told in turn count as one version",
                By::Date => "files are told apart by their dates and sizes",
                By::Head(_) => "files are told apart by what HEAD says",
                By::Bytes => "files are told apart by their sizes, and by their bytes in a few places",
            };
            log::warn!(
                "{origin}: ETag or Last-Modified differ from answer to answer, though the file does not ({}); {by}",
                redact(url)
            );
        }
    }
}

impl Client {
    /// Finds out if an answer about `url` is of the version `known`, which is from `modified`, although it was `told` to be another one, or
    /// none. Asks the server. `samples` are bytes of that version, as far as any are here.
    ///
    /// # Errors
    /// When nothing is answered by which it could be told.
    pub async fn weigh(
        &self,
        url: &Url,
        known: &Version,
        modified: Option<SystemTime>,
        told: &Told,
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
        // Where a part names nothing, or something else each time, HEAD decides.
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
            // Nothing but the tag differs. Two questions show whether it does each time.
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
        // The answer was the last of an older version, or of a machine that is seldom asked: nothing shows that it is of this one.
        if !told.0.is_empty() && seen().all(|seen| seen.is(&name)) && file.state.lock().asks_again() {
            return Ok(Weighed::Again);
        }
        // Of several machines that were known to answer in turn none has the version any more.
        if by == Some(By::Names) && !seen().any(|seen| seen.is(&name) || file.state.lock().has(seen, SystemTime::now()))
        {
            return Ok(self.another(url));
        }
        let is_recent = |name: &Name| name.age(SystemTime::now() + RECENT).is_some_and(|age| age < 2 * RECENT);
        let mut doubt = doubt;
        if !doubt.of_all && is_recent(&told.0) && seen().all(|seen| seen.date == told.0.date) {
            // A date that is that of the answer is another one a second later.
            tokio::time::sleep(NEXT_SECOND).await;
            let head = self.name_of_whole(url, known).await?;
            doubt.of_dates = head.date != told.0.date && is_recent(&head);
            evidence.heads.push(head);
        }
        match decide(&name, told, &evidence, doubt, SystemTime::now()) {
            Some(by) => Ok(self.learn(url, &file, told, by, &evidence)),
            None if told.0.is_empty() && evidence.heads.iter().all(Name::is_empty) => Err(unnamed(url)),
            None => Ok(self.another(url)),
        }
    }

    /// Nothing that HEAD said before counts of what has changed.
    fn another(&self, url: &Url) -> Weighed {
        self.shared.head_trusts.doubt(url);
        Weighed::Another
    }

    /// Remembers what was found out of a version that is the same.
    fn learn(&self, url: &Url, file: &File, told: &Told, by: By, evidence: &Evidence) -> Weighed {
        self.shared.aliases.log(url, &by);
        let names = [&told.0].into_iter().chain(&evidence.heads).chain(&evidence.gets);
        file.state.lock().learn(by, names);
        Weighed::Same
    }

    /// Whether answers were seen to give the version `known`, which has no validator, one all the same.
    pub fn is_named_now_and_then(&self, url: &Url, known: &Version) -> bool {
        known.validator == Validator::None
            && self.shared.aliases.found(url).is_some_and(|file| {
                let state = file.state.lock();
                state.known.as_ref() == Some(known) && !state.names.is_empty()
            })
    }

    /// Metadata of the version `known`, if that is what was found under another name.
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

    /// What was found, with the version that HEAD names if GET names none: some name it for the whole file only.
    pub(super) async fn named(&self, url: &Url, found: Metadata) -> Metadata {
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

    /// The version of a file of this size, and its date, as HEAD has it; `None` if that names none either, or its origin never did.
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

    /// What the file is called as a whole: by HEAD, else by the head of a GET, whose body is not read.
    async fn name_of_whole(&self, url: &Url, known: &Version) -> Result<Name, HttpError> {
        let mut last = None;
        // Some name it only now and then.
        for method in [Method::HEAD, Method::GET, Method::HEAD] {
            let answer = match method {
                Method::HEAD => self.head(url).await,
                method => self.send(method, url, identity()).await,
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
                            HttpErrorKind::BadAnswer("it does not tell its version".to_owned()),
                        )
                        .await,
                    )
                }
                Err(error) => last = Some(error),
            }
        }
        last.map_or(Ok(Name::default()), Err)
    }

    /// Asks a few times. What is not answered is no evidence.
    async fn evidence(&self, url: &Url, known: &Version, samples: &[Sample], ask: Ask) -> Evidence {
        let mut evidence = Evidence {
            heads: Vec::new(),
            gets: Vec::new(),
            bytes: Bytes::Unknown,
            is_other_size: false,
        };
        let mut parts: Vec<Sample> = samples.to_vec();
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
            // Never the same part twice: a tag may be one of the part.
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
            evidence.bytes = compare(&parts);
            if evidence.bytes == Bytes::Differ || evidence.is_other_size {
                break;
            }
        }
        // Machines that answer in turn might have answered each HEAD by the one, and each GET by the other.
        if ask == Ask::All
            && evidence.bytes != Bytes::Differ
            && let Some(Part::Same(name, _)) = self.part(url, known, 0..known.size.min(SAMPLE)).await
        {
            evidence.gets.push(name);
        }
        evidence
    }

    /// Asks for a small part, and what it is called.
    async fn part(&self, url: &Url, known: &Version, want: Range<u64>) -> Option<Part> {
        if want.is_empty() {
            return None;
        }
        let answer = self.send(Method::GET, url, ranged(&want)).await.ok()?;
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

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ask {
    Heads,
    Parts,
    All,
}

/// The answer to a question for a small part.
enum Part {
    /// The file has another size now.
    OtherSize,
    /// What it is called, and its bytes if they could be had.
    Same(Name, Option<Sample>),
}

fn unnamed(url: &Url) -> HttpError {
    let kind = HttpErrorKind::BadAnswer("nothing shows which version of the file it is from".to_owned());
    HttpError { kind, url: redact(url) }
}

/// Compares what parts have in common.
fn compare(parts: &[Sample]) -> Bytes {
    let mut result = Bytes::Unknown;
    for (index, one) in parts.iter().enumerate() {
        for other in &parts[index + 1..] {
            let from = one.at.max(other.at);
            let end = |part: &Sample| part.at + part.bytes.len() as u64;
            let to = end(one).min(end(other));
            if from >= to {
                continue;
            }
            // Within both.
            let cut = |part: &Sample| part.bytes[(from - part.at) as usize..(to - part.at) as usize].to_vec();
            if cut(one) != cut(other) {
                return Bytes::Differ;
            }
            result = Bytes::Equal;
        }
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Names are written `tag date`, with `-` for none; dates are seconds of one minute in 1994.
    fn name(text: &str) -> Name {
        let part = |text: &str| (text != "-").then(|| text.to_owned());
        let (tag, date) = text.split_once(' ').unwrap();
        let date = part(date).map(|second| format!("Sun, 06 Nov 1994 08:49:{second} GMT"));
        Name::new(part(tag).as_deref(), date.as_deref())
    }

    fn decided(known: &str, told: &str, heads: &[&str], gets: &[&str], bytes: Bytes) -> Option<By> {
        let names = |texts: &[&str]| texts.iter().map(|text| name(text)).collect();
        let told = Told(name(told));
        let evidence = Evidence {
            heads: names(heads),
            gets: names(gets),
            bytes,
            is_other_size: false,
        };
        decide(&name(known), &told, &evidence, Doubt::default(), SystemTime::now())
    }

    #[test]
    fn a_steady_validator_that_is_another_one_is_another_version() {
        for (known, told) in [
            ("a 01", "b 01"),
            ("a 01", "b 02"),
            ("- 01", "- 02"),
            ("a -", "b -"),
            ("W/a -", "W/b -"),
        ] {
            let each = [told, told, told];
            assert_eq!(decided(known, told, &each, &each, Bytes::Equal), None, "{known} {told}");
        }
        // The tags differ, and the date is another one each time.
        let (heads, gets) = (["c 02", "d 02", "e 02"], ["f 02", "g 02", "h 02"]);
        assert_eq!(decided("a 01", "b 02", &heads, &gets, Bytes::Equal), None);
    }

    #[test]
    fn validators_that_differ_from_answer_to_answer_mean_nothing_if_the_bytes_are_the_same() {
        for (known, told, heads, gets, by) in [
            ("a 01", "b 01", ["a 01", "b 01"], ["b 01", "a 01"], By::Names),
            ("- 01", "- 08", ["- 01", "- 08"], ["- 08", "- 01"], By::Names),
            ("a 01", "b 02", ["c 03", "b 02"], ["b 02", "a 01"], By::Names),
            ("a 01", "b 01", ["c 01", "d 01"], ["e 01", "f 01"], By::Date),
            ("a -", "b -", ["c -", "d -"], ["e -", "f -"], By::Bytes),
            ("a -", "b -", ["h -", "h -"], ["c -", "d -"], By::Head(name("h -"))),
            ("a 01", "b -", ["a 01", "a 01"], ["- -", "b -"], By::Head(name("a 01"))),
            ("- 01", "b -", ["b -", "- 01"], ["b -", "b 01"], By::Names),
        ] {
            assert_eq!(
                decided(known, told, &heads, &gets, Bytes::Equal),
                Some(by),
                "{known} {told}"
            );
            assert_eq!(
                decided(known, told, &heads, &gets, Bytes::Differ),
                None,
                "{known} {told}"
            );
        }
    }

    #[test]
    fn bytes_are_compared_where_parts_overlap() {
        let part = |at: u64, bytes: &[u8]| Sample {
            at,
            bytes: bytes.to_vec(),
        };
        assert_eq!(compare(&[part(0, b"abc"), part(3, b"def")]), Bytes::Unknown);
        assert_eq!(compare(&[part(0, b"abc"), part(2, b"cde")]), Bytes::Equal);
        assert_eq!(compare(&[part(0, b"abc"), part(1, b"bd")]), Bytes::Differ);
        assert_eq!(compare(&[]), Bytes::Unknown);
    }

    #[test]
    fn another_version_is_called_by_none_of_the_names_that_were_learnt() {
        let url = Url::parse("http://h/f").unwrap();
        let version = |tag: &str| Version {
            size: 5,
            validator: Validator::Strong(tag.to_owned()),
        };
        let head = |tag: &str| AnswerHead {
            etag: Some(tag.to_owned()),
            ..AnswerHead::default()
        };
        let restated = |aliases: &Aliases, known: &Version, mut head: AnswerHead| {
            aliases.restate(&url, known, &mut head);
            head.etag.unwrap()
        };
        let (aliases, known) = (Aliases::default(), version("\"a\""));
        let file = aliases.file(&url);
        file.state.lock().begin(&known, None);
        file.state.lock().learn(By::Names, [name("b -")].iter());
        assert_eq!(restated(&aliases, &known, head("\"b\"")), "\"a\"");
        assert_eq!(restated(&aliases, &known, head("\"c\"")), "\"c\"");
        assert_eq!(restated(&aliases, &version("\"c\""), head("\"b\"")), "\"b\"");
        file.state.lock().begin(&version("\"c\""), None);
        assert_eq!(restated(&aliases, &known, head("\"b\"")), "\"b\"");
        for number in 0..2 * MOST_FILES {
            aliases.file(&url.join(&number.to_string()).unwrap());
        }
        assert!(aliases.files.lock().len() <= MOST_FILES);
    }
}
