//! Version aliases: several validators for one version, where validators differ although the bytes do not.
//!
//! Machines behind one name may each have their own ETag (made of the inode) or date (of the copy). Some servers send
//! the time of the response as the date, or an ETag of the part that they send, or a validator only now and then. By
//! such validators nearly every response would be of another version, and no reader would get past a file's first
//! bytes.
//!
//! So a response that fits in size and range but not in its validators is [doubtful](super::RangeAnswer::Doubtful). The
//! client then sends a few more requests: for the file's head and for small parts whose bytes are known. [`decide`] has
//! the rule:
//!
//! - **Bytes that differ mean another version. So does a new validator that is steady.**
//! - **Validators that change between responses, with equal bytes, mean nothing.**
//!
//! The result counts for this version of this file. A later validator that is new makes a response doubtful again. So a
//! replaced file is noticed by what remains: its date, its HEAD, or its bytes in three places.
//!
//! A response without any validator is checked by a HEAD each time, after its own head has arrived. The version was the
//! same before and after, so it was the same when the response was made.

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
use crate::util::events;

/// Maximum number of files whose aliases are remembered. Forgotten ones are learnt again.
const MOST_FILES: usize = 1024;

/// Maximum number of aliases remembered per version.
const MOST_NAMES: usize = 64;

/// Maximum number of responses per version that are requested again because nothing supports them.
const MOST_AGAIN: u32 = 16;

/// Rounds of requests, each one HEAD and one part. With fewer, two machines would often not both respond.
const ROUNDS: usize = 3;

/// Bytes of a compared part.
pub(crate) const SAMPLE: u64 = 16 << 10;

/// For a file that only comes as a whole: the farthest offset of a compared part, in bytes.
const FARTHEST: u64 = 1 << 20;

/// Minimum age of a date that two versions can't share: dates have a resolution of one second, and clocks differ.
const LONG_AGO: Duration = Duration::from_secs(60);

/// A date younger than this may be the response's own. Servers' clocks may be wrong by minutes.
const RECENT: Duration = Duration::from_secs(600);

/// Time after which a clock shows another second.
const NEXT_SECOND: Duration = Duration::from_millis(1100);

/// Known bytes of a version: `bytes`, starting at offset `at`.
#[derive(Debug, Clone)]
pub struct Sample {
    /// Byte offset.
    pub at: u64,
    /// At most [`SAMPLE`] bytes.
    pub bytes: Vec<u8>,
}

/// What a response calls its version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AliasName(Name);

impl AliasName {
    pub(crate) fn by(head: &AnswerHead) -> AliasName {
        AliasName(Name::of(head))
    }

    /// The name in the response that gave this version.
    pub fn as_version(version: &Version, modified: Option<SystemTime>) -> AliasName {
        AliasName(Name::known(version, modified))
    }

    /// The name in the response that gave this metadata.
    pub fn as_metadata(metadata: &Metadata) -> AliasName {
        AliasName(Name::of(&metadata.as_head()))
    }
}

/// What a doubtful response turned out to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Weighed {
    /// It is of the known version.
    Same,
    /// The file has another version now.
    Another,
    /// The known version is current, and this response may be of an older one: request it again.
    Again,
}

/// Normalised validators: a tag without quotes, `W/` and coding suffix; a date in HTTP's preferred format.
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

    /// Returns true if a response with this name is of the version with the name `known`.
    fn is(&self, known: &Name) -> bool {
        match known {
            Name { tag: Some(_), .. } => self.tag == known.tag,
            Name { date: Some(_), .. } => self.date == known.date,
            _ => self.is_empty(),
        }
    }

    /// Returns true if its date may be the response's own.
    fn is_recent(&self, now: SystemTime) -> bool {
        self.age(now + RECENT).is_some_and(|age| age < 2 * RECENT)
    }

    /// The age of its date; `None` without a date, or if it is in the future.
    fn age(&self, now: SystemTime) -> Option<Duration> {
        now.duration_since(parse_date(self.date.as_deref()?)?).ok()
    }
}

