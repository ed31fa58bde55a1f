//! The verdicts on responses, by the table of [`decide`].

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
    let told = AliasName(name(told));
    let evidence = Evidence {
        heads: names(heads),
        gets: names(gets),
        bytes,
        is_other_size: false,
    };
    decide(&name(known), &told, &evidence, Doubt::default(), SystemTime::now())
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
        assert_eq!(decided(known, told, &each, &each, Bytes::Equal), None, "{known} {told}");
    }
    // The tags differ, and so does each date.
    let (heads, gets) = (["c 02", "d 02", "e 02"], ["f 02", "g 02", "h 02"]);
    assert_eq!(decided("a 01", "b 02", &heads, &gets, Bytes::Equal), None);
}

#[test]
fn varying_validators_with_same_bytes_are_aliases() {
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

/// The file is replaced twice: the doubtful response is of the second version, and the evidence of the third.
#[test]
fn responses_of_a_third_version_do_not_support_the_first() {
    let c = ["c 03"; 3];
    for (known, told, heads, gets) in [
        ("a 01", "b 02", c, c),
        ("a -", "b -", ["c -"; 3], ["c -"; 3]),
        ("- 01", "- 02", ["- 03"; 3], ["- 03"; 3]),
        // It is replaced while the evidence is collected.
        ("a 01", "b 02", ["b 02", "c 03", "c 03"], c),
        ("a 01", "b 02", c, ["b 02", "c 03", "c 03"]),
        // Something answers HEAD from its memory.
        ("a 01", "b 02", ["a 01"; 3], c),
    ] {
        let verdict = decided(known, told, &heads, &gets, Bytes::Alike);
        assert_eq!(verdict, None, "{known} {told} {heads:?} {gets:?}");
    }
    for (known, told, heads, gets, by) in [
        ("a -", "b -", ["c -", "d -", "e -"], ["f -", "g -", "h -"], By::Bytes),
        ("a -", "b -", ["h -"; 3], ["c -", "d -", "e -"], By::Head(name("h -"))),
        (
            "a 01",
            "b 01",
            ["a 01", "b 01", "b 01"],
            ["b 01", "a 01", "b 01"],
            By::Names,
        ),
    ] {
        let verdict = decided(known, told, &heads, &gets, Bytes::Alike);
        assert_eq!(verdict, Some(by), "{known} {told} {heads:?} {gets:?}");
    }
}

/// Two HEADs of one second agree on a date that is only their own.
#[test]
fn recent_date_of_head_does_not_name_a_version() {
    let now = SystemTime::now();
    let at = |seconds: u64| Name::new(None, Some(&httpdate::fmt_http_date(now - Duration::from_secs(seconds))));
    for (seconds, by) in [(0, By::Bytes), (3600, By::Head(at(3600)))] {
        let evidence = Evidence {
            heads: vec![at(seconds), at(seconds)],
            gets: vec![at(1), at(2)],
            bytes: Bytes::Equal,
            is_other_size: false,
        };
        let verdict = decide(&at(9), &AliasName(at(1)), &evidence, Doubt::default(), now);
        assert_eq!(verdict, Some(by), "{seconds}");
    }
}

#[test]
fn bytes_are_compared_where_parts_overlap() {
    let part = |at: u64, bytes: &[u8]| Sample {
        at,
        bytes: bytes.to_vec(),
    };
    let (abc, cde, bd, def) = (part(0, b"abc"), part(2, b"cde"), part(1, b"bd"), part(3, b"def"));
    for (known, parts, result) in [
        (vec![], vec![], Bytes::Unknown),
        (vec![abc.clone()], vec![], Bytes::Unknown),
        (vec![abc.clone()], vec![def.clone()], Bytes::Unknown),
        (vec![abc.clone()], vec![cde.clone()], Bytes::Equal),
        (vec![abc.clone()], vec![bd.clone()], Bytes::Differ),
        // What is known has no part in this.
        (vec![], vec![abc.clone(), cde.clone()], Bytes::Alike),
        (vec![def.clone()], vec![abc.clone(), abc.clone()], Bytes::Alike),
        (vec![def.clone(), cde.clone()], vec![abc.clone()], Bytes::Equal),
        (vec![], vec![abc.clone(), bd.clone()], Bytes::Differ),
        (
            vec![abc.clone()],
            vec![abc.clone(), abc.clone(), bd.clone()],
            Bytes::Differ,
        ),
        (
            vec![abc.clone(), cde.clone()],
            vec![abc.clone(), def.clone(), def.clone()],
            Bytes::Equal,
        ),
    ] {
        assert_eq!(compare(&known, &parts), result, "{known:?} {parts:?}");
    }
}

#[test]
fn new_version_shares_no_learned_alias() {
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
