use std::collections::BTreeMap;
use std::sync::Arc;

use proptest::collection::btree_map;
use proptest::prelude::*;
use url::Url;

use super::filter::{Filter, FilterConfig, InvalidPattern, check_pattern};
use super::member::Layer;
use super::overlay::merge;
use super::plan::Plan;
use super::{LibraryConfig, MemberConfig};
use crate::http::{HttpConfig, tag};
use crate::origin::Client;
use crate::source::{Entries, Entry, EntryKind, ListedSize, Listing, Name, SourceConfig, SourceSpec};

fn name(text: &str) -> Name {
    Name::new(text.into()).unwrap()
}

/// A library of sources at these places. None is asked.
fn plan(places: &[&str]) -> Plan {
    let member = |(index, place): (usize, &&str)| MemberConfig {
        spec: SourceSpec::of(&format!("http://h{index}/")).unwrap(),
        at: place.split('/').filter(|part| !part.is_empty()).map(name).collect(),
        kind: None,
        settings: SourceConfig::default(),
        filter: FilterConfig::default(),
        http: HttpConfig::default(),
        content_disposition: false,
    };
    let config = LibraryConfig {
        name: "0a".to_owned(),
        members: places.iter().enumerate().map(member).collect(),
    };
    Plan::new(&config, &Client::new(HttpConfig::default()).unwrap(), None)
}

/// A listing with these names, of which those with `true` are directories.
fn listing(base: &str, names: &BTreeMap<String, bool>) -> Listing {
    let base = Url::parse(base).unwrap();
    let mut entries = Entries::of(&base);
    for (text, &is_directory) in names {
        let slash = if is_directory { "/" } else { "" };
        let pushed = entries.push(&Entry {
            name: name(text),
            url: base.join(&format!("{text}{slash}")).unwrap(),
            kind: EntryKind::of(is_directory, ListedSize::Unknown),
            modified: None,
            published: None,
        });
        assert!(pushed);
    }
    Listing::of(entries)
}

fn layers(plan: &Plan, listings: &[BTreeMap<String, bool>]) -> Vec<(Layer, Listing)> {
    let members = plan.members.iter().zip(listings).enumerate();
    members
        .map(|(index, (member, names))| {
            let mut listing = listing(&format!("http://h{index}/"), names);
            for at in 0..listing.entries.len() {
                if listing.entries.is_directory(at) {
                    let url = tag::tagged(&member.id, &listing.entries.url(at)).unwrap();
                    assert!(listing.entries.replace(at, EntryKind::Directory, &url));
                }
            }
            (member.root(), listing)
        })
        .collect()
}

proptest! {
    #[test]
    fn first_source_with_a_name_decides(
        listings in prop::collection::vec(btree_map("[a-f]", any::<bool>(), 0..6), 1..4),
    ) {
        let plan = plan(&vec![""; listings.len()]);
        let merged = merge(&plan, "/", &layers(&plan, &listings));
        let names: Vec<String> = listings.iter().flat_map(|names| names.keys().cloned()).collect();
        let shown: BTreeMap<_, _> = merged.listing.entries.iter().map(|entry| (entry.name.clone(), entry)).collect();
        prop_assert_eq!(shown.len(), merged.listing.entries.len(), "each name once");
        for text in &names {
            let first = listings.iter().position(|names| names.contains_key(text)).unwrap();
            let entry = &shown[&name(text)];
            let is_directory = listings[first][text];
            prop_assert_eq!(entry.kind == EntryKind::Directory, is_directory);
            let others = listings.iter().filter(|names| names.get(text) == Some(&true)).count();
            if !is_directory {
                prop_assert_eq!(entry.url.host_str(), Some(&*format!("h{first}")));
            } else if others == 1 {
                prop_assert_eq!(entry.url.scheme(), format!("library-{}+http", plan.members[first].id));
            } else {
                prop_assert_eq!(entry.url.as_str(), format!("library://0a/{text}/"));
                let (_, below) = merged.below.iter().find(|(path, _)| *path == format!("/{text}/")).unwrap();
                prop_assert_eq!(below.len(), others);
                prop_assert!(below.is_sorted_by_key(|layer| layer.member.index));
            }
        }
        prop_assert!(shown.keys().all(|shown| names.iter().any(|text| name(text) == *shown)));
    }
}

