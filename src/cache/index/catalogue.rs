//! What origins have said of names: the tables `listings` and `remote_files`.
//!
//! `remote_files` has the current version of each file of which an origin ever told one, by itself or with its bytes.
//! **A version in `cache_entries` is current only if this table says so**: what an origin has called gone or replaced is
//! not served from the cache again, though its bytes may still be there. They are the first to go: its `coldest` is 0.

use std::time::SystemTime;

use rusqlite::{Connection, OptionalExtension, params};

use super::{ChunkIndex, Record, date, seconds};
use crate::cache::entry::UrlKey;
use crate::http::{Validator, Version};

/// A change to what origins have said of names.
#[derive(Debug, Clone)]
pub enum Saying {
    /// A directory was listed.
    Listing {
        /// The directory.
        url_key: UrlKey,
        /// Its URL for people: without credentials and query values.
        url: String,
        /// What it said.
        row: ListingRow,
    },
    /// There is no such directory (any more).
    NoListing {
        /// The directory.
        url_key: UrlKey,
    },
    /// This version of a file is the current one.
    File {
        /// The file.
        url_key: UrlKey,
        /// Its version.
        row: FileRow,
    },
    /// There is no such file (any more).
    NoFile {
        /// The file.
        url_key: UrlKey,
    },
    /// This version of a file is not the current one (any more).
    Outdated {
        /// The file.
        url_key: UrlKey,
        /// What its version was.
        version: Version,
    },
    /// No more is to be kept than so many bytes of listings, and of versions of files of which nothing is cached. What was told longest
    /// ago goes.
    Most {
        /// Bytes.
        listings: u64,
        /// Bytes.
        files: u64,
    },
    /// A directory's listing was confirmed by its origin, or shown.
    UsedListing {
        /// The directory.
        url_key: UrlKey,
    },
    /// What is known of a file without its bytes was of use.
    UsedFile {
        /// The file.
        url_key: UrlKey,
    },
    /// What was not used since this second (since 1970) goes, but for what leads to the user's pins, and the versions of files of which bytes
    /// are cached.
    NotUsedSince(i64),
    /// Nothing of all that is to be kept, but the versions of files that are still in the cache.
    Nothing,
}

impl Saying {
    /// The one URL that it is about.
    pub(super) fn url_key(&self) -> Option<&UrlKey> {
        match self {
            Saying::Listing { url_key, .. }
            | Saying::NoListing { url_key }
            | Saying::File { url_key, .. }
            | Saying::NoFile { url_key }
            | Saying::Outdated { url_key, .. } => Some(url_key),
            // Whoever looks one up does not ask when it was used.
            Saying::UsedListing { .. } | Saying::UsedFile { .. } => None,
            Saying::Most { .. } | Saying::NotUsedSince(_) | Saying::Nothing => None,
        }
    }
}

/// A row of `listings`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListingRow {
    /// The names and what was said of them, a line each: the tree's own text.
    pub names: Vec<u8>,
    /// When the listing was last modified, if the origin said so.
    pub modified: Option<SystemTime>,
}

/// A row of `remote_files`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileRow {
    /// The current version.
    pub version: Version,
    /// When the file was last modified, if the origin said so.
    pub modified: Option<SystemTime>,
}

impl ChunkIndex {
    /// The last listing of a directory. Does not wait for what is queued: who has just listed it knows it.
    pub fn listing(&self, url: &UrlKey) -> Option<ListingRow> {
        let reader = self.reader.lock();
        let found = reader
            .prepare_cached("SELECT names, modified FROM listings WHERE url_key = ?1")
            .and_then(|mut query| {
                let row = |row: &rusqlite::Row<'_>| {
                    Ok(ListingRow {
                        names: row.get(0)?,
                        modified: row.get::<_, Option<i64>>(1)?.map(date),
                    })
                };
                query.query_row([url.as_str()], row).optional()
            });
        found.unwrap_or_else(|err| {
            log::warn!("cache index: {err}; going on as if the directory had never been listed");
            None
        })
    }

    /// The current version of a file, as an origin last told it.
    pub fn file(&self, url: &UrlKey) -> Option<FileRow> {
        if !self.writer.sync_soon(url.as_str()) {
            return None;
        }
        let reader = self.reader.lock();
        let found = reader
            .prepare_cached("SELECT size, validator, modified FROM remote_files WHERE url_key = ?1")
            .and_then(|mut query| query.query_row([url.as_str()], file_row).optional());
        found
            .unwrap_or_else(|err| {
                log::warn!("cache index: {err}; going on as if nothing were known of the file");
                None
            })
            .flatten()
    }

    /// Hands the writer thread something that an origin has said. Returns at once.
    pub fn note(&self, saying: Saying) {
        self.record(Record::Saying(saying));
    }
}

