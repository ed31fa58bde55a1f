//! A file as rows of characters, each of which stands for some of its chunks.

use crate::control::protocol::FileMap;
use crate::control::{Cell, cells};

/// Most rows of a chart.
const ROWS: u64 = 8;

/// Columns before a row's first cell: the row's position as a percentage.
const MARGIN: usize = 6;

/// The characters for the states, and what they mean.
#[derive(Debug, Clone, Copy)]
pub(in crate::cli) struct Symbols([char; 6]);

const CELLS: [(Cell, &str); 6] = [
    (Cell::Missing, "missing"),
    (Cell::Cached, "cached"),
    (Cell::PartlyCached, "partly cached"),
    (Cell::Wanted, "wanted"),
    (Cell::InFlight, "in flight"),
    (Cell::Waiting, "a read waits"),
];

impl Symbols {
    pub(in crate::cli) const UNICODE: Symbols = Symbols(['·', '█', '▒', '-', '>', '!']);
    pub(in crate::cli) const ASCII: Symbols = Symbols(['.', '#', '+', '-', '>', '!']);

    /// Those that the user's locale can show: by the first variable that is set (locale(7)).
    pub(in crate::cli) fn of_locale() -> Symbols {
        let variables = ["LC_ALL", "LC_CTYPE", "LANG"].map(|name| std::env::var(name).unwrap_or_default());
        let locale = variables
            .into_iter()
            .find(|value| !value.is_empty())
            .unwrap_or_default();
        let is_utf8 = locale.to_ascii_lowercase().replace('-', "").contains("utf8");
        if is_utf8 { Symbols::UNICODE } else { Symbols::ASCII }
    }

    /// Whether they are in ASCII.
    pub(in crate::cli) fn is_ascii(self) -> bool {
        self.0.iter().all(char::is_ascii)
    }

    fn of(self, cell: Cell) -> char {
        self.0[cell as usize]
    }
}

/// A file as rows of cells.
pub(in crate::cli) struct Chart {
    cells: Vec<Cell>,
    columns: usize,
}

impl Chart {
    /// The chart of a file for a terminal of this width. A cell stands for one chunk, or for as many as it takes to fit
    /// the rows.
    pub(super) fn new(map: &FileMap, width: usize) -> Chart {
        let columns = width.saturating_sub(MARGIN + 1).max(10);
        Chart {
            cells: cells(map, columns as u64 * ROWS),
            columns,
        }
    }

    /// The file in one row of at most `width` characters, with a mark where a reader is.
    pub(in crate::cli) fn bar(map: &FileMap, width: usize, position: Option<u64>, symbols: Symbols) -> String {
        let cells = cells(map, width as u64);
        let mark = position.map(|at| u128::from(at) * cells.len() as u128 / u128::from(map.size.max(1)));
        let mark = mark.map(|at| at.min(cells.len().saturating_sub(1) as u128));
        let shown = cells.iter().enumerate();
        shown
            .map(|(at, &cell)| match mark == Some(at as u128) {
                true => '|',
                false => symbols.of(cell),
            })
            .collect()
    }

    /// The rows, each with its position in the file.
    pub(super) fn lines(&self, symbols: Symbols) -> String {
        let rows = self.cells.chunks(self.columns).enumerate().map(|(row, cells)| {
            let percent = row * self.columns * 100 / self.cells.len();
            let cells: String = cells.iter().map(|&cell| symbols.of(cell)).collect();
            format!("{percent:>4}% {cells}\n")
        });
        rows.collect()
    }
}

/// One line with the meaning of the symbols that are in the charts.
pub(super) fn legend(charts: &[Chart], symbols: Symbols) -> String {
    let is_used = |cell: &Cell| charts.iter().any(|chart| chart.cells.contains(cell));
    let parts: Vec<_> = CELLS
        .iter()
        .filter(|(cell, _)| is_used(cell))
        .map(|&(cell, meaning)| format!("{} {meaning}", symbols.of(cell)))
        .collect();
    match parts.is_empty() {
        true => String::new(),
        false => parts.join("  ") + "\n",
    }
}

#[cfg(test)]
mod tests {
    use std::iter::once;
    use std::ops::Range;

    use super::*;
    use crate::control::protocol::TreePath;

    fn map(size: u64, cached: impl IntoIterator<Item = Range<u64>>) -> FileMap {
        FileMap {
            path: TreePath::new("f".into()).unwrap(),
            url: String::new(),
            size,
            chunk_size: 10,
            cached: cached.into_iter().collect(),
            in_flight: Vec::new(),
            wanted: Vec::new(),
            waiting: Vec::new(),
        }
    }

    #[test]
    fn small_file_has_a_cell_for_each_chunk() {
        let mut map = map(95, [0..10, 20..30, 90..95]);
        map.in_flight = once(10..20).collect();
        map.wanted = vec![10..20, 30..40];
        map.waiting = vec![55];
        let chart = Chart::new(&map, 80);
        assert_eq!(chart.lines(Symbols::ASCII), "   0% #>#-.!...#\n");
        assert_eq!(
            legend(&[chart], Symbols::UNICODE),
            "· missing  █ cached  - wanted  > in flight  ! a read waits\n"
        );
    }

    #[test]
    fn large_file_fills_the_rows() {
        let map = map(1_000_000, once(0..500_005));
        for width in [17, 60, 80, 200] {
            let lines = Chart::new(&map, width).lines(Symbols::UNICODE);
            let rows: Vec<_> = lines.lines().collect();
            assert_eq!(rows.len(), 8);
            assert!(rows.iter().all(|row| row.chars().count() < width), "{lines}");
            assert!(
                rows[3].ends_with('█') && rows[4].contains('▒') && rows[4].ends_with('·'),
                "{lines}"
            );
            assert!(rows[4].starts_with("  50% "), "{lines}");
        }
    }

    #[test]
    fn bar_is_one_row_with_the_reader() {
        let map = map(95, [0..10, 20..30, 90..95]);
        assert_eq!(Chart::bar(&map, 80, None, Symbols::ASCII), "#.#......#");
        assert_eq!(Chart::bar(&map, 80, Some(50), Symbols::ASCII), "#.#..|...#");
        assert_eq!(Chart::bar(&map, 80, Some(95), Symbols::ASCII), "#.#......|");
        assert_eq!(Chart::bar(&map, 5, None, Symbols::ASCII).chars().count(), 5);
        assert_eq!(Chart::bar(&map, 0, Some(5), Symbols::ASCII), "");
    }

    #[test]
    fn empty_file_and_narrow_terminal_are_no_trouble() {
        assert_eq!(Chart::new(&map(0, Vec::new()), 80).lines(Symbols::ASCII), "");
        assert_eq!(Chart::new(&map(9, Vec::new()), 0).lines(Symbols::ASCII), "   0% .\n");
        let huge = FileMap {
            chunk_size: 4096,
            ..map(u64::MAX, once(0..u64::MAX))
        };
        assert!(Chart::new(&huge, 80).cells.iter().all(|&cell| cell == Cell::Cached));
    }

    #[test]
    fn cells_of_the_table_are_in_order() {
        for (at, (cell, _)) in CELLS.iter().enumerate() {
            assert_eq!(*cell as usize, at);
        }
    }
}
