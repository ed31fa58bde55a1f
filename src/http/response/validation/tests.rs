//! The table of response validation, row by row: whole files and failures. Parts of files are in `parts`.

use super::*;

pub(crate) const DAY: &str = "Sun, 06 Nov 1994 08:49:37 GMT";
pub(crate) const NEXT_DAY: &str = "Mon, 07 Nov 1994 08:49:37 GMT";

pub(crate) fn strong() -> Validator {
    Validator::Strong("\"a\"".into())
}

pub(crate) fn dated() -> Validator {
    Validator::Dated(DAY.into())
}

pub(crate) fn weak() -> Validator {
    Validator::Weak("W/\"a\"".into())
}

pub(crate) fn version(size: u64, validator: Validator) -> Version {
    Version { size, validator }
}

/// A response, in the notation of HTTP.
pub(crate) fn head(status: u16, headers: &[(&str, &str)]) -> AnswerHead {
    let mut head = AnswerHead {
        status,
        ..AnswerHead::default()
    };
    for (name, value) in headers {
        let value = Some((*value).to_owned());
        match *name {
            "range" => head.content_range = value,
            "length" => head.content_length = value.map(|value| value.parse().unwrap()),
            "coding" => head.coding = value,
            "type" => head.content_type = value,
            "etag" => head.etag = value,
            "modified" => head.last_modified = value,
            "elsewhere" => head.is_elsewhere = true,
            "page" => head.is_page_by_name = true,
            _ => unreachable!("{name}"),
        }
    }
    head
}

pub(crate) fn is_bad(verdict: &Verdict) -> bool {
    matches!(
        verdict,
        Verdict::Failed(HttpErrorKind::BadAnswer(_) | HttpErrorKind::Contradiction(_))
    )
}

/// The verdict on a response to a request for bytes 10..20.
pub(crate) fn judged(status: u16, headers: &[(&str, &str)], known: Option<Version>) -> Verdict {
    judge(&head(status, headers), 10..20, known.as_ref())
}

#[test]
fn a_listing_knows_a_size_and_the_answer_adds_the_validator() {
    let known = || Some(version(100, Validator::None));
    let answer = judged(206, &[("range", "bytes 10-19/100"), ("modified", DAY)], known());
    assert_eq!(
        answer,
        Verdict::Partial {
            version: version(100, dated()),
            range: 10..20
        }
    );
    let answer = judged(200, &[("length", "100"), ("modified", DAY)], known());
    assert_eq!(
        answer,
        Verdict::Whole {
            size: Some(100),
            validator: dated()
        }
    );
}

#[test]
fn whole_file_of_the_known_version_is_accepted() {
    for (known, header) in [
        (strong(), ("etag", "\"a\"")),
        (dated(), ("modified", DAY)),
        (weak(), ("etag", "W/\"a\"")),
    ] {
        let is_whole = Verdict::Whole {
            size: Some(100),
            validator: known.clone(),
        };
        assert_eq!(
            judged(200, &[("length", "100"), header], Some(version(100, known.clone()))),
            is_whole
        );
        assert_eq!(
            judged(200, &[header], Some(version(100, known))),
            is_whole,
            "the version implies the size"
        );
    }
    assert_eq!(
        judged(200, &[], None),
        Verdict::Whole {
            size: None,
            validator: Validator::None
        }
    );
    let dynamic = judged(200, &[], Some(version(100, Validator::None)));
    assert_eq!(
        dynamic,
        Verdict::Whole {
            size: None,
            validator: Validator::None
        }
    );
}

#[test]
fn whole_file_of_another_version_is_a_change() {
    let changed = |size, validator| Verdict::Changed(Some(version(size, validator)));
    let answer = judged(
        200,
        &[("length", "50"), ("etag", "\"b\"")],
        Some(version(100, strong())),
    );
    assert_eq!(answer, changed(50, Validator::Strong("\"b\"".into())));
    let answer = judged(200, &[("length", "50"), ("modified", DAY)], Some(version(100, dated())));
    assert_eq!(answer, changed(50, dated()), "twice in one second");
    let answer = judged(
        200,
        &[("length", "50"), ("modified", DAY)],
        Some(version(100, strong())),
    );
    assert_eq!(
        answer,
        changed(50, dated()),
        "the server stopped sending tags, but it names a version"
    );
    let answer = judged(200, &[("etag", "\"b\"")], Some(version(100, strong())));
    assert_eq!(answer, Verdict::Changed(None), "the new size is unknown");
    let answer = judged(200, &[("length", "50")], Some(version(100, Validator::None)));
    assert_eq!(
        answer,
        changed(50, Validator::None),
        "a server without validators has only sizes to tell"
    );
}

