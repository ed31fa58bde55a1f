//! What a row of an index page says of the file that it links to.
//!
//! A page is read row by row: a line of `<pre>`, a table's row, a list's item. A row that links to no
//! entry may be the heading that names the columns.
//!
//! The rules are strict on purpose. A size that counts as exact is believed until the file itself is
//! asked, so a number is taken for a size only where the page leaves no doubt: under a heading or in a field that says
//! so, next to a date, or with a unit. A row that is laid out in another way gives a name and nothing else.

use super::link::{Child, Reason};
use super::{date, size};
use crate::source::ListedSize;

/// How much of the text before a link is searched for a date, in bytes: `ls -l` and `dir` print it within this.
const TEXT_BEFORE: usize = 160;

/// What an element holds, by its class: `<span class="size">`, `<td class="last-modified">`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Field {
    Size,
    Date,
}

impl Field {
    /// What a class says, if it does.
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

/// Whether a class, an icon's name or its stand-in says that the row is a directory's: `icon-directory`, `folder.png`, `[DIR]`. Not
/// if it says `file` as well, as some do with `file` beside the name's extension.
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

/// A cell of a table's row or a field in a row; also the one stretch of text of a row that has neither.
#[derive(Debug, Default)]
pub(super) struct Cell {
    /// Its first column, counted from 0; `None` for a field that is no cell of a table.
    column: Option<usize>,
    /// What its class says it is.
    field: Option<Field>,
    /// Its text outside of links, from the row's first entry on.
    pub(super) text: String,
    /// Its text outside of links before that.
    before: String,
    /// Its text outside of links in lines below the entry: it may be about the next entry, if one follows in the cell.
    pub(super) lines_after: String,
    /// All of its text.
    pub(super) label: String,
    /// The number that an attribute gives for sorting or scripts: `<td data-order>`, `<data value>`.
    pub(super) number: Option<u64>,
    /// `<time datetime>`.
    pub(super) datetime: Option<String>,
}

/// A link of a row that leads to something with a name.
#[derive(Debug)]
pub(super) struct Candidate {
    pub(super) child: Child,
    /// Why it is no entry, if it is none.
    pub(super) left_out: Option<Reason>,
    /// The text of the link.
    pub(super) text: String,
    /// The column of its cell.
    column: Option<usize>,
}

impl Candidate {
    /// Whether the link's text is its name, as in a listing: whole, or the beginning of it. Letters and digits count, so that
    /// icons, slashes and the marks of a cut (`..>`, `…`) do not.
    pub(super) fn is_named(&self) -> bool {
        /// Servers cut names at this many characters or more.
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

    /// Whether the link's text says that it leads to a directory.
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
    /// What is outside of cells.
    text: Cell,
    /// The cells and fields; empty for a row that has none.
    cells: Vec<Cell>,
    /// Which of them text goes to: after the end of a field in a cell, to the cell again.
    current: Option<usize>,
    /// The first column after the last cell.
    columns: usize,
    /// The links to what has a name.
    pub(super) links: Vec<Candidate>,
    /// Its first link leads up, or to the page in another order.
    pub(super) is_navigation: bool,
    /// An icon or a class says that it is a directory's.
    pub(super) has_directory_icon: bool,
}

/// What a row says of its entry.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Facts {
    pub(super) size: ListedSize,
    pub(super) modified: Option<date::Shown>,
    /// The row says in words that this is a directory: `<DIR>`, `drwxr-xr-x`, `Folder`.
    pub(super) is_directory: bool,
}

impl Facts {
    /// Whether there is a size or a date.
    pub(super) fn are_some(&self) -> bool {
        self.size != ListedSize::Unknown || self.modified.is_some()
    }
}

/// What the heading of a table, or of a `<pre>`, says its columns are.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Columns {
    /// The column of the names. In a `<pre>`, where there is nothing to count, any number.
    pub(super) name: usize,
    /// The column of the sizes, likewise.
    size: Option<usize>,
    /// The column of the dates, likewise.
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

