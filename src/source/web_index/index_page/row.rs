//! The facts that a row of an index page has of its file.
//!
//! A page is read row by row: a line of `<pre>`, a table's row, a list's item. A row without an entry may be the
//! heading that names the columns.
//!
//! The rules are strict on purpose. An exact size is used until the file itself is requested. So a number counts as a
//! size only without doubt: under a heading or in a field for sizes, next to a date, or with a unit. A row in an
//! unknown layout gives only a name.

use super::link::{Child, Reason};
use super::size;
use crate::source::ListedSize;
use crate::source::listing::date;

/// Maximum bytes of the text before a link that are searched for a date: enough for `ls -l` and `dir`.
const TEXT_BEFORE: usize = 160;

/// The content of an element, by its class: `<span class="size">`, `<td class="last-modified">`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Field {
    Size,
    Date,
}

impl Field {
    /// The field that a class names, if any.
    pub(super) fn of_class(class: &str) -> Option<Field> {
        words(class).find_map(|word| match word {
            _ if is_one_of(word, &["size", "filesize"]) => Some(Field::Size),
            _ if is_one_of(
                word,
                &[
                    "date",
                    "time",
                    "modified",
                    "mtime",
                    "lastmod",
                    "lastmodified",
                    "datetime",
                ],
            ) =>
            {
                Some(Field::Date)
            }
            _ => None,
        })
    }
}

/// Returns true if a class, an icon's name or its alternative text shows a directory: `icon-directory`, `folder.png`,
/// `[DIR]`. Not with `file` in it as well, which some servers write beside the name's extension.
pub(super) fn says_directory(text: &str) -> bool {
    words(text).any(|word| is_one_of(word, &["dir", "directory", "folder"]))
        && !words(text).any(|word| is_one_of(word, &["file", "default"]))
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !c.is_alphanumeric())
        .filter(|word| !word.is_empty())
}

fn is_one_of(word: &str, known: &[&str]) -> bool {
    known.iter().any(|known| word.eq_ignore_ascii_case(known))
}

/// A cell of a table's row, or a field in a row; also the whole text of a row without either.
#[derive(Debug, Default)]
pub(super) struct Cell {
    /// Its first column, counted from 0; `None` for a field that is not a table cell.
    column: Option<usize>,
    /// Its field by its class.
    field: Option<Field>,
    /// Its text outside of links, from the row's first entry on.
    pub(super) text: String,
    /// Its text outside of links before that.
    before: String,
    /// Its text outside of links in lines below the entry: about the next entry, if one follows in the cell.
    pub(super) lines_after: String,
    /// All of its text.
    pub(super) label: String,
    /// The number that an attribute gives for sorting or scripts: `<td data-order>`, `<data value>`.
    pub(super) number: Option<u64>,
    /// `<time datetime>`.
    pub(super) datetime: Option<String>,
}

/// A link of a row to a target with a name.
#[derive(Debug)]
pub(super) struct Candidate {
    pub(super) child: Child,
    /// Why it is not an entry, if so.
    pub(super) left_out: Option<Reason>,
    /// The text of the link.
    pub(super) text: String,
    /// The column of its cell.
    column: Option<usize>,
}

impl Candidate {
    /// Returns true if the link's text is its name, as in a listing: the whole name, or its beginning. Only letters and
    /// digits are compared, so that icons, slashes and ellipses (`..>`, `…`) do not matter.
    pub(super) fn is_named(&self) -> bool {
        /// Servers shorten names to this many characters or more.
        const SHORTEST_CUT: usize = 10;
        let text = self.text.trim().trim_end_matches('/');
        let name = String::from_utf8_lossy(&self.child.name);
        if text.is_empty() {
            return false;
        }
        if text == name.trim() {
            return true;
        }
        let mut count = 0;
        let (mut of_text, mut of_name) = (letters(text), letters(&name));
        loop {
            match (of_text.next(), of_name.next()) {
                (Some(one), Some(other)) if one == other => count += 1,
                (_, None) => return count > 0,
                (None, Some(_)) | (Some(_), Some(_)) => return count >= SHORTEST_CUT,
            }
        }
    }

    /// Returns true if the link's text ends in `/`, as a directory's.
    pub(super) fn text_ends_in_slash(&self) -> bool {
        self.text.trim_end().ends_with('/')
    }
}

fn letters(text: &str) -> impl Iterator<Item = char> {
    text.chars().filter(|c| c.is_alphanumeric())
}