#[test]
fn what_names_no_version_replaces_none() {
    for known in [strong(), dated(), weak()] {
        for length in ["100", "50"] {
            assert!(
                is_bad(&judged(200, &[("length", length)], Some(version(100, known.clone())))),
                "{known:?} {length}"
            );
        }
        assert!(is_bad(&judged(200, &[], Some(version(100, known)))));
    }
    assert!(is_bad(&judged(
        200,
        &[("length", "50"), ("etag", "W/\"a\"")],
        Some(version(100, strong()))
    )));
    assert!(is_bad(&judged(
        200,
        &[("length", "50"), ("etag", "\"a\"")],
        Some(version(100, strong()))
    )));
}

#[test]
fn a_login_page_is_not_a_new_version() {
    let page = ("type", "text/html");
    for (known, headers) in [
        (strong(), vec![page, ("length", "50")]),
        (strong(), vec![page, ("length", "50"), ("etag", "W/\"login\"")]),
        (strong(), vec![page, ("length", "50"), ("modified", NEXT_DAY)]),
        (dated(), vec![page, ("etag", "W/\"login\"")]),
        (
            strong(),
            vec![page, ("length", "50"), ("etag", "\"login\""), ("elsewhere", "")],
        ),
        (
            Validator::None,
            vec![page, ("length", "50"), ("etag", "\"login\""), ("elsewhere", "")],
        ),
        (Validator::None, vec![page, ("length", "50")]),
        (Validator::None, vec![page]),
    ] {
        assert!(
            is_bad(&judged(200, &headers, Some(version(100, known.clone())))),
            "{known:?} {headers:?}"
        );
    }
    // Or if it is named like a page: some servers rewrite pages on the fly.
    for (length, elsewhere, taken) in [(None, false, true), (Some("50"), false, true), (None, true, false)] {
        let mut headers = vec![page, ("page", "")];
        headers.extend(length.map(|length| ("length", length)));
        headers.extend(elsewhere.then_some(("elsewhere", "")));
        let verdict = judged(200, &headers, Some(version(100, Validator::None)));
        assert_eq!(!is_bad(&verdict), taken, "{headers:?}");
        assert!(
            is_bad(&judged(200, &headers, Some(version(100, dated())))),
            "{headers:?}"
        );
    }
    // The file itself may be a page.
    let edited = judged(
        200,
        &[page, ("length", "50"), ("etag", "\"b\"")],
        Some(version(100, strong())),
    );
    assert!(matches!(edited, Verdict::Changed(Some(_))));
    let same = judged(
        200,
        &[page, ("length", "100"), ("etag", "\"a\""), ("elsewhere", "")],
        Some(version(100, strong())),
    );
    assert!(matches!(same, Verdict::Whole { .. }));
    assert!(matches!(
        judged(200, &[page, ("length", "100")], Some(version(100, Validator::None))),
        Verdict::Whole { .. }
    ));
}

#[test]
fn status_416_gives_the_size() {
    assert_eq!(
        judged(416, &[("range", "bytes */10")], None),
        Verdict::PastEnd { size: 10 }
    );
    assert_eq!(
        judged(416, &[("range", "bytes */0")], None),
        Verdict::PastEnd { size: 0 }
    );
    assert!(
        matches!(judged(416, &[("range", "bytes */11")], None), Verdict::Refused(_)),
        "there is a byte 10"
    );
    for headers in [&[("range", "bytes 0-1/2")][..], &[]] {
        for known in [None, Some(version(100, strong()))] {
            assert!(matches!(judged(416, headers, known), Verdict::Refused(_)));
        }
    }
}

