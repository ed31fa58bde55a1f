//! How many requests trees in documents cost.

use std::process::Command;

use crate::common::{Mount, run, temporary_directory};
use crate::origin::{Content, Origin};

/// The files of a tree, with their folders.
const FILES: [&str; 4] = ["a.bin", "b.bin", "one/c.bin", "one/two/d.bin"];

const SIZE: u64 = 5000;

/// Requests for the document and for the files' servers: of the mount, and of each program after it.
#[derive(Debug, PartialEq, Eq)]
struct Counts {
    mount: usize,
    ls: usize,
    find: usize,
    cp: usize,
}

/// The requests for the tree of this document. All of its files come from the same server.
fn counts(origin: &Origin, source: &str, kind: &str) -> Counts {
    let mark = origin.log().mark();
    let mount = Mount::of(&origin.url(source))
        .with("--type", kind)
        .with("--attr-ttl", "1h")
        .start();
    let since = |from: usize| origin.log().since(from).0.len();
    let after_mount = origin.log().mark();
    run(Command::new("ls").arg("-lR").arg(mount.root())).succeeded();
    let after_ls = origin.log().mark();
    let found = run(Command::new("find")
        .arg(mount.root())
        .args(["-type", "f", "-size", "+1k"]))
    .succeeded();
    assert_eq!(found.out.lines().count(), FILES.len(), "{kind}");
    let after_find = origin.log().mark();
    let copy = temporary_directory();
    run(Command::new("cp").arg("-r").arg(mount.root()).arg(copy.path())).succeeded();
    Counts {
        mount: after_mount - mark,
        ls: after_ls - after_mount,
        find: after_find - after_ls,
        cp: since(after_find),
    }
}

#[test]
fn requests_of_ls_find_and_cp() {
    let origin = Origin::start();
    let mut in_json = Vec::new();
    let (mut list, mut playlist, mut metalink, mut item) =
        (String::new(), "#EXTM3U\n".to_owned(), String::new(), vec![]);
    for name in FILES {
        origin.add(&format!("/files/{name}"), Content::noise(SIZE, 1));
        origin.add(&format!("/download/item/{name}"), Content::noise(SIZE, 1));
        let url = origin.url(&format!("/files/{name}"));
        let date = "2023-11-14T22:13:20Z";
        in_json.push(format!(
            "{{\"url\": \"{url}\", \"name\": \"{name}\", \"size\": {SIZE}, \"mtime\": \"{date}\"}}"
        ));
        list.push_str(&format!("{url}\t{name}\t{SIZE}\n"));
        playlist.push_str(&format!("#EXTINF:1,{}\n{url}\n", name.replace('/', "-")));
        metalink.push_str(&format!(
            "<file name=\"{name}\"><size>{SIZE}</size><url>{url}</url></file>"
        ));
        item.push(format!(
            "{{\"name\": \"{name}\", \"size\": \"{SIZE}\", \"mtime\": \"1286000000\"}}"
        ));
    }
    origin.add("/l.txt", list.as_str());
    origin.add("/l.json", format!("[{}]", in_json.join(",")).as_str());
    origin.add("/l.m3u", playlist.as_str());
    let metalink = format!("<metalink xmlns=\"urn:ietf:params:xml:ns:metalink\">{metalink}</metalink>");
    origin.add("/l.meta4", metalink.as_str());
    origin.add(
        "/metadata/item",
        format!("{{\"files\": [{}]}}", item.join(",")).as_str(),
    );
    let files = FILES.len();
    // Where the document has no dates, or no sizes, each file is asked for its own, once.
    for (source, kind, mount, ls) in [
        ("/l.json", "list", 1, 0),
        ("/details/item", "archive", 1, 0),
        ("/l.txt", "list", 1, files),
        // Its server is asked first whether a Metalink describes it.
        ("/l.meta4", "metalink", 2, files),
        ("/l.m3u", "m3u", 1, files),
    ] {
        let expected = Counts {
            mount,
            ls,
            find: 0,
            cp: files,
        };
        assert_eq!(
            counts(&origin, source, kind),
            expected,
            "{source}: {:?}",
            origin.log().all()
        );
    }
}
