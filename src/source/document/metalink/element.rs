//! The elements of Metalinks that are read, by their names and their parents.

/// An element.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Element {
    /// The root.
    Metalink,
    /// `<files>` of version 3.
    Files,
    /// One file.
    File,
    /// `<verification>` of version 3.
    Verification,
    /// `<resources>` of version 3.
    Resources,
    /// Hashes of a file's pieces.
    Pieces,
    /// Bytes.
    Size,
    /// A hash of the whole file.
    Hash,
    /// A hash of a piece.
    PieceHash,
    /// A URL of the file.
    Url,
    /// Any other.
    Other,
}

impl Element {
    /// The element called `name`, without its namespace prefix, in `parent`; `None` if it is the root of something
    /// else.
    pub(super) fn of(name: &str, parent: Option<Element>) -> Option<Element> {
        use Element::{File, Files, Hash, Metalink, Other, PieceHash, Pieces, Resources, Size, Url, Verification};
        Some(match (parent, name) {
            (None, "metalink") => Metalink,
            (None, _) => return None,
            (Some(Metalink), "files") => Files,
            (Some(Metalink | Files), "file") => File,
            (Some(File), "size") => Size,
            (Some(File), "verification") => Verification,
            (Some(File), "resources") => Resources,
            (Some(File | Resources), "url") => Url,
            (Some(File | Verification), "hash") => Hash,
            (Some(File | Verification), "pieces") => Pieces,
            (Some(Pieces), "hash") => PieceHash,
            _ => Other,
        })
    }

    /// Returns true if the element's text is read.
    pub(super) fn has_text(self) -> bool {
        matches!(self, Element::Size | Element::Hash | Element::PieceHash | Element::Url)
    }
}
