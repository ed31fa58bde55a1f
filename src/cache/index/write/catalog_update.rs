//! Catalog updates: what an origin says of a name, and its effect on the tables of the
//! [catalog](crate::cache::index::query::catalog).
//!
//! An update is a value until the writer thread applies it ([`apply`]). Its sender does not wait
//! for that: a look-up of a URL first commits what is queued of it ([`pending`](super::pending)).

use rusqlite::{Connection, params};

use crate::cache::index::dates::seconds;
use crate::cache::index::rows::{FileRow, ListingRow};
use crate::cache::key::UrlKey;
use crate::http::Version;
use crate::util::clock;

/// A change to the catalog.
#[derive(Debug, Clone)]
pub enum CatalogUpdate {
    /// A directory was listed.
    Listing {
        /// The directory.
        url_key: UrlKey,
        /// Its URL for display: without credentials and query values.
        url: String,
        /// The listing.
        row: ListingRow,
    },
    /// The directory does not exist (any more).
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
    /// The inode number under which the current version of a file is shown, and what the listing
    /// says of it.
    Shown {
        /// The file.
        url_key: UrlKey,
        /// What the listing says, in the format of the directory tree.
        listed: String,
        /// The inode number.
        ino: u64,
    },
    /// The file does not exist (any more).
    NoFile {
        /// The file.
        url_key: UrlKey,
    },
    /// This version of a file is not the current one (any more).
    Outdated {
        /// The file.
        url_key: UrlKey,
        /// The version.
        version: Version,
    },
    /// Limits the bytes of listings, and of versions of files without cached bytes. The oldest rows
    /// are deleted first.
    Most {
        /// Bytes.
        listings: u64,
        /// Bytes.
        files: u64,
    },
    /// The origin confirmed a directory's listing, or the listing was shown.
    UsedListing {
        /// The directory.
        url_key: UrlKey,
    },
    /// The attributes of a file were used without its bytes.
    UsedFile {
        /// The file.
        url_key: UrlKey,
    },
    /// Deletes what was not used since this second (since 1970). Directories that lead to the
    /// user's pins, and versions of files with cached bytes, stay.
    NotUsedSince(i64),
    /// Deletes everything but the versions of files that are still in the cache.
    Nothing,
}

impl CatalogUpdate {
    /// The one URL that it is about.
    pub(in crate::cache::index) fn url_key(&self) -> Option<&UrlKey> {
        match self {
            CatalogUpdate::Listing { url_key, .. }
            | CatalogUpdate::NoListing { url_key }
            | CatalogUpdate::File { url_key, .. }
            | CatalogUpdate::Shown { url_key, .. }
            | CatalogUpdate::NoFile { url_key }
            | CatalogUpdate::Outdated { url_key, .. } => Some(url_key),
            // No look-up depends on when a row was used.
            CatalogUpdate::UsedListing { .. } | CatalogUpdate::UsedFile { .. } => None,
            CatalogUpdate::Most { .. } | CatalogUpdate::NotUsedSince(_) | CatalogUpdate::Nothing => None,
        }
    }
}

/// Applies an update, inside the writer's transaction.
pub(crate) fn apply(connection: &Connection, saying: &CatalogUpdate) -> rusqlite::Result<()> {
    let now = seconds(clock::now());
    match saying {
        CatalogUpdate::Listing { url_key, url, row } => connection
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
        CatalogUpdate::NoListing { url_key } => connection
            .prepare_cached("DELETE FROM listings WHERE url_key = ?1")?
            .execute([url_key.as_str()]),
        CatalogUpdate::File { url_key, row } => {
            let (size, validator) = (row.version.size as i64, row.version.validator.to_key());
            connection
                .prepare_cached(
                    "INSERT INTO remote_files (url_key, size, validator, modified, confirmed, used)
                     VALUES (?1, ?2, ?3, ?4, ?5, ?5)
                     ON CONFLICT (url_key) DO UPDATE SET
                         listed = iif(size = ?2 AND validator = ?3, listed, NULL),
                         ino = iif(size = ?2 AND validator = ?3, ino, NULL),
                         size = ?2, validator = ?3, modified = ?4, confirmed = ?5, used = ?5",
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
        CatalogUpdate::Shown { url_key, listed, ino } => connection
            .prepare_cached("UPDATE remote_files SET listed = ?2, ino = ?3 WHERE url_key = ?1")?
            .execute(params![url_key.as_str(), listed, *ino as i64]),
        CatalogUpdate::NoFile { url_key } => {
            connection
                .prepare_cached("DELETE FROM remote_files WHERE url_key = ?1")?
                .execute([url_key.as_str()])?;
            connection
                .prepare_cached(&goes_first("true"))?
                .execute([url_key.as_str()])
        }
        CatalogUpdate::Outdated { url_key, version } => {
            let (size, validator) = (version.size as i64, version.validator.to_key());
            connection
                .prepare_cached("DELETE FROM remote_files WHERE url_key = ?1 AND size = ?2 AND validator = ?3")?
                .execute(params![url_key.as_str(), size, validator])?;
            let it = "size = ?2 AND validator = ?3";
            connection
                .prepare_cached(&goes_first(it))?
                .execute(params![url_key.as_str(), size, validator])
        }
        CatalogUpdate::Most { listings, files } => {
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
        CatalogUpdate::UsedListing { url_key } => connection
            .prepare_cached("UPDATE listings SET used = ?2 WHERE url_key = ?1")?
            .execute(params![url_key.as_str(), now]),
        CatalogUpdate::UsedFile { url_key } => connection
            .prepare_cached("UPDATE remote_files SET used = ?2 WHERE url_key = ?1")?
            .execute(params![url_key.as_str(), now]),
        CatalogUpdate::NotUsedSince(second) => {
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
        CatalogUpdate::Nothing => {
            connection.execute("DELETE FROM listings", [])?;
            let sql = "DELETE FROM remote_files WHERE url_key NOT IN (SELECT url_key FROM cache_entries)";
            connection.execute(sql, [])
        }
    }
    .map(|_| ())
}

/// Bytes of a row, without its longest columns, with its part of half-filled pages: what
/// `remote_files` takes for each.
pub(crate) const ROW: u64 = 150;

/// SQL that makes those versions of a URL (?1) the first to be evicted for which the condition
/// holds.
fn goes_first(which: &str) -> String {
    format!("UPDATE cache_entries SET coldest = 0 WHERE url_key = ?1 AND coldest > 0 AND {which}")
}
