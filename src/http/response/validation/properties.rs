//! Properties: what no response may cause, however malformed; and that standard-conforming servers are accepted.

use proptest::prelude::*;

use super::{
    tests::{DAY, NEXT_DAY},
    *,
};

fn any_validator() -> impl Strategy<Value = Validator> {
    prop_oneof![
        Just(Validator::None),
        "[ab]".prop_map(|tag| Validator::Strong(format!("\"{tag}\""))),
        "[ab]".prop_map(|tag| Validator::Weak(format!("W/\"{tag}\""))),
        prop_oneof![Just(DAY), Just(NEXT_DAY)].prop_map(|date| Validator::Dated(date.into())),
    ]
}

fn any_version() -> impl Strategy<Value = Version> {
    (0u64..40, any_validator()).prop_map(|(size, validator)| Version { size, validator })
}

fn any_content_range() -> impl Strategy<Value = String> {
    prop_oneof![
        8 => (0u64..40, 0u64..40, 0u64..40).prop_map(|(first, last, total)| format!("bytes {first}-{last}/{total}")),
        2 => (0u64..40, 0u64..40).prop_map(|(first, last)| format!("bytes {first}-{last}/*")),
        2 => (0u64..40).prop_map(|total| format!("bytes */{total}")),
        1 => (any::<u64>(), any::<u64>(), any::<u64>()).prop_map(|(first, last, total)| format!("bytes {first}-{last}/{total}")),
        1 => "[bytes0-9/*, =-]{0,20}",
        1 => any::<String>(),
    ]
}

/// Any head, often an almost valid one.
fn any_head() -> impl Strategy<Value = AnswerHead> {
    let status = prop_oneof![5 => Just(206u16), 5 => Just(200), 2 => Just(416), 1 => Just(412), 1 => 100u16..600];
    let tag = prop_oneof![
        "[ab]".prop_map(|tag| format!("\"{tag}\"")),
        "[ab]".prop_map(|tag| format!("W/\"{tag}\""))
    ];
    let date = prop_oneof![Just(DAY.to_owned()), Just(NEXT_DAY.to_owned())];
    let kind = prop_oneof![Just("text/html"), Just("multipart/byteranges"), Just("video/mp4")].prop_map(str::to_owned);
    (
        status,
        prop::option::weighted(0.9, any_content_range()),
        prop::option::of(prop_oneof![0u64..40, any::<u64>()]),
        prop::option::weighted(0.1, Just("gzip".to_owned())),
        prop::option::of(kind),
        prop::option::of(tag),
        prop::option::of(date),
        any::<bool>(),
    )
        .prop_map(
            |(status, content_range, content_length, coding, content_type, etag, last_modified, is_elsewhere)| {
                AnswerHead {
                    status,
                    content_range,
                    content_length,
                    coding,
                    is_negotiated: false,
                    content_type,
                    charset: None,
                    etag,
                    last_modified,
                    modified_exactly: None,
                    is_elsewhere,
                    is_page_by_name: false,
                    retry_after: None,
                    repr_digest: None,
                    described_by: None,
                }
            },
        )
}

fn any_want() -> impl Strategy<Value = Range<u64>> {
    (0u64..40, 1u64..20).prop_map(|(start, length)| start..start + length)
}