fn file_row(row: &rusqlite::Row<'_>) -> rusqlite::Result<Option<FileRow>> {
    let (size, validator): (i64, String) = (row.get(0)?, row.get(1)?);
    let modified: Option<i64> = row.get(2)?;
    Ok(Validator::parse(&validator).map(|validator| FileRow {
        version: Version {
            size: size as u64,
            validator,
        },
        modified: modified.map(date),
    }))
}

/// Carries out a change, inside the writer's transaction.
pub fn apply(connection: &Connection, saying: &Saying) -> rusqlite::Result<()> {
    let now = seconds(SystemTime::now());
    match saying {
        Saying::Listing { url_key, url, row } => connection
            .prepare_cached(
                "INSERT OR REPLACE INTO listings (url_key, url, names, modified, listed, used)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?5)",
            )?
            .execute(params![
                url_key.as_str(),
                url,
                row.names,
                row.modified.map(seconds),
                now
            ]),
        Saying::NoListing { url_key } => connection
            .prepare_cached("DELETE FROM listings WHERE url_key = ?1")?
            .execute([url_key.as_str()]),
        Saying::File { url_key, row } => {
            let (size, validator) = (row.version.size as i64, row.version.validator.to_key());
            connection
                .prepare_cached(
                    "INSERT OR REPLACE INTO remote_files (url_key, size, validator, modified, confirmed, used)
                     VALUES (?1, ?2, ?3, ?4, ?5, ?5)",
                )?
                .execute(params![
                    url_key.as_str(),
                    size,
                    validator,
                    row.modified.map(seconds),
                    now
                ])?;
            let others = "NOT (size = ?2 AND validator = ?3)";
            connection
                .prepare_cached(&goes_first(others))?
                .execute(params![url_key.as_str(), size, validator])
        }
        Saying::NoFile { url_key } => {
            connection
                .prepare_cached("DELETE FROM remote_files WHERE url_key = ?1")?
                .execute([url_key.as_str()])?;
            connection
                .prepare_cached(&goes_first("true"))?
                .execute([url_key.as_str()])
        }
        Saying::Outdated { url_key, version } => {
            let (size, validator) = (version.size as i64, version.validator.to_key());
            connection
                .prepare_cached("DELETE FROM remote_files WHERE url_key = ?1 AND size = ?2 AND validator = ?3")?
                .execute(params![url_key.as_str(), size, validator])?;
            let it = "size = ?2 AND validator = ?3";
            connection
                .prepare_cached(&goes_first(it))?
                .execute(params![url_key.as_str(), size, validator])
        }
        Saying::Most { listings, files } => {
            connection
                .prepare_cached(
                    "DELETE FROM listings WHERE url_key IN (SELECT url_key FROM (
                         SELECT url_key, sum(length(names) + length(url) + ?2) OVER (ORDER BY listed DESC, url_key) AS taken
                         FROM listings
                     ) WHERE taken > ?1)",
                )?
                .execute([*listings as i64, ROW as i64])?;
            connection
                .prepare_cached(
                    "DELETE FROM remote_files WHERE url_key IN (SELECT url_key FROM (
                         SELECT url_key, ?2 * row_number() OVER (ORDER BY confirmed DESC, url_key) AS taken
                         FROM remote_files WHERE url_key NOT IN (SELECT url_key FROM cache_entries)
                     ) WHERE taken > ?1)",
                )?
                .execute([*files as i64, ROW as i64])
        }
        Saying::UsedListing { url_key } => connection
            .prepare_cached("UPDATE listings SET used = ?2 WHERE url_key = ?1")?
            .execute(params![url_key.as_str(), now]),
        Saying::UsedFile { url_key } => connection
            .prepare_cached("UPDATE remote_files SET used = ?2 WHERE url_key = ?1")?
            .execute(params![url_key.as_str(), now]),
        Saying::NotUsedSince(second) => {
            connection
                .prepare_cached(
                    "DELETE FROM listings WHERE used < ?1 AND NOT EXISTS (
                         SELECT 1 FROM pins WHERE substr(pins.url, 1, length(listings.url)) = listings.url
                         OR (is_directory AND substr(listings.url, 1, length(pins.url)) = pins.url))",
                )?
                .execute([second])?;
            connection
                .prepare_cached(
                    "DELETE FROM remote_files WHERE used < ?1 AND url_key NOT IN (SELECT url_key FROM cache_entries)",
                )?
                .execute([second])
        }
        Saying::Nothing => {
            connection.execute("DELETE FROM listings", [])?;
            let sql = "DELETE FROM remote_files WHERE url_key NOT IN (SELECT url_key FROM cache_entries)";
            connection.execute(sql, [])
        }
    }
    .map(|_| ())
}

