//! nginx with `autoindex_format xml`:
//!
//! ```xml
//! <?xml version="1.0"?>
//! <list>
//! <directory mtime="2023-11-14T22:13:27Z">dates</directory>
//! <file mtime="2023-11-14T22:13:20Z" size="110">top.txt</file>
//! </list>
//! ```
//!
//! nginx writes names that are not UTF-8 as the bytes they are. No parser of XML accepts that, so such a document is read
//! as Latin-1, which has a character for each byte, and the names are turned back to bytes.

use std::borrow::Cow;

use quick_xml::Reader;
use quick_xml::events::{BytesRef, BytesStart, Event};

use super::directory::{Directory, Row};
use super::{Failure, NotAListing};
use crate::source::listing::date;
use crate::source::{EntryKind, ListedSize};

/// The root element.
const LIST: &str = "list";

/// Maximum bytes before the root element: a declaration and comments.
const PROLOG: usize = 4 << 10;

/// Returns true if the document's root is nginx's. A page in XHTML or the listing of a bucket has another one.
pub(super) fn is_listing(body: &[u8]) -> bool {
    let start = String::from_utf8_lossy(&body[..body.len().min(PROLOG)]);
    let mut reader = Reader::from_str(&start);
    loop {
        match reader.read_event() {
            Ok(Event::Decl(_) | Event::Text(_) | Event::Comment(_) | Event::PI(_)) => {}
            Ok(Event::Start(root) | Event::Empty(root)) => return root.name().as_ref() == LIST,
            _ => return false,
        }
    }
}

/// The document as text.
struct Document<'a> {
    text: Cow<'a, str>,
    is_latin1: bool,
}

impl Document<'_> {
    fn of(body: &[u8]) -> Document<'_> {
        match std::str::from_utf8(body) {
            Ok(text) => Document {
                text: text.into(),
                is_latin1: false,
            },
            Err(_) => Document {
                text: body.iter().map(|&byte| char::from(byte)).collect(),
                is_latin1: true,
            },
        }
    }

    /// Appends the bytes of a part of it.
    fn write(&self, text: &str, bytes: &mut Vec<u8>) {
        if self.is_latin1 {
            // It has no other characters than those of bytes.
            bytes.extend(text.chars().map(|character| character as u8));
        } else {
            bytes.extend_from_slice(text.as_bytes());
        }
    }
}

/// Reads a document whose root is `<list>`.
pub(super) fn read(body: &[u8], directory: &mut Directory) -> Result<(), Failure> {
    let document = Document::of(body);
    let mut reader = Reader::from_str(&document.text);
    let mut is_open = false;
    let mut item: Option<Row> = None;
    loop {
        let event = reader.read_event().map_err(|error| syntax(&error))?;
        match (event, &mut item) {
            (Event::Start(root), None) if !is_open && root.name().as_ref() == LIST => is_open = true,
            (Event::Empty(root), None) if !is_open && root.name().as_ref() == LIST => {}
            (Event::Start(start), None) if is_open => item = Some(row(&start)?),
            (Event::Text(text), Some(item)) => document.write(&text, &mut item.name),
            (Event::GeneralRef(reference), Some(item)) => item.name.extend_from_slice(&resolve(&reference)?),
            (Event::End(_), _) => match item.take() {
                Some(row) => directory.add(row)?,
                None => is_open = false,
            },
            (Event::Eof, None) if !is_open => return Ok(()),
            (Event::Eof, _) => return Err(syntax(&"it ends too early")),
            (Event::Decl(_) | Event::Comment(_) | Event::PI(_), _) => {}
            (Event::Text(text), None) if text.trim_ascii().is_empty() => {}
            _ => return Err(other("there is more than names in its <list>")),
        }
    }
}

/// What an element says of its name, which is still to come.
fn row(start: &BytesStart<'_>) -> Result<Row, Failure> {
    let is_directory = match start.name().as_ref() {
        "directory" => true,
        // nginx calls sockets and devices `other`; it serves none.
        "file" | "other" => false,
        _ => return Err(other("its <list> has other elements than <file> and <directory>")),
    };
    let (mut size, mut modified, mut is_dated) = (ListedSize::Unknown, None, false);
    for attribute in start.attributes() {
        let attribute = attribute.map_err(|error| syntax(&error))?;
        let value = &attribute.value;
        match attribute.key.as_ref() {
            "mtime" => (modified, is_dated) = (date::read_alone(value), true),
            "size" => size = value.parse::<i64>().map_or(ListedSize::Unknown, exact),
            _ => {}
        }
    }
    if !is_dated {
        return Err(other("it has an element without `mtime`"));
    }
    Ok(Row {
        name: Vec::new(),
        query: None,
        kind: EntryKind::of(is_directory, size),
        modified,
    })
}

fn exact(bytes: i64) -> ListedSize {
    u64::try_from(bytes).map_or(ListedSize::Unknown, ListedSize::Exact)
}

/// The text that a reference stands for: `&amp;`, `&#39;`.
fn resolve(reference: &BytesRef<'_>) -> Result<Vec<u8>, Failure> {
    let character = reference.resolve_char_ref().map_err(|error| syntax(&error))?;
    if let Some(character) = character {
        return Ok(character.to_string().into_bytes());
    }
    let text = quick_xml::escape::resolve_predefined_entity(reference);
    text.map(|text| text.as_bytes().to_vec())
        .ok_or_else(|| syntax(&format_args!("&{}; is not known", &**reference)))
}

fn other(why: &str) -> Failure {
    Failure::Not(NotAListing::OtherXml(why.to_owned()))
}

fn syntax(error: &dyn std::fmt::Display) -> Failure {
    Failure::Not(NotAListing::Syntax {
        language: "XML",
        error: error.to_string(),
    })
}
