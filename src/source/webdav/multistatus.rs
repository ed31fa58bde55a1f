//! Reads a `multistatus` document (RFC 4918, §14.16) as a list of resources with their properties.
//!
//! What servers send differs, and all of it is read:
//!
//! - Any prefix for the namespace `DAV:`, also a new one for each element (Apache), an undeclared one, or none. An element
//!   of another namespace is no property of ours, whatever its name.
//! - The `status` of a `propstat` before or after its `prop`, or none. Only properties with a status of 200 count; several
//!   such `propstat` of one response are merged.
//! - Text in parts: entities, CDATA, white space around it, a `&` that is not escaped.
//!
//! A document that ends before its last end tag is an error: names would be missing.

use std::io::BufRead;

use quick_xml::events::Event;
use quick_xml::name::{Namespace, ResolveResult};
use quick_xml::reader::NsReader;

use super::NotMultistatus;
use super::collection_tag::TagProperties;
use crate::source::listing::date;
use crate::source::{EntityTag, ListedTime, Quota};

/// What a `multistatus` says.
#[derive(Debug)]
pub(super) struct Answer {
    /// The resources, in the document's order.
    pub(super) responses: Vec<Response>,
    /// The quota of the first resource, which is the one that was asked about.
    pub(super) quota: Option<Quota>,
}

/// A resource in a `multistatus`.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Response {
    /// The text of its `href`, without white space around it.
    pub(super) href: Box<str>,
    /// Status of the resource itself, if the server gives one.
    pub(super) status: Option<u16>,
    /// Its properties.
    pub(super) properties: Properties,
}

/// The properties of a resource that are read, without those that the server does not have.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Properties {
    /// `resourcetype`: true if it contains `collection`.
    has_collection: Option<bool>,
    /// `iscollection`, an extension of Microsoft's. XRootD sends it in place of `resourcetype`.
    is_named_collection: Option<bool>,
    /// `getcontentlength`, in bytes.
    pub(super) length: Option<u64>,
    /// `getetag`.
    pub(super) tag: Option<EntityTag>,
    /// `getlastmodified`.
    modified: Option<ListedTime>,
    /// `creationdate`.
    created: Option<ListedTime>,
    /// `getctag` of CalendarServer.
    change_tag: Option<EntityTag>,
    /// True if it has an `id` of ownCloud.
    has_sync_id: bool,
}

impl Properties {
    /// Those that can show that a collection is unchanged.
    pub(super) fn tags(&self) -> TagProperties {
        TagProperties {
            change_tag: self.change_tag,
            has_sync_id: self.has_sync_id,
            tag: self.tag,
        }
    }

    /// Whether it is a collection; `None` if the server does not say.
    pub(super) fn is_collection(&self) -> Option<bool> {
        match (self.has_collection, self.is_named_collection) {
            (Some(true), _) | (_, Some(true)) => Some(true),
            (one, other) => one.or(other),
        }
    }

    /// The date of the last change; of the creation if the server does not know that one.
    pub(super) fn modified(&self) -> Option<ListedTime> {
        self.modified.or(self.created)
    }

    fn merge(&mut self, other: Properties) {
        self.has_collection = self.has_collection.or(other.has_collection);
        self.is_named_collection = self.is_named_collection.or(other.is_named_collection);
        self.length = self.length.or(other.length);
        self.tag = self.tag.or(other.tag);
        self.modified = self.modified.or(other.modified);
        self.created = self.created.or(other.created);
        self.change_tag = self.change_tag.or(other.change_tag);
        self.has_sync_id |= other.has_sync_id;
    }
}

/// An open element.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Element {
    Multistatus,
    Response,
    Href,
    Status,
    Propstat,
    PropstatStatus,
    Prop,
    ResourceType,
    IsCollection,
    Length,
    Tag,
    Modified,
    Created,
    QuotaAvailable,
    QuotaUsed,
    ChangeTag,
    SyncId,
    /// Any other, also one of these names elsewhere.
    Other,
}

impl Element {
    /// The element of this name in `parent`.
    fn of(parent: Option<Element>, space: Space, name: &str) -> Element {
        match space {
            Space::Dav => Element::of_dav(parent, name),
            Space::CalendarServer if parent == Some(Element::Prop) && name == "getctag" => Element::ChangeTag,
            Space::OwnCloud if parent == Some(Element::Prop) && name == "id" => Element::SyncId,
            _ => Element::Other,
        }
    }

