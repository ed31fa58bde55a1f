//! Sayings: what an origin says of a name, and what that does to the tables of the [`catalogue`](crate::cache::index::query::catalog).
//!
//! A saying is a value until the writer's thread carries it out ([`apply`]). Whoever heard it does not wait for that: what is queued of a URL
//! is committed before it is looked up ([`pending`](super::pending)).

use rusqlite::{Connection, params};

use crate::cache::index::query::catalog::{FileRow, ListingRow};
use crate::cache::index::seconds;
use crate::cache::key::UrlKey;
use crate::http::Version;
use crate::util::clock;

/// A change to what origins have said of names.
#[derive(Debug, Clone)]
pub enum CatalogUpdate {
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
    /// The current version of a file is shown under this inode number, while the listing says this of it.
    Shown {
        /// The file.
        url_key: UrlKey,
        /// The tree's own text.
        listed: String,
        /// Its number.
        ino: u64,
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
            // Whoever looks one up does not ask when it was used.
            CatalogUpdate::UsedListing { .. } | CatalogUpdate::UsedFile { .. } => None,
            CatalogUpdate::Most { .. } | CatalogUpdate::NotUsedSince(_) | CatalogUpdate::Nothing => None,
        }
    }
}

/// Carries out a change, inside the writer's transaction.
pub fn apply(connection: &Connection, saying: &CatalogUpdate) -> rusqlite::Result<()> {
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

/// Bytes that a row takes, without its longest columns, with its part of half-filled pages: what `remote_files` takes for each.
pub const ROW: u64 = 150;

/// Has those versions of a URL (?1) be the first to go of which this is true.
fn goes_first(which: &str) -> String {
    format!("UPDATE cache_entries SET coldest = 0 WHERE url_key = ?1 AND coldest > 0 AND {which}")
}
