//! The table of response validation, row by row: responses with a part of a file.

use super::{tests::*, *};

#[test]
fn a_fitting_part_is_taken() {
    let answer = judged(
        206,
        &[("range", "bytes 10-19/100"), ("length", "10"), ("etag", "\"a\"")],
        None,
    );
    assert_eq!(
        answer,
        Verdict::Partial {
            version: version(100, strong()),
            range: 10..20
        }
    );
}

#[test]
fn a_shorter_part_is_taken_as_far_as_it_goes() {
    for (range, end) in [("bytes 10-10/100", 11), ("BYTES 10-14/100", 15), ("bytes 10-18/*", 19)] {
        let answer = judged(
            206,
            &[("range", range), ("etag", "\"a\"")],
            Some(version(100, strong())),
        );
        assert_eq!(
            answer,
            Verdict::Partial {
                version: version(100, strong()),
                range: 10..end
            },
            "{range}"
        );
    }
}

#[test]
fn a_part_that_does_not_fit_is_not_believed() {
    let known = || Some(version(100, Validator::None));
    for range in [
        "bytes 0-9/100",
        "bytes 9-19/100",
        "bytes 11-19/100",
        "bytes 10-9/100",
        "bytes 10-19/15",
        "bytes 10-19",
        "bytes */100",
        "bytes=10-19/100",
        "pages 10-19/100",
        "bytes 10-19/100, bytes 10-19/100",
        "bytes 10-18446744073709551615/*",
        "bytes 10-99999999999999999999/*",
        "ü",
        "",
    ] {
        assert!(is_bad(&judged(206, &[("range", range)], known())), "{range}");
    }
    assert!(is_bad(&judged(206, &[], known())), "no Content-Range");
    assert!(
        is_bad(&judged(206, &[("range", "bytes 10-19/100"), ("length", "11")], known())),
        "length and range disagree"
    );
    assert!(
        is_bad(&judged(206, &[("range", "bytes 10-19/*")], None)),
        "no total at all"
    );
    assert!(
        is_bad(&judged(
            206,
            &[("range", "bytes 10-19/*")],
            Some(version(15, Validator::None))
        )),
        "past the known end"
    );
    assert!(is_bad(&judged(
        206,
        &[("range", "bytes 10-19/100"), ("type", "multipart/byteranges")],
        known()
    )));
}

#[test]
fn a_part_that_comes_with_200_is_a_part() {
    let known = || Some(version(100, strong()));
    let (tag, part) = (("etag", "\"a\""), ("range", "bytes 10-19/100"));
    let taken = Verdict::Partial {
        version: version(100, strong()),
        range: 10..20,
    };
    assert_eq!(judged(200, &[part, ("length", "10"), tag], known()), taken);
    for whole in [
        &[part, ("length", "100"), tag][..],
        &[part, tag],
        &[("range", "bytes 0-99/100"), ("length", "100"), tag],
    ] {
        assert!(
            matches!(judged(200, whole, known()), Verdict::Whole { .. }),
            "{whole:?}"
        );
    }
}

#[test]
fn longer_part_is_accepted_for_the_request() {
    for (range, is_longer_one) in [
        ("bytes 10-20/100", true),
        ("bytes 10-99/100", true),
        ("bytes 10-99/*", true),
        ("bytes 10-19/100", false),
    ] {
        let headers = [("range", range), ("etag", "\"a\"")];
        let taken = Verdict::Partial {
            version: version(100, strong()),
            range: 10..20,
        };
        assert_eq!(judged(206, &headers, Some(version(100, strong()))), taken, "{range}");
        assert_eq!(is_longer(&head(206, &headers), &(10..20)), is_longer_one, "{range}");
    }
    let beyond = judged(206, &[("range", "bytes 10-29/*")], Some(version(25, Validator::None)));
    assert!(is_bad(&beyond), "past the known end");
}

#[test]
fn a_body_that_was_compressed_as_it_was_sent_is_refused() {
    let coded = ("coding", "gzip");
    let part = ("range", "bytes 10-19/100");
    assert!(is_bad(&judged(206, &[part, coded], None)), "no length");
    assert!(is_bad(&judged(206, &[part, coded, ("length", "7")], None)));
    assert!(is_bad(&judged(200, &[coded], None)), "no length");
    for validator in [strong(), dated(), weak(), Validator::None] {
        let known = Some(version(100, validator));
        let answer = judged(200, &[coded, ("length", "70"), ("etag", "\"a-gzip\"")], known);
        assert!(
            is_bad(&answer),
            "another length is another representation, not a new version"
        );
    }
}

