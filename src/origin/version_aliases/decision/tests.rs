//! The verdicts on responses, by the table of [`decide`].

use super::*;

/// Labels are written `tag date`, with `-` for none; dates are seconds of one minute in 1994.
fn label(text: &str) -> VersionLabel {
    let part = |text: &str| (text != "-").then(|| text.to_owned());
    let (tag, date) = text.split_once(' ').unwrap();
    let date = part(date).map(|second| format!("Sun, 06 Nov 1994 08:49:{second} GMT"));
    VersionLabel::new(part(tag).as_deref(), date.as_deref())
}

fn decided(known: &str, told: &str, heads: &[&str], gets: &[&str], bytes: SamplesCompared) -> Option<RecognisedBy> {
    let labels = |texts: &[&str]| texts.iter().map(|text| label(text)).collect();
    let observations = Observations {
        heads: labels(heads),
        gets: labels(gets),
        bytes,
        is_other_size: false,
    };
    decide(
        &label(known),
        &label(told),
        &observations,
        Doubt::default(),
        SystemTime::now(),
    )
}

#[test]
fn steady_different_validator_is_a_new_version() {
    for (known, told) in [
        ("a 01", "b 01"),
        ("a 01", "b 02"),
        ("- 01", "- 02"),
        ("a -", "b -"),
        ("W/a -", "W/b -"),
    ] {
        let each = [told, told, told];
        assert_eq!(
            decided(known, told, &each, &each, SamplesCompared::Equal),
            None,
            "{known} {told}"
        );
    }
    // The tags differ, and so does each date.
    let (heads, gets) = (["c 02", "d 02", "e 02"], ["f 02", "g 02", "h 02"]);
    assert_eq!(decided("a 01", "b 02", &heads, &gets, SamplesCompared::Equal), None);
}

#[test]
fn varying_validators_with_same_bytes_are_aliases() {
    for (known, told, heads, gets, by) in [
        ("a 01", "b 01", ["a 01", "b 01"], ["b 01", "a 01"], RecognisedBy::Labels),
        ("- 01", "- 08", ["- 01", "- 08"], ["- 08", "- 01"], RecognisedBy::Labels),
        ("a 01", "b 02", ["c 03", "b 02"], ["b 02", "a 01"], RecognisedBy::Labels),
        ("a 01", "b 01", ["c 01", "d 01"], ["e 01", "f 01"], RecognisedBy::Date),
        ("a -", "b -", ["c -", "d -"], ["e -", "f -"], RecognisedBy::Bytes),
        (
            "a -",
            "b -",
            ["h -", "h -"],
            ["c -", "d -"],
            RecognisedBy::Head(label("h -")),
        ),
        (
            "a 01",
            "b -",
            ["a 01", "a 01"],
            ["- -", "b -"],
            RecognisedBy::Head(label("a 01")),
        ),
        ("- 01", "b -", ["b -", "- 01"], ["b -", "b 01"], RecognisedBy::Labels),
    ] {
        assert_eq!(
            decided(known, told, &heads, &gets, SamplesCompared::Equal),
            Some(by),
            "{known} {told}"
        );
        assert_eq!(
            decided(known, told, &heads, &gets, SamplesCompared::Differ),
            None,
            "{known} {told}"
        );
    }
}

/// The file is replaced twice: the doubtful response is of the second version, and the requests find the third.
#[test]
fn responses_of_a_third_version_do_not_support_the_first() {
    let c = ["c 03"; 3];
    for (known, told, heads, gets) in [
        ("a 01", "b 02", c, c),
        ("a -", "b -", ["c -"; 3], ["c -"; 3]),
        ("- 01", "- 02", ["- 03"; 3], ["- 03"; 3]),
        // It is replaced while the requests are sent.
        ("a 01", "b 02", ["b 02", "c 03", "c 03"], c),
        ("a 01", "b 02", c, ["b 02", "c 03", "c 03"]),
        // Something answers HEAD from its memory.
        ("a 01", "b 02", ["a 01"; 3], c),
    ] {
        let verdict = decided(known, told, &heads, &gets, SamplesCompared::Alike);
        assert_eq!(verdict, None, "{known} {told} {heads:?} {gets:?}");
    }
    for (known, told, heads, gets, by) in [
        (
            "a -",
            "b -",
            ["c -", "d -", "e -"],
            ["f -", "g -", "h -"],
            RecognisedBy::Bytes,
        ),
        (
            "a -",
            "b -",
            ["h -"; 3],
            ["c -", "d -", "e -"],
            RecognisedBy::Head(label("h -")),
        ),
        (
            "a 01",
            "b 01",
            ["a 01", "b 01", "b 01"],
            ["b 01", "a 01", "b 01"],
            RecognisedBy::Labels,
        ),
    ] {
        let verdict = decided(known, told, &heads, &gets, SamplesCompared::Alike);
        assert_eq!(verdict, Some(by), "{known} {told} {heads:?} {gets:?}");
    }
}

/// Two HEADs of one second agree on a date that is only their own.
#[test]
fn recent_date_of_head_identifies_no_version() {
    let now = SystemTime::now();
    let at = |seconds: u64| VersionLabel::new(None, Some(&httpdate::fmt_http_date(now - Duration::from_secs(seconds))));
    for (seconds, by) in [(0, RecognisedBy::Bytes), (3600, RecognisedBy::Head(at(3600)))] {
        let observations = Observations {
            heads: vec![at(seconds), at(seconds)],
            gets: vec![at(1), at(2)],
            bytes: SamplesCompared::Equal,
            is_other_size: false,
        };
        let verdict = decide(&at(9), &at(1), &observations, Doubt::default(), now);
        assert_eq!(verdict, Some(by), "{seconds}");
    }
}
