//! Reads XML as a series of closed elements, each with its text. For documents whose text is in the innermost elements, as
//! all of S3's have it.

use quick_xml::events::Event;
use quick_xml::reader::Reader;

/// Maximum depth of elements. S3's answers have four.
const MOST_DEEP: usize = 16;

/// Why a document can't be read.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum XmlFault {
    /// It is not well-formed.
    Malformed(String),
    /// It ends before its end tag, or has none.
    Truncated,
}

/// Calls `visit` at the end of each element, with the names of the elements around it and itself, outermost first and
/// without prefixes, and with its own text. Ends after the outermost element, or at the first error of `visit`.
pub(super) fn read<E: From<XmlFault>>(
    text: &str,
    mut visit: impl FnMut(&[&str], String) -> Result<(), E>,
) -> Result<(), E> {
    let malformed = |error: &dyn std::fmt::Display| E::from(XmlFault::Malformed(error.to_string()));
    let mut xml = Reader::from_str(text);
    xml.config_mut().expand_empty_elements = true;
    xml.config_mut().allow_dangling_amp = true;
    let mut open: Vec<String> = Vec::new();
    let mut content = String::new();
    loop {
        match xml.read_event().map_err(|error| malformed(&error))? {
            Event::Start(tag) => {
                if open.len() >= MOST_DEEP {
                    return Err(malformed(&"elements are too deep"));
                }
                open.push(tag.local_name().as_ref().to_owned());
                content.clear();
            }
            Event::End(_) => {
                let path: Vec<&str> = open.iter().map(String::as_str).collect();
                visit(&path, std::mem::take(&mut content))?;
                open.pop();
                if open.is_empty() {
                    return Ok(());
                }
            }
            Event::Text(text) => content.push_str(&text.xml10_content()),
            Event::CData(text) => content.push_str(&text.xml10_content()),
            Event::GeneralRef(entity) => {
                let character = entity.resolve_char_ref().map_err(|error| malformed(&error))?;
                let predefined = || quick_xml::escape::resolve_predefined_entity(&entity);
                match (character, predefined()) {
                    (Some(character), _) => content.push(character),
                    (None, Some(text)) => content.push_str(text),
                    (None, None) => return Err(malformed(&format!("unknown entity `&{};`", &*entity))),
                }
            }
            Event::Eof => return Err(XmlFault::Truncated.into()),
            _ => {}
        }
    }
}
