//! The directory tree: it maps names to remote files.
//!
//! `fuse` calls it for look-ups, listings, attributes and opens; `control` calls it to resolve paths. It asks each
//! directory's [`Source`](crate::source::Source) for listings, and the origins for versions of files.
//!
//! - A directory's listing is fetched at the first look-up in it. A look-up fetches it again once it is older than
//!   `ttl`.
//! - Each name has a [`Node`] with an inode number that stays the same while mounted. A name that a new listing still
//!   has keeps its node.
//! - A file with another version gets a **new node with a new number**. So the kernel never takes cached pages of the
//!   old version for the new one's.
//! - **Unreachable is neither gone nor changed.** If a listing can't be fetched again, the old one is still served.
//!   Only a 404 or 410 removes a name; only another validator makes a new version.
//! - A silent origin delays known answers only briefly
//!   ([`Responsiveness`](crate::origin::failures::responsiveness::Responsiveness)). Listings that an earlier mount stored are
//!   served at once and revalidated in the background (`listing::stored`).
//! - Requests use slots of their own ([`NameSlots`](crate::origin::NameSlots)), so `ls` never waits behind a read.
//!
//! Imports point down only:
//!
//! ```text
//! tree                    the door
//! root      prefetch      what the user named · asks ahead of walks
//! listing   file          names · versions, sizes and dates
//! shared                  what all of these use
//! nodes     request       data · requests
//! ```

#![forbid(unsafe_code)]

mod error;
mod file;
mod listing;
mod nodes;
mod prefetch;
mod request;
mod root;
mod shared;
mod tree;

pub(crate) use error::TreeError;
pub(crate) use file::resolver::DateHold;
pub(crate) use listing::stored::StoredListings;
pub(crate) use nodes::attributes::Attributes;
pub(crate) use nodes::changes::Changes;
pub(crate) use nodes::ino::Ino;
pub(crate) use nodes::node::{DirectoryNames, Node, Position, Snapshot};
pub(crate) use root::top::{Naming, Top, TopError};
pub(crate) use tree::{Tree, TreeConfig};

#[cfg(test)]
mod tests;
