//! Paths in the protocol: names only, of any bytes.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Component, Path, PathBuf};

use serde::{Deserialize, Serialize};

/// A path below the mountpoint. **Only names**: no `..`, no leading `/`. The empty path is the mountpoint itself.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "PathText", into = "PathText")]
pub(crate) struct TreePath(PathBuf);

/// A path in JSON: as text if it is UTF-8, else as its bytes.
#[derive(Clone, Serialize, Deserialize)]
#[serde(untagged)]
enum PathText {
    Text(String),
    Bytes(Vec<u8>),
}

impl TreePath {
    /// Builds a path. `None` if it has components other than names.
    pub(crate) fn new(path: PathBuf) -> Option<TreePath> {
        let is_name = |part| matches!(part, Component::Normal(name) if !name.as_bytes().contains(&0));
        path.components().all(is_name).then_some(TreePath(path))
    }

    /// The components from the mountpoint down.
    pub(crate) fn names(&self) -> impl Iterator<Item = &OsStr> {
        self.0.iter()
    }

    /// The path with one more name.
    pub(crate) fn join(&self, name: &OsStr) -> TreePath {
        TreePath(self.0.join(name))
    }

    /// The path, relative to the mountpoint.
    pub(crate) fn as_path(&self) -> &Path {
        &self.0
    }
}

impl TryFrom<PathText> for TreePath {
    type Error = &'static str;

    fn try_from(text: PathText) -> Result<TreePath, Self::Error> {
        let path = match text {
            PathText::Text(text) => PathBuf::from(text),
            PathText::Bytes(bytes) => OsString::from_vec(bytes).into(),
        };
        TreePath::new(path).ok_or("a path must consist of names, relative to the mountpoint")
    }
}

impl From<TreePath> for PathText {
    fn from(path: TreePath) -> PathText {
        match path.0.into_os_string().into_string() {
            Ok(text) => PathText::Text(text),
            Err(other) => PathText::Bytes(other.into_vec()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn any_path() -> impl Strategy<Value = TreePath> {
        prop::collection::vec(prop::collection::vec(1u8.., 1..8), 0..4).prop_filter_map("names", |names| {
            let path = names.into_iter().map(OsString::from_vec).collect();
            TreePath::new(path)
        })
    }

    proptest! {
        #[test]
        fn any_path_comes_across_unchanged(path in any_path()) {
            let line = serde_json::to_string(&path).unwrap();
            prop_assert!(!line.contains('\n'));
            prop_assert_eq!(serde_json::from_str::<TreePath>(&line).unwrap(), path);
        }
    }
}
