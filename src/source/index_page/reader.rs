//! Turns the tags and the text of a page into rows, and the rows into a listing.
//!
//! There is no document tree: an index page is a sequence of rows, and a row needs no more than its
//! first entry and the text around it. So the memory in use is the listing, and the row at hand.
//!
//! Rows end where a browser would begin a new line: at `<tr>`, `<li>`, `<br>`, at a newline within
//! `<pre>`, and so on. A boundary too many costs a size and a date; one too few could give a file those
//! of its neighbour. A `<div>` is a boundary only outside of tables, where Caddy puts some into a cell.

use std::mem::take;

use html5ever::tokenizer::Tag;

use super::collect::{Collection, Taken, TooMany};
use super::feed::PageSink;
use super::link::{Child, Link, Page};
use super::row::{Columns, Row};
use crate::source::Listing;

/// Tags that begin and end a row wherever they stand.
const ROW_TAGS: [&str; 22] = [
    "blockquote",
    "br",
    "body",
    "center",
    "dd",
    "dl",
    "dt",
    "footer",
    "form",
    "h1",
    "h2",
    "h3",
    "head",
    "header",
    "hr",
    "li",
    "ol",
    "p",
    "pre",
    "table",
    "tr",
    "ul",
];

/// Attributes in which a cell may hold the number behind what it shows.
const NUMBER_ATTRIBUTES: [&str; 5] = ["data-order", "data-size", "data-value", "data-sort", "data-sort-value"];

/// How the titles of index pages begin (nginx, Apache, lighttpd and others; Python; Jetty).
const TITLES: [&str; 3] = ["index of /", "directory listing for /", "directory: /"];

/// What a link to the directory above is called.
const PARENT_LABELS: [&str; 9] = [
    "..",
    "../",
    "parent directory",
    "parent directory/",
    "[to parent directory]",
    "parent folder",
    "up",
    "go up",
    "up to higher level directory",
];

/// What was read of a page.
#[derive(Debug)]
pub(super) struct Contents {
    pub(super) listing: Listing,
    /// Something on the page says that it is an index page.
    pub(super) marked: bool,
    /// The links on the page, entries or not.
    pub(super) links: usize,
    /// There were more names than are taken.
    pub(super) is_too_long: bool,
}

/// Reads one page; the sink of its tags and text.
pub(super) struct Reader {
    page: Page,
    has_base: bool,
    collection: Collection,
    /// See [`Contents::marked`].
    marked: bool,
    /// See [`Contents::links`].
    links: usize,
    row: Row,
    /// See [`Contents::is_too_long`]. What follows is not looked at.
    is_too_long: bool,
    /// What the row's text is about: its first link one level down. `None` before that link.
    owner: Option<Taken>,
    /// The row has come to a second entry; what follows is not about the first.
    crowded: bool,
    /// The heading of the table or `<pre>` that the row is in.
    columns: Option<Columns>,
    /// Within `<pre>`.
    preformatted: bool,
    /// Within `<a href>`.
    in_link: bool,
    /// The title or heading being read.
    title: Option<String>,
    /// The text of a link to the directory above, while it is being read.
    parent_label: Option<String>,
}

fn attribute<'a>(tag: &'a Tag, name: &str) -> Option<&'a str> {
    tag.attrs
        .iter()
        .find(|attribute| &*attribute.name.local == name)
        .map(|attribute| &*attribute.value)
}

impl PageSink for Reader {
    fn start(&mut self, tag: &Tag) {
        let name = &*tag.name;
        if ROW_TAGS.contains(&name) || (name == "div" && !self.row.has_cells()) {
            self.end_row();
        }
        match name {
            "a" => self.start_link(attribute(tag, "href")),
            "base" => self.set_base(attribute(tag, "href")),
            "td" | "th" => self.start_cell(tag),
            "data" => self.set_number(attribute(tag, "value")),
            "time" => self.set_datetime(attribute(tag, "datetime")),
            "pre" => (self.preformatted, self.columns) = (true, None),
            "table" => self.columns = None,
            "title" | "h1" | "h2" => self.title = Some(String::new()),
            _ => {}
        }
    }

