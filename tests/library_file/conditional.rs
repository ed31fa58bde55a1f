//! Listings of a library's sources with validators: what is unchanged is not sent again.

use std::fs;

use super::{Library, assert_text, names, set};
use crate::common::{Mount, wait_until};
use crate::origin::{Content, Fault, Origin, PageTags};

/// A server whose index pages have tags.
fn tagged(files: &[&str]) -> Origin {
    let origin = Origin::with_files(files);
    origin.set_page_tags(PageTags::OfPage);
    origin
}

/// Looks at a directory, and returns how its server has answered.
#[track_caller]
fn look(origin: &Origin, mount: &Mount, directory: &str, path: &str, expected: &[&str]) -> Vec<u16> {
    let mark = origin.log().mark();
    assert_eq!(names(&mount.path(directory)), set(expected));
    let mut all = origin.log().since(mark).statuses(path);
    all.dedup();
    all
}

/// Waits until the server was asked again for what an earlier mount has stored.
fn wait_for_request(origin: &Origin, mark: usize, path: &str) {
    wait_until("a request for the stored listing", || {
        !origin.log().since(mark).statuses(path).is_empty()
    });
}

#[test]
fn unchanged_listing_of_a_source_costs_a_304() {
    let origin = tagged(&["/d/a.mkv", "/d/b.txt", "/d/sub/c.mkv"]);
    let text = |filter: &str| {
        let url = origin.url("/d/");
        format!("[[source]]\nurl = \"{url}\"\nat = \"films\"\nattr_ttl = \"0s\"\n{filter}\n")
    };
    let library = Library::new(&text("include = [\"*.mkv\"]"));
    let mut mount = library.mount();
    for _ in 0..2 {
        look(&origin, &mount, "films", "/d/", &["a.mkv", "sub"]);
        look(&origin, &mount, "films/sub", "/d/sub/", &["c.mkv"]);
    }
    assert_eq!(look(&origin, &mount, "films", "/d/", &["a.mkv", "sub"]), [304]);
    assert_eq!(look(&origin, &mount, "films/sub", "/d/sub/", &["c.mkv"]), [304]);
    origin.add("/d/new.mkv", Content::noise(7, 2));
    look(&origin, &mount, "films", "/d/", &["a.mkv", "new.mkv", "sub"]);
    assert_eq!(
        look(&origin, &mount, "films", "/d/", &["a.mkv", "new.mkv", "sub"]),
        [304]
    );

    // The validator counts for the filter that has made the listing.
    mount.unmount();
    library.write(&text("exclude = [\"*.mkv\"]"));
    mount.start();
    assert_eq!(names(&mount.path("films")), set(&["b.txt", "sub"]));
    wait_until("the names of the other filter", || {
        names(&mount.path("films/sub")).is_empty()
    });
}

#[test]
fn age_of_files_counts_although_the_server_has_the_same_listing() {
    let origin = tagged(&["/d/a"]);
    let library = Library::new(&format!(
        "[[source]]\nurl = \"{}\"\nattr_ttl = \"0s\"\nnewer = \"30d\"\n",
        origin.url("/d/")
    ));
    let mount = library.mount();
    let mark = origin.log().mark();
    for _ in 0..3 {
        names(&mount.root());
    }
    let all = origin.log().since(mark).statuses("/d/");
    assert!(all.iter().all(|&status| status == 200), "{all:?}");
}

#[test]
fn sources_at_one_place_are_confirmed_one_by_one() {
    let (first, second) = (tagged(&["/a", "/sub/a"]), tagged(&["/b", "/sub/b"]));
    let library = Library::new(&format!(
        "attr_ttl = \"0s\"\n[[source]]\nurl = \"{}\"\n[[source]]\nurl = \"{}\"\n",
        first.url("/"),
        second.url("/")
    ));
    let mut mount = library.mount();
    let look_at_both = |mount: &Mount, expected: &[&str]| {
        let mark = second.log().mark();
        let of_first = look(&first, mount, "sub", "/sub/", expected);
        let mut of_second = second.log().since(mark).statuses("/sub/");
        of_second.dedup();
        (of_first, of_second)
    };
    look_at_both(&mount, &["a", "b"]);
    // The listings of both are stored with the merged one.
    wait_until("both are confirmed", || {
        look_at_both(&mount, &["a", "b"]) == (vec![304], vec![304])
    });
    second.add("/sub/new", Content::noise(7, 2));
    assert_eq!(look_at_both(&mount, &["a", "b", "new"]).0, [304]);
    wait_until("both are confirmed", || {
        look_at_both(&mount, &["a", "b", "new"]) == (vec![304], vec![304])
    });
    assert_eq!(fs::metadata(mount.path("sub/new")).expect("a file").len(), 7);

    let marks = (first.log().mark(), second.log().mark());
    mount.remount();
    assert_eq!(names(&mount.path("sub")), set(&["a", "b", "new"]));
    wait_for_request(&first, marks.0, "/sub/");
    wait_for_request(&second, marks.1, "/sub/");
    assert_eq!(fs::metadata(mount.path("sub/new")).expect("a file").len(), 7);

    // What stands in for a source that fails is not taken for its answer.
    let failing = second.on("/sub/").fault(Fault::Status(500));
    second.add("/sub/later", Content::noise(8, 3));
    assert_eq!(names(&mount.path("sub")), set(&["a", "b", "new"]));
    failing.lift();
    wait_until("the other source is back", || names(&mount.path("sub")).len() == 4);
    first.add("/sub/a", "text");
    assert_text(&mount.path("sub/a"), "text");
}
