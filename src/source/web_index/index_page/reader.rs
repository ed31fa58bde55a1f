//! Turns the tags and the text of a page into rows, and the rows into a listing.
//!
//! There is no document tree: an index page is a sequence of rows, and a row needs only its links and the text around
//! them. So the memory in use is the listing and the current row.
//!
//! Here are the state of the page so far, and what each tag and each piece of text changes in it. `rows` has where a row
//! ends and what it adds to the listing.

mod rows;

use html5ever::tokenizer::Tag;
use url::Url;

use super::OtherPages;
use super::collect::{Collection, LOOSE, Place};
use super::feed::PageSink;
use super::link::{Child, Link, Page, Reason};
use super::row::{Columns, Field, Row, says_directory};
use crate::source::Listing;
use crate::source::receiving::EarlyNames;

/// Tags whose content is a [`Place`].
const PLACE_TAGS: [&str; 5] = ["dl", "ol", "pre", "table", "ul"];

/// Maximum depth of nested places.
const DEEPEST: usize = 64;

/// Maximum number of links in a row; with more it is not the row of one file.
const MOST_LINKS: usize = 64;

/// Attributes in which a cell may have the exact number behind its text.
const NUMBER_ATTRIBUTES: [&str; 5] = ["data-order", "data-size", "data-value", "data-sort", "data-sort-value"];

/// Attributes that may show by a class or an icon what a row is.
const ICON_ATTRIBUTES: [&str; 4] = ["class", "alt", "src", "xlink:href"];

/// Tags that may have such an attribute.
const ICON_TAGS: [&str; 9] = ["a", "i", "img", "li", "span", "svg", "td", "tr", "use"];

/// The beginnings of index pages' titles (nginx, Apache, lighttpd and others; Python; Jetty; package indexes).
const TITLES: [&str; 5] = [
    "index of /",
    "directory listing for /",
    "directory: /",
    "simple index",
    "links for ",
];

/// Texts of links to the parent directory.
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

/// The result of reading a page.
#[derive(Debug)]
pub(super) struct Contents {
    pub(super) listing: Listing,
    /// True if the page has a mark of an index page.
    pub(super) marked: bool,
    /// Number of links to other pages of the same origin, without directories above.
    pub(super) links_away: usize,
    /// True if it has text outside of scripts, its title, and what is for clients without scripts.
    pub(super) has_text: bool,
    /// It has tags.
    pub(super) has_tags: bool,
    /// It has a script.
    pub(super) has_scripts: bool,
    /// True if it asks for a password.
    pub(super) has_login: bool,
    /// The URL for clients without scripts, if the page names one.
    pub(super) plain_form: Option<Url>,
    /// True if it has more names than the limit allows.
    pub(super) is_too_long: bool,
    pub(super) others: OtherPages,
}

/// Reads one page; the sink of its tags and text.
pub(super) struct Reader {
    page: Page,
    has_base: bool,
    collection: Collection,
    contents: Flags,
    row: Row,
    /// True if the row's text may be about another link than its first.
    crowded: bool,
    /// The places around the row, innermost last.
    places: Vec<Place>,
    /// Number of the most recent place.
    last_place: Place,
    /// Whether facts precede their link, as in the first row of the place.
    facts_before: Option<(Place, bool)>,
    /// The heading of the table or `<pre>` that the row is in.
    columns: Option<Columns>,
    /// Within `<pre>`.
    preformatted: bool,
    /// Within `<li>`.
    in_item: bool,
    /// Within `<noscript>`.
    in_noscript: bool,
    /// Within `<a href>`.
    in_link: bool,
    /// Within a link to a target with a name, the last of the row.
    in_candidate: bool,
    /// True if a line has ended in the cell since its entry's link.
    line_ended: bool,
    /// The open field of the row: its tag, how many of these are open in it, and where text goes after it.
    field: Option<(String, usize, Option<usize>)>,
    /// Within a script or a style.
    in_raw: bool,
    /// The title or heading being read.
    title: Option<String>,
    /// Within `<title>`.
    in_page_title: bool,
    /// The text of a link to the directory above, while it is being read.
    parent_label: Option<String>,
}

