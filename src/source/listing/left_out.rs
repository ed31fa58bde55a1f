//! Links in listings that their directories do not show.

use std::fmt;

/// Number of links that the directory does not show, by reason.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LeftOut {
    /// Their names are no path component, even escaped: `.`, `..`, longer than [`NAME_MAX`], or invalid text.
    pub refused: usize,
    /// They have a query, and [`ListingConfig::query_links`] is off.
    pub queries: usize,
    /// They lead to another directory or origin, and [`ListingConfig::external_links`] is off.
    pub elsewhere: usize,
    /// Files that share a directory's name: the directory is shown.
    pub both: usize,
    /// Files in a document whose URLs are not of http or https.
    pub unsupported: usize,
    /// Files that their server does not give to the public.
    pub private: usize,
    /// Names of a file system that are neither files nor directories: devices, sockets, pipes, and symbolic links that lead
    /// nowhere or back to a directory that they are in.
    pub special: usize,
}

impl LeftOut {
    /// Returns true if everything is shown.
    pub fn is_nothing(&self) -> bool {
        *self == LeftOut::default()
    }

    /// Updates a sum over directories after one changed from `before` to `now`.
    pub fn change(&mut self, before: LeftOut, now: LeftOut) {
        let change = |total: &mut usize, before: usize, now: usize| *total = (*total + now).saturating_sub(before);
        change(&mut self.refused, before.refused, now.refused);
        change(&mut self.queries, before.queries, now.queries);
        change(&mut self.elsewhere, before.elsewhere, now.elsewhere);
        change(&mut self.both, before.both, now.both);
        change(&mut self.unsupported, before.unsupported, now.unsupported);
        change(&mut self.private, before.private, now.private);
        change(&mut self.special, before.special, now.special);
    }
}

impl fmt::Display for LeftOut {
    /// `2 links with a query are not shown (use --query-links); 1 name is not shown (invalid file name)`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts = [
            (
                self.queries,
                "link with a query",
                "links with a query",
                " (use --query-links)",
            ),
            (
                self.elsewhere,
                "link outside the directory",
                "links outside the directory",
                " (use --external-links)",
            ),
            (self.refused, "name", "names", " (invalid file name)"),
            (self.both, "file", "files", " (same name as a directory)"),
            (self.unsupported, "file", "files", " (no URL of http or https)"),
            (self.private, "file", "files", " (not public)"),
            (self.special, "name", "names", " (neither a file nor a directory)"),
        ];
        let mut is_first = true;
        for (number, one, many, why) in parts.into_iter().filter(|(number, ..)| *number > 0) {
            let (what, is) = if number == 1 { (one, "is") } else { (many, "are") };
            let separator = if is_first { "" } else { "; " };
            write!(f, "{separator}{number} {what} {is} not shown{why}")?;
            is_first = false;
        }
        Ok(())
    }
}
