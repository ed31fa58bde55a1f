//! URLs of the directories that belong to a library itself: `library://NAME/films/new/`.
//!
//! They follow from the library's file and the path in the mount, so they are the same at each mount: the index knows
//! their listings by them.

use percent_encoding::percent_decode_str;
use url::Url;

use crate::source::listing::segment::encode;
use crate::source::{LIBRARY, Name};

/// The URL of the directory at `path`, which begins and ends with `/`, in the library `name`.
pub(super) fn url(name: &str, path: &str) -> Url {
    let text = format!("{LIBRARY}://{name}{path}");
    Url::parse(&text).unwrap_or_else(|_| unreachable!("a name of letters and digits, and an escaped path: {text}"))
}

/// The path of a directory of the library `name`; `None` for any other URL.
pub(super) fn path(name: &str, url: &Url) -> Option<String> {
    (url.scheme() == LIBRARY && url.host_str() == Some(name)).then(|| url.path().to_owned())
}

/// The path of the directory `name` in the one at `path`.
pub(super) fn below(path: &str, name: &[u8]) -> String {
    format!("{path}{}/", encode(name))
}

/// The path of the directory above the one at `path`, and its name there; `None` for the root.
pub(super) fn above(path: &str) -> Option<(&str, Name)> {
    let inner = path.strip_suffix('/')?;
    let slash = inner.rfind('/')?;
    let name = Name::new(percent_decode_str(&inner[slash + 1..]).collect())?;
    Some((&path[..=slash], name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_lead_down_and_up_again() {
        let names = ["a b", "100%", "é?#", "x\\y", "..."];
        let mut paths = vec!["/".to_owned()];
        for name in names {
            paths.push(below(paths.last().unwrap(), name.as_bytes()));
        }
        for (pair, name) in paths.windows(2).zip(names) {
            let url = url("0f", &pair[1]);
            assert_eq!(path("0f", &url).as_deref(), Some(&*pair[1]), "{url}");
            assert_eq!(path("0e", &url), None);
            assert_eq!(above(&pair[1]), Some((&*pair[0], Name::new(name.into()).unwrap())));
        }
        assert_eq!(above("/"), None);
    }
}
