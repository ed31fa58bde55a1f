//! `ChunkIndex`: the persistent record of the cache, in SQLite.
//!
//! - `cache_entries` has a row for each version of a remote file, `cache_chunks` one for each
//!   completed chunk (`schema`, `query::entries`).
//! - `listings` and `remote_files` hold what origins said of names (`query::catalog`).
//!
//! **Data before index**: a chunk is recorded only after its bytes are in the data file. So
//! whatever a crash leaves behind, the bytes of a recorded chunk exist.
//!
//! Every change is a [`Record`]. One thread does all writing (`write::writer`), fed over a
//! channel; no reader waits for it. Queries use one more connection (`connections`), when an
//! entry is first used. Start-up reads no table, so it takes the same time for any cache. `state`
//! tracks whether the records have reached the disk.

mod chunk_index;
mod connections;
mod damage;
mod dates;
mod query;
mod rows;
mod schema;
mod shared_memory;
mod state;
mod write;

pub use chunk_index::ChunkIndex;
pub(crate) use chunk_index::FILE;
pub(crate) use query::catalog::ShownRow;
pub(crate) use query::entries::Recorded;
pub(crate) use query::eviction::{Candidate, Order, coldest_unopened};
pub(crate) use query::pins::Holding;
pub(crate) use query::stats::EntryInfo;
pub use rows::EntryRow;
pub(crate) use rows::{FileRow, JobRow, ListingRow, PinRow, ROWS_OF_FILE};
#[cfg(test)]
pub(crate) use state::boot_id;
pub(crate) use write::catalog_update::{CatalogUpdate, ROW};
pub use write::record::Record;
#[cfg(test)]
pub(crate) use write::tables::{Commit, Failing, Tables};
