//! Entity tags that name no version.
//!
//! A strong tag changes when a byte does, and only then (RFC 9110 §8.8.1). Some servers make it of something else: of the
//! inode, so that each machine of a cluster has its own, or anew for each answer. By the rules every answer would be of another
//! version then, and nothing but a file's first bytes could ever be read. So when a tag has changed, the server is asked twice
//! more: one whose answers differ in nothing but the tag, within that moment and long after the file's date, **has its tags
//! ignored from then on**. The date tells versions apart instead, as for a server without tags; so tags are only ignored where there is a
//! date. What was opened under a tag before that was found out is ESTALE, once.

use std::{
    collections::HashSet,
    time::{Duration, SystemTime},
};

use parking_lot::Mutex;
use url::Url;

use super::{Client, MOST_ORIGINS, Origin, Validator, head::AnswerHead, redact};

/// How long ago a file's date has to be, so that nothing else can have been written within the same second. A minute is what
/// servers take for that too; clocks differ.
const LONG_AGO: Duration = Duration::from_secs(60);

/// The origins whose tags are ignored.
#[derive(Default)]
pub(super) struct IgnoredTags(Mutex<HashSet<Origin>>);

impl IgnoredTags {
    /// Takes the tag out of the head of an answer from `url`, if it says nothing.
    pub fn strip(&self, url: &Url, head: &mut AnswerHead) {
        if head.etag.is_some() && head.last_modified.is_some() && self.contains(url) {
            head.etag = None;
        }
    }

    fn contains(&self, url: &Url) -> bool {
        let ignored = self.0.lock();
        !ignored.is_empty() && Origin::of(url).is_some_and(|origin| ignored.contains(&origin))
    }

    /// Whether it is news.
    fn ignore(&self, url: &Url) -> bool {
        let mut ignored = self.0.lock();
        // What is not remembered is found out again.
        if ignored.len() >= MOST_ORIGINS {
            ignored.clear();
        }
        Origin::of(url).is_some_and(|origin| ignored.insert(origin))
    }
}

impl Client {
    /// Whether the tag of an answer, which is not the one that was expected, says nothing about versions. Asks twice; what is
    /// found out counts for all answers to come.
    pub(super) async fn has_idle_tags(&self, url: &Url, head: &AnswerHead) -> bool {
        if !may_be_idle(head, SystemTime::now()) {
            return false;
        }
        let mut before = head.clone();
        for _ in 0..2 {
            let Ok(answer) = self.head(url).await else {
                return false;
            };
            if answer.head.status != 200 {
                return false;
            }
            if differ_in_the_tag_alone(&before, &answer.head) {
                if self.shared.ignored_tags.ignore(&answer.url) {
                    let mut top = answer.url.clone();
                    top.set_path("/");
                    log::warn!(
                        "{}: the ETag changes from answer to answer, though the file does not; from now on files of this server are told apart \
                         by their dates and sizes",
                        redact(&top)
                    );
                }
                return true;
            }
            before = answer.head;
        }
        false
    }
}

/// Whether the tag can be told by the date to say nothing.
fn may_be_idle(head: &AnswerHead, now: SystemTime) -> bool {
    let is_old = |modified| now.duration_since(modified).is_ok_and(|age| age >= LONG_AGO);
    matches!(head.validator(), Validator::Strong(_)) && head.modified().is_some_and(is_old)
}

/// Two answers that came one after the other.
fn differ_in_the_tag_alone(one: &AnswerHead, other: &AnswerHead) -> bool {
    let (Validator::Strong(tag), Validator::Strong(next)) = (one.validator(), other.validator()) else {
        return false;
    };
    // A part's length says nothing of the whole.
    let same_size = one.status != other.status || one.content_length == other.content_length;
    tag != next && one.last_modified == other.last_modified && same_size
}

/// Whether this is what ignored tags look like to who expects one.
pub(super) fn is_unexpected(known: &Validator, head: &AnswerHead) -> bool {
    let told = head.validator();
    match known {
        Validator::Strong(_) => told != *known,
        // As it was called while its tags were ignored, before a remount.
        Validator::Dated(_) => {
            matches!(told, Validator::Strong(_)) && head.last_modified.is_some() && is_dated_so(known, head)
        }
        Validator::Weak(_) | Validator::None => false,
    }
}

fn is_dated_so(known: &Validator, head: &AnswerHead) -> bool {
    known.compare(None, head.last_modified.as_deref()) == super::version::Sameness::Same
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: &str = "Sun, 06 Nov 1994 08:49:37 GMT";

    fn head(status: u16, tag: &str, date: &str, length: u64) -> AnswerHead {
        AnswerHead {
            status,
            etag: Some(tag.to_owned()),
            last_modified: Some(date.to_owned()),
            content_length: Some(length),
            ..AnswerHead::default()
        }
    }

    #[test]
    fn only_a_tag_that_changes_alone_says_nothing() {
        let one = head(200, "\"a\"", DAY, 5);
        for (other, alone) in [
            (head(200, "\"b\"", DAY, 5), true),
            (head(206, "\"b\"", DAY, 1), true),
            (head(200, "\"a\"", DAY, 5), false),
            (head(200, "\"b\"", DAY, 6), false),
            (head(200, "W/\"b\"", DAY, 5), false),
            (head(200, "\"b\"", "Mon, 07 Nov 1994 08:49:37 GMT", 5), false),
        ] {
            assert_eq!(differ_in_the_tag_alone(&one, &other), alone, "{other:?}");
        }
    }

    #[test]
    fn what_may_have_been_written_just_now_is_not_judged() {
        let head = head(200, "\"a\"", DAY, 5);
        let date = head.modified().unwrap();
        assert!(!may_be_idle(&head, date + LONG_AGO / 2));
        assert!(!may_be_idle(&head, date - LONG_AGO), "in the future");
        assert!(may_be_idle(&head, date + LONG_AGO));
    }

    #[test]
    fn a_tag_is_left_out_where_there_is_a_date_to_go_by() {
        let tags = IgnoredTags::default();
        let url = |host: &str| Url::parse(&format!("http://{host}/f")).unwrap();
        assert!(tags.ignore(&url("a")));
        assert!(!tags.ignore(&url("a")));
        let stripped = |host, mut head: AnswerHead| {
            tags.strip(&url(host), &mut head);
            head.etag.is_none()
        };
        assert!(stripped("a", head(200, "\"a\"", DAY, 5)));
        assert!(!stripped("b", head(200, "\"a\"", DAY, 5)));
        let undated = AnswerHead {
            last_modified: None,
            ..head(200, "\"a\"", DAY, 5)
        };
        assert!(!stripped("a", undated));
        for number in 0..3 * MOST_ORIGINS {
            tags.ignore(&url(&number.to_string()));
        }
        assert!(tags.0.lock().len() <= MOST_ORIGINS);
    }

    #[test]
    fn what_is_expected_is_a_tag_or_the_date_that_stood_for_one() {
        let (strong, dated) = (Validator::Strong("\"a\"".into()), Validator::Dated(DAY.into()));
        let tagged = |tag: &str| head(200, tag, DAY, 5);
        assert!(is_unexpected(&strong, &tagged("\"b\"")) && !is_unexpected(&strong, &tagged("\"a\"")));
        assert!(is_unexpected(&dated, &tagged("\"b\"")) && !is_unexpected(&dated, &tagged("W/\"b\"")));
        assert!(!is_unexpected(&Validator::None, &tagged("\"b\"")));
    }
}
