//! Entity tags as listings have them.

use std::num::NonZeroU64;

use xxhash_rust::xxh3::xxh3_64;

/// An entity tag (RFC 9110, §8.8.3) in few bytes: a hash of its text, for comparison only.
///
/// Whether it is weak, and whether it has quotes, does not count: listings have tags in other forms than responses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct EntityTag(NonZeroU64);

impl EntityTag {
    /// The tag in this text; `None` if it is empty.
    pub(crate) fn of(text: &str) -> Option<EntityTag> {
        let text = text.trim();
        let text = text.strip_prefix("W/").unwrap_or(text);
        let quoted = text.strip_prefix('"').and_then(|text| text.strip_suffix('"'));
        let text = quoted.unwrap_or(text);
        let hash = (!text.is_empty()).then(|| xxh3_64(text.as_bytes()).max(1))?;
        NonZeroU64::new(hash).map(EntityTag)
    }

    /// The hash as 16 hexadecimal digits.
    pub(crate) fn to_hex(self) -> String {
        format!("{:016x}", self.0)
    }
}
