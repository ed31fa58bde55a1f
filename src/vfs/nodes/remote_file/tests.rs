//! What a node shows of a file while its listing and its versions change.

use super::*;
use crate::http::Validator;
use crate::http::Version;
use crate::source::{Entry, Name, SingleFile};
use crate::vfs::nodes::node::Node;

/// A listing with a file of this size.
fn entries(size: u64) -> Entries {
    let url = Url::parse("http://h/f").unwrap();
    let mut entries = Entries::of(&url);
    assert!(entries.push(&Entry {
        name: Name::new(b"f".to_vec()).unwrap(),
        url,
        kind: EntryKind::File(ListedSize::Exact(size)),
        modified: None,
        published: None,
    }));
    entries
}

fn file(size: u64) -> RemoteFile {
    let entries = entries(size);
    let context = ListingContext::new(&entries, 1, Dates::by(Arc::default()), Arc::new(SingleFile));
    RemoteFile::listed(&ListedNames::new(entries, context, None, None), 0)
}

/// Bounds the memory of a file that the kernel references.
#[test]
fn node_of_a_file_is_small() {
    assert!(size_of::<Node>() <= 88, "{}", size_of::<Node>());
    let file = file(3);
    file.attributes(2);
    assert!(!file.has_own_state(), "its shown size takes no state");
    assert_eq!(file.look(|state| state.shown_size), Some(3));
}

fn answered(file: &RemoteFile, size: u64) {
    let version = Version {
        size,
        validator: Validator::None,
    };
    file.note(Known {
        version,
        modified: None,
        at: Some(Instant::now()),
    });
}

#[test]
fn repeated_wrong_listed_size_is_ignored() {
    let listed = file(3);
    listed.attributes(2);
    answered(&listed, 4);
    let next = listed.next_version();
    assert_eq!(next.size(), (4, true));
    assert!(next.still_fits(&entries(3), 0));
    assert!(!next.still_fits(&entries(4), 0));
}

#[test]
fn old_metadata_is_not_applied_to_the_next_version() {
    let listed = file(3);
    answered(&listed, 3);
    listed.attributes(2);
    assert_eq!(listed.next_version().size(), (0, false));
}
