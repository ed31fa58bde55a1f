//! The rule that decides on a doubtful response.

use std::time::{Duration, SystemTime};

use super::{label::VersionLabel, samples::SamplesCompared};

/// Minimum age of a date that two versions can't share: dates have a resolution of one second, and clocks differ.
pub(super) const LONG_AGO: Duration = Duration::from_secs(60);

/// How a version is recognised when its validators do not agree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum RecognisedBy {
    /// The server still sends the known validator too.
    Labels,
    /// The tags differ, the date does not.
    Date,
    /// The response to HEAD is steady and has this label.
    Head(VersionLabel),
    /// The bytes alone.
    Bytes,
}

/// What a few successive responses said of a file.
pub(super) struct Observations {
    pub(super) heads: Vec<VersionLabel>,
    pub(super) gets: Vec<VersionLabel>,
    pub(super) bytes: SamplesCompared,
    pub(super) is_other_size: bool,
}

/// Validators already known to be meaningless, even if they are steady at this moment.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Doubt {
    /// Dates: they are the responses' own.
    pub(super) of_dates: bool,
    /// All validators.
    pub(super) of_all: bool,
}

/// Decides from the observations whether a response with the label `told` is of the version `known`: `None` if it is another
/// version, else how the version is recognised from now on. The first matching row counts:
///
/// | observations | verdict |
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
pub(super) fn decide(
    known: &VersionLabel,
    told: &VersionLabel,
    observations: &Observations,
    doubt: Doubt,
    now: SystemTime,
) -> Option<RecognisedBy> {
    let Observations {
        heads,
        gets,
        bytes,
        is_other_size,
    } = observations;
    if *bytes == SamplesCompared::Differ || *is_other_size {
        return None;
    }
    // GET decides: a stale HEAD can't prove the old version.
    if !told.is_empty()
        && !gets.is_empty()
        && gets.iter().all(|label| label == told)
        && !doubt.of_all
        && !doubt.of_dates
    {
        return None;
    }
    let steady_head = heads
        .first()
        .filter(|first| heads.len() > 1 && !first.is_empty() && heads.iter().all(|label| label == *first))
        // Two responses of one second share a date that is the response's own.
        .filter(|first| first.tag.is_some() || !first.is_recent(now));
    let all = || [told].into_iter().chain(heads).chain(gets);
    let labelled = || all().filter(|label| !label.is_empty());
    // A stale HEAD has the known label of a file that is gone. Only its bytes, or a GET, can support that.
    let is_told_again = match bytes {
        SamplesCompared::Equal => heads.iter().chain(gets).any(|label| label.is(known)),
        SamplesCompared::Alike => gets.iter().any(|label| label.is(known)),
        SamplesCompared::Differ | SamplesCompared::Unknown => false,
    };
    if is_told_again {
        return Some(match steady_head {
            Some(head) if head.is(known) => RecognisedBy::Head(head.clone()),
            _ => RecognisedBy::Labels,
        });
    }
    let one = |part: fn(&VersionLabel) -> &Option<String>| {
        let mut values = labelled().map(part);
        let first = values.next()?;
        values.all(|value| value == first).then_some(first.as_ref()).flatten()
    };
    if known.tag.is_some() && !doubt.of_all && one(|label| &label.tag).is_some() {
        return None;
    }
    if let Some(date) = one(|label| &label.date)
        && known.date.is_some()
        && !doubt.of_dates
        && !doubt.of_all
    {
        if known.date.as_ref() != Some(date) {
            return None;
        }
        if known.age(now).is_some_and(|age| age >= LONG_AGO) {
            return Some(RecognisedBy::Date);
        }
    }
    let is_same = match bytes {
        SamplesCompared::Equal => doubt.of_dates || doubt.of_all || all().any(|label| label != told),
        SamplesCompared::Alike => {
            let has_tags = all().any(|label| label.tag.is_some());
            (doubt.of_dates && !has_tags) || changes(heads) > 1 || changes(gets) > 1
        }
        SamplesCompared::Differ | SamplesCompared::Unknown => false,
    };
    is_same.then(|| match steady_head {
        Some(head) => RecognisedBy::Head(head.clone()),
        None => RecognisedBy::Bytes,
    })
}

/// How often the label changes from one response to the next. A replacement of the file is one change.
fn changes(labels: &[VersionLabel]) -> usize {
    labels.windows(2).filter(|pair| pair[0] != pair[1]).count()
}

#[cfg(test)]
mod tests;