#[test]
fn a_coding_on_bytes_of_the_right_number_is_a_label() {
    let (coded, tag) = (("coding", "gzip"), ("etag", "\"a\""));
    for known in [None, Some(version(100, strong()))] {
        let part = judged(
            206,
            &[("range", "bytes 10-19/100"), ("length", "10"), coded, tag],
            known.clone(),
        );
        assert!(matches!(part, Verdict::Partial { .. }), "{part:?}");
        let whole = judged(200, &[("length", "100"), coded, tag], known);
        assert!(matches!(whole, Verdict::Whole { size: Some(100), .. }), "{whole:?}");
    }
}

#[test]
fn part_of_another_version_is_a_change() {
    let fits = ("range", "bytes 10-19/100");
    for (known, etag, modified) in [
        (strong(), Some("\"b\""), None),
        (strong(), Some("W/\"b\""), None),
        (dated(), None, Some(NEXT_DAY)),
        (dated(), Some("\"b\""), Some(NEXT_DAY)),
        (weak(), Some("W/\"b\""), None),
    ] {
        let mut headers = vec![fits];
        headers.extend(etag.map(|etag| ("etag", etag)));
        headers.extend(modified.map(|modified| ("modified", modified)));
        let own = Validator::of(etag, modified);
        let answer = judged(206, &headers, Some(version(100, known.clone())));
        assert_eq!(
            answer,
            Verdict::Changed(Some(version(100, own))),
            "{known:?} {headers:?}"
        );
    }
    let answer = judged(
        206,
        &[("range", "bytes 10-19/*"), ("etag", "\"b\"")],
        Some(version(100, strong())),
    );
    assert_eq!(
        answer,
        Verdict::Changed(None),
        "without a total the new version can't be named"
    );
}

#[test]
fn grown_file_is_a_change_unless_the_strong_etag_matches() {
    let grown = |header| judged(206, &[("range", "bytes 10-19/200"), header], None);
    assert!(
        matches!(grown(("etag", "\"a\"")), Verdict::Partial { .. }),
        "it is in order by itself"
    );
    let grown = |header, known| judged(206, &[("range", "bytes 10-19/200"), header], Some(version(100, known)));
    assert_eq!(
        grown(("modified", DAY), dated()),
        Verdict::Changed(Some(version(200, dated())))
    );
    assert_eq!(
        grown(("etag", "W/\"a\""), weak()),
        Verdict::Changed(Some(version(200, weak())))
    );
    assert_eq!(
        grown(("etag", "\"a\""), Validator::None),
        Verdict::Changed(Some(version(200, strong())))
    );
    assert!(is_bad(&grown(("etag", "\"a\""), strong())));
}

#[test]
fn part_without_a_validator_is_rejected() {
    let silent = |range, known| judged(206, &[("range", range)], Some(version(100, known)));
    let taken = |validator| Verdict::Partial {
        version: version(100, validator),
        range: 10..20,
    };
    assert_eq!(
        silent("bytes 10-19/100", Validator::None),
        taken(Validator::None),
        "only a size was known"
    );
    for known in [strong(), dated(), weak()] {
        assert!(is_bad(&silent("bytes 10-19/100", known.clone())), "{known:?}");
        assert!(is_bad(&silent("bytes 10-19/200", known.clone())), "{known:?}");
    }
    let weakened = judged(
        206,
        &[("range", "bytes 10-19/100"), ("etag", "W/\"a\"")],
        Some(version(100, strong())),
    );
    assert!(is_bad(&weakened), "a proxy has been at it");
    for known in [strong(), weak()] {
        let other = judged(
            206,
            &[("range", "bytes 10-19/100"), ("modified", DAY)],
            Some(version(100, known)),
        );
        assert_eq!(
            other,
            Verdict::Changed(Some(version(100, dated()))),
            "it names its version in another way"
        );
    }
    let other = judged(
        206,
        &[("range", "bytes 10-19/100"), ("etag", "\"a\"")],
        Some(version(100, dated())),
    );
    assert_eq!(other, Verdict::Changed(Some(version(100, strong()))), "here, too");
}
