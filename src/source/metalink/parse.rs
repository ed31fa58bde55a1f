//! Parses Metalinks; pure.
//!
//! XML without entities of the document's own: a reference to one is an error, so no document can grow in memory. What
//! is unknown is ignored, as both versions demand: other elements, hashes by other algorithms, URLs of other schemes.

use std::borrow::Cow;

use encoding_rs::{Encoding, UTF_8};
use quick_xml::XmlVersion;
use quick_xml::events::{BytesRef, BytesStart, Event};
use quick_xml::reader::Reader;
use url::Url;

use super::element::Element;
use crate::origin::{Hash, HashAlgorithm, Pieces, Published};
use crate::source::document::{DocumentError, DocumentFile, FileUrl, LARGEST, Parsed, path_of, quote};

/// Maximum depth of elements. The deepest that is read is the sixth.
const DEEPEST: usize = 64;

/// The priority of a URL without one (RFC 5854 §4.1.2.6): the lowest.
const LOWEST: u32 = 999_999;

/// Parses a Metalink that came from `document`. URLs whose location is one of `locations` come first, in the order of
/// that list. Locations are country codes in lower case.
///
/// # Errors
/// If it is no Metalink or malformed, or if it names no file with a URL.
pub(crate) fn parse(document: &Url, body: &[u8], locations: &[String]) -> Result<Parsed, DocumentError> {
    let text = decode(body);
    let mut reader = Reader::from_str(&text);
    let config = reader.config_mut();
    // URLs often have a `&` that should have been escaped.
    config.allow_dangling_amp = true;
    config.expand_empty_elements = true;
    let mut metalink = Metalink {
        document,
        locations,
        parsed: Parsed::default(),
        open: Vec::new(),
        has_root: false,
        file: FileDraft::default(),
        text: String::new(),
        attributes: Attributes::default(),
    };
    loop {
        let event = reader.read_event();
        let line = |at: u64| {
            1 + text.as_bytes()[..at as usize]
                .iter()
                .filter(|&&byte| byte == b'\n')
                .count()
        };
        let step = match event {
            Err(error) => {
                let why = error.to_string().replace(['\n', '\r'], " ");
                return Err(DocumentError::in_line(
                    line(reader.error_position()),
                    format!("malformed XML: {why}"),
                ));
            }
            Ok(Event::Eof) => break,
            Ok(event) => metalink.read(event),
        };
        step.map_err(|why| DocumentError::in_line(line(reader.buffer_position()), why))?;
    }
    metalink.finish()
}

/// Returns true if a document's root element is that of a Metalink.
pub(super) fn is_metalink(body: &[u8]) -> bool {
    let text = decode(body);
    let mut reader = Reader::from_str(&text);
    loop {
        match reader.read_event() {
            Ok(Event::Start(tag) | Event::Empty(tag)) => return tag.local_name().as_ref() == "metalink",
            Ok(Event::Eof) | Err(_) => return false,
            Ok(_) => {}
        }
    }
}

/// The document as text. A byte order mark decides, then the XML declaration; the default is UTF-8.
fn decode(body: &[u8]) -> Cow<'_, str> {
    /// Where a declaration ends at the latest.
    const DECLARATION: usize = 200;
    let head = String::from_utf8_lossy(&body[..body.len().min(DECLARATION)]);
    let declaration = head.strip_prefix("<?xml").and_then(|rest| rest.split_once("?>"));
    let label = declaration.and_then(|(declaration, _)| {
        let (_, value) = declaration.split_once("encoding")?;
        value
            .trim_start()
            .strip_prefix('=')?
            .trim_start()
            .split(['"', '\''])
            .nth(1)
    });
    let encoding = label.and_then(|label| Encoding::for_label_no_replacement(label.as_bytes()));
    encoding.unwrap_or(UTF_8).decode(body).0
}

/// The reader's state.
struct Metalink<'a> {
    document: &'a Url,
    locations: &'a [String],
    parsed: Parsed,
    /// The elements that are open, the innermost last.
    open: Vec<Element>,
    has_root: bool,
    file: FileDraft,
    /// Text of the innermost element, if it is read.
    text: String,
    /// Of the innermost element whose text is read.
    attributes: Attributes,
}

/// The attributes that are read.
#[derive(Default)]
struct Attributes {
    name: Option<String>,
    kind: Option<String>,
    location: Option<String>,
    priority: Option<u32>,
    preference: Option<u32>,
    length: Option<u64>,
    piece: Option<u64>,
}

