//! Where the rows of a page end, and what a complete row adds to the listing.
//!
//! Rows end where a browser begins a new line: at `<tr>`, `<li>`, `<br>`, at a newline within `<pre>`, and so on. A
//! superfluous boundary loses a size and a date; a missing one could assign those of a neighbour. Within a table cell
//! or a list item, `<br>`, `<p>`, `<div>` and the like are mere layout, and end the row only if another entry follows
//! in the same cell.
//!
//! In a row with a size or a date, of a table, a list or a `<pre>`, one link is the entry: the first one, or the one in
//! the column of names. Other links in that row are about the entry: a description, another form of it, its signature.

use std::mem::take;

use super::Reader;
use crate::source::web_index::index_page::collect::{LOOSE, Place, Skeleton, Standing, TooMany};
use crate::source::web_index::index_page::link::Reason;
use crate::source::web_index::index_page::row::{Candidate, Columns, Facts};

/// Tags that begin and end a row wherever they stand.
const ROW_TAGS: [&str; 11] = ["body", "dd", "dl", "dt", "head", "li", "ol", "pre", "table", "tr", "ul"];

/// Tags that begin and end a row outside of cells and items.
const LINE_TAGS: [&str; 12] = [
    "blockquote",
    "br",
    "center",
    "div",
    "footer",
    "form",
    "h1",
    "h2",
    "h3",
    "header",
    "hr",
    "p",
];

impl Reader {
    /// Ends the row, or the line in a cell or an item, if this tag does.
    pub(super) fn boundary(&mut self, name: &str) {
        if ROW_TAGS.contains(&name) {
            return self.end_row();
        }
        if !LINE_TAGS.contains(&name) {
            return;
        }
        if self.row.has_cells() || self.in_item {
            self.line_ended |= !self.row.links.is_empty();
            self.row_text("\n");
        } else {
            self.end_row();
        }
    }

    /// Ends a row within a cell or an item, where another one follows.
    pub(super) fn end_line(&mut self) {
        let is_in_cell = self.row.has_cells();
        self.row.forget_lines();
        self.end_row();
        if is_in_cell {
            self.row.begin_cell(1, None, None);
        }
    }

    /// Ends the row. Its links go to the collection; without a link it may be the heading of the columns.
    pub(super) fn end_row(&mut self) {
        let mut row = take(&mut self.row);
        let crowded = take(&mut self.crowded);
        self.field = None;
        self.line_ended = false;
        self.in_candidate = false;
        if row.links.is_empty() {
            if let Some(columns) = Columns::read(&row, self.preformatted) {
                self.columns = Some(columns);
                self.collection.has_skeleton(Skeleton::Heading);
            } else if row.is_navigation && (self.preformatted || row.has_cells()) {
                self.collection.has_skeleton(Skeleton::WayUp);
            }
            return;
        }
        let place = self.place();
        row.join_lines();
        let is_before = match self.facts_before {
            Some((known, is_before)) if known == place => is_before,
            _ => {
                let is_before = row.has_facts_before();
                self.facts_before = Some((place, is_before));
                is_before
            }
        };
        let facts = row.facts(self.columns.as_ref(), is_before);
        let owner = row.owner(self.columns.as_ref()).unwrap_or_default();
        let is_table = row.has_cells() && self.columns.is_some();
        let is_of_one = place != LOOSE && (facts.are_some() || is_table);
        let is_upward = place != LOOSE && row.is_navigation;
        let has_icon = row.has_directory_icon;
        for (index, link) in row.links.into_iter().enumerate() {
            let is_owner = index == owner;
            if (is_of_one && !is_owner) || (is_upward && !link.is_named()) {
                continue;
            }
            let facts = (is_owner && !is_upward).then_some(&facts);
            let is_directory = is_owner && has_icon && (is_of_one || !crowded);
            if self.take_up(link, place, facts, is_directory).is_err() {
                self.contents.is_too_long = true;
                return;
            }
        }
    }

    /// Adds the target of a link to the collection. It is a directory if its URL or its text ends in `/`, or if the row
    /// says so.
    fn take_up(&mut self, link: Candidate, place: Place, facts: Option<&Facts>, has_icon: bool) -> Result<(), TooMany> {
        let standing = Standing {
            place,
            is_named: link.is_named(),
            has_facts: facts.is_some_and(Facts::are_some),
            is_plain: !link.child.directory && !link.text_ends_in_slash(),
        };
        let says_directory = has_icon || link.text_ends_in_slash() || facts.is_some_and(|facts| facts.is_directory);
        let Candidate {
            mut child,
            mut left_out,
            text,
            ..
        } = link;
        if child.name.is_empty() && left_out != Some(Reason::Elsewhere) && child.url.query().is_some() {
            // `?path=sub/`: the name is the text of the link.
            let text = text.trim();
            child.name = text.strip_suffix('/').unwrap_or(text).as_bytes().to_vec();
        }
        if left_out == Some(Reason::Query) && child.directory && standing.is_named {
            // `sub/?noscript`: the query of the page works for the directories in it.
            let query = self.page.query().map(str::to_owned);
            child.url.set_query(query.as_deref());
            left_out = None;
        }
        if says_directory && !child.directory {
            child.directory = true;
            if child.url.query().is_none() {
                let path = format!("{}/", child.url.path());
                child.url.set_path(&path);
            }
        }
        match left_out {
            Some(reason) => {
                self.contents.links_away += usize::from(reason == Reason::Elsewhere && self.page.is_own(&child.url));
                self.collection.leave_out(&child, reason, standing);
                Ok(())
            }
            None => self.collection.take_up(child, standing, facts),
        }
    }
}
