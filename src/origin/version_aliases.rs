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

mod weighing;

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
    Client, Metadata,
    client::{identity, ranged},
};
use crate::http::{
    HttpError, HttpErrorKind, MOST_ORIGINS, Origin, Validator, Version, redact,
    response::{
        head::AnswerHead,
        validation::{Verdict, judge},
        version::{Sameness, parse_date, plain_tag},
    },
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
pub struct AliasName(Name);

impl AliasName {
    pub(crate) fn by(head: &AnswerHead) -> AliasName {
        AliasName(Name::of(head))
    }

    /// What an answer said of which this is known.
    pub fn as_version(version: &Version, modified: Option<SystemTime>) -> AliasName {
        AliasName(Name::known(version, modified))
    }

    /// What an answer said of which this was taken.
    pub fn as_metadata(metadata: &Metadata) -> AliasName {
        AliasName(Name::of(&metadata.as_head()))
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
pub(crate) struct Aliases {
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

/// How a version is recognised when its validators do not agree.
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
fn decide(known: &Name, told: &AliasName, evidence: &Evidence, doubt: Doubt, now: SystemTime) -> Option<By> {
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
mod tests;
