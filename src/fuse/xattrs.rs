//! Extended attributes: what is known of a file beyond `stat`.
//!
//! An attribute costs no request: its value comes from memory, and it is absent while it is unknown. To add one, add a
//! line to [`ALL`].
//!
//! The kernel forwards requests for any name. `ls -l` asks each file for `security.selinux`, unless the first reply is
//! `EOPNOTSUPP`: then it asks no other file of the mount, and neither do `cp -a` and `ls --color` for their names. So that
//! is the reply for all names of other kinds than ours. Access control lists never come here.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use fuser::{Errno, ReplyXattr};

use crate::cache::Cache;
use crate::origin::HashAlgorithm;
use crate::vfs::Node;

/// An attribute, and its value for a node, if the node has it.
struct Attribute {
    name: &'static str,
    value: fn(&Node, &Cache) -> Option<Vec<u8>>,
}

/// All attributes.
const ALL: &[Attribute] = &[Attribute {
    name: "user.fetchfs.sha256",
    value: |node, cache| {
        let listed = node
            .published()
            .and_then(|published| published.hash(HashAlgorithm::Sha256).cloned());
        let hash = listed.or_else(|| cache.known_sha256(&node.url()?, &node.version()?))?;
        Some(hash.to_string().into_bytes())
    },
}];

/// How all names begin that a program may ask for without being told that the file system has no such names.
const OURS: &[u8] = b"user.";

/// Replies to getxattr(2). `size` is the room of the caller; 0 asks for the length.
pub(super) fn reply_value(node: &Node, cache: &Cache, name: &OsStr, size: u32, reply: ReplyXattr) {
    if !name.as_bytes().starts_with(OURS) {
        return reply.error(Errno::EOPNOTSUPP);
    }
    let attribute = ALL.iter().find(|attribute| name == attribute.name);
    match attribute.and_then(|attribute| (attribute.value)(node, cache)) {
        Some(value) => reply_bytes(&value, size, reply),
        None => reply.error(Errno::ENODATA),
    }
}

/// Replies to listxattr(2): the names, each with a zero byte.
pub(super) fn reply_names(node: &Node, cache: &Cache, size: u32, reply: ReplyXattr) {
    let mut names = Vec::new();
    for attribute in ALL.iter().filter(|attribute| (attribute.value)(node, cache).is_some()) {
        names.extend_from_slice(attribute.name.as_bytes());
        names.push(0);
    }
    reply_bytes(&names, size, reply);
}

fn reply_bytes(bytes: &[u8], size: u32, reply: ReplyXattr) {
    // Names and values have tens of bytes.
    let len = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
    if size == 0 {
        reply.size(len);
    } else if len > size {
        reply.error(Errno::ERANGE);
    } else {
        reply.data(bytes);
    }
}