    /// Begins a field that is no cell of a table; returns where text went before.
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

    /// Whether the row is one of a table.
    pub(super) fn has_cells(&self) -> bool {
        self.columns > 0
    }

    /// The cell that text now goes to.
    pub(super) fn cell(&mut self) -> &mut Cell {
        match self.current {
            Some(index) => &mut self.cells[index],
            None => &mut self.text,
        }
    }

    /// Takes a link. Returns whether it leads to something else than those before it.
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

    /// The link that the row is about, as an index into its links: in the column of names, or else the first that is called by its
    /// name, or else the first. What is left out gives way to what is not.
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

    /// What the row says of its entry, given the heading above it. `is_before` is whether facts may stand before the link.
    pub(super) fn facts(&self, columns: Option<&Columns>, is_before: bool) -> Facts {
        let (shown, modified) = match self.cells.as_slice() {
            [] => facts_of_text(&self.text, columns, is_before),
            // A table with one column is there for its looks; the row is in the cell.
            [cell] if cell.field.is_none() => facts_of_text(cell, columns, is_before),
            cells => facts_of_cells(cells, columns),
        };
        // `0.0K` says little: lighttpd means an empty file by it, another server anything below half of
        // the last digit. To show a file as empty on such a word would make programs skip it.
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

    /// What stands in lines below the entry is about it: no other entry follows.
    pub(super) fn join_lines(&mut self) {
        for cell in self.cells.iter_mut().chain([&mut self.text]) {
            let after = std::mem::take(&mut cell.lines_after);
            cell.text.push_str(&after);
        }
    }

    /// What stands in lines below the entry may be about another one.
    pub(super) fn forget_lines(&mut self) {
        let cell = self.cell();
        cell.lines_after.clear();
    }

    /// Whether facts stand before the link.
    pub(super) fn has_facts_before(&self) -> bool {
        let cell = match self.cells.as_slice() {
            [] => &self.text,
            [cell] => cell,
            _ => return false,
        };
        facts_before(&cell.before).is_some()
    }
}

/// Whether a text beside a name says that it is a directory's: `<DIR>` and `[DIR]`, alone or after a date; `Directory` or
/// `Folder`, alone; or permissions, as `ls -l` prints them.
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
    /// Reads a row that links to no entry as a heading, if it is one: if it names a column of names.
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
        // Of the units that a heading names, none is known to be exact.
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

/// The text after a link: a date and a size, in either order, at its very start. What follows them
/// is a description and may look like anything. If there is none, the text before the link.
fn facts_of_text(cell: &Cell, columns: Option<&Columns>, is_before: bool) -> Found {
    let text = cell.text.trim_start();
    let has_dates = columns.is_none_or(|columns| columns.date.is_some());
    let has_sizes = columns.is_none_or(|columns| columns.size.is_some());
    let is_size = |text: &str| size::read(text).is_some() || text.starts_with('-') || text.starts_with('<');
    // A day without a time of day is a date only if nothing but a size can follow.
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

/// A date before a link, and a size between the two, as `ls -l` and `dir` print them: nothing but these, and something that stands
/// for a size where there is none.
fn facts_before(text: &str) -> Option<(Option<ListedSize>, date::Shown)> {
    let text = text.trim();
    if text.len() > TEXT_BEFORE {
        return None;
    }
    let mut rest = text;
    loop {
        if let Some((date, after)) = date::read(rest) {
            // The unit may stand in a column of its own.
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

/// Cells that hold a date or a size and nothing else.
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

/// Without a heading, a size is a cell with a unit, or digits beside a date.
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

/// The exact size that an attribute gives beside the one that is shown: Caddy's
/// `<td data-order="9999">9.8 KiB</td>`, lighttpd's (from 1.4.77) `<td data-value="9999">9.7K</td>`. Not
/// every such number is a size in bytes, so it has to fit what is shown.
fn sharpen(shown: ListedSize, number: Option<u64>) -> ListedSize {
    number
        .filter(|&exact| size::agree(shown, exact))
        .map_or(shown, ListedSize::Exact)
}
