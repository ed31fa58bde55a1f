//! How listings of several sources become one.
//!
//! - **At each name the first source wins**, in the order of the library's file. So a file hides files and directories of
//!   later sources, and a directory hides their files.
//! - Directories of the same name merge, down the tree.
//! - The way to a place is a directory before any source.

use std::collections::HashMap;

use url::Url;
use xxhash_rust::xxh3::xxh3_64;

use super::address;
use super::member::Layer;
use super::plan::Plan;
use crate::http::Validator;
use crate::http::tag;
use crate::source::{Entries, EntryKind, LeftOut, Listing};

/// A merged listing.
pub(super) struct Merged {
    pub(super) listing: Listing,
    /// The layers of the directories that belong to the library itself, by their paths.
    pub(super) below: Vec<(String, Vec<Layer>)>,
}

/// Merges the listings of the layers of the directory at `path`, in their order.
pub(super) fn merge(plan: &Plan, path: &str, layers: &[(Layer, Listing)]) -> Merged {
    let ways = plan.bare_listing(path);
    let mut left_out = LeftOut::default();
    // Names with URLs below this one take the least memory.
    let largest = layers.iter().map(|(_, listing)| &listing.entries);
    let largest = largest.max_by_key(|entries| entries.len());
    let mut entries = largest.map_or_else(|| Entries::of(&plan.url(path)), Entries::empty_like);
    // The position of each name; for a directory also its layers.
    let mut names: HashMap<Vec<u8>, usize> = HashMap::new();
    let mut directories: HashMap<usize, Vec<Layer>> = HashMap::new();
    for way in ways.entries.iter() {
        let at = entries.len();
        if entries.push(&way) {
            names.insert(way.name.as_bytes().to_vec(), at);
            directories.insert(at, Vec::new());
        }
    }
    let fixed = entries.len();
    let mut has_external = false;
    for (layer, listing) in layers {
        left_out.change(LeftOut::default(), listing.left_out);
        has_external |= listing.has_external;
        for (position, entry) in listing.entries.iter().enumerate() {
            let known = names.get(entry.name.as_bytes()).copied();
            let at = match known {
                Some(at) => at,
                None => {
                    let at = entries.len();
                    if !entries.push(&entry) {
                        continue;
                    }
                    entries.set_tag(at, listing.entries.tag(position));
                    names.insert(entry.name.as_bytes().to_vec(), at);
                    if entry.kind == EntryKind::Directory {
                        directories.insert(at, Vec::new());
                    }
                    at
                }
            };
            if entry.kind == EntryKind::Directory
                && let Some(layers) = directories.get_mut(&at)
            {
                layers.push(Layer {
                    member: layer.member.clone(),
                    directory: Some(own(&entry.url)),
                });
            }
        }
    }
    let mut below = Vec::new();
    for (at, layers) in directories {
        if at < fixed || layers.len() > 1 {
            let path = address::below(path, std::os::unix::ffi::OsStrExt::as_bytes(entries.name(at)));
            if at >= fixed && !entries.replace(at, EntryKind::Directory, &plan.url(&path)) {
                continue;
            }
            below.push((path, layers));
        }
    }
    entries.shrink_to_fit();
    Merged {
        listing: Listing {
            left_out,
            has_external,
            validator: validator_of(layers),
            ..Listing::of(entries)
        },
        below,
    }
}

/// The validator of a merged listing: it changes with those of its layers. None if one of them has none.
fn validator_of(layers: &[(Layer, Listing)]) -> Validator {
    let keys = layers.iter().map(|(layer, listing)| match &listing.validator {
        Validator::None => None,
        validator => Some((layer.member.index, validator.to_key())),
    });
    match keys.collect::<Option<Vec<_>>>() {
        Some(keys) if !keys.is_empty() => {
            Validator::Strong(format!("merged {:016x}", xxh3_64(format!("{keys:?}").as_bytes())))
        }
        _ => Validator::None,
    }
}

fn own(url: &Url) -> Url {
    tag::untagged(url).into_owned()
}