/// Bytes that a row takes, without its longest columns, with its part of half-filled pages: what `remote_files` takes for each.
pub const ROW: u64 = 150;

/// Has those versions of a URL (?1) be the first to go of which this is true.
fn goes_first(which: &str) -> String {
    format!("UPDATE cache_entries SET coldest = 0 WHERE url_key = ?1 AND coldest > 0 AND {which}")
}

#[cfg(test)]
mod tests {
    use url::Url;

    use super::*;

    fn key(url: &str) -> UrlKey {
        UrlKey::new(&Url::parse(url).unwrap())
    }

    fn version(tag: &str) -> Version {
        Version {
            size: 7,
            validator: Validator::Strong(format!("\"{tag}\"")),
        }
    }

    fn file(tag: &str) -> Saying {
        Saying::File {
            url_key: key("http://h/f"),
            row: FileRow {
                version: version(tag),
                modified: Some(date(1_704_067_200)),
            },
        }
    }

    #[test]
    fn what_was_said_last_is_there_after_opening_again() {
        let dir = tempfile::tempdir().unwrap();
        let row = |names: &[u8]| ListingRow {
            names: names.to_vec(),
            modified: None,
        };
        let listing = |names: &[u8]| Saying::Listing {
            url_key: key("http://h/d/"),
            url: "http://h/d/".into(),
            row: row(names),
        };
        {
            let index = ChunkIndex::open(dir.path()).unwrap();
            for saying in [listing(b"old"), listing(b"new\xff"), file("old"), file("new")] {
                index.note(saying);
            }
        }
        let index = ChunkIndex::open(dir.path()).unwrap();
        assert_eq!(index.listing(&key("http://h/d/")), Some(row(b"new\xff")));
        assert_eq!(index.listing(&key("http://h/d/?other")), None);
        let found = index.file(&key("http://h/f")).unwrap();
        assert_eq!(
            (found.version, found.modified),
            (version("new"), Some(date(1_704_067_200)))
        );
        index.note(Saying::NoListing {
            url_key: key("http://h/d/"),
        });
        index.note(Saying::NoFile {
            url_key: key("http://h/f"),
        });
        index.sync();
        assert_eq!(index.listing(&key("http://h/d/")), None);
        assert_eq!(index.file(&key("http://h/f")), None);
    }

    #[test]
    fn only_the_version_that_is_known_to_be_replaced_is_dropped() {
        let dir = tempfile::tempdir().unwrap();
        let index = ChunkIndex::open(dir.path()).unwrap();
        let outdated = |tag| Saying::Outdated {
            url_key: key("http://h/f"),
            version: version(tag),
        };
        index.note(file("new"));
        index.note(outdated("old"));
        assert!(index.file(&key("http://h/f")).is_some());
        index.note(outdated("new"));
        assert_eq!(index.file(&key("http://h/f")), None);
    }

