//! What a row of an index page says of the file that it links to.
//!
//! A page is read row by row: a line of `<pre>`, a table's row, a list's item. A row that links to no
//! entry may be the heading that names the columns.
//!
//! The rules are strict on purpose. A size that counts as exact is believed until the file itself is
//! asked, so a number is taken for a size only where the page leaves no doubt: under a heading that says
//! so, next to a date, or with a unit. A row that is laid out in another way gives a name and nothing else.

use super::{date, size};
use crate::source::{ListedSize, ListedTime};

/// A cell of a table's row; also the one stretch of text of a row that has no cells.
#[derive(Debug, Default)]
pub(super) struct Cell {
    /// Its first column, counted from 0.
    column: usize,
    /// Its text outside of links.
    pub(super) text: String,
    /// All of its text.
    pub(super) label: String,
    /// The number that an attribute gives for sorting or scripts: `<td data-order>`, `<data value>`.
    pub(super) number: Option<u64>,
    /// `<time datetime>`.
    pub(super) datetime: Option<String>,
}

/// The text of a row, in order.
#[derive(Debug, Default)]
pub(super) struct Row {
    /// What is outside of cells.
    text: Cell,
    /// The cells; empty for a row that is no table's.
    cells: Vec<Cell>,
    /// The first column after the last cell.
    columns: usize,
}

/// What a row says of its entry.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Facts {
    pub(super) size: ListedSize,
    pub(super) modified: Option<ListedTime>,
}

/// What the heading of a table, or of a `<pre>`, says its columns are.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Columns {
    /// The column of the sizes. In a `<pre>`, where there is nothing to count, any number.
    size: Option<usize>,
    /// The column of the dates, likewise.
    date: Option<usize>,
}

impl Row {
    /// Begins a cell that spans `span` columns.
    pub(super) fn begin_cell(&mut self, span: usize, number: Option<u64>) {
        self.cells.push(Cell {
            column: self.columns,
            number,
            ..Cell::default()
        });
        self.columns = self.columns.saturating_add(span);
    }

    /// Whether the row is one of a table.
    pub(super) fn has_cells(&self) -> bool {
        !self.cells.is_empty()
    }

    /// The cell that text now goes to.
    pub(super) fn cell(&mut self) -> &mut Cell {
        self.cells.last_mut().unwrap_or(&mut self.text)
    }

    /// What the row says of its entry, given the heading above it.
    pub(super) fn facts(&self, columns: Option<&Columns>) -> Facts {
        let (shown, modified) = match self.cells.as_slice() {
            [] => facts_of_text(&self.text, columns),
            // A table with one column is there for its looks; the row is in the cell.
            [cell] => facts_of_text(cell, columns),
            cells => facts_of_cells(cells, columns),
        };
        // `0.0K` says little: lighttpd means an empty file by it, another server anything below half of
        // the last digit. To show a file as empty on such a word would make programs skip it.
        let size = shown
            .filter(|&size| size != ListedSize::Rounded(0))
            .unwrap_or(ListedSize::Unknown);
        Facts { size, modified }
    }
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
            size: holds(&["size"]),
            date: holds(&["modified", "date"]),
        })
    }

    fn of_cells(cells: &[Cell]) -> Option<Columns> {
        let label = |cell: &Cell| cell.label.trim().to_ascii_lowercase();
        let names = |cell: &Cell| label(cell).starts_with("name") || label(cell).starts_with("file");
        let column = |words: &[&str]| {
            let found = cells
                .iter()
                .find(|cell| words.iter().any(|word| label(cell).contains(word)));
            found.map(|cell| cell.column)
        };
        cells.iter().any(names).then(|| Columns {
            size: column(&["size"]),
            date: column(&["modified", "date", "time"]),
        })
    }
}

type Found = (Option<ListedSize>, Option<ListedTime>);

/// The text after a link: a date and a size, in either order, at its very start. What follows them
/// is a description and may look like anything.
fn facts_of_text(cell: &Cell, columns: Option<&Columns>) -> Found {
    let text = cell.text.trim_start();
    let has_dates = columns.is_none_or(|columns| columns.date.is_some());
    let has_sizes = columns.is_none_or(|columns| columns.size.is_some());
    let date = date::read(text).filter(|_| has_dates);
    let (modified, rest) = date.map_or((None, text), |(time, rest)| (Some(time), rest.trim_start()));
    let Some((shown, after)) = size::read(rest).filter(|_| has_sizes) else {
        return (None, modified);
    };
    let modified_after = || {
        date::read(after.trim_start())
            .filter(|_| has_dates)
            .map(|(time, _)| time)
    };
    let modified = modified.or_else(modified_after);
    let sure = !shown.bare || modified.is_some() || columns.is_some();
    (sure.then(|| sharpen(shown.size, cell.number)), modified)
}

/// Cells that hold a date or a size and nothing else.
fn facts_of_cells(cells: &[Cell], columns: Option<&Columns>) -> Found {
    let at = |column: Option<usize>| column.and_then(|column| cells.iter().find(|cell| cell.column == column));
    match columns {
        Some(columns) => (at(columns.size).and_then(size_of), at(columns.date).and_then(date_of)),
        None => facts_of_unnamed_cells(cells),
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

fn date_of(cell: &Cell) -> Option<ListedTime> {
    cell.datetime
        .as_deref()
        .and_then(date::read_whole)
        .or_else(|| date::read_whole(&cell.text))
}

/// The exact size that an attribute gives beside the one that is shown: Caddy's
/// `<td data-order="9999">9.8 KiB</td>`, lighttpd's (from 1.4.77) `<td data-value="9999">9.7K</td>`. Not
/// every such number is a size in bytes, so it has to fit what is shown.
fn sharpen(shown: ListedSize, number: Option<u64>) -> ListedSize {
    number
        .filter(|&exact| size::agree(shown, exact))
        .map_or(shown, ListedSize::Exact)
}