/// The text and the links of a row, in order.
#[derive(Debug, Default)]
pub(super) struct Row {
    /// The text outside of cells.
    text: Cell,
    /// The cells and fields; empty for a row without any.
    cells: Vec<Cell>,
    /// Which of them receives text. After a field in a cell has ended, the cell again.
    current: Option<usize>,
    /// The first column after the last cell.
    columns: usize,
    /// The links to targets with names.
    pub(super) links: Vec<Candidate>,
    /// True if its first link leads up, or to the page in another order.
    pub(super) is_navigation: bool,
    /// True if an icon or a class shows a directory.
    pub(super) has_directory_icon: bool,
}

/// The facts of a row's entry.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Facts {
    pub(super) size: ListedSize,
    pub(super) modified: Option<date::Shown>,
    /// True if the row says in words that this is a directory: `<DIR>`, `drwxr-xr-x`, `Folder`.
    pub(super) is_directory: bool,
}

impl Facts {
    /// Returns true if there is a size or a date.
    pub(super) fn are_some(&self) -> bool {
        self.size != ListedSize::Unknown || self.modified.is_some()
    }
}

/// The columns of a table or a `<pre>`, by its heading.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Columns {
    /// The column of the names. Any number in a `<pre>`, which has no cells.
    pub(super) name: usize,
    /// The column of the sizes; any number in a `<pre>`.
    size: Option<usize>,
    /// The column of the dates; any number in a `<pre>`.
    date: Option<usize>,
}

impl Row {
    /// Begins a cell that spans `span` columns.
    pub(super) fn begin_cell(&mut self, span: usize, number: Option<u64>, field: Option<Field>) {
        self.cells.push(Cell {
            column: Some(self.columns),
            number,
            field,
            ..Cell::default()
        });
        self.columns = self.columns.saturating_add(span);
        self.current = Some(self.cells.len() - 1);
    }

    /// Begins a field that is not a table cell; returns where text went before.
    pub(super) fn begin_field(&mut self, field: Field) -> Option<usize> {
        self.cells.push(Cell {
            field: Some(field),
            ..Cell::default()
        });
        self.current.replace(self.cells.len() - 1)
    }

    /// Ends a field: text goes where it went before.
    pub(super) fn end_field(&mut self, before: Option<usize>) {
        self.current = before;
    }

    /// Returns true if the row is a table's.
    pub(super) fn has_cells(&self) -> bool {
        self.columns > 0
    }

    /// The cell that receives text now.
    pub(super) fn cell(&mut self) -> &mut Cell {
        match self.current {
            Some(index) => &mut self.cells[index],
            None => &mut self.text,
        }
    }

    /// Adds a link. Returns true if its target differs from those before it.
    pub(super) fn add(&mut self, child: Child, left_out: Option<Reason>) -> bool {
        if self.links.last().is_some_and(|last| last.child.url == child.url) {
            return false;
        }
        let is_first = self.links.is_empty();
        let cell = self.cell();
        if is_first {
            cell.before = std::mem::take(&mut cell.text);
        }
        let column = cell.column;
        self.links.push(Candidate {
            child,
            left_out,
            text: String::new(),
            column,
        });
        true
    }

    /// The row's entry, as an index into its links: the link in the column of names, else the first whose text is its
    /// name, else the first. Links that are shown win over links that are left out.
    pub(super) fn owner(&self, columns: Option<&Columns>) -> Option<usize> {
        let in_names = |link: &Candidate| columns.is_some_and(|columns| link.column == Some(columns.name));
        let is_entry = |link: &Candidate| link.left_out.is_none();
        let find = |test: &dyn Fn(&Candidate) -> bool| self.links.iter().position(test);
        find(&|link| in_names(link) && is_entry(link))
            .or_else(|| find(&|link| is_entry(link) && link.is_named()))
            .or_else(|| find(&is_entry))
            .or_else(|| find(&in_names))
            .or_else(|| find(&|_| true))
    }

    /// The facts of the row's entry, given the heading above it. `is_before`: facts may precede the link.
    pub(super) fn facts(&self, columns: Option<&Columns>, is_before: bool) -> Facts {
        let (shown, modified) = match self.cells.as_slice() {
            [] => facts_of_text(&self.text, columns, is_before),
            // A table with one column is mere layout; the row is in the cell.
            [cell] if cell.field.is_none() => facts_of_text(cell, columns, is_before),
            cells => facts_of_cells(cells, columns),
        };
        // `0.0K` says little: lighttpd means an empty file, another server anything below half of the last digit.
        // Programs would skip a file that looks empty.
        let size = shown
            .filter(|&size| size != ListedSize::Rounded(0))
            .unwrap_or(ListedSize::Unknown);
        let texts = self.cells.iter().chain([&self.text]);
        Facts {
            size,
            modified,
            is_directory: texts
                .flat_map(|cell| [&cell.before, &cell.text])
                .any(|text| means_directory(text)),
        }
    }

