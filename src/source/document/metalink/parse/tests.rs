use proptest::prelude::*;

use super::*;

const FOUR: &str = r#"<?xml version="1.0" encoding="UTF-8"?>
<!DOCTYPE metalink>
<metalink xmlns="urn:ietf:params:xml:ns:metalink">
  <published>2009-05-15T12:23:23Z</published>
  <file name="films/example &amp; co.ext">
    <size>14471447</size>
    <identity>Example</identity>
    <hash type="sha-256">f0ad929cd259957e160ea442eb80986b5f0ad929cd259957e160ea442eb80986</hash>
    <hash type="whirlpool">00</hash>
    <pieces length="10000000" type="sha-1">
      <hash>d96b9a4b92a899c2099b7b31bddb5ca423bb9b30</hash>
      <hash>10d68f4b1119014c123da2a0a6baf5c8a6d5ba1e</hash>
    </pieces>
    <pieces length="10000000" type="sha-256"><hash>zz</hash></pieces>
    <url location="us">ftp://ftp.example.com/example.ext</url>
    <url location="us" priority="2">http://us.example.com/a?x=1&y=2</url>
    <url location="de" priority="3">http://de.example.com/a</url>
    <url priority="1">http://best.example.com/a</url>
    <url location="fr">relative/a</url>
    <metaurl mediatype="torrent" priority="1">http://example.com/example.ext.torrent</metaurl>
  </file>
  <file name="b"><url><![CDATA[http://h/b]]></url></file>
</metalink>"#;

const THREE: &str = r#"<m:metalink version="3.0" xmlns:m="http://www.metalinker.org/">
 <m:files>
  <m:file name="a.iso">
   <m:size> 201 </m:size>
   <m:verification>
    <m:hash type="md5">d41d8cd98f00b204e9800998ecf8427e</m:hash>
    <m:pieces length="100" type="md5">
     <m:hash piece="1">11111111111111111111111111111111</m:hash>
     <m:hash piece="0">00000000000000000000000000000000</m:hash>
     <m:hash piece="2">22222222222222222222222222222222</m:hash>
    </m:pieces>
   </m:verification>
   <m:resources maxconnections="5">
    <m:url type="bittorrent" preference="100">http://h/a.torrent</m:url>
    <m:url type="http" location="de" preference="10">http://h/low</m:url>
    <m:url type="http" location="us" preference="95">http://h/high</m:url>
    <m:url type="https">https://h/none</m:url>
   </m:resources>
  </m:file>
  <m:file name="../up"><m:resources><m:url>http://h/x</m:url></m:resources></m:file>
  <m:file name="torrent only"><m:resources/></m:file>
 </m:files>
</m:metalink>"#;

fn read(body: &str, locations: &[&str]) -> Result<Parsed, String> {
    let document = Url::parse("https://host/dir/x.meta4").unwrap();
    let locations: Vec<String> = locations.iter().map(|&location| location.to_owned()).collect();
    parse(&document, body.as_bytes(), &locations).map_err(|error| error.to_string())
}

fn urls(file: &DocumentFile) -> Vec<&str> {
    let alternates = file.published.alternates.iter();
    std::iter::once(&file.url).chain(alternates).map(Url::as_str).collect()
}

#[test]
fn version_4_is_read() {
    let four = FOUR.replace(
        "<pieces length=\"10000000\" type=\"sha-256\"><hash>zz</hash></pieces>",
        "",
    );
    let files = read(&four, &[]).unwrap().files;
    let path: Vec<_> = files[0]
        .path
        .iter()
        .map(|name| name.as_os_str().to_str().unwrap())
        .collect();
    assert_eq!(
        (path.as_slice(), files[0].size),
        (&["films", "example & co.ext"][..], Some(14_471_447))
    );
    let expected = [
        "http://best.example.com/a",
        "http://us.example.com/a?x=1&y=2",
        "http://de.example.com/a",
        "https://host/dir/relative/a",
    ];
    assert_eq!(urls(&files[0]), expected);
    assert_eq!(files[0].published.hashes.len(), 1);
    let pieces = files[0].published.pieces.as_ref().unwrap();
    assert_eq!(
        (pieces.hashes.len(), pieces.length, pieces.hashes[1].digest()[0]),
        (2, 10_000_000, 0x10)
    );
    assert_eq!((urls(&files[1]), files[1].size), (vec!["http://h/b"], None));
}

#[test]
fn version_3_is_read() {
    let parsed = read(THREE, &[]).unwrap();
    let file = &parsed.files[0];
    assert_eq!(urls(file), ["http://h/high", "http://h/low", "https://h/none"]);
    assert_eq!(
        (file.size, file.published.hashes[0].algorithm),
        (Some(201), HashAlgorithm::Md5)
    );
    let pieces = file.published.pieces.as_ref().unwrap();
    assert_eq!((pieces.hashes[0].digest()[0], pieces.hashes[2].digest()[0]), (0, 0x22));
    assert_eq!((parsed.left_out.refused, parsed.left_out.unsupported), (1, 1));
}

#[test]
fn metalink_is_recognised_by_its_root() {
    assert!(is_metalink(FOUR.as_bytes()) && is_metalink(THREE.as_bytes()) && is_metalink(b"<metalink/>"));
    for other in ["<html><metalink/>", "metalink", "", "<!-- <metalink> -->", "<"] {
        assert!(!is_metalink(other.as_bytes()), "{other}");
    }
}

#[test]
fn preferred_location_comes_first() {
    assert_eq!(urls(&read(THREE, &["de"]).unwrap().files[0])[0], "http://h/low");
    let both = read(THREE, &["fr", "us", "de"]).unwrap();
    assert_eq!(
        urls(&both.files[0]),
        ["http://h/high", "http://h/low", "https://h/none"]
    );
}

#[test]
fn pieces_of_another_size_do_not_count() {
    for (before, after) in [
        (" 201 ", "301"),
        ("piece=\"2\"", "piece=\"3\""),
        ("<m:size> 201 </m:size>", ""),
    ] {
        let parsed = read(&THREE.replace(before, after), &[]).unwrap();
        assert_eq!(parsed.files[0].published.pieces, None, "{after}");
    }
}

#[test]
fn strongest_pieces_count() {
    let digest = |digits: &str, number| digits.repeat(number);
    let body = format!(
        "<metalink><file name='a'><size>1</size><url>http://h/a</url>\
             <pieces type='sha-1' length='1'><hash>{}</hash></pieces>\
             <pieces type='sha-256' length='2'><hash>{}</hash></pieces>\
             <pieces type='md5' length='3'><hash>{}</hash></pieces>\
             <pieces type='crc32' length='4'><hash>0</hash></pieces></file></metalink>",
        digest("1", 40),
        digest("2", 64),
        digest("3", 32)
    );
    let files = read(&body, &[]).unwrap().files;
    assert_eq!(
        files[0].published.pieces.as_ref().unwrap().hashes[0].algorithm,
        HashAlgorithm::Sha256
    );
}

#[test]
fn declared_encoding_counts() {
    let document = Url::parse("https://host/x").unwrap();
    let body =
        b"<?xml version='1.0' encoding='iso-8859-1'?><metalink><file name='caf\xe9'><url>/a</url></file></metalink>";
    let parsed = parse(&document, body, &[]).unwrap();
    assert_eq!(parsed.files[0].path[0].as_os_str(), "café");
}

#[test]
fn error_names_the_line() {
    for (body, why) in [
        (FOUR, "line 14: `zz` is not a hash of 64 hexadecimal digits"),
        (
            "<html>\n</html>",
            "line 1: it is no Metalink: its root element is `<html>`",
        ),
        ("", "it is no Metalink: it has no elements"),
        (
            "<metalink>\n<file name='a'>",
            "the Metalink ends before its elements do; is it whole?",
        ),
        ("<metalink>\n\n<file/></metalink>", "line 3: a <file> has no name"),
        (
            "<metalink>\n<file name='a'><size>12k</size>",
            "line 2: `12k` is not a size in bytes",
        ),
        ("<metalink></metalink>", "the Metalink has no file in it"),
        (
            "<metalink><file name='a'><url>ftp://h/a</url></file></metalink>",
            "none of the Metalink's files has a URL of http or https",
        ),
        ("<metalink/><metalink/>", "line 1: it has two root elements"),
        (
            "<metalink><file name='a'><url>&lol;</url></file></metalink>",
            "line 1: malformed XML: unknown entity `lol`",
        ),
    ] {
        assert_eq!(read(body, &[]).unwrap_err(), why, "{body}");
    }
    let wrong_end = read("<metalink>\n<file name='a'>\n</metalink>", &[]).unwrap_err();
    assert!(wrong_end.starts_with("line 3: malformed XML: "), "{wrong_end}");
    let deep = read(&"<metalink>".repeat(100), &[]).unwrap_err();
    assert_eq!(deep, "line 1: more than 64 elements are nested");
}

proptest! {
    #[test]
    fn nothing_in_a_metalink_panics(body: Vec<u8>) {
        crate::source::fuzzing::metalink(&body);
    }

    #[test]
    fn nothing_like_a_metalink_panics(
        parts in proptest::collection::vec(
            prop::sample::select(vec![
                "<metalink>", "</metalink>", "<files>", "<file name='a/b'>", "<file name='..'>", "</file>", "<size>",
                "7", "</size>", "<hash type='md5'>", "d41d8cd98f00b204e9800998ecf8427e", "</hash>", "<url>",
                "http://h/x", "</url>", "<pieces type='md5' length='7'>", "<hash piece='0'>", "</pieces>", "&amp;",
                "&", "<![CDATA[", "]]>", "<!--", "-->", "<?xml encoding='utf-16'?>", "\n", "priority='1'", "é",
            ]),
            0..40,
        )
    ) {
        crate::source::fuzzing::metalink(parts.concat().as_bytes());
        crate::source::fuzzing::metalink(format!("<metalink><file name='a'>{}", parts.concat()).as_bytes());
    }
}