#[test]
fn way_to_a_place_is_a_directory_before_any_source() {
    let plan = plan(&["", "films/new"]);
    let names = BTreeMap::from([("films".to_owned(), false), ("other".to_owned(), false)]);
    let merged = merge(&plan, "/", &layers(&plan, &[names]));
    let shown: Vec<_> = merged
        .listing
        .entries
        .iter()
        .map(|entry| (entry.name, entry.kind))
        .collect();
    let file = EntryKind::File(ListedSize::Unknown);
    assert_eq!(shown, [(name("films"), EntryKind::Directory), (name("other"), file)]);
    assert!(!plan.is_bare("/") && !plan.is_bare("/films/new/") && plan.has_place("/films/"));
}

#[test]
fn sources_that_stay_are_the_same_after_a_reload() {
    let before = plan(&["a", "b"]);
    let config = |before: &Plan| LibraryConfig {
        name: "0b".to_owned(),
        members: before.members.iter().map(|member| member.config.clone()).collect(),
    };
    let client = Client::new(HttpConfig::default()).unwrap();
    let mut changed = config(&before);
    changed.members[1].http.max_connections = 3;
    let now = Plan::new(&changed, &client, Some(&before));
    assert!(Arc::ptr_eq(&before.members[0], &now.members[0]));
    assert_eq!(
        before.members[1].id, now.members[1].id,
        "its directories keep their URLs"
    );
    assert_eq!(now.change_since(&before).changed, ["http://h1/"]);
    assert_eq!(before.url("/a/"), now.url("/a/"));
    changed.members.remove(0);
    let change = Plan::new(&changed, &client, Some(&now)).change_since(&now);
    assert_eq!(
        (change.removed.len(), change.added.len(), change.changed.len()),
        (1, 0, 0)
    );
}

#[test]
fn pattern_matches_as_in_gitignore() {
    let cases = [
        ("*.mkv", "a.mkv", true),
        ("*.mkv", "d/a.mkv", true),
        ("*.mkv", "a.MKV", false),
        ("*.mkv", ".a.mkv", true),
        ("/*.mkv", "a.mkv", true),
        ("/*.mkv", "d/a.mkv", false),
        ("d/*.mkv", "d/a.mkv", true),
        ("d/*.mkv", "c/d/a.mkv", false),
        ("d/*.mkv", "d/e/a.mkv", false),
        ("d/**/a.mkv", "d/a.mkv", true),
        ("d/**/a.mkv", "d/e/f/a.mkv", true),
        ("**/d/*", "c/d/a.mkv", true),
        ("*.{mkv,srt}", "d/a.srt", true),
        ("[0-9]?", "d/1x", true),
        ("[!0-9]*", "1x", false),
        ("a b*", "a bc", true),
        ("d/", "d", false),
    ];
    for (pattern, path, is_match) in cases {
        check_pattern(pattern, false).unwrap();
        let filter = Filter::new(&FilterConfig {
            exclude: vec![pattern.to_owned()],
            ..FilterConfig::default()
        });
        let (directory, file) = path
            .rsplit_once('/')
            .map_or((String::new(), path), |(above, file)| (format!("{above}/"), file));
        let root = Url::parse("http://h/x/").unwrap();
        let directory = root.join(&directory).unwrap();
        let mut entries = listing(directory.as_str(), &BTreeMap::from([(file.to_owned(), false)])).entries;
        filter.apply(&mut entries, Some(&directory), Some(&root));
        assert_eq!(entries.is_empty(), is_match, "{pattern} {path}");
    }
}

#[test]
fn pattern_that_can_never_match_is_refused() {
    assert!(matches!(check_pattern("[", true), Err(InvalidPattern::Glob(_))));
    assert_eq!(check_pattern("!a", false), Err(InvalidPattern::Negated));
    let error = check_pattern("d/", true).unwrap_err();
    assert!(error.to_string().contains("write `d/**`"), "{error}");
}