impl Attributes {
    fn of(tag: &BytesStart<'_>) -> Result<Attributes, String> {
        let mut attributes = Attributes::default();
        for attribute in tag.attributes() {
            let attribute = attribute.map_err(|error| format!("malformed XML: {error}"))?;
            let value = attribute.normalized_value(XmlVersion::Implicit1_0);
            let value = value.map_err(|error| format!("malformed XML: {error}"))?;
            let value = value.trim();
            match attribute.key.local_name().as_ref() {
                "name" => attributes.name = Some(value.to_owned()),
                "type" => attributes.kind = Some(value.to_owned()),
                "location" => attributes.location = Some(value.to_ascii_lowercase()),
                "priority" => attributes.priority = value.parse().ok(),
                "preference" => attributes.preference = value.parse().ok(),
                "length" => attributes.length = value.parse().ok(),
                "piece" => attributes.piece = value.parse().ok(),
                _ => {}
            }
        }
        Ok(attributes)
    }
}

/// A file while its element is open.
#[derive(Default)]
struct FileDraft {
    name: String,
    size: Option<u64>,
    hashes: Vec<Hash>,
    /// The strongest that are known, and those of the element that is open.
    pieces: Option<PiecesDraft>,
    open_pieces: Option<PiecesDraft>,
    /// With their ranks: the position of the location among the preferred ones, then the priority.
    urls: Vec<((usize, u32), Url)>,
}

struct PiecesDraft {
    algorithm: HashAlgorithm,
    length: u64,
    /// With the positions that version 3 gives them.
    hashes: Vec<(u64, Hash)>,
}

