//! Documents on this machine: a file by its path, or what can be read only once, as standard input.
//!
//! A file has a `file:` URL, and is read again when its names are looked up. What can be read only once was read when the
//! source was named, and goes with it. Its URL contains a hash of it, so two of them have nothing in common in the cache.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use url::Url;
use xxhash_rust::xxh3::xxh3_128;

/// The scheme of files on this machine.
pub(super) const FILE_SCHEME: &str = "file";

/// The scheme of what can be read only once.
pub(super) const STDIN: &str = "stdin";

/// The bytes of a document that was read when the source was named.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct LocalContent(pub Arc<[u8]>);

impl fmt::Debug for LocalContent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.0.len())
    }
}

/// Returns true if a URL is one of a document or directory on this machine.
pub(super) fn is_local(url: &Url) -> bool {
    matches!(url.scheme(), FILE_SCHEME | STDIN)
}

/// The path of a `file:` URL; `None` if it is of another machine.
pub(super) fn path_of(url: &Url) -> Option<PathBuf> {
    (url.scheme() == FILE_SCHEME).then(|| url.to_file_path().ok())?
}

/// The URL of a file or directory, by its absolute path. `None` if the path is relative.
pub(super) fn url_of(path: &Path) -> Option<Url> {
    let url = match path.is_dir() {
        true => Url::from_directory_path(path),
        false => Url::from_file_path(path),
    };
    url.ok()
}

/// The URL of standard input with this content; without, before it is read.
pub(super) fn url_of_stdin(content: Option<&[u8]>) -> Url {
    let mut url = Url::parse("stdin:///stdin").expect("a constant");
    if let Some(content) = content {
        url.set_query(Some(&format!("{:032x}", xxh3_128(content))));
    }
    url
}
