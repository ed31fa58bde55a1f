//! Traffic by process: which programs read through a mount, and what was fetched for them.
//!
//! Programs are told apart by name, not by process id: a thumbnailer is started once for each picture. What holds:
//!
//! - A handle belongs to the process of its first read. It counts its own reads ([`super::ReadCounts`]), which are added to
//!   its program's sum when it is closed, and summed for each report before that.
//! - **The number of names is bounded.** Programs choose their names themselves; from [`MOST`] on, new ones share one row.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use smol_str::SmolStr;

use super::counter::Counter;

/// Most names that have a row of their own: far more than a machine has programs that read one mount.
const MOST: usize = 256;

/// How a program's reads are treated; see [`crate::fuse`]'s `scan`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ScanClass {
    /// A thumbnailer or an indexer: gets so many bytes of a file and no more.
    Limited,
    /// A media scanner or a virus scanner: gets everything, without read-ahead and without evicting anything.
    Gentle,
}

/// The traffic of one program.
#[derive(Debug)]
pub(crate) struct ProcessTraffic {
    /// Its name.
    pub name: SmolStr,
    /// How it is treated; `None` for an ordinary program.
    pub class: Option<ScanClass>,
    /// Bytes that it has read through handles that are closed.
    pub closed_bytes: Counter,
    /// Bytes that servers have sent for its reads, with what was read ahead of it.
    pub fetched_bytes: Counter,
    /// Reads that were refused, because they were beyond its limit.
    pub refused_reads: Counter,
}

impl ProcessTraffic {
    fn new(name: SmolStr, class: Option<ScanClass>) -> ProcessTraffic {
        ProcessTraffic {
            name,
            class,
            closed_bytes: Counter::default(),
            fetched_bytes: Counter::default(),
            refused_reads: Counter::default(),
        }
    }
}

/// The programs that have read through a mount.
#[derive(Debug, Default)]
pub(crate) struct ProcessTable {
    /// Locked once for each handle, and by status. No other lock is taken under it.
    rows: Mutex<Rows>,
}

/// By name and class.
type Rows = HashMap<(SmolStr, Option<ScanClass>), Arc<ProcessTraffic>>;

impl ProcessTable {
    /// The row of a program.
    pub(crate) fn row(&self, name: &str, class: Option<ScanClass>) -> Arc<ProcessTraffic> {
        let mut rows = self.rows.lock();
        let name = SmolStr::new(name);
        if let Some(row) = rows.get(&(name.clone(), class)) {
            return Arc::clone(row);
        }
        // One row more for each class.
        let name = if rows.len() < MOST {
            name
        } else {
            SmolStr::new_static(OTHERS)
        };
        let row = rows.entry((name.clone(), class));
        Arc::clone(row.or_insert_with(|| Arc::new(ProcessTraffic::new(name, class))))
    }

    /// All rows.
    pub(crate) fn rows(&self) -> Vec<Arc<ProcessTraffic>> {
        self.rows.lock().values().map(Arc::clone).collect()
    }
}

/// The name of the row of those that have none.
const OTHERS: &str = "(others)";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_beyond_the_bound_share_a_row() {
        let table = ProcessTable::default();
        for number in 0..MOST + 100 {
            table.row(&format!("p{number}"), None).fetched_bytes.add(1);
        }
        assert_eq!(table.rows().len(), MOST + 1);
        assert_eq!(table.row("p0", None).fetched_bytes.get(), 1);
        assert_eq!(table.row("new", None).fetched_bytes.get(), 100);
        assert_eq!(table.row("new", Some(ScanClass::Limited)).fetched_bytes.get(), 0);
        let total: u64 = table.rows().iter().map(|row| row.fetched_bytes.get()).sum();
        assert_eq!(total, MOST as u64 + 100);
    }
}
