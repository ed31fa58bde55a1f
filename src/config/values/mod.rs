//! Single values in human notation: sizes and times, rates, paths, sources.
//!
//! The table of options and the files with options share these parsers, which depend on no option.

pub(super) mod bandwidth;
pub(super) mod paths;
pub(super) mod source;
pub(super) mod units;