/// The aliases of files' versions.
#[derive(Default)]
pub(crate) struct Aliases {
    /// The origins that send no validator, not even to HEAD.
    nameless: Mutex<HashSet<Origin>>,
    /// By requested URL.
    files: Mutex<HashMap<Url, Arc<File>>>,
    /// The origins for which the finding was logged.
    logged: Mutex<HashSet<Origin>>,
}

#[derive(Default)]
struct File {
    /// Held by the caller that sends the requests.
    asking: tokio::sync::Mutex<()>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    known: Option<Version>,
    modified: Option<SystemTime>,
    /// The version's aliases.
    names: Vec<Name>,
    /// How the version is recognised, once its validators were found to differ.
    by: Option<By>,
    /// Number of responses that were requested again.
    again: u32,
}

/// How a version is recognised when its validators do not agree.
#[derive(Debug, Clone, PartialEq, Eq)]
enum By {
    /// The server still sends the known validator too.
    Names,
    /// The tags differ, the date does not.
    Date,
    /// The response to HEAD is steady and has this name.
    Head(Name),
    /// The bytes alone.
    Bytes,
}

/// The result of comparing the bytes that several responses share with each other and with known ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Bytes {
    /// Bytes of the known version came again.
    Equal,
    /// The responses agree with each other, and no byte of the known version was there to compare.
    Alike,
    Differ,
    /// There were no bytes to compare.
    Unknown,
}

/// What a few successive responses said of a file.
struct Evidence {
    heads: Vec<Name>,
    gets: Vec<Name>,
    bytes: Bytes,
    is_other_size: bool,
}

/// Validators already known to be meaningless, even if they are steady at this moment.
#[derive(Debug, Clone, Copy, Default)]
struct Doubt {
    /// Dates: they are the responses' own.
    of_dates: bool,
    /// All validators.
    of_all: bool,
}

/// Decides from the evidence whether a response with the name `told` is of the version `known`: `None` if it is another
/// version, else how the version is recognised from now on. The first matching row counts:
///
/// | evidence | verdict |
/// |---|---|
/// | bytes that differ, or another size | another version |
/// | the new validator in each answer to GET | another version, whatever HEAD says |
/// | the known validator, again, beside others, and equal bytes | the same: several machines answer |
/// | one tag in all answers, and it is not the known one | another version |
/// | one date in all answers, a minute old or more | the same if it is the known one, else another version |
/// | validators that change from answer to answer, and equal bytes | the same |
/// | the same, but no byte of the known version to compare | the same, if they change more often than one replacement explains |
/// | anything else | another version |
///
/// The last but one row is for a file that is replaced twice: the doubtful response is of the second version, and all that is
/// requested now is of the third. Those responses agree with each other, and say nothing of the first version.
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
    // GET decides: a stale HEAD can't prove the old version.
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
        .filter(|first| heads.len() > 1 && !first.is_empty() && heads.iter().all(|name| name == *first))
        // Two responses of one second share a date that is the response's own.
        .filter(|first| first.tag.is_some() || !first.is_recent(now));
    let all = || [&told.0].into_iter().chain(heads).chain(gets);
    let named = || all().filter(|name| !name.is_empty());
    // A stale HEAD says the known name of a file that is gone. Only its bytes, or a GET, can support that.
    let is_told_again = match bytes {
        Bytes::Equal => heads.iter().chain(gets).any(|name| name.is(known)),
        Bytes::Alike => gets.iter().any(|name| name.is(known)),
        Bytes::Differ | Bytes::Unknown => false,
    };
    if is_told_again {
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
    let is_same = match bytes {
        Bytes::Equal => doubt.of_dates || doubt.of_all || all().any(|name| *name != told.0),
        Bytes::Alike => {
            let has_tags = all().any(|name| name.tag.is_some());
            (doubt.of_dates && !has_tags) || changes(heads) > 1 || changes(gets) > 1
        }
        Bytes::Differ | Bytes::Unknown => false,
    };
    is_same.then(|| match steady_head {
        Some(head) => By::Head(head.clone()),
        None => By::Bytes,
    })
}

