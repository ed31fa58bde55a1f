//! How a library's file is named.

/// How the name of a library's file ends.
const EXTENSION: &str = ".toml";

/// Returns true if a source on the command line is a library's file.
pub(in crate::config) fn is_library(text: &str) -> bool {
    text.ends_with(EXTENSION) && !text.contains("://") && !text.starts_with('@')
}
