//! Parses Metalinks; pure.
//!
//! XML without entities of the document's own: a reference to one is an error, so no document can grow in memory. What
//! is unknown is ignored, as both versions demand: other elements, hashes by other algorithms, URLs of other schemes.

#[cfg(test)]
mod tests;

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
