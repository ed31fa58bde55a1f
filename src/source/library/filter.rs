//! Which names of a source a library shows.
//!
//! Patterns are globs, in the way of .gitignore:
//!
//! - A pattern without `/` matches a name at any depth: `*.mkv`. With a `/` in it, it matches the path from the source's
//!   root: `2023/*.mkv`, `/a.txt`. A `/` at its end makes it match directories only.
//! - `*` and `?` match no `/`; `**/` matches any number of directories. `[a-z]` and `{mkv,srt}` are known, and `\` escapes.
//! - Upper and lower case differ.
//!
//! `exclude` counts before `include`, which concerns files alone: a directory that it does not match may have files that
//! it matches. What a listing does not say hides nothing: a file of unknown size or date is shown.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use globset::{GlobBuilder, GlobSet, GlobSetBuilder};
use url::Url;

use crate::source::listing::segment::decode;
use crate::source::{Entries, EntryKind, ListedSize};

/// The filter of a source, as the user has written it. Its patterns have passed [`check_pattern`].
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct FilterConfig {
    /// Files that are shown; all if empty.
    pub include: Vec<String>,
    /// Files and directories that are not shown.
    pub exclude: Vec<String>,
    /// Minimum bytes of a file.
    pub min_size: Option<u64>,
    /// Maximum bytes of a file.
    pub max_size: Option<u64>,
    /// Files of an earlier date are not shown.
    pub newer: Option<Newer>,
    /// True if names that begin with a dot are not shown.
    pub hides_dot_files: bool,
}

/// The earliest date of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Newer {
    /// This long before the listing.
    Than(Duration),
    /// This date.
    Since(SystemTime),
}

/// A pattern that can't be used.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum InvalidPattern {
    /// It is no glob.
    #[error("not a pattern: {0}; write a file name with `*`, `?`, `[a-z]` or `{{a,b}}` in it")]
    Glob(String),
    /// A negated one.
    #[error("patterns with `!` are not supported; write the files to show in `include` and the others in `exclude`")]
    Negated,
    /// A directory to include.
    #[error("it matches directories, which are shown in any case; write `{0}**` for the files below it")]
    Directory(String),
}

/// Checks a pattern of `include` or `exclude`.
///
/// # Errors
/// If it is no glob, or could never match.
pub(crate) fn check_pattern(pattern: &str, is_include: bool) -> Result<(), InvalidPattern> {
    if pattern.starts_with('!') {
        return Err(InvalidPattern::Negated);
    }
    if is_include && pattern.ends_with('/') {
        return Err(InvalidPattern::Directory(pattern.to_owned()));
    }
    let (glob, _) = split(pattern);
    GlobBuilder::new(&glob)
        .literal_separator(true)
        .build()
        .map(drop)
        .map_err(|error| InvalidPattern::Glob(error.kind().to_string()))
}

/// A pattern as a glob of whole names or paths, and whether it is for directories only.
fn split(pattern: &str) -> (String, bool) {
    let (inner, is_directory) = match pattern.strip_suffix('/') {
        Some(inner) => (inner, true),
        None => (pattern, false),
    };
    let glob = match inner.strip_prefix('/') {
        Some(rooted) => rooted.to_owned(),
        None if inner.contains('/') => inner.to_owned(),
        None => format!("**/{inner}"),
    };
    (glob, is_directory)
}

/// A filter, ready for use.
pub(super) struct Filter {
    config: FilterConfig,
    include: GlobSet,
    exclude: GlobSet,
    exclude_directories: GlobSet,
}

impl Filter {
    pub(super) fn new(config: &FilterConfig) -> Filter {
        let set = |patterns: &[String], of_directories: bool| {
            let mut set = GlobSetBuilder::new();
            for (glob, is_directory) in patterns.iter().map(|pattern| split(pattern)) {
                let glob = GlobBuilder::new(&glob).literal_separator(true).build();
                // They were checked before.
                if let Some(glob) = glob.ok().filter(|_| of_directories || !is_directory) {
                    set.add(glob);
                }
            }
            set.build().unwrap_or_else(|_| GlobSet::empty())
        };
        Filter {
            include: set(&config.include, false),
            exclude: set(&config.exclude, false),
            exclude_directories: set(&config.exclude, true),
            config: config.clone(),
        }
    }

    /// Whether it keeps everything.
    pub(super) fn is_open(&self) -> bool {
        self.config == FilterConfig::default()
    }

    /// Removes the entries of a directory that are not shown. `root` is the source's root, from which paths count.
    pub(super) fn apply(&self, entries: &mut Entries, directory: Option<&Url>, root: Option<&Url>) {
        if self.is_open() {
            return;
        }
        let above = directory
            .zip(root)
            .and_then(|(directory, root)| path_below(directory, root));
        // Outside of the root, only names count.
        let above = above.unwrap_or_default();
        let earliest = match self.config.newer {
            None => None,
            Some(Newer::Since(date)) => Some(date),
            Some(Newer::Than(age)) => SystemTime::now().checked_sub(age),
        };
        entries.retain(|entries, at| self.keeps(entries, at, &above, earliest));
    }

    fn keeps(&self, entries: &Entries, at: usize, above: &Path, earliest: Option<SystemTime>) -> bool {
        let name = entries.name(at);
        if self.config.hides_dot_files && name.as_bytes().starts_with(b".") {
            return false;
        }
        let path = above.join(name);
        let size = match entries.kind(at) {
            EntryKind::Directory => return !self.exclude_directories.is_match(&path),
            EntryKind::File(ListedSize::Exact(size) | ListedSize::Rounded(size)) => Some(size),
            EntryKind::File(ListedSize::Unknown) => None,
        };
        let is_wanted = self.config.include.is_empty() || self.include.is_match(&path);
        let is_too_small = self.config.min_size.zip(size).is_some_and(|(min, size)| size < min);
        let is_too_large = self.config.max_size.zip(size).is_some_and(|(max, size)| size > max);
        let is_too_old = earliest
            .zip(entries.modified(at))
            .is_some_and(|(earliest, listed)| listed.time < earliest);
        is_wanted && !self.exclude.is_match(&path) && !is_too_small && !is_too_large && !is_too_old
    }
}

/// The path of a directory below the root, by their URLs.
fn path_below(directory: &Url, root: &Url) -> Option<PathBuf> {
    let rest = directory.path().strip_prefix(root.path())?;
    let names = rest.split('/').filter(|part| !part.is_empty());
    Some(names.map(|part| OsStr::from_bytes(&decode(part)).to_owned()).collect())
}