/// The response of a server that conforms to RFC 9110, for a file of this version.
fn honest(file: &Version, want: &Range<u64>, ranges: bool) -> AnswerHead {
    let (etag, last_modified) = match &file.validator {
        Validator::Strong(tag) | Validator::Weak(tag) => (Some(tag.clone()), None),
        Validator::Dated(date) => (None, Some(date.clone())),
        Validator::None => (None, None),
    };
    let head = AnswerHead {
        etag,
        last_modified,
        ..AnswerHead::default()
    };
    let end = want.end.min(file.size);
    match (ranges, want.start < file.size) {
        (false, _) => AnswerHead {
            status: 200,
            content_length: Some(file.size),
            ..head
        },
        (true, false) => AnswerHead {
            status: 416,
            content_range: Some(format!("bytes */{}", file.size)),
            ..head
        },
        (true, true) => AnswerHead {
            status: 206,
            content_length: Some(end - want.start),
            content_range: Some(format!("bytes {}-{}/{}", want.start, end - 1, file.size)),
            ..head
        },
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(5000))]

    /// Data that reaches the caller fits the request and belongs to the expected version.
    #[test]
    fn data_fits_the_request_and_the_version(head in any_head(), want in any_want(), known in prop::option::of(any_version())) {
        match judge(&head, want.clone(), known.as_ref()) {
            Verdict::Partial { version, range } => {
                prop_assert_eq!(meant_status(&head), 206);
                prop_assert_eq!(range.start, want.start);
                prop_assert!(range.start < range.end && range.end <= want.end && range.end <= version.size);
                prop_assert!(is_longer(&head, &want) || head.content_length.is_none_or(|length| length == range.end - range.start));
                prop_assert!(known.as_ref().is_none_or(|known| known.size == version.size));
                prop_assert!(known.is_none_or(|known| known.validator == Validator::None || known == version));
                prop_assert!(head.coding.is_none() || head.content_length.is_some());
            }
            Verdict::Whole { size, validator } => {
                prop_assert_eq!(head.status, 200);
                prop_assert!(size == head.content_length || head.content_length.is_none());
                prop_assert!(head.coding.is_none() || size == head.content_length);
                if let Some(known) = known {
                    prop_assert!(size.is_none_or(|size| size == known.size));
                    prop_assert!(known.validator == Validator::None || (known.validator == validator && size.is_some()));
                }
            }
            Verdict::PastEnd { size } => prop_assert!(known.is_none() && head.status == 416 && want.start >= size),
            Verdict::Changed(_) | Verdict::Refused(_) | Verdict::Failed(_) => {}
        }
    }

    /// Only a response that identifies another version replaces a version.
    #[test]
    fn only_an_answer_that_speaks_for_a_version_replaces_one(head in any_head(), want in any_want(), known in prop::option::of(any_version())) {
        if let Verdict::Changed(version) = judge(&head, want, known.as_ref()) {
            let Some(known) = known else { return Err(TestCaseError::fail("nothing was known that could have changed")) };
            prop_assert_ne!(version.as_ref(), Some(&known));
            prop_assert!(matches!(head.status, 200 | 206 | 412 | 416));
            if known.validator != Validator::None && matches!(head.status, 200 | 206) {
                prop_assert_ne!(head.validator(), Validator::None);
            }
            if let Validator::Strong(tag) = known.validator {
                prop_assert_ne!(head.etag, Some(tag), "the strong tag says that nothing changed");
            }
        }
    }

    /// A standard-conforming server never fails validation, and what it says is the result.
    #[test]
    fn an_honest_server_is_understood(file in any_version(), known in prop::option::of(any_version()), same in any::<bool>(), want in any_want(), ranges in any::<bool>()) {
        let known = if same { Some(file.clone()) } else { known };
        let verdict = judge(&honest(&file, &want, ranges), want.clone(), known.as_ref());
        // A known weak tag may come back as a strong one: it counts as the same, and keeps its name.
        let is_firmer = matches!((known.as_ref().map(|known| &known.validator), &file.validator),
            (Some(Validator::Weak(weak)), Validator::Strong(strong)) if weak.ends_with(strong));
        let file = match &known {
            Some(known) if is_firmer && known.size == file.size => known.clone(),
            _ => file,
        };
        let has_changed = known.as_ref().is_some_and(|known| known.validator != Validator::None && *known != file);
                match verdict {
            Verdict::Partial { version, range } => {
                prop_assert!(!has_changed && ranges);
                prop_assert_eq!(range, want.start..want.end.min(file.size));
                prop_assert_eq!(version, file);
            }
            Verdict::Whole { size, validator } => {
                prop_assert!(!has_changed);
                prop_assert_eq!(Version { size: size.unwrap(), validator }, file);
            }
            Verdict::PastEnd { size } => prop_assert_eq!(size, file.size),
            Verdict::Changed(version) => {
                prop_assert_ne!(known.as_ref(), Some(&file));
                prop_assert!(version.is_none_or(|version| version == file));
            }
            // What remains: a version that lost its validator or changed only in its size under a strong one, and a
            // caller that requests bytes past the known end.
            Verdict::Failed(kind) | Verdict::Refused(kind) => {
                let known = known.expect("without expectations there is nothing to disappoint");
                let lost = known.validator != Validator::None && file.validator == Validator::None;
                let weakened = known.validator.strength() > file.validator.strength();
                let contradicts = known.validator == file.validator && known.size != file.size;
                prop_assert!(lost || weakened || contradicts || want.start >= known.size, "{}", kind);
            }
        }
    }
}
