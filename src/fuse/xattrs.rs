//! Extended attributes: what is known of a file or directory beyond `stat`.
//!
//! **An attribute costs no request.** Its value comes from memory, or from the cache's index by a thread that may block; it
//! is absent while it is unknown. To add one, add a line to [`ALL`].
//!
//! **listxattr(2) lists only what is true of a copy, too** ([`LISTED`]): `cp -a`, `rsync -X` and `tar --xattrs` copy what is
//! listed, and fail or warn where the target has no such attributes. So the state of the cache is read by name, as with
//! Ceph's `ceph.*`; the name [`EVERYTHING`] has all of it.
//!
//! The kernel forwards requests for any name. `ls -l` asks each file for `security.selinux`, unless the first reply is
//! `EOPNOTSUPP`: then it asks no other file of the mount, and neither do `cp -a` and `ls --color` for their names. So that
//! is the reply for all names of other kinds than ours. Access control lists never come here. Nor does setxattr(2): the
//! kernel refuses it on a read-only mount.

use std::ffi::OsStr;
use std::fmt::Write;
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;

use fuser::{Errno, ReplyXattr};
use tokio::runtime::Handle;

use super::shared::Shared;
use crate::cache::{Cache, CacheEntry};
use crate::http::{Validator, redact};
use crate::origin::HashAlgorithm;
use crate::vfs::Node;

/// How all names begin.
const PREFIX: &str = "user.fetchfs.";

/// The attribute that has all others, a line `NAME=VALUE` each.
const EVERYTHING: &str = "all";

/// The names that listxattr(2) gives, as far as the file has them.
const LISTED: &[&str] = &["sha256"];

/// How all names begin that a program may ask for without being told that the file system has no such names.
const OURS: &[u8] = b"user.";

/// How the value of an attribute is found.
enum Value {
    /// In memory.
    Known(fn(&Shared, &Node) -> Option<String>),
    /// In the index of the cache: blocks for some queries.
    Cached(fn(&Cached) -> Option<String>),
}

/// All attributes: their names after [`PREFIX`].
const ALL: &[(&str, Value)] = &[
    ("url", Value::Known(|_, node| Some(redact(&node.url()?).to_string()))),
    (
        "kind",
        Value::Known(|shared, node| shared.tree.kind_of(node).map(str::to_owned)),
    ),
    ("etag", Value::Cached(Cached::etag)),
    ("sha256", Value::Known(|shared, node| sha256(&shared.cache, node))),
    ("state", Value::Cached(Cached::state)),
    ("cached", Value::Cached(|cached| Some(cached.bytes()?.to_string()))),
    ("percent", Value::Cached(Cached::percent)),
    ("ranges", Value::Cached(Cached::ranges)),
    ("pinned", Value::Cached(Cached::pinned)),
];

fn sha256(cache: &Cache, node: &Node) -> Option<String> {
    let listed = node
        .published()
        .and_then(|published| published.hash(HashAlgorithm::Sha256).cloned());
    let hash = listed.or_else(|| cache.known_sha256(&node.url()?, &node.version()?))?;
    Some(hash.to_string())
}

/// What the cache has of a node.
struct Cached {
    cache: Arc<Cache>,
    node: Arc<Node>,
    /// `None` for a directory, and for a file of which the cache has nothing.
    entry: Option<Arc<CacheEntry>>,
}

impl Cached {
    /// The entity tag, as the server has written it.
    fn etag(&self) -> Option<String> {
        let of_entry = || Some(self.entry.as_ref()?.settled()?.version.clone());
        match self.node.version().or_else(of_entry)?.validator {
            Validator::Strong(tag) | Validator::Weak(tag) => Some(tag),
            Validator::Dated(_) | Validator::None => None,
        }
    }

    fn size(&self) -> u64 {
        let size = self.entry.as_ref().map(|entry| entry.size());
        size.unwrap_or_else(|| self.node.attributes().size)
    }

    /// Number of cached bytes of a file.
    fn bytes(&self) -> Option<u64> {
        let ranges = self.entry.as_ref().map(|entry| entry.present()).unwrap_or_default();
        let bytes = ranges.iter().map(|range| range.end - range.start).sum();
        (!self.node.is_directory()).then_some(bytes)
    }

