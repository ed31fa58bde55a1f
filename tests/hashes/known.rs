//! Hashes that are known beside listings, and those of trees in documents.

use std::fs;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use fetchfs::internals::events;
use sha1::{Digest, Sha1};

use super::{MIB, digits, getxattr, listxattr, number_of_verified, with_wrong_byte};
use crate::common::files::{errno_of, sha256, sha256_of};
use crate::common::{Mount, wait_until};
use crate::origin::{Content, Fault, Origin};

const SHA256: &str = "user.fetchfs.sha256";

/// A file whose published hash has another form: in JSON, and of an item of the Internet Archive.
#[test]
fn lie_about_a_file_of_a_list_in_json_or_an_item_is_an_error() {
    let right = Content::noise(MIB, 70);
    let wrong = with_wrong_byte(&right, MIB / 2);
    let sha1: String = Sha1::digest(right.whole())
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let origin = Origin::start();
    for (name, content) in [("good", &right), ("bad", &wrong)] {
        origin.add(&format!("/files/{name}"), content.clone());
        origin.add(&format!("/download/item/{name}"), content.clone());
    }
    let in_json = |name: &str| {
        let (url, hash) = (origin.url(&format!("/files/{name}")), digits(&right));
        format!("{{\"url\": \"{url}\", \"name\": \"{name}\", \"size\": {MIB}, \"sha256\": \"{hash}\"}}")
    };
    origin.add("/l.json", format!("[{}, {}]", in_json("good"), in_json("bad")).as_str());
    let in_item = |name: &str| format!("{{\"name\": \"{name}\", \"size\": \"{MIB}\", \"sha1\": \"{sha1}\"}}");
    let item = format!("{{\"files\": [{}, {}]}}", in_item("good"), in_item("bad"));
    origin.add("/metadata/item", item.as_str());

    for (source, kind, liar) in [
        ("/l.json", "list", "/files/bad"),
        ("/details/item", "archive", "/download/item/bad"),
    ] {
        let plan = Mount::of(&origin.url(source)).with("--type", kind);
        let mount = plan.with("--attr-ttl", "1h").start();
        assert_eq!(sha256(&mount.path("good")), sha256_of(&right), "{kind}");
        let bad = mount.path("bad");
        let _ = fs::read(&bad);
        mount.wait_for_event_with(events::HASH_MISMATCH, &origin.url(liar), 1);
        let read = || fs::read(&bad).map(|bytes| bytes.len());
        wait_until("an error", || read().is_err());
        assert_eq!(errno_of(read()), libc::EIO, "{kind}");
        assert_eq!(
            mount.events(events::HASH_MISMATCH),
            1,
            "{kind}: the other file is what it says"
        );
        assert_eq!(sha256(&mount.path("good")), sha256_of(&right), "{kind}");
    }
}

/// The checksum file of a release is called like the release, in BSD's form and with a signature around it, as those of
/// Fedora are. Its hash is an attribute of the file that has it, once they were compared.
#[test]
fn signed_checksum_file_of_a_release_is_found() {
    let (good, stale) = (Content::noise(MIB, 80), Content::noise(MIB, 81));
    let origin = Origin::start();
    origin.add("/d/Live-43-1.6.iso", good.clone());
    origin.add("/d/Netinst-43-1.6.iso", stale.clone());
    let line = |name: &str| format!("# {name}: {MIB} bytes\nSHA256 ({name}) = {}\n", digits(&good));
    let lines = line("Live-43-1.6.iso") + &line("Netinst-43-1.6.iso");
    let signature = "-----BEGIN PGP SIGNATURE-----\n\niQIzBAEBCAAd\n=abcd\n-----END PGP SIGNATURE-----\n";
    let text = format!("-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA256\n\n{lines}{signature}");
    origin.add("/d/Release-43-1.6-x86_64-CHECKSUM", text.as_str());
    let mut mount = Mount::of(&origin.url("/d/")).with("--attr-ttl", "1h").start();
    let value = |mount: &Mount, name: &str| getxattr(&mount.path(name), SHA256).ok();
    fs::metadata(mount.path("Live-43-1.6.iso")).expect("a file");
    assert_eq!(value(&mount, "Live-43-1.6.iso"), None, "nothing is requested for it");
    for _ in 0..2 {
        assert_eq!(sha256(&mount.path("Live-43-1.6.iso")), sha256_of(&good));
        assert_eq!(sha256(&mount.path("Netinst-43-1.6.iso")), sha256_of(&stale));
        wait_until("both were compared", || number_of_verified(&mount) == 2);
        wait_until("the hash is known", || {
            value(&mount, "Live-43-1.6.iso") == Some(digits(&good))
        });
        assert_eq!(value(&mount, "Netinst-43-1.6.iso"), None, "it has another one");
        mount.remount();
    }
}

#[test]
fn digest_of_a_response_is_an_extended_attribute() {
    let content = Content::noise(MIB, 90);
    let field = format!("sha-256=:{}:", BASE64_STANDARD.encode(sha256_of(&content)));
    let origin = Origin::start();
    origin.add("/d/f", content.clone());
    origin
        .on("/d/f")
        .data()
        .fault(Fault::Header("Repr-Digest", Box::leak(field.into_boxed_str())));
    let mount = Mount::of(&origin.url("/d/")).with("--attr-ttl", "1h").start();
    fs::metadata(mount.path("f")).expect("a file");
    assert!(listxattr(&mount.path("f")).is_empty());
    assert_eq!(sha256(&mount.path("f")), sha256_of(&content));
    let mark = origin.log().mark();
    assert_eq!(getxattr(&mount.path("f"), SHA256).expect("a value"), digits(&content));
    assert_eq!(listxattr(&mount.path("f")), [SHA256]);
    assert!(origin.log().since(mark).0.is_empty(), "it costs no request");
}