impl Metalink<'_> {
    fn read(&mut self, event: Event<'_>) -> Result<(), String> {
        match event {
            Event::Start(tag) => self.start(&tag),
            Event::End(_) => self.end(),
            Event::Text(text) => {
                self.add(&text);
                Ok(())
            }
            Event::CData(text) => {
                self.add(&text);
                Ok(())
            }
            Event::GeneralRef(reference) => self.refer(&reference),
            // `Empty` does not occur: such elements are expanded.
            Event::Empty(_) | Event::Comment(_) | Event::Decl(_) | Event::PI(_) | Event::DocType(_) | Event::Eof => {
                Ok(())
            }
        }
    }

    fn add(&mut self, text: &str) {
        if self.open.last().is_some_and(|element| element.has_text()) {
            self.text.push_str(text);
        }
    }

    fn refer(&mut self, reference: &BytesRef<'_>) -> Result<(), String> {
        let malformed = |what: &dyn std::fmt::Display| format!("malformed XML: {what}");
        let resolved = reference.resolve_char_ref().map_err(|error| malformed(&error))?;
        match resolved {
            Some(character) => self.add(character.encode_utf8(&mut [0; 4])),
            None => {
                let known = quick_xml::escape::resolve_predefined_entity(reference);
                let text = known.ok_or_else(|| malformed(&format!("unknown entity {}", quote(reference))))?;
                self.add(text);
            }
        }
        Ok(())
    }

    fn start(&mut self, tag: &BytesStart<'_>) -> Result<(), String> {
        let name = tag.local_name();
        let name = name.as_ref();
        if self.open.len() >= DEEPEST {
            return Err(format!("more than {DEEPEST} elements are nested"));
        }
        let element = match Element::of(name, self.open.last().copied()) {
            Some(_) if self.open.is_empty() && self.has_root => return Err("it has two root elements".to_owned()),
            Some(element) => element,
            None => {
                return Err(format!(
                    "it is no Metalink: its root element is {}",
                    quote(&format!("<{name}>"))
                ));
            }
        };
        self.has_root = true;
        self.open.push(element);
        if element.has_text() {
            self.text.clear();
            self.attributes = Attributes::of(tag)?;
        }
        match element {
            Element::File => {
                let name = Attributes::of(tag)?.name;
                self.file = FileDraft {
                    name: name.ok_or("a <file> has no name")?,
                    ..FileDraft::default()
                };
            }
            Element::Pieces => {
                let attributes = Attributes::of(tag)?;
                let algorithm = attributes.kind.as_deref().and_then(HashAlgorithm::named);
                let length = attributes.length.filter(|&length| length > 0);
                self.file.open_pieces = algorithm.zip(length).map(|(algorithm, length)| PiecesDraft {
                    algorithm,
                    length,
                    hashes: Vec::new(),
                });
            }
            _ => {}
        }
        Ok(())
    }

    fn end(&mut self) -> Result<(), String> {
        match self.open.pop() {
            Some(Element::Size) => {
                let size = self.text.trim().parse().ok().filter(|&size| size <= LARGEST);
                self.file.size = Some(size.ok_or_else(|| format!("{} is not a size in bytes", quote(&self.text)))?);
            }
            Some(Element::Hash) => {
                if let Some(algorithm) = self.attributes.kind.as_deref().and_then(HashAlgorithm::named) {
                    let hash = self.hash(algorithm)?;
                    self.file.hashes.push(hash);
                }
            }
            Some(Element::PieceHash) => {
                if let Some(mut pieces) = self.file.open_pieces.take() {
                    let hash = self.hash(pieces.algorithm)?;
                    let position = self.attributes.piece.unwrap_or(pieces.hashes.len() as u64);
                    pieces.hashes.push((position, hash));
                    self.file.open_pieces = Some(pieces);
                }
            }
            Some(Element::Pieces) => {
                let stronger = self.file.open_pieces.take();
                let known = self.file.pieces.as_ref().map(|pieces| pieces.algorithm);
                if stronger.as_ref().map(|pieces| pieces.algorithm) > known {
                    self.file.pieces = stronger;
                }
            }
            Some(Element::Url) => self.add_url(),
            Some(Element::File) => self.add_file(),
            _ => {}
        }
        Ok(())
    }

    fn hash(&self, algorithm: HashAlgorithm) -> Result<Hash, String> {
        let hash = Hash::from_hex(algorithm, &self.text);
        hash.ok_or_else(|| {
            let digits = 2 * algorithm.len();
            format!(
                "{} is not a hash of {digits} hexadecimal digits",
                quote(self.text.trim())
            )
        })
    }

    /// Adds a URL of the file. Others than those of http and https, such as torrents, can't be used.
    fn add_url(&mut self) {
        let attributes = &self.attributes;
        let kind = attributes.kind.as_deref().unwrap_or("http");
        if !kind.eq_ignore_ascii_case("http") && !kind.eq_ignore_ascii_case("https") {
            return;
        }
        let FileUrl::Web(url) = FileUrl::read(self.document, self.text.trim()) else {
            return;
        };
        if self.text.trim().is_empty() || self.file.urls.iter().any(|(_, known)| *known == url) {
            return;
        }
        let place = self
            .locations
            .iter()
            .position(|near| Some(near) == attributes.location.as_ref());
        // Version 4 counts from 1, the best; version 3 from 100 downwards.
        let by_preference = attributes
            .preference
            .map(|preference| 101_u32.saturating_sub(preference));
        let priority = attributes.priority.or(by_preference).unwrap_or(LOWEST);
        let rank = (place.unwrap_or(self.locations.len()), priority);
        self.file.urls.push((rank, url));
    }

    fn add_file(&mut self) {
        let mut file = std::mem::take(&mut self.file);
        let Some(path) = path_of(file.name.as_bytes()) else {
            self.parsed.left_out.refused += 1;
            return;
        };
        // Of equal rank, the document's order counts.
        file.urls.sort_by_key(|(rank, _)| *rank);
        let mut urls = file.urls.into_iter().map(|(_, url)| url);
        let Some(url) = urls.next() else {
            self.parsed.left_out.unsupported += 1;
            return;
        };
        let pieces = file
            .pieces
            .zip(file.size)
            .and_then(|(pieces, size)| pieces.of_file(size));
        self.parsed.files.push(DocumentFile {
            path,
            url,
            size: file.size,
            modified: None,
            published: Published {
                alternates: urls.collect(),
                hashes: file.hashes,
                pieces,
                headers: Vec::new(),
            },
        });
    }

    fn finish(self) -> Result<Parsed, DocumentError> {
        if !self.has_root {
            return Err(DocumentError::new("it is no Metalink: it has no elements"));
        }
        if !self.open.is_empty() {
            return Err(DocumentError::new(
                "the Metalink ends before its elements do; is it whole?",
            ));
        }
        if self.parsed.files.is_empty() {
            return Err(DocumentError::new(match self.parsed.left_out.unsupported {
                0 => "the Metalink has no file in it",
                _ => "none of the Metalink's files has a URL of http or https",
            }));
        }
        Ok(self.parsed)
    }
}

impl PiecesDraft {
    /// `None` if they are not those of a file of this size.
    fn of_file(mut self, size: u64) -> Option<Pieces> {
        self.hashes.sort_by_key(|(position, _)| *position);
        let is_numbered = (0..).zip(&self.hashes).all(|(position, (given, _))| position == *given);
        let is_whole = self.hashes.len() as u64 == size.div_ceil(self.length) && size > 0;
        (is_numbered && is_whole).then(|| Pieces {
            length: self.length,
            hashes: self.hashes.into_iter().map(|(_, hash)| hash).collect(),
        })
    }
}

#[cfg(test)]
mod tests {
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
        let body = b"<?xml version='1.0' encoding='iso-8859-1'?><metalink><file name='caf\xe9'><url>/a</url></file></metalink>";
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
}