    /// How much of a file is cached, rounded down: 100 is all of it.
    fn percent(&self) -> Option<String> {
        let (bytes, size) = (self.bytes()?, self.size());
        let percent = match size {
            0 => 100,
            size => u128::from(bytes.min(size)) * 100 / u128::from(size),
        };
        Some(percent.to_string())
    }

    fn state(&self) -> Option<String> {
        let bytes = self.bytes()?;
        let is_fetching = self
            .entry
            .as_ref()
            .is_some_and(|entry| !self.cache.manager().activity(entry).in_flight.is_empty());
        let state = match bytes {
            _ if is_fetching => "fetching",
            bytes if bytes >= self.size() => "complete",
            0 => "none",
            _ => "partial",
        };
        Some(state.to_owned())
    }

    /// The cached ranges: `START-END`, in bytes, exclusive, with commas between them.
    fn ranges(&self) -> Option<String> {
        if self.node.is_directory() {
            return None;
        }
        let ranges = self.entry.as_ref().map(|entry| entry.present()).unwrap_or_default();
        let ranges = ranges.iter().map(|range| format!("{}-{}", range.start, range.end));
        let text = ranges.collect::<Vec<_>>().join(",");
        // More than the kernel takes.
        (text.len() <= MOST).then_some(text)
    }

    /// Whether a pin covers it.
    fn pinned(&self) -> Option<String> {
        let is_pinned = self.cache.is_pinned(&self.node.url()?);
        Some(u8::from(is_pinned).to_string())
    }
}

/// Maximum length of a value (xattr(7)).
const MOST: usize = 64 << 10;

/// Replies to getxattr(2). `size` is the room of the caller; 0 asks for the length.
pub(super) fn reply_value(
    shared: &Arc<Shared>,
    runtime: &Handle,
    node: Arc<Node>,
    name: &OsStr,
    size: u32,
    reply: ReplyXattr,
) {
    if !name.as_bytes().starts_with(OURS) {
        return reply.error(Errno::EOPNOTSUPP);
    }
    let name = name.to_str().and_then(|name| name.strip_prefix(PREFIX));
    let is_everything = name == Some(EVERYTHING);
    let attribute = ALL.iter().find(|(known, _)| name == Some(*known));
    match attribute {
        None if !is_everything => reply.error(Errno::ENODATA),
        Some((_, Value::Known(value))) => reply_text(value(shared, &node), size, reply),
        attribute => {
            let shared = Arc::clone(shared);
            runtime.spawn_blocking(move || {
                let cached = Cached {
                    cache: Arc::clone(&shared.cache),
                    entry: shared.tree.cached_entry(&node),
                    node,
                };
                let value = match attribute {
                    Some((_, value)) => value_of(value, &shared, &cached),
                    None => Some(everything(&shared, &cached)),
                };
                reply_text(value, size, reply);
            });
        }
    }
}

fn value_of(value: &Value, shared: &Shared, cached: &Cached) -> Option<String> {
    match value {
        Value::Known(value) => value(shared, &cached.node),
        Value::Cached(value) => value(cached),
    }
}

fn everything(shared: &Shared, cached: &Cached) -> String {
    let mut text = String::new();
    for (name, value) in ALL {
        if let Some(value) = value_of(value, shared, cached) {
            // Writing to a string can't fail.
            let _ = writeln!(text, "{name}={value}");
        }
    }
    text
}

/// Replies to listxattr(2): the names, each with a zero byte.
pub(super) fn reply_names(shared: &Shared, node: &Node, size: u32, reply: ReplyXattr) {
    let mut names = Vec::new();
    for (name, value) in ALL.iter().filter(|(name, _)| LISTED.contains(name)) {
        let Value::Known(value) = value else { continue };
        if value(shared, node).is_some() {
            names.extend_from_slice(PREFIX.as_bytes());
            names.extend_from_slice(name.as_bytes());
            names.push(0);
        }
    }
    reply_bytes(&names, size, reply);
}

fn reply_text(value: Option<String>, size: u32, reply: ReplyXattr) {
    match value {
        Some(value) => reply_bytes(value.as_bytes(), size, reply),
        None => reply.error(Errno::ENODATA),
    }
}

fn reply_bytes(bytes: &[u8], size: u32, reply: ReplyXattr) {
    let len = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
    if size == 0 {
        reply.size(len);
    } else if len > size {
        reply.error(Errno::ERANGE);
    } else {
        reply.data(bytes);
    }
}