/// How often the name changes from one response to the next. A replacement of the file is one change.
fn changes(names: &[Name]) -> usize {
    names.windows(2).filter(|pair| pair[0] != pair[1]).count()
}

impl State {
    /// Starts afresh if the state is about another version.
    fn begin(&mut self, known: &Version, modified: Option<SystemTime>) {
        if self.known.as_ref() != Some(known) {
            *self = State {
                known: Some(known.clone()),
                modified,
                ..State::default()
            };
        }
    }

    /// Returns true if a response that nothing supports may be requested again. The count is limited, and a retry that
    /// helps ends the need.
    fn asks_again(&mut self) -> bool {
        self.again += 1;
        self.again <= MOST_AGAIN
    }

    fn name(&self) -> Name {
        self.known
            .as_ref()
            .map_or_else(Name::default, |known| Name::known(known, self.modified))
    }

    /// Returns true if a response with this name is of the version, by what was learnt.
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

    /// Replaces the validators in the head of a response about `url` by those of the version `known`, if its name is a
    /// known alias.
    pub(crate) fn restate(&self, url: &Url, known: &Version, head: &mut AnswerHead) {
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

    /// Returns true if HEAD identifies the version `known` of a file, because what GET says changes between responses.
    pub(crate) fn goes_by_head(&self, url: &Url, known: &Version) -> bool {
        self.found(url).is_some_and(|file| {
            let state = file.state.lock();
            state.known.as_ref() == Some(known) && matches!(state.by, Some(By::Head(_)))
        })
    }

    /// Logs the finding once per origin.
    fn log(&self, url: &Url, by: &By) {
        let Some(origin) = Origin::of(url) else { return };
        let mut logged = self.logged.lock();
        if logged.len() >= MOST_ORIGINS {
            logged.clear();
        }
        if logged.insert(origin.clone()) {
            let by = match by {
                By::Names => "alternating validators count as one version",
                By::Date => "versions are distinguished by date and size",
                By::Head(_) => "versions are distinguished by the responses to HEAD",
                By::Bytes => "versions are distinguished by size and by samples of the bytes",
            };
            log::warn!(
                event = events::VALIDATORS_DIFFER;
                "{origin}: ETag or Last-Modified differ between responses for the same file ({}); {by}",
                redact(url)
            );
        }
    }
}

/// Compares the bytes that `parts` have in common with each other and with those of the known version.
fn compare(known: &[Sample], parts: &[Sample]) -> Bytes {
    let mut result = Bytes::Unknown;
    for (index, part) in parts.iter().enumerate() {
        let others = known.iter().map(|sample| (sample, Bytes::Equal));
        for (other, if_same) in others.chain(parts[index + 1..].iter().map(|other| (other, Bytes::Alike))) {
            match part.is_same_where_both_are(other) {
                Some(false) => return Bytes::Differ,
                Some(true) if result != Bytes::Equal => result = if_same,
                _ => {}
            }
        }
    }
    result
}

impl Sample {
    /// Whether the bytes at the offsets that both have are the same. `None` if there are none.
    fn is_same_where_both_are(&self, other: &Sample) -> Option<bool> {
        let end = |part: &Sample| part.at + part.bytes.len() as u64;
        let (from, to) = (self.at.max(other.at), end(self).min(end(other)));
        // Within both parts.
        let cut = |part: &Sample| part.bytes[(from - part.at) as usize..(to - part.at) as usize].to_vec();
        (from < to).then(|| cut(self) == cut(other))
    }
}

#[cfg(test)]
mod tests;