    fn end(&mut self, name: &str) {
        if ROW_TAGS.contains(&name) {
            self.end_row();
        }
        match name {
            "a" => self.end_link(),
            "pre" => (self.preformatted, self.columns) = (false, None),
            "table" => self.columns = None,
            "title" | "h1" | "h2" => {
                let title = self.title.take().unwrap_or_default().trim_start().to_ascii_lowercase();
                self.marked |= TITLES.iter().any(|&known| title.starts_with(known));
            }
            _ => {}
        }
    }

    fn has_enough(&self) -> bool {
        self.is_too_long
    }

    fn text(&mut self, text: &str) {
        if let Some(title) = &mut self.title {
            title.push_str(text);
        }
        if let Some(label) = &mut self.parent_label {
            label.push_str(text);
        }
        if !self.preformatted || self.in_link {
            return self.row_text(text);
        }
        let mut lines = text.split('\n');
        self.row_text(lines.next().unwrap_or_default());
        for line in lines {
            self.end_row();
            self.row_text(line);
        }
    }
}

impl Reader {
    pub(super) fn new(page: Page, most: usize) -> Reader {
        Reader {
            page,
            has_base: false,
            collection: Collection::new(most),
            marked: false,
            links: 0,
            is_too_long: false,
            row: Row::default(),
            owner: None,
            crowded: false,
            columns: None,
            preformatted: false,
            in_link: false,
            title: None,
            parent_label: None,
        }
    }

    /// What was read, once all of the page has been fed.
    pub(super) fn finish(mut self) -> Contents {
        self.end_row();
        Contents {
            listing: self.collection.finish(self.marked),
            marked: self.marked,
            links: self.links,
            is_too_long: self.is_too_long,
        }
    }

    fn row_text(&mut self, text: &str) {
        if self.crowded {
            return;
        }
        let cell = self.row.cell();
        if self.owner.is_none() {
            cell.label.push_str(text);
        }
        if !self.in_link {
            cell.text.push_str(text);
        }
    }

    /// Only the first `<base>` counts, as in a browser.
    fn set_base(&mut self, href: Option<&str>) {
        if let Some(href) = href.filter(|_| !self.has_base) {
            self.has_base = true;
            self.page.set_base(href);
        }
    }

    fn start_cell(&mut self, tag: &Tag) {
        // A cell ends a link that was left open, and with it the rest of the row would be lost.
        self.end_link();
        let number = NUMBER_ATTRIBUTES.iter().find_map(|name| attribute(tag, name));
        let span = attribute(tag, "colspan")
            .and_then(|span| span.parse().ok())
            .unwrap_or(1);
        self.row.begin_cell(span, number.and_then(|number| number.parse().ok()));
    }

    fn set_datetime(&mut self, value: Option<&str>) {
        if !self.crowded {
            self.row.cell().datetime = value.map(str::to_owned);
        }
    }

    fn set_number(&mut self, value: Option<&str>) {
        if !self.crowded {
            self.row.cell().number = value.and_then(|value| value.parse().ok());
        }
    }

    fn start_link(&mut self, href: Option<&str>) {
        self.end_link();
        let Some(href) = href else { return };
        self.in_link = true;
        self.links += 1;
        match self.page.resolve(href) {
            Link::Child(child) => self.child(child),
            Link::Parent => self.parent_label = Some(String::new()),
            Link::Sorted => self.marked = true,
            Link::Elsewhere => {}
        }
    }

    fn end_link(&mut self) {
        self.in_link = false;
        if let Some(label) = self.parent_label.take() {
            self.marked |= PARENT_LABELS.contains(&&*label.trim().to_lowercase());
        }
    }

    /// Takes an entry up, and makes it the one that its row is about. The row may link to it twice, by an
    /// icon and by its name.
    fn child(&mut self, child: Child) {
        let taken = match self.collection.take_up(child) {
            Ok(taken) => taken,
            Err(TooMany) => return self.is_too_long = true,
        };
        match self.owner {
            None => {
                self.owner = Some(taken);
                // What came before: an icon's stand-in, a bullet.
                self.row.cell().text.clear();
            }
            Some(owner) => self.crowded |= owner != taken,
        }
    }

    fn end_row(&mut self) {
        let row = take(&mut self.row);
        self.crowded = false;
        match self.owner.take() {
            Some(Taken::Entry(index)) => self.collection.complete(index, &row.facts(self.columns.as_ref())),
            Some(Taken::Refused) => {}
            None => {
                if let Some(columns) = Columns::read(&row, self.preformatted) {
                    self.columns = Some(columns);
                }
            }
        }
    }
}
