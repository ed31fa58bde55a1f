//! URLs of the directories in a document.
//!
//! A directory that only a document describes has no URL on the server. It gets one of the document's URL and its
//! place in the tree:
//!
//! ```text
//! list+https://host/pub/list.txt?v=2      the document is https://host/pub/list.txt?v=2, of the kind `list`
//! list+https://host/pub/list.txt!/?v=2    its root directory
//! list+https://host/pub/list.txt!/a/b/?v=2
//! ```
//!
//! - The URL follows from the document and the names alone, so it is the same at each mount. It identifies stored
//!   listings and inode numbers.
//! - `!/` separates the document from the directory, as in Java's `jar:` URLs. Names of directories have their `!`
//!   escaped, so the last `!/` is the separator.
//! - The document's query stays a query. So messages hide its values, and what may be secret is not stored.

use percent_encoding::{AsciiSet, CONTROLS, percent_decode_str, percent_encode};
use url::Url;

use crate::source::Name;

/// What separates the document from the directory in it.
const SEPARATOR: &str = "!/";

/// Bytes that are escaped in the names of directories: those of a path (WHATWG URL), `%`, and `!`.
const ESCAPED: &AsciiSet = &CONTROLS
    .add(b' ')
    .add(b'!')
    .add(b'"')
    .add(b'#')
    .add(b'%')
    .add(b'<')
    .add(b'>')
    .add(b'?')
    .add(b'^')
    .add(b'`')
    .add(b'{')
    .add(b'}');

/// The URL of the root directory of the document at `document`, which is of the kind `kind`. `None` if the document's
/// URL has no path.
pub(crate) fn root(kind: &str, document: &Url) -> Option<Url> {
    if document.cannot_be_a_base() {
        return None;
    }
    let mut inner = document.clone();
    inner.set_fragment(None);
    let mut url = Url::parse(&format!("{kind}+{inner}")).ok()?;
    url.set_path(&format!("{}{SEPARATOR}", inner.path()));
    Some(url)
}

/// The URL of the directory `name` in `directory`.
pub(crate) fn below(directory: &Url, name: &Name) -> Url {
    let mut url = directory.clone();
    url.set_path(&format!(
        "{}{}/",
        directory.path(),
        percent_encode(name.as_bytes(), ESCAPED)
    ));
    url
}

/// The document's URL and the directory's place in it; the inverse of [`root`] and [`below`]. `None` for other URLs.
pub(crate) fn split(kind: &str, directory: &Url) -> Option<(Url, Vec<Name>)> {
    let (document, place) = directory.path().rsplit_once(SEPARATOR)?;
    let names = place
        .split_terminator('/')
        .map(|part| Name::new(percent_decode_str(part).collect()));
    let names = names.collect::<Option<Vec<Name>>>()?;
    let mut url = directory.clone();
    url.set_path(document);
    let inner = url.as_str().strip_prefix(kind)?.strip_prefix('+')?;
    Some((Url::parse(inner).ok()?, names))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> Url {
        Url::parse(text).unwrap()
    }

    fn name(text: &str) -> Name {
        Name::new(text.into()).unwrap()
    }

    #[test]
    fn directory_url_leads_back_to_its_document() {
        for document in [
            "https://host.example/pub/list.txt",
            "https://host.example/pub/list.txt?v=2&w=a%2Fb",
            "http://127.0.0.1:8080/",
            "http://[::1]/wow!/li%20st!",
            "https://host/lists/",
            "file:///home/a%20b/list.txt",
        ] {
            let document = url(document);
            let root = root("list", &document).unwrap();
            assert!(
                root.path().ends_with("!/") && root.scheme().starts_with("list+"),
                "{root}"
            );
            assert_eq!(split("list", &root), Some((document.clone(), vec![])), "{root}");
            let names = ["a b", "wow!", "100%", "é?#", "a\\b"].map(name);
            let deep = names
                .iter()
                .fold(root.clone(), |directory, name| below(&directory, name));
            assert_eq!(Url::parse(deep.as_str()).as_ref(), Ok(&deep));
            assert!(
                deep.as_str().starts_with(root.as_str().split('?').next().unwrap()),
                "{deep}"
            );
            assert_eq!(split("list", &deep), Some((document, names.to_vec())), "{deep}");
            assert_eq!(split("m3u", &deep), None);
        }
    }

    #[test]
    fn other_urls_are_no_directories_of_documents() {
        for other in ["https://h/a!/b/", "list+https://h/a/b/", "list:a!/b/"] {
            assert_eq!(split("list", &url(other)), None, "{other}");
        }
        assert_eq!(root("list", &url("data:text/plain,x")), None);
    }
}