    fn of_dav(parent: Option<Element>, name: &str) -> Element {
        match (parent, name) {
            (None, "multistatus") => Element::Multistatus,
            (Some(Element::Multistatus), "response") => Element::Response,
            (Some(Element::Response), "href") => Element::Href,
            (Some(Element::Response), "status") => Element::Status,
            (Some(Element::Response), "propstat") => Element::Propstat,
            (Some(Element::Propstat), "status") => Element::PropstatStatus,
            (Some(Element::Propstat), "prop") => Element::Prop,
            (Some(Element::Prop), "resourcetype") => Element::ResourceType,
            (Some(Element::Prop), "iscollection") => Element::IsCollection,
            (Some(Element::Prop), "getcontentlength") => Element::Length,
            (Some(Element::Prop), "getetag") => Element::Tag,
            (Some(Element::Prop), "getlastmodified") => Element::Modified,
            (Some(Element::Prop), "creationdate") => Element::Created,
            (Some(Element::Prop), "quota-available-bytes") => Element::QuotaAvailable,
            (Some(Element::Prop), "quota-used-bytes") => Element::QuotaUsed,
            _ => Element::Other,
        }
    }

    fn has_text(self) -> bool {
        matches!(
            self,
            Element::Href
                | Element::Status
                | Element::PropstatStatus
                | Element::IsCollection
                | Element::Length
                | Element::Tag
                | Element::Modified
                | Element::Created
                | Element::QuotaAvailable
                | Element::QuotaUsed
                | Element::ChangeTag
                | Element::SyncId
        )
    }
}

/// Reads a document in UTF-8. Time and memory are linear in its length; `most` bounds the number of resources. `has_read` gets the
/// resources so far after each.
pub(super) fn read(
    text: impl BufRead,
    most: usize,
    mut has_read: impl FnMut(&[Response]),
) -> Result<Answer, NotMultistatus> {
    let mut xml = NsReader::from_reader(text);
    xml.config_mut().expand_empty_elements = true;
    xml.config_mut().allow_dangling_amp = true;
    let mut document = Document {
        most,
        open: Vec::new(),
        text: String::new(),
        responses: Vec::new(),
        hrefs: Vec::new(),
        response: Response::default(),
        propstat: (None, Properties::default()),
        bytes: (None, None),
    };
    let mut buffer = Vec::new();
    loop {
        buffer.clear();
        let (namespace, event) = xml.read_resolved_event_into(&mut buffer).map_err(malformed)?;
        match event {
            Event::Start(tag) => {
                let local = tag.local_name();
                document.start(Space::of(&namespace), local.as_ref())?;
            }
            Event::End(_) => {
                if document.end()? {
                    has_read(&document.responses);
                }
                if document.open.is_empty() {
                    // What may follow is no part of the document.
                    return Ok(Answer {
                        quota: document.quota(),
                        responses: document.responses,
                    });
                }
            }
            Event::Text(text) if document.has_text() => document.text.push_str(&text.xml10_content()),
            Event::CData(text) if document.has_text() => document.text.push_str(&text.xml10_content()),
            Event::GeneralRef(entity) if document.has_text() => {
                let character = entity.resolve_char_ref().map_err(malformed)?;
                match character.or_else(|| predefined(&entity)) {
                    Some(character) => document.text.push(character),
                    None => return Err(NotMultistatus::Malformed(format!("unknown entity `&{};`", &*entity))),
                }
            }
            Event::Eof if document.open.is_empty() => return Err(NotMultistatus::NoMultistatus),
            Event::Eof => return Err(NotMultistatus::Truncated),
            _ => {}
        }
    }
}

fn malformed(error: impl Into<quick_xml::Error>) -> NotMultistatus {
    NotMultistatus::Malformed(error.into().to_string())
}

/// A namespace of which elements are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Space {
    /// `DAV:`, or none.
    Dav,
    /// `http://calendarserver.org/ns/`
    CalendarServer,
    /// `http://owncloud.org/ns`
    OwnCloud,
    Other,
}

impl Space {
    fn of(namespace: &ResolveResult<'_>) -> Space {
        let name = match namespace {
            ResolveResult::Bound(Namespace(name)) => name,
            ResolveResult::Unbound | ResolveResult::Unknown(_) => return Space::Dav,
        };
        match name.trim_end_matches(['/', ':']) {
            "http://calendarserver.org/ns" => Space::CalendarServer,
            "http://owncloud.org/ns" => Space::OwnCloud,
            name if name.eq_ignore_ascii_case("DAV") => Space::Dav,
            _ => Space::Other,
        }
    }
}