    #[test]
    fn names_that_were_not_used_for_long_go_and_what_leads_to_a_pin_stays() {
        let dir = tempfile::tempdir().unwrap();
        let index = ChunkIndex::open(dir.path()).unwrap();
        let paths = ["", "old/", "used/", "pinned/", "pinned/below/", "to/", "to/pin/"];
        for path in paths {
            let url = format!("http://h/{path}");
            index.note(Saying::Listing {
                url_key: key(&url),
                url,
                row: ListingRow {
                    names: Vec::new(),
                    modified: None,
                },
            });
        }
        for name in ["old", "used", "cached"] {
            index.note(Saying::File {
                url_key: key(&format!("http://h/{name}")),
                row: FileRow {
                    version: version("v"),
                    modified: None,
                },
            });
        }
        for (url, is_directory) in [("http://h/pinned/", true), ("http://h/to/pin/file", false)] {
            index.record(Record::Pin(super::super::PinRow {
                url_key: key(url),
                url: url.to_owned(),
                is_directory,
            }));
        }
        index.sync();
        {
            let reader = index.reader.lock();
            reader
                .execute_batch("UPDATE listings SET used = 10; UPDATE remote_files SET used = 10")
                .unwrap();
            let sql = "INSERT INTO cache_entries (entry_key, url_key, url, size, validator, chunk_size, chunk_count, confirmed, last_used)
                       VALUES ('k', ?1, 'u', 7, 'v', 4096, 1, 0, 0)";
            reader.execute(sql, [key("http://h/cached").as_str()]).unwrap();
        }
        index.note(Saying::NotUsedSince(10));
        index.sync();
        assert!(
            paths
                .iter()
                .all(|path| index.listing(&key(&format!("http://h/{path}"))).is_some())
        );
        index.note(Saying::UsedListing {
            url_key: key("http://h/used/"),
        });
        index.note(Saying::UsedFile {
            url_key: key("http://h/used"),
        });
        index.note(Saying::NotUsedSince(11));
        index.sync();
        let gone: Vec<_> = paths
            .into_iter()
            .filter(|path| index.listing(&key(&format!("http://h/{path}"))).is_none())
            .collect();
        assert_eq!(gone, ["old/"]);
        let known = ["old", "used", "cached"].map(|name| index.file(&key(&format!("http://h/{name}"))).is_some());
        assert_eq!(known, [false, true, true]);
    }

    #[test]
    fn of_too_many_names_those_go_of_which_was_told_longest_ago_and_no_version_that_is_cached() {
        let dir = tempfile::tempdir().unwrap();
        let index = ChunkIndex::open(dir.path()).unwrap();
        let url = |number: u32| format!("http://h/{number}/");
        for number in 0..10 {
            index.note(Saying::Listing {
                url_key: key(&url(number)),
                url: url(number),
                row: ListingRow {
                    names: vec![b'x'; 850],
                    modified: None,
                },
            });
            index.note(Saying::File {
                url_key: key(&url(number)),
                row: FileRow {
                    version: version("v"),
                    modified: None,
                },
            });
        }
        index.sync();
        // An earlier number is an older word; of file 0 some is cached.
        let reader = index.reader.lock();
        for number in 0..10 {
            let told = (number, key(&url(number)).as_str().to_owned());
            reader
                .execute("UPDATE listings SET listed = ?1 WHERE url_key = ?2", told.clone())
                .unwrap();
            reader
                .execute("UPDATE remote_files SET confirmed = ?1 WHERE url_key = ?2", told)
                .unwrap();
        }
        let sql = "INSERT INTO cache_entries (entry_key, url_key, url, size, validator, chunk_size, chunk_count, confirmed, last_used)
                   VALUES ('k', ?1, 'u', 7, 'v', 4096, 1, 0, 0)";
        reader.execute(sql, [key(&url(0)).as_str()]).unwrap();
        drop(reader);
        index.note(Saying::Most {
            listings: 3200,
            files: 3 * ROW,
        });
        index.sync();
        let listed: Vec<_> = (0..10)
            .filter(|&number| index.listing(&key(&url(number))).is_some())
            .collect();
        let known: Vec<_> = (0..10)
            .filter(|&number| index.file(&key(&url(number))).is_some())
            .collect();
        assert_eq!((listed, known), (vec![7, 8, 9], vec![0, 7, 8, 9]));
    }
}
