//! The parsers with answers of real servers that were damaged at random. `make fuzz` searches better; this needs no other
//! toolchain. `MUTATIONS=100000` makes it search for minutes.

use std::fs;
use std::path::Path;

use super::*;

/// A parser, with samples of what it reads.
type Case = (&'static str, fn(&[u8]), Vec<Vec<u8>>);

/// The files of a folder whose names end so.
fn fixtures(folder: &str, ending: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    let names = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path());
    let files: Vec<_> = names.filter(|path| path.to_string_lossy().ends_with(ending)).collect();
    assert!(!files.is_empty(), "{}", folder.display());
    let read = |path| {
        let text: Vec<u8> = fs::read(path).unwrap();
        // Some were recorded with their heads.
        let start = if text.starts_with(b"HTTP/") {
            text.iter().position(|&byte| byte == b'<')
        } else {
            None
        };
        text[start.unwrap_or(0)..].to_vec()
    };
    files.iter().map(read).collect()
}

fn cases() -> [Case; 8] {
    let of_metalink = br#"<metalink xmlns="urn:ietf:params:xml:ns:metalink"><file name="a/b.iso"><size>7</size>
        <hash type="sha-256">e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855</hash>
        <pieces length="4" type="sha-1"><hash>da39a3ee5e6b4b0d3255bfef95601890afd80709</hash></pieces>
        <url location="de" priority="1">http://h/b.iso</url></file></metalink>"#;
    let playlist = b"#EXTM3U\n#EXTINF:215,Artist - Title\n#EXTVLCOPT:http-user-agent=P/1.0\nhttp://h/a.mp3\nb/c.mp3\n";
    let urls = b"# a\nhttp://h/a b.iso\nhttp://h/get?id=7\tfilms/b.mkv\t734003200\t-\n";
    let json = br#"[{"url": ["http://h/a", "http://m/a"], "name": "d/a", "size": 7, "mtime": "2023-11-14T22:13:20Z"}]"#;
    [
        ("webdav", webdav, fixtures("tests/fixtures/webdav", ".names.txt")),
        ("s3", s3, fixtures("tests/fixtures/s3", ".xml")),
        (
            "data_listing",
            data_listing,
            fixtures("tests/fixtures/servers/json", ".json"),
        ),
        ("archive", archive, fixtures("fuzz/corpus/archive", "")),
        ("aws", aws, fixtures("fuzz/corpus/aws", "")),
        ("metalink", metalink, vec![of_metalink.to_vec()]),
        ("m3u", m3u, vec![playlist.to_vec()]),
        ("list", list, vec![urls.to_vec(), json.to_vec()]),
    ]
}

/// Damages a document in one to four places.
fn mutate(random: &mut fastrand::Rng, document: &mut Vec<u8>) {
    const PIECES: [&[u8]; 16] = [
        b"/",
        b"..",
        b"%2F",
        b"%00",
        b"&#0;",
        b"<",
        b">",
        b"\"",
        b"\\u0000",
        b"\xff",
        b"-1",
        b"18446744073709551616",
        b"\n",
        b"?",
        b"#",
        b"=",
    ];
    for _ in 0..random.usize(1..=4) {
        let (from, to) = (random.usize(..=document.len()), random.usize(..=document.len()));
        let (start, end) = (from.min(to), from.max(to).min(from.min(to) + random.usize(..64)));
        match random.u8(..5) {
            0 => drop(document.drain(start..end)),
            1 => {
                let copy = document[start..end].to_vec();
                document.splice(to..to, copy);
            }
            2 if start < document.len() => document[start] ^= 1 << random.u8(..8),
            3 => document.truncate(document.len().max(1) - random.usize(..=document.len().min(1))),
            _ => drop(document.splice(start..start, PIECES[random.usize(..PIECES.len())].iter().copied())),
        }
    }
}

#[test]
fn damaged_answers_break_no_promise() {
    let number = std::env::var("MUTATIONS").ok().and_then(|number| number.parse().ok());
    for (name, parse, samples) in cases() {
        samples.iter().for_each(|sample| parse(sample));
        for seed in 0..number.unwrap_or(100_u64) {
            let mut random = fastrand::Rng::with_seed(seed);
            let mut document = samples[random.usize(..samples.len())].clone();
            mutate(&mut random, &mut document);
            let parsed = std::panic::catch_unwind(|| parse(&document));
            assert!(
                parsed.is_ok(),
                "{name}, seed {seed}: {}",
                String::from_utf8_lossy(&document)
            );
        }
    }
}