#[test]
fn past_the_end_of_a_known_file_means_that_it_shrank() {
    let known = || Some(version(100, strong()));
    assert_eq!(judged(416, &[("range", "bytes */5")], known()), Verdict::Changed(None));
    let named = judged(416, &[("range", "bytes */5"), ("etag", "\"b\"")], known());
    assert_eq!(
        named,
        Verdict::Changed(Some(version(5, Validator::Strong("\"b\"".into()))))
    );
    assert!(
        is_bad(&judged(416, &[("range", "bytes */5"), ("etag", "\"a\"")], known())),
        "it contradicts itself"
    );
    assert!(
        matches!(judged(416, &[("range", "bytes */100")], known()), Verdict::Refused(_)),
        "the range exists"
    );
}

#[test]
fn rejected_range_is_judged_by_the_whole_file() {
    let refusal = || HttpErrorKind::BadAnswer("HTTP 416".to_owned());
    let judged = |status, headers: &[(&str, &str)], known: Option<Version>| {
        judge_instead(&head(status, headers), 10..20, known.as_ref(), refusal())
    };
    assert_eq!(judged(200, &[("length", "10")], None), Verdict::PastEnd { size: 10 });
    for known in [None, Some(version(100, Validator::None))] {
        let whole = Verdict::Whole {
            size: Some(100),
            validator: dated(),
        };
        assert_eq!(judged(200, &[("length", "100"), ("modified", DAY)], known), whole);
    }
    let known = || Some(version(100, dated()));
    assert!(is_bad(&judged(200, &[("length", "5")], known())), "it names no version");
    let shrunk = judged(200, &[("length", "5"), ("modified", NEXT_DAY)], known());
    assert_eq!(
        shrunk,
        Verdict::Changed(Some(version(5, Validator::Dated(NEXT_DAY.into()))))
    );
    for status in [400, 405, 416, 501] {
        assert_eq!(judged(status, &[], known()), Verdict::Failed(refusal()));
    }
    assert_eq!(
        judged(404, &[], known()),
        Verdict::Failed(HttpErrorKind::NotFound(404)),
        "that is an answer"
    );
}

#[test]
fn rejected_range_can_be_retried_without_range() {
    for status in [400, 405, 501] {
        for known in [None, Some(version(100, strong()))] {
            assert!(matches!(judged(status, &[], known), Verdict::Refused(_)), "{status}");
        }
    }
}

#[test]
fn status_412_is_a_change() {
    assert_eq!(judged(412, &[], Some(version(100, strong()))), Verdict::Changed(None));
    assert!(is_bad(&judged(412, &[("etag", "\"a\"")], Some(version(100, strong())))));
    for known in [None, Some(version(100, Validator::None))] {
        let status = Verdict::Failed(HttpErrorKind::Status {
            status: 412,
            retry_after: None,
        });
        assert_eq!(judged(412, &[], known), status, "no precondition was sent");
    }
}

#[test]
fn statuses_without_data_keep_their_meaning() {
    let known = version(100, strong());
    for (status, is_temporary) in [
        (408, true),
        (425, true),
        (429, true),
        (500, true),
        (503, true),
        (417, false),
        (451, false),
    ] {
        let Verdict::Failed(kind) = judged(status, &[], Some(known.clone())) else {
            panic!("{status}")
        };
        assert_eq!(
            kind,
            HttpErrorKind::Status {
                status,
                retry_after: None
            }
        );
        assert_eq!(kind.is_temporary(), is_temporary, "{status}");
    }
    for status in [401, 403, 407] {
        assert_eq!(
            judged(status, &[], Some(known.clone())),
            Verdict::Failed(HttpErrorKind::Denied(status))
        );
    }
    for status in [404, 410] {
        assert_eq!(
            judged(status, &[], Some(known.clone())),
            Verdict::Failed(HttpErrorKind::NotFound(status))
        );
    }
    for status in [201, 203, 204, 205, 226, 300, 304, 305] {
        assert!(
            is_bad(&judged(status, &[("etag", "\"a\"")], Some(known.clone()))),
            "{status}"
        );
    }
}