/// The character of one of the five entities that XML defines.
fn predefined(entity: &str) -> Option<char> {
    Some(match entity {
        "amp" => '&',
        "lt" => '<',
        "gt" => '>',
        "quot" => '"',
        "apos" => '\'',
        _ => return None,
    })
}

/// A document that is being read.
struct Document {
    most: usize,
    /// The elements around the current place, outermost first.
    open: Vec<Element>,
    /// Text of the innermost element.
    text: String,
    responses: Vec<Response>,
    /// Those of the current response.
    hrefs: Vec<Box<str>>,
    response: Response,
    /// Status and properties of the current `propstat`.
    propstat: (Option<u16>, Properties),
    /// Available and used bytes of the first resource, by the server's quota (RFC 4331). Negative numbers stand for unknown
    /// and unlimited ones (Nextcloud).
    bytes: (Option<u64>, Option<u64>),
}

impl Document {
    fn quota(&self) -> Option<Quota> {
        let (available, used) = self.bytes;
        Some(Quota {
            available: available?,
            used: used?,
        })
    }

    fn has_text(&self) -> bool {
        self.open.last().is_some_and(|element| element.has_text())
    }

    /// A start tag.
    fn start(&mut self, space: Space, name: &str) -> Result<(), NotMultistatus> {
        let parent = self.open.last().copied();
        let element = Element::of(parent, space, name);
        match element {
            Element::Other if parent.is_none() => return Err(NotMultistatus::NoMultistatus),
            Element::Other if parent == Some(Element::ResourceType) && space == Space::Dav && name == "collection" => {
                self.propstat.1.has_collection = Some(true);
            }
            Element::Propstat => self.propstat = (None, Properties::default()),
            Element::ResourceType => {
                self.propstat.1.has_collection.get_or_insert(false);
            }
            _ => {}
        }
        self.text.clear();
        self.open.push(element);
        Ok(())
    }

    /// An end tag. Returns true if it is that of a resource.
    fn end(&mut self) -> Result<bool, NotMultistatus> {
        let text = self.text.trim_matches([' ', '\t', '\r', '\n']);
        let properties = &mut self.propstat.1;
        match self.open.pop() {
            Some(Element::Href) => self.hrefs.push(text.into()),
            Some(Element::Status) => self.response.status = status(text),
            Some(Element::PropstatStatus) => self.propstat.0 = status(text),
            Some(Element::Length) => properties.length = text.parse().ok(),
            Some(Element::Tag) => properties.tag = EntityTag::of(text),
            Some(Element::ChangeTag) => properties.change_tag = EntityTag::of(text),
            Some(Element::SyncId) => properties.has_sync_id = !text.is_empty(),
            Some(Element::Modified) => properties.modified = moment(text),
            Some(Element::Created) => properties.created = moment(text),
            Some(Element::QuotaAvailable) if self.responses.is_empty() => self.bytes.0 = text.parse().ok(),
            Some(Element::QuotaUsed) if self.responses.is_empty() => self.bytes.1 = text.parse().ok(),
            Some(Element::IsCollection) => {
                properties.is_named_collection = match text.to_ascii_lowercase().as_str() {
                    "1" | "true" => Some(true),
                    "0" | "false" => Some(false),
                    _ => None,
                }
            }
            Some(Element::Propstat) if self.propstat.0.is_none_or(|status| (200..300).contains(&status)) => {
                self.response.properties.merge(self.propstat.1);
            }
            Some(Element::Response) => {
                let Response { status, properties, .. } = std::mem::take(&mut self.response);
                for href in self.hrefs.drain(..) {
                    // One is the directory itself.
                    if self.responses.len() > self.most {
                        return Err(NotMultistatus::TooManyNames(self.most));
                    }
                    self.responses.push(Response {
                        href,
                        status,
                        properties,
                    });
                }
                self.text.clear();
                return Ok(true);
            }
            _ => {}
        }
        self.text.clear();
        Ok(false)
    }
}

/// The number in `HTTP/1.1 200 OK`.
fn status(text: &str) -> Option<u16> {
    let mut words = text.split_ascii_whitespace();
    words.find_map(|word| word.parse().ok().filter(|_| word.len() == 3))
}

/// A date as in HTTP or ISO 8601. Both name their zone, and some servers write others.
fn moment(text: &str) -> Option<ListedTime> {
    date::read_alone(text)
}
