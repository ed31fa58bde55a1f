//! User requests that outlive the mount: prefetch jobs and pins. Also what the cache holds below a
//! directory, so that the user can evict it.
//!
//! Triggers derive from the table `pins` which entries are pinned
//! ([`crate::cache::index::schema`]): an entry is pinned in the transaction that records it, or its
//! pin.

use rusqlite::params;

use crate::cache::index::Record;
use crate::cache::index::chunk_index::ChunkIndex;
use crate::cache::index::rows::JobRow;
use crate::cache::key::{EntryKey, UrlKey};
use crate::util::events;

/// A version of which the cache holds some bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holding {
    /// Names the data file.
    pub key: EntryKey,
    /// The URL of the file, for display.
    pub url: String,
    /// The key of that URL.
    pub url_key: String,
    /// Bytes in the cache.
    pub bytes: u64,
    /// True if the user has pinned it.
    pub is_pinned: bool,
}

impl ChunkIndex {
    /// The jobs of a source, in the order in which they were recorded.
    pub fn jobs(&self, source: &str) -> Vec<JobRow> {
        let sql = "SELECT job_key, wanted FROM prefetch_jobs WHERE source = ?1 ORDER BY job_id";
        self.rows(sql, params![source], |row| {
            Ok(JobRow {
                key: row.get(0)?,
                source: source.to_owned(),
                wanted: row.get(1)?,
            })
        })
    }

    /// Whether this job of a source is recorded. `None` after an error.
    pub fn has_job(&self, source: &str, key: &str) -> Option<bool> {
        self.sync();
        let sql = "SELECT 1 FROM prefetch_jobs WHERE source = ?1 AND job_key = ?2";
        let found = self
            .connections
            .read(|reader| reader.prepare_cached(sql)?.exists([source, key]));
        found.ok()
    }

    /// The pinned URLs, for display: without secrets, sorted.
    pub fn pins(&self) -> Vec<String> {
        self.rows("SELECT url FROM pins ORDER BY url", params![], |row| row.get(0))
    }

    /// Removes the pins with this URL, as [`Self::pins`] shows it. Returns false if there is none.
    pub(crate) fn unpin_shown(&self, url: &str) -> bool {
        let keys: Vec<String> = self.rows("SELECT url_key FROM pins WHERE url = ?1", params![url], |row| {
            row.get(0)
        });
        let is_there = !keys.is_empty();
        let records = keys.into_iter().map(|key| Record::Unpin {
            url_key: UrlKey::from_stored(key),
        });
        is_there && self.commit(records)
    }

    /// Returns true if exactly this URL is pinned.
    pub fn has_pin(&self, url: &UrlKey) -> bool {
        let sql = "SELECT 1 FROM pins WHERE url_key = ?1";
        !self.rows(sql, params![url.as_str()], |_| Ok(())).is_empty()
    }

    /// The directories above this URL (without secrets) that are pinned.
    pub fn pins_above(&self, url: &str) -> Vec<String> {
        let sql = "SELECT url FROM pins WHERE is_directory AND url <> ?1 AND substr(?1, 1, length(url)) = url";
        self.rows(sql, params![url], |row| row.get(0))
    }

    /// The cached bytes of a URL: all versions of a file.
    pub fn holdings_of(&self, url: &UrlKey) -> Vec<Holding> {
        self.holdings("url_key = ?1", url.as_str())
    }

    /// The cached bytes of the files below a directory, given by its URL without secrets.
    pub fn holdings_below(&self, url: &str) -> Vec<Holding> {
        self.holdings("substr(url, 1, length(?1)) = ?1", url)
    }

    fn holdings(&self, which: &str, parameter: &str) -> Vec<Holding> {
        let sql = format!(
            "SELECT entry_key, url, url_key, min(chunks_present * chunk_size, size), pinned FROM cache_entries
             WHERE {which} ORDER BY url, entry_id"
        );
        let rows = self.rows(&sql, params![parameter], |row| {
            let (key, url, url_key) = (row.get(0)?, row.get(1)?, row.get(2)?);
            let (bytes, is_pinned): (i64, bool) = (row.get(3)?, row.get(4)?);
            Ok(EntryKey::from_stored(key).map(|key| Holding {
                key,
                url,
                url_key,
                bytes: bytes as u64,
                is_pinned,
            }))
        });
        rows.into_iter().flatten().collect()
    }

