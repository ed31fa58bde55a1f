//! Which source is where: the fixed part of a library's tree.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use url::Url;
use xxhash_rust::xxh3::xxh3_64;

use super::address;
use super::member::Member;
use super::{LibraryConfig, MemberConfig};
use crate::http::{Origin, redact};
use crate::origin::Client;
use crate::source::{Entries, Entry, EntryKind, Listing, Name};

/// The sources and their places.
pub(super) struct Plan {
    name: String,
    /// In the order of the file.
    pub(super) members: Vec<Arc<Member>>,
    by_id: HashMap<String, Arc<Member>>,
    /// The directories on the way to places, and the places, by their paths; each with the names in it.
    places: BTreeMap<String, BTreeSet<Name>>,
}

/// What is different after the sources were replaced: their URLs, without secrets.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Change {
    /// They were not there before.
    pub added: Vec<String>,
    /// They are not there any more.
    pub removed: Vec<String>,
    /// They have other options.
    pub changed: Vec<String>,
}

impl Plan {
    /// Sources that are the same in `before` are taken from there, with all that is known of them.
    pub(super) fn new(config: &LibraryConfig, client: &Client, before: Option<&Plan>) -> Plan {
        let mut plan = Plan {
            // Directories keep their URLs.
            name: before.map_or(&config.name, |before| &before.name).clone(),
            members: Vec::new(),
            by_id: HashMap::new(),
            places: BTreeMap::from([("/".to_owned(), BTreeSet::new())]),
        };
        for (index, member) in config.members.iter().enumerate() {
            let mut id = id_of(member);
            while plan.by_id.contains_key(&id) {
                id.push('2');
            }
            let same = before
                .and_then(|before| before.by_id(&id))
                .filter(|before| before.config == *member && before.index == index);
            let member = same.map_or_else(|| Arc::new(Member::new(id.clone(), index, member, client)), Arc::clone);
            plan.add_place(&member.config.at);
            plan.by_id.insert(id, Arc::clone(&member));
            plan.members.push(member);
        }
        plan
    }

    fn add_place(&mut self, at: &[Name]) {
        let mut path = "/".to_owned();
        for name in at {
            let below = address::below(&path, name.as_bytes());
            self.places.entry(path).or_default().insert(name.clone());
            path = below;
        }
        self.places.entry(path).or_default();
    }

    pub(super) fn url(&self, path: &str) -> Url {
        address::url(&self.name, path)
    }

    /// The path of a directory of the library itself.
    pub(super) fn path_of(&self, url: &Url) -> Option<String> {
        address::path(&self.name, url)
    }

    pub(super) fn by_id(&self, id: &str) -> Option<&Arc<Member>> {
        self.by_id.get(id)
    }

    /// The source whose URL is the longest beginning of this one; else the first one of the same origin.
    pub(super) fn nearest(&self, url: &Url) -> Option<&Arc<Member>> {
        let origin = Origin::of(url)?;
        let of_origin = || {
            let members = self.members.iter();
            members.filter(|member| Origin::of(member.url()).as_ref() == Some(&origin))
        };
        let above = of_origin().filter(|member| url.path().starts_with(member.url().path()));
        // The first one of several that are equally near.
        above
            .rev()
            .max_by_key(|member| member.url().path().len())
            .or_else(|| of_origin().next())
    }

    /// Whether there is a directory at this path, whatever the sources have.
    pub(super) fn has_place(&self, path: &str) -> bool {
        self.places.contains_key(path)
    }

    /// The names that lead to places, in the directory at this path.
    pub(super) fn places_in(&self, path: &str) -> impl Iterator<Item = &Name> {
        self.places.get(path).into_iter().flatten()
    }

    /// Whether no source can have a name in this directory: only places are in it.
    pub(super) fn is_bare(&self, path: &str) -> bool {
        self.has_place(path) && !self.members.iter().any(|member| path.starts_with(&member.place))
    }

    /// The listing of a directory without the names of sources.
    pub(super) fn bare_listing(&self, path: &str) -> Listing {
        let mut entries = Entries::of(&self.url(path));
        for name in self.places_in(path) {
            // The sources of one file always fit.
            let _ = entries.push(&Entry {
                name: name.clone(),
                url: self.url(&address::below(path, name.as_bytes())),
                kind: EntryKind::Directory,
                modified: None,
                published: None,
            });
        }
        Listing::of(entries)
    }

    pub(super) fn change_since(&self, before: &Plan) -> Change {
        let names = |members: &[Arc<Member>], is_one: &dyn Fn(&Arc<Member>) -> bool| {
            let members = members.iter().filter(|member| is_one(member));
            members.map(|member| redact(&member.config.spec.url).into()).collect()
        };
        Change {
            added: names(&self.members, &|member| before.by_id(&member.id).is_none()),
            removed: names(&before.members, &|member| self.by_id(&member.id).is_none()),
            changed: names(&self.members, &|member| {
                before
                    .by_id(&member.id)
                    .is_some_and(|other| other.config != member.config)
            }),
        }
    }
}

/// Identifies a source by its URL, place, kind and filter: two sources with the same show the same names.
fn id_of(member: &MemberConfig) -> String {
    let mut url = member.spec.url.clone();
    // It fails only for URLs without a host, which have no password.
    let _ = url.set_password(None);
    let what = (url.as_str(), &member.at, &member.kind, member.spec.kind, &member.filter);
    format!("{:016x}", xxh3_64(format!("{what:?}").as_bytes()))
}