/// Findings about the whole page, for [`Contents`].
#[derive(Debug, Default)]
struct Flags {
    marked: bool,
    links_away: usize,
    has_text: bool,
    has_tags: bool,
    has_scripts: bool,
    has_login: bool,
    plain_form: Option<Url>,
    is_too_long: bool,
    others: OtherPages,
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
        self.contents.has_tags = true;
        self.boundary(name);
        if PLACE_TAGS.contains(&name) && self.places.len() < DEEPEST {
            self.last_place += 1;
            self.places.push(self.last_place);
        }
        self.look_for_icon(tag);
        match name {
            "a" if self.is_next(tag) => self.end_link(),
            "a" => self.start_link(attribute(tag, "href")),
            "link" => drop(self.is_next(tag)),
            "base" => self.set_base(attribute(tag, "href")),
            "td" | "th" => self.start_cell(tag),
            "li" => self.in_item = true,
            "data" => self.set_number(attribute(tag, "value")),
            "time" => self.set_datetime(attribute(tag, "datetime")),
            "pre" => (self.preformatted, self.columns) = (true, None),
            "table" => self.columns = None,
            "title" | "h1" | "h2" | "h3" | "h4" => {
                self.title = Some(String::new());
                self.in_page_title = name == "title";
            }
            "script" | "style" if !tag.self_closing => {
                self.in_raw = true;
                self.contents.has_scripts |= name == "script";
            }
            "noscript" => self.in_noscript = true,
            "meta" => self.refresh(tag),
            "input" => {
                let is_password = attribute(tag, "type").is_some_and(|kind| kind.eq_ignore_ascii_case("password"));
                self.contents.has_login |= is_password;
            }
            _ => {}
        }
        self.start_field(tag);
    }

    fn end(&mut self, name: &str) {
        self.end_field(name);
        self.boundary(name);
        if PLACE_TAGS.contains(&name) {
            self.places.pop();
        }
        match name {
            "a" => self.end_link(),
            "li" => self.in_item = false,
            "pre" => (self.preformatted, self.columns) = (false, None),
            "table" => self.columns = None,
            "script" | "style" => self.in_raw = false,
            "noscript" => self.in_noscript = false,
            "title" | "h1" | "h2" | "h3" | "h4" => {
                self.in_page_title = false;
                let title = self.title.take().unwrap_or_default().trim_start().to_ascii_lowercase();
                self.contents.marked |= TITLES.iter().any(|&known| title.starts_with(known));
            }
            _ => {}
        }
    }

    fn has_enough(&self) -> bool {
        self.contents.is_too_long
    }

    fn text(&mut self, text: &str) {
        if let Some(title) = &mut self.title {
            title.push_str(text);
        }
        if let Some(label) = &mut self.parent_label {
            label.push_str(text);
        }
        if self.in_raw {
            return;
        }
        self.contents.has_text |= !self.in_noscript && !self.in_page_title && !text.trim().is_empty();
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
    /// Reads a page with at most so many names; those that are certain go to `early`.
    pub(super) fn new(page: Page, most: usize, early: EarlyNames) -> Reader {
        let collection = Collection::new(page.url(), most, early);
        Reader {
            page,
            has_base: false,
            collection,
            contents: Flags::default(),
            row: Row::default(),
            crowded: false,
            places: Vec::new(),
            last_place: LOOSE,
            facts_before: None,
            columns: None,
            preformatted: false,
            in_item: false,
            in_noscript: false,
            in_link: false,
            in_candidate: false,
            line_ended: false,
            field: None,
            in_raw: false,
            title: None,
            in_page_title: false,
            parent_label: None,
        }
    }

    /// The result, after the whole page was fed.
    pub(super) fn finish(mut self) -> Contents {
        self.end_row();
        let Flags {
            marked,
            links_away,
            has_text,
            has_tags,
            has_scripts,
            has_login,
            plain_form,
            is_too_long,
            others,
        } = self.contents;
        Contents {
            listing: self.collection.finish(marked),
            marked,
            links_away,
            has_text,
            has_tags,
            has_scripts,
            has_login,
            plain_form,
            is_too_long,
            others,
        }
    }

    /// The table, list or `<pre>` that the row is in.
    fn place(&self) -> Place {
        self.places.last().copied().unwrap_or(LOOSE)
    }

    fn row_text(&mut self, text: &str) {
        let in_field = self.field.is_some();
        if self.crowded && !self.row.has_cells() && !in_field {
            return;
        }
        if self.in_candidate
            && !in_field
            && let Some(link) = self.row.links.last_mut()
        {
            link.text.push_str(text);
        }
        let has_owner = !self.row.links.is_empty();
        let in_link = self.in_link;
        let line_ended = self.line_ended && !in_field;
        let cell = self.row.cell();
        if !has_owner {
            cell.label.push_str(text);
        }
        if in_field || !in_link {
            if line_ended && !text.trim().is_empty() {
                cell.lines_after.push_str(text);
            } else {
                cell.text.push_str(text);
            }
        }
    }

    /// Only the first `<base>` counts, as in a browser.
    fn set_base(&mut self, href: Option<&str>) {
        if let Some(href) = href.filter(|_| !self.has_base) {
            self.has_base = true;
            self.page.set_base(href);
        }
    }

    /// `<noscript><meta http-equiv="refresh" content="0; url=?noscript">`.
    fn refresh(&mut self, tag: &Tag) {
        let is_refresh = attribute(tag, "http-equiv").is_some_and(|name| name.eq_ignore_ascii_case("refresh"));
        if !self.in_noscript || !is_refresh {
            return;
        }
        let content = attribute(tag, "content").unwrap_or_default();
        let target = content
            .split_once('=')
            .filter(|(before, _)| before.to_ascii_lowercase().ends_with("url"));
        if let Some((_, target)) = target {
            self.contents.plain_form = self.page.plain_form(target);
        }
    }

    fn start_cell(&mut self, tag: &Tag) {
        // A cell ends a link that was left open, and with it the rest of the row would be lost.
        self.end_link();
        self.field = None;
        self.line_ended = false;
        let number = NUMBER_ATTRIBUTES
            .iter()
            .find_map(|name| attribute(tag, name))
            .and_then(|number| number.parse().ok());
        let span = attribute(tag, "colspan")
            .and_then(|span| span.parse().ok())
            .unwrap_or(1);
        let field = attribute(tag, "class").and_then(Field::of_class);
        self.row.begin_cell(span, number, field);
    }

    /// Begins a field, if the tag's class says that its content is one.
    fn start_field(&mut self, tag: &Tag) {
        let name = &*tag.name;
        if let Some((open, depth, _)) = &mut self.field {
            *depth += usize::from(*open == name);
            return;
        }
        let is_part_of_row = matches!(
            name,
            "span" | "div" | "small" | "p" | "b" | "i" | "code" | "em" | "strong"
        );
        let is_row = self.row.has_cells() || self.in_item;
        if !is_part_of_row || !is_row || tag.self_closing {
            return;
        }
        if let Some(field) = attribute(tag, "class").and_then(Field::of_class) {
            let before = self.row.begin_field(field);
            self.field = Some((name.to_owned(), 1, before));
        }
    }

    fn end_field(&mut self, name: &str) {
        let Some((open, depth, before)) = &mut self.field else {
            return;
        };
        *depth -= usize::from(open == name);
        if *depth == 0 {
            self.row.end_field(*before);
            self.field = None;
        }
    }

    /// Looks for an icon or a class of a directory's row.
    fn look_for_icon(&mut self, tag: &Tag) {
        if !ICON_TAGS.contains(&&*tag.name) {
            return;
        }
        let is_icon = |name: &&str| {
            attribute(tag, name).is_some_and(|value| {
                let file = value.rsplit('/').next().unwrap_or_default();
                value.len() <= 256 && !value.starts_with("data:") && says_directory(file)
            })
        };
        self.row.has_directory_icon |= ICON_ATTRIBUTES.iter().any(is_icon);
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

    /// Returns true if a link leads to the page after this one, and records that.
    fn is_next(&mut self, tag: &Tag) -> bool {
        let relations = attribute(tag, "rel").unwrap_or_default();
        let mut relations = relations.split_ascii_whitespace();
        if !relations.any(|relation| relation.eq_ignore_ascii_case("next")) {
            return false;
        }
        let next = attribute(tag, "href").and_then(|href| self.page.next(href));
        let is_next = next.is_some();
        self.contents.others.next = self.contents.others.next.take().or(next);
        is_next
    }

    fn start_link(&mut self, href: Option<&str>) {
        self.end_link();
        let Some(href) = href else { return };
        self.in_link = true;
        match self.page.resolve(href) {
            Link::Child(child) => self.candidate(child, None),
            Link::LeftOut(child, reason) => self.candidate(child, Some(reason)),
            Link::Parent => {
                self.row.is_navigation |= self.row.links.is_empty();
                self.parent_label = Some(String::new());
            }
            Link::Sorted => {
                self.row.is_navigation |= self.row.links.is_empty();
                self.contents.marked = true;
            }
            Link::Paged(url, number) => self.contents.others.add(number, url),
            Link::Away => self.contents.links_away += 1,
            Link::Elsewhere => {}
        }
    }

    fn end_link(&mut self) {
        (self.in_link, self.in_candidate) = (false, false);
        if let Some(label) = self.parent_label.take() {
            self.contents.marked |= PARENT_LABELS.contains(&&*label.trim().to_lowercase());
        }
    }

    /// Adds a link to a target with a name to the row. The row may link to it twice, by an icon and by its name.
    fn candidate(&mut self, child: Child, left_out: Option<Reason>) {
        let is_new = self.row.links.last().is_none_or(|last| last.child.url != child.url);
        if is_new && (self.line_ended || self.row.links.len() >= MOST_LINKS) {
            self.end_line();
        }
        let is_second = !self.row.links.is_empty();
        if self.row.add(child, left_out) {
            self.crowded |= is_second;
        }
        self.in_candidate = true;
    }
}