    /// All committed rows of a query. None if SQLite fails; the error is logged.
    fn rows<T>(
        &self,
        sql: &str,
        parameters: &[&dyn rusqlite::ToSql],
        row: impl Fn(&rusqlite::Row<'_>) -> rusqlite::Result<T>,
    ) -> Vec<T> {
        self.sync();
        let read = self.connections.read(|reader| {
            let mut query = reader.prepare_cached(sql)?;
            query.query_map(parameters, &row)?.collect()
        });
        read.unwrap_or_else(|err| {
            log::warn!(event = events::INDEX_READ_FAILED; "cache index: {err}; treating it as not recorded");
            Vec::new()
        })
    }
}

#[cfg(test)]
mod tests {
    use url::Url;

    use super::*;
    use crate::cache::chunk::ChunkSize;
    use crate::cache::index::{EntryRow, PinRow};
    use crate::http::{Validator, Version};

    fn key(url: &str) -> UrlKey {
        UrlKey::new(&Url::parse(url).unwrap())
    }

    /// Records a version of a file as opened and current.
    fn open(index: &ChunkIndex, url: &str, size: u64) {
        let (chunk, version) = (
            ChunkSize::new(4096).unwrap(),
            Version {
                size,
                validator: Validator::None,
            },
        );
        let row = EntryRow {
            key: EntryKey::new(&Url::parse(url).unwrap(), &version, chunk),
            version,
            modified: None,
            chunk,
        };
        index.record(Record::Entry {
            row,
            url_key: key(url),
            url: url.to_owned(),
            inode: 1,
            is_suspect: false,
            rank: 0,
        });
    }

    fn pin(index: &ChunkIndex, url: &str) {
        index.record(Record::Pin(PinRow {
            url_key: key(url),
            url: url.to_owned(),
            is_directory: url.ends_with('/'),
        }));
    }

    fn unpin(index: &ChunkIndex, url: &str) {
        index.record(Record::Unpin { url_key: key(url) });
    }

    /// For each version of the files below `url`, in the order in which they were first opened, whether it is pinned.
    fn pinned(index: &ChunkIndex, url: &str) -> Vec<bool> {
        index.holdings_below(url).iter().map(|held| held.is_pinned).collect()
    }

    #[test]
    fn a_job_is_there_until_it_is_done() {
        let dir = tempfile::tempdir().unwrap();
        let job = |key: &str, source: &str| JobRow {
            key: key.to_owned(),
            source: source.to_owned(),
            wanted: format!("what {key} wants"),
        };
        let index = ChunkIndex::open(dir.path()).unwrap();
        for row in [job("b", "s"), job("a", "s"), job("b", "s"), job("c", "other")] {
            index.record(Record::Job(row));
        }
        drop(index);
        let index = ChunkIndex::open(dir.path()).unwrap();
        assert_eq!(index.jobs("s"), [job("b", "s"), job("a", "s")]);
        index.record(Record::JobDone { key: "b".into() });
        assert_eq!(index.jobs("s"), [job("a", "s")]);
    }

    #[test]
    fn pin_covers_only_the_current_version() {
        let dir = tempfile::tempdir().unwrap();
        let index = ChunkIndex::open(dir.path()).unwrap();
        pin(&index, "http://h/a");
        open(&index, "http://h/a", 1);
        open(&index, "http://h/ab", 1);
        assert_eq!(pinned(&index, "http://h/"), [true, false]);
        open(&index, "http://h/a", 2);
        assert_eq!(pinned(&index, "http://h/a"), [false, true, false]);
        open(&index, "http://h/a", 1);
        assert_eq!(
            pinned(&index, "http://h/a"),
            [true, false, false],
            "the old version is back"
        );
        unpin(&index, "http://h/a");
        pin(&index, "http://h/ab");
        assert_eq!(pinned(&index, "http://h/a"), [false, false, true]);
    }

    #[test]
    fn a_pinned_directory_covers_what_is_below_it() {
        let dir = tempfile::tempdir().unwrap();
        let index = ChunkIndex::open(dir.path()).unwrap();
        open(&index, "http://h/a/x", 1);
        pin(&index, "http://h/a/");
        pin(&index, "http://h/a/b/");
        for url in ["http://h/a/b/y", "http://h/ab"] {
            open(&index, url, 1);
        }
        assert_eq!(pinned(&index, "http://h/"), [true, true, false]);
        assert_eq!(index.pins_above("http://h/a/b/"), ["http://h/a/"]);
        unpin(&index, "http://h/a/");
        assert_eq!(
            pinned(&index, "http://h/"),
            [true, false, false],
            "b has a pin of its own"
        );
        assert!(index.has_pin(&key("http://h/a/b/")) && !index.has_pin(&key("http://h/a/")));
        assert_eq!(index.pins(), ["http://h/a/b/"]);
    }
}
