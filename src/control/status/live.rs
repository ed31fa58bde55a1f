//! What a live view shows: the status, and the maps of the open files in a few cells each.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde::Serialize;

use super::{Status, measure};
use crate::control::context::Control;
use crate::control::protocol::TreePath;
use crate::control::{Cell, cells};

/// Most files with a map. A page with more of them can't be read.
const MOST_MAPS: usize = 32;

/// Cells of a map.
const CELLS: u64 = 120;

/// What goes on in a mount at one moment.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Live {
    /// Its status.
    pub status: Status,
    /// The maps of its open files.
    pub maps: Vec<LiveMap>,
}

/// The map of an open file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct LiveMap {
    /// Its path below the mountpoint.
    pub path: TreePath,
    /// A letter for each cell: `m`issing, `c`ached, `p`artly cached, wanted (`q` for queued), in `f`light, a read `w`aits.
    pub cells: String,
}

impl Control {
    /// What goes on now. Asks no server.
    pub(crate) async fn live(self: &Arc<Self>) -> Live {
        let status = measure(self, true).await;
        let control = Arc::clone(self);
        // A large file's map takes a moment.
        let maps = self.with_cache(move |_| control.live_maps()).await;
        Live {
            status,
            maps: maps.unwrap_or_default(),
        }
    }

    fn live_maps(&self) -> Vec<LiveMap> {
        let mut seen = BTreeSet::new();
        let open = self.readers.open().into_iter().filter(|reader| seen.insert(reader.ino));
        let maps = open.take(MOST_MAPS).filter_map(|reader| {
            let path = self.tree.path_of(reader.ino).and_then(TreePath::new)?;
            let map = self.map_of(path, &reader.entry.upgrade()?);
            Some(LiveMap {
                cells: cells(&map, CELLS).into_iter().map(letter).collect(),
                path: map.path,
            })
        });
        maps.collect()
    }
}

fn letter(cell: Cell) -> char {
    match cell {
        Cell::Missing => 'm',
        Cell::Cached => 'c',
        Cell::PartlyCached => 'p',
        Cell::Wanted => 'q',
        Cell::InFlight => 'f',
        Cell::Waiting => 'w',
    }
}