    /// No other entry follows: the lines below the entry are about it.
    pub(super) fn join_lines(&mut self) {
        for cell in self.cells.iter_mut().chain([&mut self.text]) {
            let after = std::mem::take(&mut cell.lines_after);
            cell.text.push_str(&after);
        }
    }

    /// The lines below the entry may be about another one.
    pub(super) fn forget_lines(&mut self) {
        let cell = self.cell();
        cell.lines_after.clear();
    }

    /// Returns true if facts precede the link.
    pub(super) fn has_facts_before(&self) -> bool {
        let cell = match self.cells.as_slice() {
            [] => &self.text,
            [cell] => cell,
            _ => return false,
        };
        facts_before(&cell.before).is_some()
    }
}

/// Returns true if a text beside a name shows a directory: `<DIR>` and `[DIR]`, alone or after a date; `Directory` or
/// `Folder`, alone; or permissions in the format of `ls -l`.
fn means_directory(text: &str) -> bool {
    let text = text.trim();
    let first = text.split_whitespace().next().unwrap_or_default();
    let last = text.split_whitespace().next_back().unwrap_or_default();
    let mode = first.trim_matches(['(', ')']);
    let is_mode =
        mode.len() >= 10 && mode.starts_with('d') && mode[1..].bytes().all(|byte| b"rwxsStT-+.".contains(&byte));
    is_mode
        || is_one_of(last, &["<dir>", "[dir]", "[directory]", "<directory>", "[folder]"])
        || is_one_of(text, &["directory", "folder", "dir", "file folder", "inode/directory"])
}

impl Columns {
    /// Reads a row without an entry as a heading; `None` if it has no column of names.
    pub(super) fn read(row: &Row, preformatted: bool) -> Option<Columns> {
        match row.cells.as_slice() {
            [] if preformatted => Columns::of_text(&row.text.label),
            [] | [_] => None,
            cells => Columns::of_cells(cells),
        }
    }

    /// Apache's `Name    Last modified      Size  Description`.
    fn of_text(label: &str) -> Option<Columns> {
        let label = label.trim().to_ascii_lowercase();
        let holds = |words: &[&str]| words.iter().any(|word| label.contains(word)).then_some(0);
        (label.split_whitespace().next() == Some("name")).then(|| Columns {
            name: 0,
            size: holds(&["size"]),
            date: holds(&["modified", "date"]),
        })
    }

    fn of_cells(cells: &[Cell]) -> Option<Columns> {
        let label = |cell: &Cell| cell.label.trim().to_ascii_lowercase();
        let is_name = |label: &str| label.starts_with("name") || label.starts_with("file") && !label.contains("size");
        // No unit in a heading is known to be exact.
        let is_size = |label: &str| {
            label.contains("size")
                && !["kb", "kib", "(k)", "mb", "mib"]
                    .iter()
                    .any(|unit| label.contains(unit))
        };
        let is_date = |label: &str| ["modified", "date", "time"].iter().any(|word| label.contains(word));
        let column = |test: &dyn Fn(&str) -> bool| {
            let found = cells.iter().find(|cell| test(&label(cell)));
            found.and_then(|cell| cell.column)
        };
        Some(Columns {
            name: column(&is_name)?,
            size: column(&is_size),
            date: column(&is_date),
        })
    }
}

type Found = (Option<ListedSize>, Option<date::Shown>);

