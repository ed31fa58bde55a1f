//! The mark of an index that was found to be damaged while in use.

use std::path::Path;

/// Name of the mark beside an index that was found to be damaged while in use: the next mount moves
/// the index aside.
pub(super) const MARK: &str = "index.is-damaged";

/// Sets the mark at this path. If it can't be written, the next mount finds the damage by itself.
pub(super) fn mark(path: &Path) {
    let _ = std::fs::write(path, "");
}
