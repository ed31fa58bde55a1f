//! Stored names, and which are deleted first.

use url::Url;

use super::*;
use crate::cache::index::{PinRow, ROW};

fn key(url: &str) -> UrlKey {
    UrlKey::new(&Url::parse(url).unwrap())
}

fn version(tag: &str) -> Version {
    Version {
        size: 7,
        validator: Validator::Strong(format!("\"{tag}\"")),
    }
}

fn file(tag: &str) -> CatalogUpdate {
    CatalogUpdate::File {
        url_key: key("http://h/f"),
        row: FileRow {
            version: version(tag),
            modified: Some(date(1_704_067_200)),
        },
    }
}

#[test]
fn catalog_survives_reopening() {
    let dir = tempfile::tempdir().unwrap();
    let row = |names: &[u8]| ListingRow {
        names: names.to_vec(),
        modified: None,
    };
    let listing = |names: &[u8]| CatalogUpdate::Listing {
        url_key: key("http://h/d/"),
        url: "http://h/d/".into(),
        row: row(names),
    };
    {
        let index = ChunkIndex::open(dir.path()).unwrap();
        for saying in [listing(b"old"), listing(b"new\xff"), file("old"), file("new")] {
            index.note(saying);
        }
    }
    let index = ChunkIndex::open(dir.path()).unwrap();
    assert_eq!(index.listing(&key("http://h/d/")), Some(row(b"new\xff")));
    assert_eq!(index.listing(&key("http://h/d/?other")), None);
    let found = index.file(&key("http://h/f")).unwrap();
    assert_eq!(
        (found.version, found.modified),
        (version("new"), Some(date(1_704_067_200)))
    );
    index.note(CatalogUpdate::NoListing {
        url_key: key("http://h/d/"),
    });
    index.note(CatalogUpdate::NoFile {
        url_key: key("http://h/f"),
    });
    index.sync();
    assert_eq!(index.listing(&key("http://h/d/")), None);
    assert_eq!(index.file(&key("http://h/f")), None);
}

#[test]
fn only_the_version_that_is_known_to_be_replaced_is_dropped() {
    let dir = tempfile::tempdir().unwrap();
    let index = ChunkIndex::open(dir.path()).unwrap();
    let outdated = |tag| CatalogUpdate::Outdated {
        url_key: key("http://h/f"),
        version: version(tag),
    };
    index.note(file("new"));
    index.note(outdated("old"));
    assert!(index.file(&key("http://h/f")).is_some());
    index.note(outdated("new"));
    assert_eq!(index.file(&key("http://h/f")), None);
}

#[test]
fn unused_names_expire_except_above_pins() {
    let dir = tempfile::tempdir().unwrap();
    let index = ChunkIndex::open(dir.path()).unwrap();
    let paths = ["", "old/", "used/", "pinned/", "pinned/below/", "to/", "to/pin/"];
    for path in paths {
        let url = format!("http://h/{path}");
        index.note(CatalogUpdate::Listing {
            url_key: key(&url),
            url,
            row: ListingRow {
                names: Vec::new(),
                modified: None,
            },
        });
    }
    for name in ["old", "used", "cached"] {
        index.note(CatalogUpdate::File {
            url_key: key(&format!("http://h/{name}")),
            row: FileRow {
                version: version("v"),
                modified: None,
            },
        });
    }
    for (url, is_directory) in [("http://h/pinned/", true), ("http://h/to/pin/file", false)] {
        index.record(Record::Pin(PinRow {
            url_key: key(url),
            url: url.to_owned(),
            is_directory,
        }));
    }
    index.sync();
    let changed = index.connections.write(|writer| {
        writer.execute_batch("UPDATE listings SET used = 10; UPDATE remote_files SET used = 10")?;
        let sql = "INSERT INTO cache_entries (entry_key, url_key, url, size, validator, chunk_size, chunk_count, confirmed, last_used)
                   VALUES ('k', ?1, 'u', 7, 'v', 4096, 1, 0, 0)";
        writer.execute(sql, [key("http://h/cached").as_str()])
    });
    changed.unwrap();
    index.note(CatalogUpdate::NotUsedSince(10));
    index.sync();
    assert!(
        paths
            .iter()
            .all(|path| index.listing(&key(&format!("http://h/{path}"))).is_some())
    );
    index.note(CatalogUpdate::UsedListing {
        url_key: key("http://h/used/"),
    });
    index.note(CatalogUpdate::UsedFile {
        url_key: key("http://h/used"),
    });
    index.note(CatalogUpdate::NotUsedSince(11));
    index.sync();
    let gone: Vec<_> = paths
        .into_iter()
        .filter(|path| index.listing(&key(&format!("http://h/{path}"))).is_none())
        .collect();
    assert_eq!(gone, ["old/"]);
    let known = ["old", "used", "cached"].map(|name| index.file(&key(&format!("http://h/{name}"))).is_some());
    assert_eq!(known, [false, true, true]);
}

#[test]
fn oldest_uncached_names_are_dropped_first() {
    let dir = tempfile::tempdir().unwrap();
    let index = ChunkIndex::open(dir.path()).unwrap();
    let url = |number: u32| format!("http://h/{number}/");
    for number in 0..10 {
        index.note(CatalogUpdate::Listing {
            url_key: key(&url(number)),
            url: url(number),
            row: ListingRow {
                names: vec![b'x'; 850],
                modified: None,
            },
        });
        index.note(CatalogUpdate::File {
            url_key: key(&url(number)),
            row: FileRow {
                version: version("v"),
                modified: None,
            },
        });
    }
    index.sync();
    // An earlier number is an older row; some bytes of file 0 are cached.
    let changed = index.connections.write(|writer| {
        for number in 0..10 {
            let told = (number, key(&url(number)).as_str().to_owned());
            writer.execute("UPDATE listings SET listed = ?1 WHERE url_key = ?2", told.clone())?;
            writer.execute("UPDATE remote_files SET confirmed = ?1 WHERE url_key = ?2", told)?;
        }
        let sql = "INSERT INTO cache_entries (entry_key, url_key, url, size, validator, chunk_size, chunk_count, confirmed, last_used)
               VALUES ('k', ?1, 'u', 7, 'v', 4096, 1, 0, 0)";
        writer.execute(sql, [key(&url(0)).as_str()])
    });
    changed.unwrap();
    index.note(CatalogUpdate::Most {
        listings: 3200,
        files: 3 * ROW,
    });
    index.sync();
    let listed: Vec<_> = (0..10)
        .filter(|&number| index.listing(&key(&url(number))).is_some())
        .collect();
    let known: Vec<_> = (0..10)
        .filter(|&number| index.file(&key(&url(number))).is_some())
        .collect();
    assert_eq!((listed, known), (vec![7, 8, 9], vec![0, 7, 8, 9]));
}
