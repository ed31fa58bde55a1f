//! Which tag of a collection shows that its names, and the sizes and dates of its files, are unchanged.
//!
//! **A tag counts only if its server's protocol says that it changes with every change of a member.** RFC 4918 asks no such
//! thing of a collection's `getetag`. Apache's mod_dav, lighttpd, ASGI WebDAV and npm's webdav-server make it from the
//! directory's own date (recorded answers), which stays the same when a file in it gets other contents. Two tags count:
//!
//! - `getctag` of the namespace `http://calendarserver.org/ns/`. It changes whenever a member is added, modified or deleted
//!   (caldav-ctag-02, §4.1).
//! - `getetag` of a server that speaks ownCloud's protocol for synchronisation: ownCloud, Nextcloud, oCIS, OpenCloud. A
//!   change anywhere below a directory changes its ETag (ownCloud's page "Etags and file ids"). Such a server gives each
//!   resource an `id` in the namespace `http://owncloud.org/ns`.
//!
//! A server that breaks this rule is found out as one whose validators of index pages do
//! (`vfs::listing::listings`): the whole listing is requested every few minutes, and at `fetchfs refresh`.

use crate::http::Validator;
use crate::source::{EntityTag, Listing};

/// From how many names on a directory is asked for its tag before its listing.
///
/// The question costs a round trip, and the listing follows if the tag is another one. An answer of 250 names has some 150
/// kB; servers take 15 (nginx) to 75 ms (rclone) to make one, and Nextcloud more.
const WORTHWHILE: usize = 250;

/// The properties of a collection that may show that it is unchanged.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct TagProperties {
    /// `getctag` of CalendarServer.
    pub(super) change_tag: Option<EntityTag>,
    /// True if it has an `id` of ownCloud.
    pub(super) has_sync_id: bool,
    /// `getetag`.
    pub(super) tag: Option<EntityTag>,
}

/// The tag of a server's collections that counts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum TagKind {
    /// There is none, or it is not known yet.
    #[default]
    None,
    /// `getctag`.
    ChangeTag,
    /// `getetag`.
    EntityTag,
}

impl TagProperties {
    /// The kind of tag that a server has, by the properties of a collection that was asked for all of them.
    pub(super) fn kind(&self) -> TagKind {
        match self {
            TagProperties {
                change_tag: Some(_), ..
            } => TagKind::ChangeTag,
            TagProperties {
                has_sync_id: true,
                tag: Some(_),
                ..
            } => TagKind::EntityTag,
            _ => TagKind::None,
        }
    }

    /// The tag that counts on a server with tags of this kind, as the validator of a listing.
    pub(super) fn validator(&self, kind: TagKind) -> Validator {
        let (name, tag) = match kind {
            TagKind::None => return Validator::None,
            TagKind::ChangeTag => ("getctag", self.change_tag),
            TagKind::EntityTag => ("getetag", self.tag),
        };
        tag.map_or(Validator::None, |tag| {
            Validator::Strong(format!("{name} {}", tag.to_hex()))
        })
    }
}

/// Gives a listing its validator, if it is long enough to be asked for conditionally.
pub(super) fn set_validator(listing: &mut Listing, tags: &TagProperties, kind: TagKind) {
    listing.validator = match listing.entries.len() {
        WORTHWHILE.. => tags.validator(kind),
        _ => Validator::None,
    };
}