/// The facts in the text after a link: a date and a size, in either order, at its very start. The rest is a
/// description, which may look like anything. Without such facts, those in the text before the link.
fn facts_of_text(cell: &Cell, columns: Option<&Columns>, is_before: bool) -> Found {
    let text = cell.text.trim_start();
    let has_dates = columns.is_none_or(|columns| columns.date.is_some());
    let has_sizes = columns.is_none_or(|columns| columns.size.is_some());
    let is_size = |text: &str| size::read(text).is_some() || text.starts_with('-') || text.starts_with('<');
    // A day without a time of day counts as a date only if nothing but a size can follow.
    let is_sure =
        |(date, rest): &(date::Shown, &str)| date.has_time || rest.trim().is_empty() || is_size(rest.trim_start());
    let date = date::read(text).filter(is_sure).filter(|_| has_dates);
    let (modified, rest) = date.map_or((None, text), |(time, rest)| (Some(time), rest.trim_start()));
    let Some((shown, after)) = size::read(rest).filter(|_| has_sizes) else {
        if modified.is_none()
            && is_before
            && let Some((size, date)) = facts_before(&cell.before)
        {
            return (size, Some(date));
        }
        return (None, modified);
    };
    let modified_after = || {
        date::read(after.trim_start())
            .filter(is_sure)
            .filter(|_| has_dates)
            .map(|(time, _)| time)
    };
    let modified = modified.or_else(modified_after);
    let sure = !shown.bare || modified.is_some() || columns.is_some();
    (sure.then(|| sharpen(shown.size, cell.number)), modified)
}

/// A date before a link, with a size or its placeholder in between, as in `ls -l` and `dir`, and nothing else.
fn facts_before(text: &str) -> Option<(Option<ListedSize>, date::Shown)> {
    let text = text.trim();
    if text.len() > TEXT_BEFORE {
        return None;
    }
    let mut rest = text;
    loop {
        if let Some((date, after)) = date::read(rest) {
            // The unit may be in a column of its own.
            let after = &after.split_whitespace().collect::<Vec<_>>().join(" ");
            if let Some(shown) = size::read_whole(after) {
                return Some((Some(shown.size), date));
            }
            if after.is_empty() || after == "-" || means_directory(after) {
                return Some((None, date));
            }
        }
        let end = rest.find(char::is_whitespace)?;
        rest = rest[end..].trim_start();
    }
}

/// The facts in cells that contain nothing but a date or a size.
fn facts_of_cells(cells: &[Cell], columns: Option<&Columns>) -> Found {
    let at = |column: Option<usize>| column.and_then(|column| cells.iter().find(|cell| cell.column == Some(column)));
    let field = |field: Field| cells.iter().find(|cell| cell.field == Some(field));
    let (size, date) = (field(Field::Size), field(Field::Date));
    match columns {
        Some(columns) => (
            at(columns.size)
                .and_then(size_of)
                .or_else(|| columns.size.and(size).and_then(size_of)),
            at(columns.date)
                .and_then(date_of)
                .or_else(|| columns.date.and(date).and_then(date_of)),
        ),
        None => {
            let (unnamed_size, unnamed_date) = facts_of_unnamed_cells(cells);
            (
                size.and_then(size_of).or(unnamed_size),
                date.and_then(date_of).or(unnamed_date),
            )
        }
    }
}

/// Without a heading, a cell is a size if it has a unit, or if it has digits beside a date.
fn facts_of_unnamed_cells(cells: &[Cell]) -> Found {
    let date_at = cells.iter().position(|cell| date_of(cell).is_some());
    let beside_date = |index: usize| date_at.is_some_and(|at| at.abs_diff(index) == 1);
    let size = cells.iter().enumerate().find_map(|(index, cell)| {
        let bare = size::read_whole(&cell.text)?.bare;
        (!bare || beside_date(index)).then(|| size_of(cell)).flatten()
    });
    (size, date_at.and_then(|at| date_of(&cells[at])))
}

fn size_of(cell: &Cell) -> Option<ListedSize> {
    size::read_whole(&cell.text).map(|shown| sharpen(shown.size, cell.number))
}

fn date_of(cell: &Cell) -> Option<date::Shown> {
    let datetime = cell.datetime.as_deref().and_then(date::read_whole);
    datetime.or_else(|| date::read_whole(&cell.text)).or_else(|| {
        // `2026-11-22 12:00 3 days ago`
        let (date, rest) = date::read(&cell.text)?;
        let rest = rest.trim().trim_matches(['(', ')']);
        (rest.ends_with(" ago") || rest.starts_with("in ")).then_some(date)
    })
}

/// The exact size in an attribute beside a rounded one: Caddy's `<td data-order="9999">9.8 KiB</td>`, lighttpd's (from
/// 1.4.77) `<td data-value="9999">9.7K</td>`. Not every such number is a size in bytes, so it must agree with the
/// rounded one.
fn sharpen(shown: ListedSize, number: Option<u64>) -> ListedSize {
    number
        .filter(|&exact| size::agree(shown, exact))
        .map_or(shown, ListedSize::Exact)
}
