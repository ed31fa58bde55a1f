use super::*;

fn directory() -> Url {
    Url::parse("http://h/a%20b/").unwrap()
}

fn entry(name: &[u8], url: &str, kind: EntryKind) -> Entry {
    Entry {
        name: Name::new(name.to_vec()).unwrap(),
        url: directory().join(url).unwrap(),
        kind,
        modified: None,
        published: None,
    }
}

#[test]
fn entry_comes_back_as_it_was() {
    let file = EntryKind::File(ListedSize::Exact(7));
    let time = |seconds: i64, nanoseconds, exact| {
        Some(ListedTime {
            time: time(seconds, nanoseconds).unwrap(),
            exact,
        })
    };
    let given = [
        entry(b"a b", "a%20b", file),
        entry(b"a b2", "./a b2", EntryKind::File(ListedSize::Rounded(u64::MAX))),
        entry(b"x:y", "x%3Ay", EntryKind::File(ListedSize::Unknown)),
        entry(b"caf\xc3\xa9", "caf%c3%a9", file),
        entry(b"caf\xc3\xa8", "caf%C3%A8", file),
        entry(b"d", "d/", EntryKind::Directory),
        entry(b"d2", "d2", EntryKind::Directory),
        entry(b"a/b", "a%2Fb", file),
        entry(b"q", "q?x=1", file),
        entry(b"f", "http://cdn/f", file),
        Entry {
            modified: time(1_700_000_000, 0, false),
            ..entry(b"t1", "t1", file)
        },
        Entry {
            modified: time(-5, 1, true),
            published: Some(Arc::new(Published {
                alternates: vec![Url::parse("http://cdn/t2").unwrap()],
                ..Published::default()
            })),
            ..entry(b"t2", "t2", file)
        },
    ];
    let mut entries = Entries::of(&directory());
    assert!(given.iter().all(|entry| entries.push(entry)));
    assert!(entries.iter().eq(given.iter().cloned()), "{entries:?}");
    entries.retain(|entries, position| entries.name(position) != "x:y");
    entries.set_kind(0, EntryKind::File(ListedSize::Unknown));
    assert!(entries.replace(4, EntryKind::Directory, &directory().join("caf%C3%A9/").unwrap()));
    let last = entries.get(10).unwrap();
    assert_eq!(
        (last.modified, last.published),
        (time(-5, 1, true), given[11].published.clone())
    );
    assert_eq!(entries.kind(0), EntryKind::File(ListedSize::Unknown));
    assert_eq!(entries.url(3).path(), "/a%20b/caf%C3%A8");
    assert_eq!((entries.len(), entries.url(4).path()), (11, "/a%20b/caf%C3%A9/"));
}

#[test]
fn tags_compare_in_any_form_and_move_with_their_entries() {
    let tag = |text| EntityTag::of(text);
    for text in ["\"a-1\"", "a-1", "W/\"a-1\"", " W/a-1 "] {
        assert_eq!(tag(text), tag("\"a-1\""), "{text}");
    }
    assert_ne!(tag("\"a-2\""), tag("\"a-1\""));
    assert_eq!((tag(""), tag("W/\"\"")), (None, None));
    let mut entries = Entries::of(&directory());
    for name in ["a", "b", "c", "d"] {
        assert!(entries.push(&entry(name.as_bytes(), name, EntryKind::File(ListedSize::Exact(1)))));
    }
    entries.set_tag(0, tag("a"));
    entries.set_tag(2, tag("c"));
    let before = entries.clone();
    entries.retain(|entries, position| entries.name(position) != "b");
    assert_eq!(
        (0..3).map(|at| entries.tag(at)).collect::<Vec<_>>(),
        [tag("a"), tag("c"), None]
    );
    let mut other = before.clone();
    other.set_tag(2, tag("c2"));
    assert!(before.is_same(&before.clone()) && !before.is_same(&other));
}

/// Bounds the memory of a listing of a million names.
#[test]
fn entry_takes_few_bytes_beside_its_name() {
    let mut entries = Entries::of(&directory());
    for number in 0..1000 {
        let name = format!("file {number:05}");
        assert!(entries.push(&entry(
            name.as_bytes(),
            &name,
            EntryKind::File(ListedSize::Exact(number))
        )));
    }
    entries.shrink_to_fit();
    assert_eq!(size_of::<Packed>(), 24);
    assert!(entries.memory() <= 1000 * ("file 00000".len() + size_of::<Packed>()));
}
